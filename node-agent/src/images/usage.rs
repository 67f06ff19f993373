//! Which containers use which images, and what is held for a moment.
//!
//! Start reading at [`ImageStore::use_by`]. Nothing of this is stored: whoever restores containers at boot registers
//! them again, before anything is removed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use shoal_types::{ContainerId, Digest, ImageId};

use super::ImageStore;

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
    leases: Arc<Mutex<BTreeMap<ImageId, usize>>>,
}

/// Keeps an image from being removed as long as it lives.
#[derive(Debug)]
pub struct Lease {
    image: ImageId,
    leases: Arc<Mutex<BTreeMap<ImageId, usize>>>,
}

impl Users {
    pub(super) fn lease(&self, image: ImageId) -> Lease {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        *leases.entry(image).or_default() += 1;
        Lease { image, leases: Arc::clone(&self.leases) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = leases.get_mut(&self.image) {
            *count -= 1;
            if *count == 0 {
                leases.remove(&self.image);
            }
        }
    }
}

impl ImageStore {
    /// Registers the images that a container uses, replacing what was registered for it: its own image, then those that
    /// it mounts. Called at creation, at each start and stop, and at boot.
    pub fn use_by(&self, container: ContainerId, uses: Vec<ImageUse>) {
        self.shared.users.containers.lock().unwrap_or_else(PoisonError::into_inner).insert(container, uses);
    }

    /// Forgets a container.
    pub fn release(&self, container: &ContainerId) {
        self.shared.users.containers.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }

    /// Keeps an image until the lease is dropped.
    pub fn lease(&self, image: ImageId) -> Lease {
        self.shared.users.lease(image)
    }
}
