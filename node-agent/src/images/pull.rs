//! Fetches images from registries.
//!
//! Start reading at [`pull`]. The order of what is told is Docker's. What a failed pull has brought stays for the next one.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, TryStreamExt as _};
use registry_client::{Descriptor, ManifestTarget, Repository, ResolvedImage, media_type};
use shoal_types::{ErrorKind, ImageId, ImageRef, Platform};

use super::Shared;
use super::config::ImageConfig;
use super::fetch::LayerPlan;
use super::holds::{Hold, Item};
use super::record::TargetRecord;
use super::stream::Out;
use super::tree::{ConfigFacts, ImageTree};
use crate::api::images::{Progress, PullRequest};
use crate::error::NodeError;

const RESERVED_NAME_TEXT: &str = "'scratch' is a reserved name";

/// Whether a pull brought something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum News {
    /// Everything was here and the name pointed to it.
    None,
    /// It was not.
    Some,
}

/// Fetches one image, or all tags of a repository.
pub(super) async fn pull(shared: Arc<Shared>, request: PullRequest, out: Out) -> Result<(), NodeError> {
    let PullRequest { reference, platform, credentials } = request;
    if reference.familiar_name() == "scratch" {
        return Err(NodeError::forbidden(RESERVED_NAME_TEXT));
    }
    let repository = shared.registries.repository(&reference, credentials.unwrap_or_default());
    let is_named = reference.tag().is_some() || reference.digest().is_some();
    let references =
        if is_named { vec![reference.clone()] } else { all_tags(&repository, &reference).await? };
    let mut news = News::None;
    for reference in &references {
        news = news.max(pull_one(&shared, &repository, reference, platform.as_ref(), &out).await?);
    }
    out.tell(Progress::Pulled { reference: reference.familiar(), newer: news == News::Some }).await
}

async fn all_tags(repository: &Repository, reference: &ImageRef) -> Result<Vec<ImageRef>, NodeError> {
    let tags = repository.tags().await?;
    Ok(tags.iter().map(|tag| reference.with_tag(tag)).collect::<Result<_, _>>()?)
}

async fn pull_one(
    shared: &Arc<Shared>,
    repository: &Repository,
    reference: &ImageRef,
    platform: Option<&Platform>,
    out: &Out,
) -> Result<News, NodeError> {
    let target = ManifestTarget::of(reference);
    let resolved = repository.resolve(&target, platform.unwrap_or(&shared.platform)).await?;
    let manifest = image_manifest(&resolved)?;
    let held = hold_documents(shared, &resolved);
    let (plan, facts, was_here) = fetch_documents(shared, repository, &resolved).await?;
    check_platform(&facts, platform, reference)?;
    out.tell(Progress::PullingFrom { repository: reference.path().to_owned(), tag: target.to_string() })
        .await?;
    let _layers = shared.holds.hold(plan.items());
    fetch_layers(shared, &plan, out).await?;
    let _attestations = shared.fetch_attestations(repository, &resolved).await;

    let id = ImageId(resolved.target().digest());
    let media_type = resolved.target().descriptor.media_type.clone();
    let mut record = TargetRecord::new(&media_type, resolved.target().descriptor.size);
    record.sources.insert(reference.full_name());
    let tree = shared
        .block("read an image", move |shared| ImageTree::read(&shared.content, id, &media_type))
        .await?;
    // A digest names the image by itself; a tag beside it is not kept, as in Docker.
    let name = match reference.digest() {
        Some(digest) => reference.with_digest(digest),
        None => reference.clone().with_default_tag(),
    };
    let is_renamed = shared.record_image(record, tree, vec![name]).await?;
    drop((held, manifest));
    shared.tell_transfer("pull", &id, reference);
    out.tell(Progress::Digest(id.0)).await?;
    let has_all = was_here == News::None && !is_renamed;
    Ok(if has_all { News::None } else { News::Some })
}

/// What a manifest says, if it is an image's.
fn image_manifest(resolved: &ResolvedImage) -> Result<registry_client::ImageManifest, NodeError> {
    let manifest = resolved.manifest.as_image().cloned();
    let manifest = manifest.ok_or_else(|| NodeError::invalid("unsupported manifest format"))?;
    let known = [media_type::DOCKER_CONFIG, media_type::OCI_CONFIG];
    // Old builders say something vague about configs that are images' all the same.
    let is_vague = matches!(
        manifest.config.media_type.as_str(),
        "" | "application/octet-stream" | "application/json" | "text/html"
    );
    if is_vague || known.contains(&manifest.config.media_type.as_str()) {
        return Ok(manifest);
    }
    Err(NodeError::invalid(format!(
        "Encountered remote {:?}(unknown) when fetching",
        manifest.config.media_type
    )))
}

fn hold_documents(shared: &Shared, resolved: &ResolvedImage) -> Hold {
    let documents =
        resolved.indexes.iter().chain([&resolved.manifest]).map(registry_client::Manifest::digest);
    let config = resolved.manifest.as_image().map(|image| image.config.digest);
    shared.holds.hold(documents.chain(config).map(Item::Blob))
}

/// Brings indexes, manifest and config here, and plans the layers. Tells whether something was new.
async fn fetch_documents(
    shared: &Arc<Shared>,
    repository: &Repository,
    resolved: &ResolvedImage,
) -> Result<(Arc<LayerPlan>, ConfigFacts, News), NodeError> {
    let manifest = image_manifest(resolved)?;
    let config = fetch_config(shared, repository, &manifest.config).await?;
    let facts = ConfigFacts::new(&config);
    let plan = LayerPlan::new(&manifest.layers, &facts, Some(repository.clone()))?;
    let documents: Vec<bytes::Bytes> =
        resolved.indexes.iter().chain([&resolved.manifest]).map(|manifest| manifest.bytes.clone()).collect();
    let layers = manifest.layers;
    let news = shared
        .block("store a manifest", move |shared| {
            let mut news = News::None;
            for document in &documents {
                let is_here = shared.content.size(registry_client::digest_of(document)).is_some();
                news = if is_here { news } else { News::Some };
                shared.content.put(document)?;
            }
            let is_here = |layer: &Descriptor| shared.content.size(layer.digest).is_some();
            Ok(if layers.iter().all(is_here) { news } else { News::Some })
        })
        .await?;
    Ok((plan, facts, news))
}

async fn fetch_config(
    shared: &Arc<Shared>,
    repository: &Repository,
    descriptor: &Descriptor,
) -> Result<ImageConfig, NodeError> {
    let digest = descriptor.digest;
    let is_here = shared.content.size(digest).is_some();
    let bytes = if is_here { None } else { Some(repository.fetch_config(descriptor).await?) };
    shared
        .block("store an image's configuration", move |shared| {
            if let Some(bytes) = bytes {
                shared.content.put(&bytes)?;
            }
            super::tree::read_config(&shared.content, digest)
        })
        .await
}

/// An image without an index is for one platform, which its config tells.
fn check_platform(
    facts: &ConfigFacts,
    platform: Option<&Platform>,
    reference: &ImageRef,
) -> Result<(), NodeError> {
    let Some(wanted) = platform else { return Ok(()) };
    if facts.platform.rank_on(wanted).is_some() {
        return Ok(());
    }
    let message = format!(
        "image with reference {} was found but does not provide the specified platform ({wanted})",
        reference.familiar()
    );
    Err(NodeError::Refused { kind: ErrorKind::NotFound, message })
}

/// Brings all layers here, telling of each. The first failure ends all that nobody else wants.
async fn fetch_layers(shared: &Arc<Shared>, plan: &Arc<LayerPlan>, out: &Out) -> Result<(), NodeError> {
    let following: FuturesUnordered<_> = (0..plan.layers.len())
        .map(|layer_idx| {
            let ticket = shared.join_layer(plan, layer_idx);
            let id = plan.layers[layer_idx].blob.digest.short();
            follow(shared, plan, layer_idx, (id, ticket), out)
        })
        .collect();
    following.try_collect().await
}

/// Follows one layer. If somebody else's attempt fails, ours may not: their registry or credentials are others.
async fn follow(
    shared: &Arc<Shared>,
    plan: &Arc<LayerPlan>,
    layer_idx: usize,
    (id, mut ticket): (String, super::fetch::LayerTicket),
    out: &Out,
) -> Result<(), NodeError> {
    const MAX_RIDES: usize = 3;
    for _ in 0..MAX_RIDES {
        if ticket.role == super::flights::Role::Pilot {
            break;
        }
        match out.follow(&id, ticket).await {
            Err(NodeError::Shared(_)) => ticket = shared.join_layer(plan, layer_idx),
            other => return other,
        }
    }
    out.follow(&id, ticket).await
}
