//! Archives in the OCI layout.
//!
//! Start reading at [`interpret`] (OCI image spec, image-layout.md).

use std::collections::BTreeMap;

use registry_client::{Descriptor, ManifestKind};
use serde::Deserialize;
use shoal_types::ImageRef;

use super::Arrived;
use super::intake::Intake;
use crate::error::NodeError;
use crate::images::Shared;
use crate::images::config::null_is_default;
use crate::images::tree::read_manifest;

/// Annotations that name an image, the more telling first.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

#[derive(Deserialize)]
struct IndexDocument {
    #[serde(default, deserialize_with = "null_is_default")]
    manifests: Vec<Descriptor>,
}

/// The images that `index.json` lists. Several entries for one target are one image with several names.
pub(super) fn interpret(shared: &Shared, intake: &Intake) -> Result<Vec<Arrived>, NodeError> {
    let index = intake.document("index.json").cloned().unwrap_or_default();
    let index: IndexDocument = serde_json::from_slice(&index)
        .map_err(|error| NodeError::invalid(format!("invalid archive: index.json: {error}")))?;
    let mut arrived: Vec<Arrived> = Vec::new();
    for entry in index.manifests {
        if ManifestKind::from_media_type(&entry.media_type).is_none() {
            continue;
        }
        if shared.content.size(entry.digest).is_none() {
            return Err(NodeError::invalid(format!("invalid archive: content {} is missing", entry.digest)));
        }
        // Whether it is what it says, before anything is made of it.
        let manifest = read_manifest(&shared.content, entry.digest, Some(&entry.media_type))?;
        let name = name(&entry.annotations);
        match arrived.iter_mut().find(|image| image.target == entry.digest) {
            Some(image) => image.names.extend(name),
            None => arrived.push(Arrived {
                target: entry.digest,
                media_type: manifest.descriptor.media_type.clone(),
                size: manifest.descriptor.size,
                names: name.into_iter().collect(),
            }),
        }
    }
    if arrived.is_empty() {
        return Err(NodeError::invalid("invalid archive: index.json lists no image"));
    }
    Ok(arrived)
}

/// The name that annotations give. A bare tag, as some tools write it, is no name.
fn name(annotations: &BTreeMap<String, String>) -> Option<ImageRef> {
    let text = NAMES.iter().find_map(|key| annotations.get(*key))?;
    let is_whole = text.contains('/') || text.contains(':');
    let reference = is_whole.then(|| ImageRef::parse(text).ok()).flatten()?;
    // A name with a digest says nothing that the digest does not.
    if reference.digest().is_some() && reference.tag().is_none() {
        return None;
    }
    let tag = reference.tag().map(str::to_owned);
    match tag {
        Some(tag) => reference.with_tag(&tag).ok(),
        None => Some(reference.with_default_tag()),
    }
}
