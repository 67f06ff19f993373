//! Images: names, what they point to, who uses them, how they come and go.
//!
//! Start reading at [`ImageStore`]. An image is named by references, kept as content by digest, and unpacked as
//! snapshots; its identity is the digest of its target (docs/decisions/2026-11-21-image-identity.md).

pub mod commit;
mod resolve;
mod usage;

use std::path::PathBuf;
use std::sync::Arc;

use registry_client::RegistryConfig;
use shoal_types::Platform;

pub use self::commit::CommitLayer;
pub use self::resolve::Resolved;
pub use self::usage::{ContainerUse, ImageUse};
use crate::error::NodeError;
use crate::events::EventLog;
use crate::layers::{Overlayfs, Snapshotter};
use crate::store::Store;

/// What the image store must be told.
#[derive(Debug, Clone)]
pub struct ImageSettings {
    /// The daemon's data directory; `content` and `overlayfs` are made below it.
    pub data_root: PathBuf,
    /// Registries: mirrors, certificates, limits.
    pub registries: RegistryConfig,
    /// What images are chosen for; the machine's own platform except in tests.
    pub platform: Platform,
}

/// The images of this node. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct ImageStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    snapshots: Arc<dyn Snapshotter>,
    users: usage::Users,
}

impl ImageStore {
    /// Opens what is on disk and cleans up what a crash left. Called once at boot, before containers are restored.
    pub async fn open(settings: ImageSettings, store: Store, _events: EventLog) -> Result<Self, NodeError> {
        let records = store.load()?;
        let (snapshots, cleanup) = Overlayfs::open(&settings.data_root.join("overlayfs"), records)?;
        store.commit(cleanup).await?;
        let shared = Shared { snapshots: Arc::new(snapshots), users: usage::Users::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The snapshots, for the writable layers of containers.
    pub fn snapshotter(&self) -> Arc<dyn Snapshotter> {
        Arc::clone(&self.shared.snapshots)
    }
}

fn unfinished() -> NodeError {
    NodeError::not_implemented("images are being built: this call is not there yet")
}
