//! Images without content, and mounts that are nothing but remembered.
//!
//! Start reading at [`FakeImages`] and [`FakeMounter`].

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use shoal_types::{ChainId, ContainerId, Digest, ImageId, ImageRef, Platform};

use super::Faults;
use crate::api::containers::RootSizes;
use crate::api::images::ImageRunConfig;
use crate::containers::ports::{ContainerImages, HostMounter, ImageHold, ResolvedImage, Rootfs};
use crate::error::NodeError;
use crate::store::Batch;

/// Images in memory.
#[derive(Debug)]
pub struct FakeImages {
    faults: Faults,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    images: BTreeMap<String, ResolvedImage>,
    rootfs: BTreeSet<ContainerId>,
    holds: BTreeMap<ContainerId, ImageHold>,
}

impl FakeImages {
    /// No images.
    pub fn new(faults: Faults) -> Self {
        Self { faults, state: Mutex::default() }
    }

    /// Adds an image with this configuration under a reference; its id follows from how many there are.
    pub fn add(&self, reference: &str, config: ImageRunConfig) -> ImageId {
        let mut state = self.state();
        let mut digest = [0xab; 32];
        digest[0] = u8::try_from(state.images.len() % 256).unwrap_or(0);
        let id = ImageId(Digest::from_sha256(digest));
        let image = ResolvedImage {
            id,
            manifest: None,
            chain: None,
            platform: Platform::host(),
            config,
            warning: None,
            lease: None,
        };
        state.images.insert(reference.to_owned(), image);
        id
    }

    /// Takes a reference away.
    pub fn untag(&self, reference: &str) {
        self.state().images.remove(reference);
    }

    /// Containers with a writable layer.
    pub fn rootfs_owners(&self) -> Vec<ContainerId> {
        self.state().rootfs.iter().copied().collect()
    }

    /// Forgets which containers use images, as the end of the daemon does.
    pub fn hold_nothing(&self) {
        self.state().holds.clear();
    }

    /// Which containers use images, and how.
    pub fn holds(&self) -> BTreeMap<ContainerId, ImageHold> {
        self.state().holds.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn familiar(image: &str) -> String {
    ImageRef::parse(image)
        .map_or_else(|_| image.to_owned(), |reference| reference.with_default_tag().familiar())
}

#[async_trait]
impl ContainerImages for FakeImages {
    async fn resolve(&self, image: &str, _platform: Option<&Platform>) -> Result<ResolvedImage, NodeError> {
        let call = self.faults.enter("images.resolve").await?;
        let found = {
            let state = self.state();
            let by_id = || state.images.values().find(|found| found.id.to_string() == image);
            state.images.get(&familiar(image)).or_else(by_id).cloned()
        };
        call.done().await;
        found.ok_or_else(|| NodeError::NoSuchImage(familiar(image)))
    }

    fn still_names(&self, image: &str, id: &ImageId) -> bool {
        self.state().images.get(&familiar(image)).is_some_and(|found| found.id == *id)
    }

    async fn descendants(&self, image: &str) -> Vec<ImageId> {
        self.state().images.get(&familiar(image)).map(|found| found.id).into_iter().collect()
    }

    async fn create_rootfs(
        &self,
        container: ContainerId,
        _image: Option<&ResolvedImage>,
        _options: &BTreeMap<String, String>,
        batch: Batch,
    ) -> Result<(Rootfs, Batch), NodeError> {
        let call = self.faults.enter("images.create_rootfs").await?;
        self.state().rootfs.insert(container);
        call.done().await;
        Ok((rootfs_of(container), batch))
    }

    async fn rootfs(&self, container: ContainerId) -> Result<Rootfs, NodeError> {
        let call = self.faults.enter("images.rootfs").await?;
        let exists = self.state().rootfs.contains(&container);
        call.done().await;
        if exists {
            Ok(rootfs_of(container))
        } else {
            Err(NodeError::failed("find the writable layer", std::io::Error::other("it does not exist")))
        }
    }

    async fn pin(
        &self,
        _container: ContainerId,
        _place: usize,
        _chain: ChainId,
        batch: Batch,
    ) -> Result<Batch, NodeError> {
        self.faults.enter("images.pin").await?.done().await;
        Ok(batch)
    }

    async fn layers(&self, _chain: ChainId) -> Result<Vec<PathBuf>, NodeError> {
        Ok(vec![PathBuf::from("/fake/layers/0")])
    }

    async fn remove_rootfs(&self, container: ContainerId, batch: Batch) -> Result<Batch, NodeError> {
        let call = self.faults.enter("images.remove_rootfs").await?;
        self.state().rootfs.remove(&container);
        call.done().await;
        Ok(batch)
    }

    async fn rootfs_sizes(&self, _container: ContainerId) -> Result<RootSizes, NodeError> {
        Ok(RootSizes { writable: 0, total: 4096 })
    }

    fn hold(&self, container: ContainerId, hold: ImageHold) {
        self.state().holds.insert(container, hold);
    }

    fn release(&self, container: ContainerId) {
        self.state().holds.remove(&container);
    }

    async fn retain_rootfs(&self, containers: &[ContainerId]) {
        self.state().rootfs.retain(|owner| containers.contains(owner));
    }

    fn storage_driver(&self) -> &str {
        "overlay2"
    }
}

fn rootfs_of(container: ContainerId) -> Rootfs {
    let base = PathBuf::from(format!("/fake/rootfs/{container}"));
    Rootfs {
        lowers: vec![PathBuf::from("/fake/layers/0")],
        upper: base.join("upper"),
        work: base.join("work"),
        options: Vec::new(),
        ids: crate::userns::IdMapping::default(),
    }
}

/// The accounts that every fake container has.
fn fake_file(path: &str) -> Option<Vec<u8>> {
    match path {
        "/etc/passwd" => {
            Some(b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n".to_vec())
        }
        "/etc/group" => Some(b"root:x:0:root\napp:x:1000:\nwheel:x:10:root,app\n".to_vec()),
        _ => None,
    }
}

/// Mounts that are nothing but remembered.
#[derive(Debug)]
pub struct FakeMounter {
    faults: Faults,
    mounts: Mutex<BTreeSet<PathBuf>>,
}

impl FakeMounter {
    /// Nothing is mounted.
    pub fn new(faults: Faults) -> Self {
        Self { faults, mounts: Mutex::default() }
    }

    /// What is mounted.
    pub fn mounts(&self) -> Vec<PathBuf> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl HostMounter for FakeMounter {
    async fn open_rootfs(&self, _rootfs: &Rootfs) -> Result<OwnedFd, NodeError> {
        let call = self.faults.enter("mounter.open_rootfs").await?;
        let directory = std::fs::File::open(std::env::temp_dir())
            .map_err(|source| NodeError::failed("open the root file system", source))?;
        call.done().await;
        Ok(directory.into())
    }

    async fn read_files(&self, _rootfs: &Rootfs, paths: &[&str]) -> Result<Vec<Option<Vec<u8>>>, NodeError> {
        let call = self.faults.enter("mounter.read_files").await?;
        call.done().await;
        Ok(paths.iter().map(|path| fake_file(path)).collect())
    }

    async fn read_files_of(&self, _pid: u32, paths: &[&str]) -> Result<Vec<Option<Vec<u8>>>, NodeError> {
        let call = self.faults.enter("mounter.read_files_of").await?;
        call.done().await;
        Ok(paths.iter().map(|path| fake_file(path)).collect())
    }

    async fn make_directory(
        &self,
        _rootfs: &OwnedFd,
        _path: &str,
        _owner: (u32, u32),
    ) -> Result<(), NodeError> {
        let call = self.faults.enter("mounter.make_directory").await?;
        call.done().await;
        Ok(())
    }

    async fn mount_shm(&self, target: &Path, _size: u64, _owner: (u32, u32)) -> Result<(), NodeError> {
        let call = self.faults.enter("mounter.mount_shm").await?;
        self.lock().insert(target.to_owned());
        call.done().await;
        Ok(())
    }

    async fn unmount(&self, target: &Path) -> Result<(), NodeError> {
        let call = self.faults.enter("mounter.unmount").await?;
        self.lock().remove(target);
        call.done().await;
        Ok(())
    }
}
