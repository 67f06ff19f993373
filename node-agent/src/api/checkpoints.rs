//! Port: states of running containers that are written to disk, and starts that go on from there.
//!
//! Start reading at [`Checkpoints`]. They are made and read by CRIU, which the container's runtime drives.

use std::path::PathBuf;

use async_trait::async_trait;
pub use node_shim::protocol::AfterCheckpoint;

use crate::error::NodeError;

/// The checkpoints of containers.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// Writes the state of a running container down. Goes on if the caller goes away; a failure leaves nothing.
    async fn checkpoint(&self, name: &str, wish: CheckpointWish) -> Result<(), NodeError>;

    /// Names of the checkpoints of a container, sorted; `root` is where they are if not with the container.
    async fn checkpoints(&self, name: &str, root: Option<PathBuf>) -> Result<Vec<String>, NodeError>;

    /// Removes one.
    async fn remove_checkpoint(&self, name: &str, checkpoint: CheckpointName) -> Result<(), NodeError>;

    /// Starts a container that does not run, going on from a checkpoint.
    async fn restore(&self, name: &str, checkpoint: CheckpointName) -> Result<(), NodeError>;
}

/// Which checkpoint of a container is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointName {
    /// What it is called: a single component of a path that does not begin with a dot.
    pub name: String,
    /// Where it is if not with the container; absolute.
    pub root: Option<PathBuf>,
}

/// A wish for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointWish {
    /// What it shall be called, and where it shall be.
    pub checkpoint: CheckpointName,
    /// What becomes of the container.
    pub after: AfterCheckpoint,
}
