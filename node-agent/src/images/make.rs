//! Puts new images together: configs and manifests as JSON, stored as content.
//!
//! Start reading at [`store_image`]. The same input gives the same bytes, so that loading an old archive twice gives one
//! image.

use registry_client::{Descriptor, media_type};
use serde::Serialize;
use shoal_types::Digest;

use super::config::ImageConfig;
use crate::error::NodeError;

/// Stores a blob and tells its digest.
pub(super) type Put<'a> = dyn FnMut(&[u8]) -> Result<Digest, NodeError> + 'a;

/// A manifest as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestDocument<'a> {
    schema_version: u8,
    media_type: &'static str,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
}

/// An image that was stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// Digest of its manifest.
    pub(super) manifest: Digest,
    /// Bytes of it.
    pub(super) size: u64,
}

/// Stores a config and the manifest that names it and the layers, as an OCI image. `put` stores a blob.
pub(super) fn store_image(
    put: &mut Put<'_>,
    config: &ImageConfig,
    layers: &[Descriptor],
) -> Result<Stored, NodeError> {
    let config =
        serde_json::to_vec(config).map_err(|source| NodeError::failed("write an image config", source))?;
    let digest = put(&config)?;
    let descriptor = Descriptor::new(media_type::OCI_CONFIG, digest, config.len() as u64);
    let layers: Vec<Descriptor> = layers.iter().map(in_oci_terms).collect();
    store_manifest(put, media_type::OCI_MANIFEST, &descriptor, &layers)
}

/// Stores the manifest for a config and layers that are here.
pub(super) fn store_manifest(
    put: &mut Put<'_>,
    media_type: &'static str,
    config: &Descriptor,
    layers: &[Descriptor],
) -> Result<Stored, NodeError> {
    let bytes = manifest_bytes(media_type, config, layers)?;
    Ok(Stored { manifest: put(&bytes)?, size: bytes.len() as u64 })
}

/// The manifest for a config and layers.
pub(super) fn manifest_bytes(
    media_type: &'static str,
    config: &Descriptor,
    layers: &[Descriptor],
) -> Result<Vec<u8>, NodeError> {
    let document = ManifestDocument { schema_version: 2, media_type, config, layers };
    serde_json::to_vec(&document).map_err(|source| NodeError::failed("write a manifest", source))
}

/// A layer of a Docker manifest under the name that an OCI manifest has for it.
fn in_oci_terms(layer: &Descriptor) -> Descriptor {
    let media_type = match layer.media_type.as_str() {
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        other => other,
    };
    Descriptor { media_type: media_type.to_owned(), ..layer.clone() }
}
