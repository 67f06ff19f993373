//! What containers need of images: the container engine's port, on top of the snapshots.
//!
//! Start reading at the implementation of [`ContainerImages`]. Telling which images containers use (so that they are not
//! removed) is [`ImageStore::use_by`]; nothing here knows whether a container runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use shoal_types::{ChainId, ContainerId, ImageId, Platform};

use super::{ImageStore, Shared};
use crate::api::containers::RootSizes;
use crate::containers::ports::{ContainerImages, ResolvedImage, Rootfs};
use crate::error::{ErrorChain, NodeError};
use crate::layers::{LayerError, Purpose, SnapshotKey, SnapshotName, Stack};
use crate::store::Batch;

/// The name by which Docker's containerd store goes, which clients look for.
const STORAGE_DRIVER: &str = "overlayfs";
/// Diffs of a container's layer would miss what these features hide; an inode index would hold up removals.
const MOUNT_OPTIONS: [&str; 3] = ["redirect_dir=off", "metacopy=off", "index=off"];
const SIZE_TEXT: &str = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";

#[async_trait]
impl ContainerImages for ImageStore {
    async fn resolve(&self, image: &str, platform: Option<&Platform>) -> Result<ResolvedImage, NodeError> {
        let resolved = Self::resolve(self, image, platform).await?;
        Ok(ResolvedImage {
            id: resolved.id,
            manifest: Some(resolved.manifest),
            platform: resolved.platform,
            config: resolved.config,
        })
    }

    fn still_names(&self, image: &str, id: &ImageId) -> bool {
        Self::still_names(self, image, id)
    }

    async fn create_rootfs(
        &self,
        container: ContainerId,
        image: Option<&ResolvedImage>,
        options: &BTreeMap<String, String>,
    ) -> Result<Rootfs, NodeError> {
        if let Some(option) = options.keys().next() {
            let is_size = option.eq_ignore_ascii_case("size");
            let text = if is_size { SIZE_TEXT.to_owned() } else { format!("Unknown option {option}") };
            return Err(NodeError::invalid(text));
        }
        let shared = Arc::clone(&self.shared);
        let parent = image.map(|image| shared.top_chain(image)).transpose()?.flatten();
        // In one task, so that a snapshot that was made is recorded too.
        let creating = tokio::spawn(async move {
            let prepare = move |shared: &Shared| {
                let key = SnapshotKey::container(&container);
                match shared.snapshots.prepare(&key, parent, Purpose::Container) {
                    Err(LayerError::Exists(_)) => Ok((shared.snapshots.stack(&key)?, Batch::new())),
                    other => Ok(other?),
                }
            };
            let (stack, batch) = shared.block("make a root file system", prepare).await?;
            shared.store.commit(batch).await?;
            Ok(rootfs(stack))
        });
        creating.await.map_err(|source| NodeError::failed("make a root file system", source))?
    }

    async fn remove_rootfs(&self, container: ContainerId) -> Result<(), NodeError> {
        let shared = Arc::clone(&self.shared);
        let removing =
            tokio::spawn(async move { shared.remove_active(SnapshotKey::container(&container)).await });
        removing.await.map_err(|source| NodeError::failed("remove a root file system", source))?
    }

    async fn rootfs_sizes(
        &self,
        container: ContainerId,
        _image: Option<&ImageId>,
    ) -> Result<RootSizes, NodeError> {
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

    async fn retain_rootfs(&self, containers: &[ContainerId]) {
        let kept: BTreeSet<SnapshotName> =
            containers.iter().map(|id| SnapshotName::Active(SnapshotKey::container(id))).collect();
        for (name, _) in self.shared.snapshots.list() {
            let SnapshotName::Active(key) = &name else { continue };
            if kept.contains(&name) || key.as_str().parse::<ContainerId>().is_err() {
                continue;
            }
            if let Err(error) = self.shared.remove_active(key.clone()).await {
                tracing::warn!(snapshot.name = %name, error = %ErrorChain(&error), "a layer that no container has still takes up space");
            }
        }
    }

    fn storage_driver(&self) -> &str {
        STORAGE_DRIVER
    }
}

impl Shared {
    /// The stack of layers of an image that was found a moment ago.
    fn top_chain(&self, image: &ResolvedImage) -> Result<Option<ChainId>, NodeError> {
        let catalog = self.catalog();
        let tree = self.tree(&catalog, &image.id)?;
        let manifest = image.manifest.as_ref().map_or(image.id.0, |manifest| manifest.digest);
        let facts = tree.part(manifest).and_then(|part| part.facts.as_ref());
        let facts = facts.ok_or_else(|| NodeError::NoSuchImage(image.id.to_string()))?;
        Ok(facts.chains.last().copied())
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

    /// Removes a container's layer, and those below it if their image is gone meanwhile.
    async fn remove_active(self: &Arc<Self>, key: SnapshotKey) -> Result<(), NodeError> {
        let name = SnapshotName::Active(key);
        let ancestors = self.ancestors(&name);
        let batch = self
            .block("remove a root file system", move |shared| Ok(shared.snapshots.remove(&name)?))
            .await?;
        self.store.commit(batch).await?;
        let is_orphaned = {
            let catalog = self.catalog();
            let top = ancestors.first();
            top.is_some_and(|top| !catalog.targets().any(|(_, target)| target.tree.chains().contains(top)))
        };
        if is_orphaned {
            self.sweep(Vec::new(), ancestors, Vec::new()).await?;
        }
        Ok(())
    }
}

fn rootfs(stack: Stack) -> Rootfs {
    let options = MOUNT_OPTIONS.map(str::to_owned).to_vec();
    Rootfs { lowers: stack.lowers, upper: stack.upper, work: stack.work, options }
}
