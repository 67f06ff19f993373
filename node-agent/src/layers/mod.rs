//! Layers: stacks of directories that together are a root file system.
//!
//! Start reading at [`Snapshotter`]. A *layer* is the tar of an image; a *snapshot* is a directory that a layer was
//! unpacked into (*committed*, named by its chain id) or that a container writes to (*active*, named by a key). Getting
//! a layer into a snapshot is `apply`, getting one out of it is `diff`. Nothing here knows images, registries or
//! containers, and nothing here mounts: the runtime mounts a [`Stack`] where only the container sees it.
//!
//! ```text
//! <data root>/overlayfs/
//! ├── 1/fs          unpacked layer, in overlayfs form (whiteouts are devices 0:0)
//! ├── 1/base        mount points and files that every container on top of 1 finds (see `base.rs`)
//! ├── 2/fs, 2/work  a container's upper and work directory
//! └── trash/        what is being removed; emptied in the background and at boot
//! ```
//!
//! Directory names are short so that 500 of them (the kernel's limit for one overlay) are no problem.

pub mod apply;
pub mod archive;
pub(crate) mod attributes;
mod base;
pub mod chain;
mod changes;
pub mod compression;
mod copy;
pub mod diff;
mod error;
mod graft;
pub mod gzip;
pub(crate) mod merged;
mod overlayfs;
pub mod pack;
mod quota;
mod record;
#[cfg(test)]
pub(crate) mod testing;
pub mod unpack;
mod whiteout;

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use shoal_types::{ChainId, ContainerId};

pub use self::changes::changes;
pub use self::copy::{Copied, copy_tree};
pub use self::error::LayerError;
pub use self::graft::graft;
pub use self::overlayfs::Overlayfs;
pub use self::record::SnapshotRecord;
use crate::store::Batch;
use crate::userns::IdMapping;

/// The most layers an image may have. The kernel takes 500 lower directories; one is the containers' base.
pub const MAX_LAYERS: usize = 499;

/// Keeps snapshots. Every method blocks (it makes and removes directories) and is called on a blocking thread.
///
/// A container lives like this. `prepare` makes a writable directory on top of a committed snapshot and returns the
/// record of it as a [`Batch`], which the caller commits together with its own, so that container and snapshot become
/// durable together or not at all. At every start the caller asks for the [`Stack`] again, because directories may have moved since the daemon was last
/// started, and hands it to the runtime, which mounts it. `usage` tells what the container wrote. `remove` takes all of
/// it away.
///
/// An image's layer lives like this. `prepare` makes an empty directory, the caller unpacks the layer into the stack's
/// `upper`, verifies it, and `commit` gives it its name, the chain id. Until the batch of the commit is durable nobody
/// else sees it; what a crash leaves is removed at the next boot, because it has no record.
///
/// Every operation can be repeated. Removing what is not there succeeds; preparing what is there fails with
/// [`LayerError::Exists`].
pub trait Snapshotter: Send + Sync + fmt::Debug {
    /// Makes an active snapshot on top of `parent`. It is there for good when the batch is committed.
    fn prepare(
        &self,
        key: &SnapshotKey,
        parent: Option<ChainId>,
        purpose: Purpose,
    ) -> Result<(Stack, Batch), LayerError>;

    /// The directories of an active snapshot, to be mounted now. Not to be kept across restarts of the daemon.
    fn stack(&self, key: &SnapshotKey) -> Result<Stack, LayerError>;

    /// The directories of a committed snapshot and its parents, topmost first; empty for `None`.
    fn lowers(&self, chain: Option<ChainId>) -> Result<Vec<PathBuf>, LayerError>;

    /// Turns an active snapshot into the committed one of this chain id, on top of `parent`, which is committed. If that
    /// chain is there already, the active snapshot is removed and the existing one stays.
    fn commit(
        &self,
        key: &SnapshotKey,
        chain: ChainId,
        parent: Option<ChainId>,
        usage: Usage,
    ) -> Result<Batch, LayerError>;

    /// Takes a snapshot away; the batch deletes its record. A committed one that others stand on is refused with
    /// [`LayerError::InUse`]. The space is freed in the background.
    fn remove(&self, name: &SnapshotName) -> Result<Batch, LayerError>;

    /// What a snapshot holds beyond its parents. Walks the directories of an active one.
    fn usage(&self, name: &SnapshotName) -> Result<Usage, LayerError>;

    /// What is known of a snapshot; `None` if there is none of that name.
    fn stat(&self, name: &SnapshotName) -> Option<Snapshot>;

    /// All snapshots, ordered by name.
    fn list(&self) -> Vec<(SnapshotName, Snapshot)>;

    /// Whether [`Purpose::LimitedContainer`] can be had.
    fn has_limits(&self) -> bool;

    /// Makes the content of all snapshots committed so far safe from a power loss; the batch records that.
    fn sync(&self) -> Result<Batch, LayerError>;
}

/// What stands between a container's id and the number of one of its mounts in a key.
const MOUNT_MARK: &str = "-mount-";

/// The name of an active snapshot, chosen by its owner: a container's id, or the name of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotKey(String);

impl SnapshotKey {
    /// The writable layer of a container.
    pub fn container(id: &ContainerId) -> Self {
        Self(id.to_string())
    }

    /// What keeps the layers of an image that a container mounts.
    pub fn mount(id: &ContainerId, place: usize) -> Self {
        Self(format!("{id}{MOUNT_MARK}{place}"))
    }

    /// Whether it belongs to a container for which `test` holds.
    pub fn is_of(&self, test: impl Fn(&ContainerId) -> bool) -> bool {
        let owner = self.0.split_once(MOUNT_MARK).map_or(self.0.as_str(), |(owner, _)| owner);
        owner.parse().is_ok_and(|owner| test(&owner))
    }

    /// A job's own name. It must not have the form of a digest; jobs put their kind in front.
    pub fn job(kind: &str, id: &str) -> Self {
        Self(format!("{kind}-{id}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a snapshot of either kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SnapshotName {
    /// Being written to.
    Active(SnapshotKey),
    /// A layer with everything below it.
    Committed(ChainId),
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active(key) => f.write_str(&key.0),
            Self::Committed(chain) => chain.fmt(f),
        }
    }
}

/// What an active snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A container: it gets a work directory, and a base layer with the usual mount points below it.
    Container,
    /// The same, of a container that may write this many bytes. Refused with [`LayerError::NoQuotas`] where the file
    /// system cannot see to that.
    LimitedContainer(u64),
    /// A layer that is to be unpacked and committed: it gets an empty directory and no lower ones.
    Layer,
}

/// The directories of an overlay. All on one file system; paths are absolute and short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Lower directories, topmost first. Never empty for a container.
    pub lowers: Vec<PathBuf>,
    /// What is written to. To be mounted with `redirect_dir=off` and `metacopy=off`: a diff would miss what they hide.
    pub upper: PathBuf,
    /// The scratch directory that overlayfs wants; only for a container.
    pub work: PathBuf,
    /// Whose ids the owners of the files are.
    pub ids: IdMapping,
}

/// What a snapshot holds beyond its parents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Sum of the lengths of files and symbolic links, each inode once. Not blocks, so that an untouched container
    /// shows 0 and the figure does not depend on the file system.
    pub bytes: u64,
    /// Number of files, directories and others.
    pub inodes: u64,
}

/// What is known of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What it stands on.
    pub parent: Option<ChainId>,
    /// Recorded at commit; `None` of an active one.
    pub usage: Option<Usage>,
    /// When it was prepared, or committed.
    pub created: Timestamp,
}
