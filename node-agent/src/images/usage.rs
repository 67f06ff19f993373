//! Which containers use which images, and what is held for a moment.
//!
//! Start reading at [`ImageStore::use_by`]. Nothing of this is stored: whoever restores containers at boot registers
//! them again, before anything is removed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shoal_types::{ContainerId, Digest, ImageId};

use super::holds::{Hold, Item};
use super::tree::ImageTree;
use super::{ImageStore, Shared};

/// How a container uses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// The image.
    pub image: ImageId,
    /// The manifest of its platform.
    pub manifest: Digest,
    /// What the user called it.
    pub name: String,
    /// Whether it stands in the way of a forced removal too.
    pub container: ContainerUse,
    /// What the container has of it.
    pub part: UsedPart,
}

/// What a container has of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsedPart {
    /// Its root file system stands on it.
    Root,
    /// It is mounted somewhere in it.
    Mount,
}

/// What the container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerUse {
    /// It has processes: running, paused or restarting.
    Running,
    /// It has none.
    Stopped,
}

/// Containers and the images they use: the one of their root file system first, mounted ones after it.
#[derive(Debug, Default)]
pub(super) struct Users {
    containers: Mutex<BTreeMap<ContainerId, Vec<ImageUse>>>,
}

/// Keeps the content and the layers of an image on disk as long as it lives, even if the image is removed.
#[derive(Debug)]
pub struct Lease {
    _hold: Hold,
}

impl Users {
    /// The first container for which `test` holds of one of its uses, in the order of their ids.
    pub(super) fn first(&self, test: impl Fn(&ImageUse) -> bool) -> Option<ContainerId> {
        self.lock().iter().find(|(_, uses)| uses.iter().any(&test)).map(|(container, _)| *container)
    }

    /// The containers that run a manifest.
    pub(super) fn of_manifest(&self, manifest: &Digest) -> Vec<ContainerId> {
        let is_root = |used: &ImageUse| used.part == UsedPart::Root && used.manifest == *manifest;
        let runs = |uses: &&Vec<ImageUse>| uses.iter().any(is_root);
        self.lock().iter().filter(|(_, uses)| runs(uses)).map(|(container, _)| *container).collect()
    }

    /// Every use of every container.
    pub(super) fn all(&self) -> Vec<ImageUse> {
        self.lock().values().flatten().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Vec<ImageUse>>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ImageStore {
    /// Registers the images that a container uses, replacing what was registered for it: its own image, then those that
    /// it mounts. Called at creation, at each start and stop, and at boot.
    pub fn use_by(&self, container: ContainerId, uses: Vec<ImageUse>) {
        self.shared.users.lock().insert(container, uses);
    }

    /// Forgets a container.
    pub fn release(&self, container: &ContainerId) {
        self.shared.users.lock().remove(container);
    }
}

impl Shared {
    /// Keeps what an image consists of on disk.
    pub(super) fn lease(&self, tree: &ImageTree) -> Lease {
        let blobs = tree.blobs().into_iter().map(Item::Blob);
        let chains = tree.chains().into_iter().map(Item::Layer);
        Lease { _hold: self.holds.hold(blobs.chain(chains)) }
    }
}
