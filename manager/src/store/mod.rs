//! The replicated store: every object of the cluster, as one value that raft moves from version to version.
//!
//! Start reading at [`Snapshot`], an immutable view that costs a handful of counted pointers, then [`Change`] and
//! [`Snapshot::apply`]. [`Draft`] is how a decision collects its changes and sees their effect at once. [`Store`] is what the
//! leader's parts hold; the one over raft is `crate::raft`'s, [`MemoryStore`] is for tests and simulation. This module does no
//! IO: how objects reach a disk and other members is raft's business.

mod apply;
mod change;
mod draft;
mod index;
mod load;
mod memory;
mod object;
mod snapshot;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

pub use change::{Change, Conflict};
pub use draft::Draft;
pub use load::NodeLoad;
pub use memory::MemoryStore;
pub use object::{Authority, AuthoritySuccessor, Key, Object, ObjectKind, Revocation};
pub use snapshot::Snapshot;

use crate::error::ClusterError;

/// The store as the leader's parts see it.
#[async_trait]
pub trait Store: Send + Sync {
    /// The newest applied view; never waits.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// The index of the newest applied view. A receiver that was slow sees the newest only.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Applies all changes or none, on a majority of the managers, and returns the index at which they were applied; the own
    /// view contains them then.
    ///
    /// [`ClusterError::Conflict`] if the store does not take them, [`ClusterError::NotLeader`] and
    /// [`ClusterError::NoLeader`] if this manager cannot say so, [`ClusterError::Deadline`] if the outcome is unknown.
    async fn commit(&self, changes: Vec<Change>) -> Result<u64, ClusterError>;
}
