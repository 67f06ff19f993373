//! From a name to what a container needs of an image.
//!
//! Start reading at [`ImageStore::resolve`].

use std::path::PathBuf;

use shoal_types::{ChainId, Digest, ImageId, Platform};

use super::usage::Lease;
use super::{ImageStore, unfinished};
use crate::api::images::ImageRunConfig;
use crate::error::NodeError;

/// An image for one platform, unpacked.
#[derive(Debug)]
pub struct Resolved {
    /// Its identity: the digest of what the name points to.
    pub id: ImageId,
    /// The manifest of the platform that was chosen; the same as `id` unless the name points to an index.
    pub manifest: Digest,
    /// How it is run.
    pub config: ImageRunConfig,
    /// Its stack of layers; `None` for an image without layers. The parent of the container's snapshot.
    pub chain: Option<ChainId>,
    /// Where its layers are unpacked, topmost first.
    pub layer_dirs: Vec<PathBuf>,
    /// What it is for.
    pub platform: Platform,
    /// What the user should know: the image is not for this machine although no platform was asked for.
    pub warning: Option<String>,
    /// Keeps the image from being removed until the container that uses it is registered.
    pub lease: Lease,
}

impl ImageStore {
    /// Finds an image by reference, digest, id or id prefix and makes sure that it is unpacked.
    ///
    /// Fails with [`NodeError::NoSuchImage`] if there is none, and with another error of kind *not found* if it is there
    /// but not for the `platform` that was asked for. Without a platform, an image for another machine is taken with a
    /// warning.
    pub async fn resolve(&self, _name: &str, _platform: Option<&Platform>) -> Result<Resolved, NodeError> {
        Err(unfinished())
    }
}
