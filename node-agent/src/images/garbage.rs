//! Removes content and layers that no image refers to any more.
//!
//! Start reading at [`Shared::collect`]. What an image leaves behind is written down in the same commit that forgets the
//! image, so that a crash in between leaks nothing; boot takes up what is written down. What failed pulls left is not
//! garbage: a later pull finds it, and only a prune takes it away ([`Shared::collect_all`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shoal_types::{ChainId, Digest, ImageId};

use super::Shared;
use super::catalog::Catalog;
use super::holds::Item;
use crate::error::{ErrorChain, NodeError};
use crate::layers::{LayerError, SnapshotName};
use crate::store::{Batch, Record};

/// A row of the table of garbage: what an image that is gone referred to. Its key is the image's digest,
/// or that of the topmost stack of layers if the image was gone before its last container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct GarbageRecord {
    /// Its blobs.
    pub(super) blobs: Vec<Digest>,
    /// Its stacks of layers, those with parents after their parents.
    pub(super) chains: Vec<ChainId>,
}

impl Record for GarbageRecord {
    const TABLE: &'static str = "garbage";
}

impl GarbageRecord {
    /// What an image refers to; `None` if there is no such image.
    pub(super) fn of(catalog: &Catalog, id: &ImageId) -> Option<Self> {
        let target = catalog.target(id)?;
        let compressed = target.record.compressed.values().map(|layer| layer.digest);
        let blobs = target.tree.blobs().into_iter().chain(compressed).collect();
        Some(Self { blobs, chains: target.tree.chains() })
    }
}

impl Shared {
    /// Removes what nothing refers to of what these images left, and the notes about it. Returns the freed bytes.
    pub(super) async fn collect(
        self: &Arc<Self>,
        left: Vec<(ImageId, GarbageRecord)>,
    ) -> Result<u64, NodeError> {
        let notes = left.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>();
        let blobs = left.iter().flat_map(|(_, garbage)| garbage.blobs.iter().copied()).collect();
        let chains = left.iter().flat_map(|(_, garbage)| garbage.chains.iter().copied()).collect();
        self.sweep(blobs, chains, notes).await
    }

    /// Removes everything that no image refers to: what failed transfers left, partial blobs included.
    pub(super) async fn collect_all(self: &Arc<Self>) -> Result<u64, NodeError> {
        let shared = Arc::clone(self);
        let found = tokio::task::spawn_blocking(move || -> Result<_, NodeError> {
            let partials = shared.content.remove_partials()?;
            let blobs: Vec<Digest> = shared.content.list()?.into_iter().map(|(digest, _)| digest).collect();
            let chains = shared.snapshots.list().into_iter().filter_map(|(name, _)| match name {
                SnapshotName::Committed(chain) => Some(chain),
                SnapshotName::Active(_) => None,
            });
            Ok((partials, blobs, chains.collect()))
        });
        let (partials, blobs, chains) =
            found.await.map_err(|source| NodeError::failed("look for unused content", source))??;
        Ok(partials + self.sweep(blobs, chains, Vec::new()).await?)
    }

    pub(super) async fn sweep(
        self: &Arc<Self>,
        blobs: Vec<Digest>,
        chains: Vec<ChainId>,
        notes: Vec<String>,
    ) -> Result<u64, NodeError> {
        // No image may come or go while we look what the others refer to.
        let _sole = self.changes.lock().await;
        let shared = Arc::clone(self);
        let swept = tokio::task::spawn_blocking(move || {
            let (live_blobs, live_chains) = {
                let catalog = shared.catalog();
                let chains: BTreeSet<ChainId> =
                    catalog.targets().flat_map(|(_, target)| target.tree.chains()).collect();
                (catalog.blobs_except(&BTreeSet::new()), chains)
            };
            let dead_blobs = blobs.into_iter().filter(|digest| !live_blobs.contains(digest));
            let mut freed: u64 = dead_blobs.map(|digest| shared.remove_blob(digest)).sum();
            let dead = chains.into_iter().filter(|chain| !live_chains.contains(chain)).collect();
            let (batch, unpacked) = shared.remove_chains(dead);
            freed += unpacked;
            (batch, freed)
        });
        let (batch, freed) =
            swept.await.map_err(|source| NodeError::failed("remove unused content", source))?;
        let batch = notes.into_iter().fold(batch, Batch::delete::<GarbageRecord>);
        self.store.commit(batch).await?;
        Ok(freed)
    }

    fn remove_blob(&self, digest: Digest) -> u64 {
        let removed = self.holds.unless_held(Item::Blob(digest), || self.content.remove(digest));
        removed.map_or(0, |removed| {
            removed.unwrap_or_else(|error| {
                tracing::warn!(blob = %digest, error = %ErrorChain(&error), "unused content still takes up space");
                0
            })
        })
    }

    /// Removes stacks of layers from the top, as far as nothing stands on them.
    fn remove_chains(&self, chains: BTreeSet<ChainId>) -> (Batch, u64) {
        let mut batch = Batch::new();
        let mut freed = 0;
        let mut left: Vec<ChainId> = chains.into_iter().collect();
        // Each round removes those on top; a parent's turn comes when its last child is gone.
        loop {
            let before = left.len();
            left.retain(|chain| {
                let name = SnapshotName::Committed(*chain);
                let bytes = self.snapshots.stat(&name).and_then(|snapshot| snapshot.usage).map_or(0, |usage| usage.bytes);
                match self.holds.unless_held(Item::Layer(*chain), || self.snapshots.remove(&name)) {
                    Some(Ok(removed)) => {
                        batch = std::mem::take(&mut batch).and(removed);
                        freed += bytes;
                        false
                    }
                    Some(Err(LayerError::InUse(_))) | None => true,
                    Some(Err(error)) => {
                        tracing::warn!(snapshot.name = %name, error = %ErrorChain(&error), "an unused layer still takes up space");
                        false
                    }
                }
            });
            if left.len() == before {
                return (batch, freed);
            }
        }
    }
}
