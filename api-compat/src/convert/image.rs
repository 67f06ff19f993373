//! Images and what they are made of.
//!
//! Start reading at [`summary`] and [`inspect`]; the rest reads what requests say of names and platforms.

use node_agent::api::images::{self as node, Descriptor, ImageRunConfig};
use shoal_types::{Digest, ImageRef, Platform};

use crate::error::ApiError;
use crate::json;
use crate::model::container_config::{ContainerConfig, HealthConfig};
use crate::model::container_inspect::DriverData;
use crate::model::image::{
    AttestationData, AttestationStatement, Identity, ImageConfig, ImageDeleteResponseItem,
    ImageHistoryResponseItem, ImageInspect, ImageManifestSummary, ImageMetadata, ImageSummary,
    ManifestImageData, ManifestSize, PullIdentity, RootFs, ShownImageConfig, UnpackedSize,
};
use crate::model::time::Time;
use crate::model::{Empty, OciDescriptor, OciPlatform, Set, Texts};

/// A descriptor as Docker shows it.
pub(crate) fn descriptor(descriptor: &Descriptor) -> OciDescriptor {
    OciDescriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        annotations: Some(descriptor.annotations.clone()).filter(|map| !map.is_empty()),
        platform: descriptor.platform.as_ref().map(platform),
        ..OciDescriptor::default()
    }
}

/// A platform as Docker shows it.
pub(crate) fn platform(platform: &Platform) -> OciPlatform {
    OciPlatform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        ..OciPlatform::default()
    }
}

/// The part of a configuration that images carry. Both write the same names, so JSON is the bridge.
pub(crate) fn run_config(config: &ContainerConfig) -> Result<ImageRunConfig, ApiError> {
    serde_json::to_value(config)
        .and_then(serde_json::from_value)
        .map_err(|error| ApiError::invalid(format!("invalid config: {error}")))
}

/// The name that an image is given by a repository and a tag; none without a repository.
pub(crate) fn repo_tag(repo: &str, tag: &str) -> Result<Option<ImageRef>, ApiError> {
    if repo.is_empty() {
        return Ok(None);
    }
    let invalid = |error: shoal_types::image_ref::ParseImageRefError| ApiError::invalid(error.to_string());
    let reference = ImageRef::parse(repo).map_err(invalid)?;
    if reference.digest().is_some() {
        return Err(ApiError::invalid("cannot import digest reference"));
    }
    match tag {
        "" => Ok(Some(reference.with_default_tag())),
        tag => reference.with_tag(tag).map(Some).map_err(invalid),
    }
}

/// Dockerfile instructions, given one by one or several in one text.
pub(crate) fn changes(given: &[&str]) -> Vec<String> {
    let lines = given.iter().flat_map(|text| text.lines());
    lines.map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// A size or a number as Docker writes it, -1 when it is not known.
fn or_minus_one(value: Option<u64>) -> i64 {
    value.map_or(-1, |value| i64::try_from(value).unwrap_or(i64::MAX))
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// An image as lists show it.
pub(crate) fn summary(image: &node::ImageSummary) -> ImageSummary {
    ImageSummary {
        containers: or_minus_one(image.containers.map(|count| count as u64)),
        created: image.created.map_or(0, |time| time.as_second()),
        id: image.id.to_string(),
        labels: Some(image.labels.clone()),
        parent_id: String::new(),
        descriptor: Some(descriptor(&image.target)),
        manifests: Some(image.manifests.iter().map(manifest).collect())
            .filter(|list: &Vec<_>| !list.is_empty()),
        repo_digests: image.digests.iter().map(ImageRef::familiar).collect(),
        repo_tags: image.tags.iter().map(ImageRef::familiar).collect(),
        shared_size: or_minus_one(image.shared_size),
        size: signed(image.size),
        virtual_size: None,
    }
}

fn manifest(part: &node::ManifestSummary) -> ImageManifestSummary {
    let (kind, image_data, attestation_data, unpacked) = match &part.kind {
        node::ManifestKind::Image { platform: on, containers, unpacked_size } => {
            let data = ManifestImageData {
                platform: platform(on),
                containers: containers.iter().map(ToString::to_string).collect(),
                size: UnpackedSize { unpacked: signed(*unpacked_size) },
                identity: None,
            };
            ("image", Some(data), None, *unpacked_size)
        }
        node::ManifestKind::Attestation { of } => {
            ("attestation", None, Some(AttestationData { r#for: of.to_string() }), 0)
        }
        node::ManifestKind::Unknown => ("unknown", None, None, 0),
    };
    ImageManifestSummary {
        id: part.descriptor.digest.to_string(),
        descriptor: descriptor(&part.descriptor),
        available: part.available,
        size: ManifestSize {
            total: signed(part.content_size.saturating_add(unpacked)),
            content: signed(part.content_size),
        },
        kind: kind.to_owned(),
        image_data,
        attestation_data,
    }
}

/// An image in detail.
pub(crate) fn inspect(view: &node::ImageView, storage_driver: &str, with_manifests: bool) -> ImageInspect {
    let shown = summary(&view.summary);
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let data = [("UpperDir", view.layer_dirs.first().cloned()), ("LowerDir", lower(&view.layer_dirs))];
    let data: Texts =
        data.into_iter().filter_map(|(name, path)| path.map(|path| (name.to_owned(), path))).collect();
    ImageInspect {
        id: shown.id,
        repo_tags: shown.repo_tags,
        repo_digests: shown.repo_digests,
        parent: None,
        comment: text(&view.comment),
        created: view.summary.created.map(Into::into),
        container: None,
        container_config: Box::default(),
        docker_version: text(&view.docker_version),
        author: text(&view.author),
        config: ShownImageConfig::Image(Box::new(image_config(&view.config))),
        architecture: view.platform.architecture.clone(),
        variant: view.platform.variant.clone(),
        os: view.platform.os.clone(),
        os_version: view.os_version.clone(),
        size: shown.size,
        virtual_size: None,
        graph_driver: Some(DriverData {
            data: Some(data).filter(|data| !data.is_empty()),
            name: storage_driver.to_owned(),
        }),
        root_fs: RootFs {
            r#type: "layers".to_owned(),
            layers: view.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: ImageMetadata { last_tag_time: Time(view.last_tagged) },
        descriptor: shown.descriptor,
        manifests: shown.manifests.filter(|_| with_manifests),
        identity: identity(&view.summary),
    }
}

/// Where an image comes from, if that is known.
pub(crate) fn identity(image: &node::ImageSummary) -> Option<Identity> {
    let of = |repository: &String| PullIdentity { repository: repository.clone() };
    let pull: Vec<PullIdentity> = image.repositories.iter().map(of).collect();
    if pull.is_empty() { None } else { Some(Identity { pull }) }
}

/// Says of every part that is here and can be run where the image comes from.
pub(crate) fn identify(shown: &mut ImageSummary, image: &node::ImageSummary) {
    let identity = identity(image);
    for part in shown.manifests.iter_mut().flatten().filter(|part| part.available) {
        if let Some(data) = &mut part.image_data {
            data.identity.clone_from(&identity);
        }
    }
}

/// A statement about an image.
pub(crate) fn attestation(statement: node::AttestationStatement) -> AttestationStatement {
    AttestationStatement {
        descriptor: descriptor(&statement.descriptor),
        predicate_type: statement.predicate_type,
        statement: statement.statement,
    }
}

/// The layers below the topmost one.
fn lower(layers: &[String]) -> Option<String> {
    layers.get(1..).filter(|lower| !lower.is_empty()).map(|lower| lower.join(":"))
}

fn image_config(config: &ImageRunConfig) -> ImageConfig {
    let set = |set: &Option<std::collections::BTreeMap<String, node::EmptyObject>>| {
        set.as_ref().map(|set| set.keys().map(|key| (key.clone(), Empty::default())).collect::<Set>())
    };
    ImageConfig {
        user: config.user.clone(),
        exposed_ports: set(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck.as_ref().map(|check| HealthConfig {
            test: Some(check.test.clone()),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        on_build: config.on_build.clone(),
        shell: config.shell.clone(),
    }
}

/// How an image was made, step by step.
pub(crate) fn history(entries: &[node::HistoryEntry]) -> Vec<ImageHistoryResponseItem> {
    let item = |entry: &node::HistoryEntry| ImageHistoryResponseItem {
        comment: entry.comment.clone(),
        created: entry.created.map_or(0, |time| time.as_second()),
        created_by: entry.created_by.clone(),
        id: entry.id.map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
        size: entry.size,
        tags: Some(entry.tags.clone()).filter(|tags| !tags.is_empty()),
    };
    entries.iter().map(item).collect()
}

/// What a removal did, step by step.
pub(crate) fn removals(removals: Vec<node::Removal>) -> Vec<ImageDeleteResponseItem> {
    let item = |removal| match removal {
        node::Removal::Untagged(name) => ImageDeleteResponseItem { untagged: Some(name), deleted: None },
        node::Removal::Deleted(id) => ImageDeleteResponseItem { untagged: None, deleted: Some(id) },
    };
    removals.into_iter().map(item).collect()
}

/// Reads a platform as the query of newer operations carries it: a JSON object.
pub(crate) fn json_platform(text: &str) -> Result<Platform, ApiError> {
    let invalid = |fault: &str| ApiError::invalid(format!("invalid platform: {fault}"));
    let read: OciPlatform = json::decode(text.as_bytes()).map_err(|error| invalid(&error.to_string()))?;
    if read.os.is_empty() || read.architecture.is_empty() {
        return Err(invalid("both OS and Architecture must be provided"));
    }
    Ok(Platform::new(&read.os, &read.architecture, &read.variant))
}

/// The reference that a pull or push is about: `tag` may be a tag or a digest, and replaces what the name has.
pub(crate) fn reference_with(name: &str, tag: &str) -> Result<ImageRef, ApiError> {
    let invalid = |error: shoal_types::image_ref::ParseImageRefError| ApiError::invalid(error.to_string());
    let reference = ImageRef::parse(name).map_err(invalid)?;
    match (tag, tag.parse::<Digest>()) {
        ("", _) => Ok(reference),
        (_, Ok(digest)) => Ok(reference.with_digest(digest)),
        (tag, Err(_)) => reference.with_tag(tag).map_err(invalid),
    }
}
