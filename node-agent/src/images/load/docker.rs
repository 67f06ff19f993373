//! Archives of `docker save`: with `manifest.json`, and of the time before it.
//!
//! Start reading at [`interpret`]. Such archives have no manifest in the registry's sense; one is written, the same one
//! every time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jiff::Timestamp;
use registry_client::{Descriptor, PlatformSpec, media_type};
use serde::Deserialize;
use serde_json::value::RawValue;
use shoal_types::{DiffId, Digest, ImageRef};

use super::Arrived;
use super::intake::Intake;
use crate::error::NodeError;
use crate::images::Shared;
use crate::images::config::{HistoryItem, ImageConfig, RootFs, null_is_default};
use crate::images::make::{store_image, store_manifest};
use crate::layers::MAX_LAYERS;
use crate::layers::compression::Compression;

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default, deserialize_with = "null_is_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    layers: Vec<String>,
}

/// The images that `manifest.json` lists.
pub(super) fn interpret(
    shared: &Shared,
    intake: &mut Intake,
    manifest: &Bytes,
) -> Result<Vec<Arrived>, NodeError> {
    let entries: Vec<Entry> = serde_json::from_slice(manifest)
        .map_err(|error| NodeError::invalid(format!("invalid archive: manifest.json: {error}")))?;
    let mut arrived: Vec<Arrived> = Vec::new();
    for entry in entries {
        let names = entry.repo_tags.iter().map(|tag| name(tag)).collect::<Result<Vec<_>, _>>()?;
        let layers = entry.layers.iter().map(|layer| describe_layer(shared, intake, layer));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let (digest, size) = config(shared, intake, &entry.config)?;
        check_config(shared, digest, layers.len())?;
        let descriptor = Descriptor::new(media_type::DOCKER_CONFIG, digest, size);
        let stored = store_manifest(
            &mut |bytes| intake.put(shared, bytes),
            media_type::DOCKER_MANIFEST,
            &descriptor,
            &layers,
        )?;
        arrived.push(Arrived {
            target: stored.manifest,
            media_type: media_type::DOCKER_MANIFEST.to_owned(),
            size: stored.size,
            names,
        });
    }
    Ok(arrived)
}

fn name(text: &str) -> Result<ImageRef, NodeError> {
    let wrong = |error| NodeError::invalid(format!("invalid archive: invalid tag {text:?}: {error}"));
    Ok(ImageRef::parse(text).map_err(wrong)?.with_default_tag())
}

fn missing(path: &str) -> NodeError {
    NodeError::invalid(format!("invalid archive: open {path}: no such file or directory"))
}

/// A config stands at the top of the archive as a document, or among the blobs.
fn config(shared: &Shared, intake: &mut Intake, path: &str) -> Result<(Digest, u64), NodeError> {
    match intake.document(path).cloned() {
        Some(bytes) => Ok((intake.put(shared, &bytes)?, bytes.len() as u64)),
        None => intake.file(path).ok_or_else(|| missing(path)),
    }
}

fn check_config(shared: &Shared, digest: Digest, n_layers: usize) -> Result<(), NodeError> {
    let config = crate::images::tree::read_config(&shared.content, digest)?;
    if config.rootfs.diff_ids.len() == n_layers {
        return Ok(());
    }
    Err(NodeError::invalid(format!(
        "invalid manifest, layers length mismatch: expected {}, got {n_layers}",
        config.rootfs.diff_ids.len()
    )))
}

fn describe_layer(shared: &Shared, intake: &Intake, path: &str) -> Result<Descriptor, NodeError> {
    let (digest, size) = intake.file(path).ok_or_else(|| missing(path))?;
    let mut start = [0u8; 6];
    let mut blob = shared.content.open_blob(digest)?;
    let length = std::io::Read::read(&mut blob, &mut start)
        .map_err(|source| NodeError::failed(format!("read layer {path}"), source))?;
    let media_type = match Compression::detect(&start[..length]) {
        Compression::None => media_type::DOCKER_LAYER,
        Compression::Gzip => media_type::DOCKER_LAYER_GZIP,
        Compression::Zstd => media_type::OCI_LAYER_ZSTD,
        other @ (Compression::Bzip2 | Compression::Xz) => {
            let text = format!(
                "invalid archive: layer {path} is compressed in a way that layers are not: {other:?}"
            );
            return Err(NodeError::invalid(text));
        }
    };
    Ok(Descriptor::new(media_type, digest, size))
}

/// `<id>/json` of the layout before `manifest.json`: one image of one layer, on top of another one.
#[derive(Deserialize)]
struct LegacyImage {
    #[serde(default, deserialize_with = "null_is_default")]
    parent: String,
    #[serde(default)]
    created: Option<Timestamp>,
    #[serde(default, deserialize_with = "null_is_default")]
    author: String,
    #[serde(default, deserialize_with = "null_is_default")]
    comment: String,
    #[serde(default, deserialize_with = "null_is_default")]
    architecture: String,
    #[serde(default, deserialize_with = "null_is_default")]
    os: String,
    #[serde(default)]
    config: Option<Box<RawValue>>,
    #[serde(default)]
    container_config: Option<LegacyCommand>,
    #[serde(default, deserialize_with = "null_is_default")]
    throwaway: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LegacyCommand {
    #[serde(default, deserialize_with = "null_is_default")]
    cmd: Vec<String>,
}

/// The images that `repositories` lists: name, tag, id of the topmost image of a chain.
pub(super) fn interpret_legacy(
    shared: &Shared,
    intake: &mut Intake,
    repositories: &Bytes,
) -> Result<Vec<Arrived>, NodeError> {
    let repositories: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_slice(repositories)
        .map_err(|error| NodeError::invalid(format!("invalid archive: repositories: {error}")))?;
    let mut arrived: Vec<Arrived> = Vec::new();
    for (repository, tags) in repositories {
        for (tag, id) in tags {
            let name = name(&format!("{repository}:{tag}"))?;
            let (config, layers) = convert(shared, intake, &id)?;
            let stored = store_image(&mut |bytes| intake.put(shared, bytes), &config, &layers)?;
            match arrived.iter_mut().find(|image| image.target == stored.manifest) {
                Some(image) => image.names.push(name),
                None => arrived.push(Arrived {
                    target: stored.manifest,
                    media_type: media_type::OCI_MANIFEST.to_owned(),
                    size: stored.size,
                    names: vec![name],
                }),
            }
        }
    }
    Ok(arrived)
}

/// One config and the layers of a chain of old images.
fn convert(shared: &Shared, intake: &Intake, id: &str) -> Result<(ImageConfig, Vec<Descriptor>), NodeError> {
    let mut chain = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = id.to_owned();
    while !next.is_empty() {
        if !seen.insert(next.clone()) || chain.len() == MAX_LAYERS {
            return Err(NodeError::invalid(format!("invalid archive: the parents of {id} do not end")));
        }
        let path = format!("{next}/json");
        let json = intake.document(&path).ok_or_else(|| missing(&path))?;
        let image: LegacyImage = serde_json::from_slice(json)
            .map_err(|error| NodeError::invalid(format!("invalid archive: {path}: {error}")))?;
        let parent = image.parent.clone();
        chain.push((next, image));
        next = parent;
    }
    chain.reverse();
    let mut layers = Vec::new();
    let mut history = Vec::new();
    let mut diff_ids = Vec::new();
    for (id, image) in &chain {
        if !image.throwaway {
            let layer = describe_layer(shared, intake, &format!("{id}/layer.tar"))?;
            // Layers of this layout are never compressed.
            diff_ids.push(DiffId(layer.digest));
            layers.push(layer);
        }
        history.push(HistoryItem {
            created: image.created,
            created_by: image
                .container_config
                .as_ref()
                .map(|command| command.cmd.join(" "))
                .unwrap_or_default(),
            author: image.author.clone(),
            comment: image.comment.clone(),
            empty_layer: image.throwaway,
        });
    }
    let Some((_, top)) = chain.pop() else { return Err(missing(&format!("{id}/json"))) };
    let platform = PlatformSpec { architecture: top.architecture, os: top.os, ..PlatformSpec::default() };
    let config = ImageConfig {
        platform,
        created: top.created,
        author: top.author,
        docker_version: String::new(),
        config: top.config,
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        history,
    };
    Ok((config, layers))
}
