//! What containers need of images: the container engine's port, on top of the snapshots.
//!
//! Start reading at the implementation of [`ContainerImages`]. Nothing here mounts anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError};

use async_trait::async_trait;
use shoal_types::{ChainId, ContainerId, ImageId, Platform};

use super::catalog::Target;
use super::garbage::GarbageRecord;
use super::refs;
use super::usage::{ContainerUse, ImageUse, UsedPart};
use super::{ImageStore, Shared};
use crate::api::containers::RootSizes;
use crate::containers::ports::{ContainerImages, HeldImage, Hold, ImageHold, ResolvedImage, Rootfs};
use crate::error::{ErrorChain, NodeError};
use crate::layers::{LayerError, Purpose, SnapshotKey, SnapshotName, Stack};
use crate::sizes;
use crate::store::Batch;

/// The name by which Docker's containerd store goes, which clients look for.
const STORAGE_DRIVER: &str = "overlayfs";
/// Diffs of a container's layer would miss what these features hide; an inode index would hold up removals.
const MOUNT_OPTIONS: [&str; 3] = ["redirect_dir=off", "metacopy=off", "index=off"];

#[async_trait]
impl ContainerImages for ImageStore {
    async fn resolve(&self, image: &str, platform: Option<&Platform>) -> Result<ResolvedImage, NodeError> {
        let resolved = Self::resolve(self, image, platform).await?;
        Ok(ResolvedImage {
            id: resolved.id,
            manifest: Some(resolved.manifest),
            chain: resolved.chain,
            platform: resolved.platform,
            config: resolved.config,
            warning: resolved.warning,
            lease: Some(Arc::new(resolved.lease)),
        })
    }

    fn still_names(&self, image: &str, id: &ImageId) -> bool {
        Self::still_names(self, image, id)
    }

    async fn descendants(&self, image: &str) -> Vec<ImageId> {
        self.shared.descendants(image)
    }

    async fn create_rootfs(
        &self,
        container: ContainerId,
        image: Option<&ResolvedImage>,
        options: &BTreeMap<String, String>,
        batch: Batch,
    ) -> Result<(Rootfs, Batch), NodeError> {
        let limit = limit(options)?.or(self.shared.container_size);
        let purpose = limit.map_or(Purpose::Container, Purpose::LimitedContainer);
        let parent = image.and_then(|image| image.chain);
        let prepare = move |shared: &Shared| {
            let key = SnapshotKey::container(&container);
            match shared.snapshots.prepare(&key, parent, purpose) {
                Err(LayerError::Exists(_)) => Ok((shared.snapshots.stack(&key)?, Batch::new())),
                other => Ok(other?),
            }
        };
        let (stack, record) = self.shared.block("make a root file system", prepare).await?;
        Ok((rootfs(stack), batch.and(record)))
    }

    async fn rootfs(&self, container: ContainerId) -> Result<Rootfs, NodeError> {
        Ok(rootfs(self.shared.snapshots.stack(&SnapshotKey::container(&container))?))
    }

    async fn pin(
        &self,
        container: ContainerId,
        place: usize,
        chain: ChainId,
        batch: Batch,
    ) -> Result<Batch, NodeError> {
        let prepare = move |shared: &Shared| {
            let key = SnapshotKey::mount(&container, place);
            match shared.snapshots.prepare(&key, Some(chain), Purpose::Layer) {
                Err(LayerError::Exists(_)) => Ok(Batch::new()),
                other => Ok(other?.1),
            }
        };
        Ok(batch.and(self.shared.block("keep the layers of a mounted image", prepare).await?))
    }

    async fn layers(&self, chain: ChainId) -> Result<Vec<PathBuf>, NodeError> {
        Ok(self.shared.snapshots.lowers(Some(chain))?)
    }

    async fn remove_rootfs(&self, container: ContainerId, batch: Batch) -> Result<Batch, NodeError> {
        let mut batch = batch.and(self.shared.remove_active(SnapshotKey::container(&container)).await?);
        for key in self.shared.pins(&container) {
            batch = batch.and(self.shared.remove_active(key).await?);
        }
        Ok(batch)
    }

    async fn rootfs_sizes(&self, container: ContainerId) -> Result<RootSizes, NodeError> {
        self.shared
            .block("measure a root file system", move |shared| {
                let name = SnapshotName::Active(SnapshotKey::container(&container));
                let writable = shared.snapshots.usage(&name)?.bytes;
                let below: u64 =
                    shared.ancestors(&name).into_iter().map(|chain| shared.layer_size(chain)).sum();
                Ok(RootSizes { writable, total: writable + below })
            })
            .await
    }

    fn hold(&self, container: ContainerId, hold: ImageHold) {
        let state = match hold.hold {
            Hold::Refers => ContainerUse::Stopped,
            Hold::Uses => ContainerUse::Running,
        };
        let used = |held: HeldImage, part| ImageUse {
            image: held.image,
            manifest: held.manifest.unwrap_or(held.image.0),
            name: held.name,
            container: state,
            part,
        };
        let root = hold.root.map(|held| used(held, UsedPart::Root));
        let mounted = hold.mounted.into_iter().map(|held| used(held, UsedPart::Mount));
        self.use_by(container, root.into_iter().chain(mounted).collect());
    }

    fn release(&self, container: ContainerId) {
        Self::release(self, &container);
        let shared = Arc::clone(&self.shared);
        // What the container's image left is written down by now: if this is cut off, the next boot takes it up.
        tokio::spawn(async move {
            if let Err(error) = shared.collect_orphans().await {
                tracing::warn!(container.id = %container, error = %ErrorChain(&error), "layers that nothing uses still take up space");
            }
        });
    }

    async fn retain_rootfs(&self, containers: &[ContainerId]) {
        let kept: BTreeSet<&ContainerId> = containers.iter().collect();
        for (name, _) in self.shared.snapshots.list() {
            let SnapshotName::Active(key) = &name else { continue };
            if !key.is_of(|owner| !kept.contains(owner)) {
                continue;
            }
            let removed = async {
                let batch = self.shared.remove_active(key.clone()).await?;
                self.shared.store.commit(batch).await?;
                self.shared.collect_orphans().await
            };
            if let Err(error) = removed.await {
                tracing::warn!(snapshot.name = %name, error = %ErrorChain(&error), "a layer that no container has still takes up space");
            }
        }
    }

    fn storage_driver(&self) -> &str {
        STORAGE_DRIVER
    }
}

impl Shared {
    /// The image of this name and those that stand on it: with more layers on top, or made from it without any.
    fn descendants(&self, name: &str) -> Vec<ImageId> {
        let catalog = self.catalog();
        let Ok(found) = refs::find(&catalog, name) else { return Vec::new() };
        let tops: BTreeSet<ChainId> = catalog
            .target(&found.id)
            .into_iter()
            .flat_map(|target| target.tree.parts.iter())
            .filter_map(|part| part.facts.as_ref()?.chains.last().copied())
            .collect();
        let has_more_layers = |target: &Target| {
            let facts = target.tree.parts.iter().filter_map(|part| part.facts.as_ref());
            let mut below = facts.filter_map(|facts| facts.chains.split_last()).flat_map(|(_, below)| below);
            below.any(|chain| tops.contains(chain))
        };
        let parent_of = |id: &ImageId| catalog.target(id).and_then(|target| target.record.parent);
        let is_made_from = |id: &ImageId| {
            std::iter::successors(parent_of(id), |parent| parent_of(parent)).any(|parent| parent == found.id)
        };
        catalog
            .targets()
            .filter(|(id, target)| **id == found.id || has_more_layers(target) || is_made_from(id))
            .map(|(id, _)| *id)
            .collect()
    }

    /// What keeps the layers of the images that a container mounts.
    fn pins(&self, container: &ContainerId) -> Vec<SnapshotKey> {
        let own = SnapshotKey::container(container);
        let keys = self.snapshots.list().into_iter().filter_map(|(name, _)| match name {
            SnapshotName::Active(key) => Some(key),
            SnapshotName::Committed(_) => None,
        });
        keys.filter(|key| *key != own && key.is_of(|owner| owner == container)).collect()
    }

    /// The layers below a snapshot, topmost first.
    fn ancestors(&self, name: &SnapshotName) -> Vec<ChainId> {
        let mut chains = Vec::new();
        let mut next = self.snapshots.stat(name).and_then(|snapshot| snapshot.parent);
        while let Some(chain) = next {
            chains.push(chain);
            next = self.snapshots.stat(&SnapshotName::Committed(chain)).and_then(|snapshot| snapshot.parent);
        }
        chains
    }

    /// Removes a container's layer. Those below it become garbage if their image is gone meanwhile: the batch says so,
    /// and [`Self::collect_orphans`] removes them once it is committed.
    async fn remove_active(self: &Arc<Self>, key: SnapshotKey) -> Result<Batch, NodeError> {
        let name = SnapshotName::Active(key);
        let ancestors = self.ancestors(&name);
        let batch = self
            .block("remove a root file system", move |shared| Ok(shared.snapshots.remove(&name)?))
            .await?;
        let Some(top) = ancestors.first().copied() else { return Ok(batch) };
        let is_needed = self.catalog().targets().any(|(_, target)| target.tree.chains().contains(&top));
        if is_needed {
            return Ok(batch);
        }
        let note = ImageId(top.0);
        let garbage = GarbageRecord { blobs: Vec::new(), chains: ancestors };
        let batch = batch.put(note.to_string(), &garbage)?;
        self.orphans().insert(note, garbage);
        Ok(batch)
    }

    /// Removes the layers that removed containers were the last to use.
    async fn collect_orphans(self: &Arc<Self>) -> Result<(), NodeError> {
        let orphans = std::mem::take(&mut *self.orphans());
        if !orphans.is_empty() {
            self.collect(orphans.into_iter().collect()).await?;
        }
        Ok(())
    }

    fn orphans(&self) -> MutexGuard<'_, BTreeMap<ImageId, GarbageRecord>> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `--storage-opt` says of the writable layer's size. Like dockerd's, 0 is no limit, and keys may have any case.
fn limit(options: &BTreeMap<String, String>) -> Result<Option<u64>, NodeError> {
    let mut limit = None;
    for (option, value) in options {
        if !option.eq_ignore_ascii_case("size") {
            return Err(NodeError::invalid(format!("Unknown option {}", option.to_lowercase())));
        }
        let size = sizes::binary(value);
        limit = Some(size.ok_or_else(|| NodeError::invalid(format!("invalid size: '{value}'")))?);
    }
    Ok(limit.filter(|size| *size > 0))
}

fn rootfs(stack: Stack) -> Rootfs {
    let options = MOUNT_OPTIONS.map(str::to_owned).to_vec();
    Rootfs { lowers: stack.lowers, upper: stack.upper, work: stack.work, options, ids: stack.ids }
}
