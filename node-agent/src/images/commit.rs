//! New images from the changes of a container.
//!
//! Start reading at [`ImageStore::commit_layer`].

use std::path::PathBuf;

use shoal_types::{Digest, ImageId, ImageRef};

use super::{ImageStore, unfinished};
use crate::api::images::ImageRunConfig;
use crate::error::NodeError;

/// What a new image is made of.
#[derive(Debug, Clone)]
pub struct CommitLayer {
    /// The image that the container stands on; `None` if it has none (a build from scratch).
    pub parent: Option<ImageId>,
    /// The manifest of the parent's platform.
    pub parent_manifest: Option<Digest>,
    /// The container's upper directory; `None` makes an image that adds only configuration (history: an empty layer).
    pub upper: Option<PathBuf>,
    /// The new image's configuration, before `changes`.
    pub config: ImageRunConfig,
    /// Dockerfile instructions that change it.
    pub changes: Vec<String>,
    /// Who made it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// By which command, for the history.
    pub created_by: String,
    /// The name it gets; `None` leaves it dangling.
    pub reference: Option<ImageRef>,
}

impl ImageStore {
    /// Makes an image: packs the upper directory as a layer, writes config and manifest, names it. The caller freezes
    /// the container if it wants to, and publishes its own `commit` event; events of the image are published here.
    pub async fn commit_layer(&self, _wish: CommitLayer) -> Result<ImageId, NodeError> {
        Err(unfinished())
    }
}
