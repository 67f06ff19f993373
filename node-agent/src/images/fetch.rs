//! Layers: from a registry or from content to committed snapshots.
//!
//! Start reading at [`Shared::join_layer`]. All layers of an image are under way at the same time; how many download at
//! once is the registry client's limit. A layer is unpacked while it downloads; it is committed when its digests are
//! verified and the layer below is committed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use registry_client::{Descriptor, Progress, Repository};
use shoal_types::{ChainId, DiffId, Digest};

use super::Shared;
use super::flights::{Reporter, Ticket};
use super::holds::Item;
use super::sink::LayerSink;
use super::tree::{ConfigFacts, ImageTree, Part};
use crate::api::images::LayerPhase;
use crate::error::{ErrorChain, NodeError};
use crate::layers::apply::Limits;
use crate::layers::unpack::{Unpacked, unpack};
use crate::layers::{LayerError, MAX_LAYERS, Purpose, SnapshotKey, SnapshotName, graft};

/// What a flight is for: this blob as the top of this stack.
pub(super) type LayerKey = (ChainId, Digest);
/// A ride on the flight of a layer.
pub(super) type LayerTicket = Ticket<LayerKey, LayerPhase>;

/// The layers of an image and where to get them.
#[derive(Debug)]
pub(super) struct LayerPlan {
    /// Bottom first.
    pub(super) layers: Vec<PlannedLayer>,
    /// Where missing blobs come from; `None` if all must be here.
    pub(super) repository: Option<Repository>,
}

/// One layer of a plan.
#[derive(Debug, Clone)]
pub(super) struct PlannedLayer {
    /// Its blob.
    pub(super) blob: Descriptor,
    /// What is in the blob, uncompressed.
    pub(super) diff_id: DiffId,
    /// It and what is below.
    pub(super) chain: ChainId,
}

impl LayerPlan {
    /// Brings together what manifest and config say. They must agree on the number of layers.
    pub(super) fn new(
        blobs: &[Descriptor],
        facts: &ConfigFacts,
        repository: Option<Repository>,
    ) -> Result<Arc<Self>, NodeError> {
        if blobs.len() != facts.diff_ids.len() {
            return Err(NodeError::invalid("mismatched image rootfs and manifest layers"));
        }
        if blobs.len() > MAX_LAYERS {
            return Err(LayerError::TooDeep.into());
        }
        let facts = facts.diff_ids.iter().zip(&facts.chains);
        let planned = blobs.iter().zip(facts).map(|(blob, (diff_id, chain))| PlannedLayer {
            blob: blob.clone(),
            diff_id: *diff_id,
            chain: *chain,
        });
        Ok(Arc::new(Self { layers: planned.collect(), repository }))
    }

    /// Everything that must not be removed until the image is recorded.
    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        self.layers.iter().flat_map(|layer| [Item::Blob(layer.blob.digest), Item::Layer(layer.chain)])
    }
}

/// A layer that was unpacked and has no name yet. Dropping it throws it away.
pub(super) struct Staged {
    shared: Arc<Shared>,
    key: SnapshotKey,
    pub(super) dir: PathBuf,
    is_committed: bool,
}

impl Shared {
    /// Makes sure that one manifest's layers are unpacked. Quick if they are.
    pub(super) async fn ensure_unpacked(
        self: &Arc<Self>,
        tree: &ImageTree,
        manifest: Digest,
    ) -> Result<(), NodeError> {
        let part = tree.part(manifest);
        let Some(Part { manifest: Some(manifest), facts: Some(facts), .. }) = part else { return Ok(()) };
        let Some(top) = facts.chains.last() else { return Ok(()) };
        // What is committed has all its parents.
        if self.snapshots.stat(&SnapshotName::Committed(*top)).is_some() {
            return Ok(());
        }
        let plan = LayerPlan::new(&manifest.layers, facts, None)?;
        let _hold = self.holds.hold(plan.items());
        // The topmost brings those below along.
        self.join_layer(&plan, plan.layers.len() - 1).landed().await
    }

    /// Begins to bring a layer here, or rides along if that is under way. The layers below come along.
    pub(super) fn join_layer(self: &Arc<Self>, plan: &Arc<LayerPlan>, layer_idx: usize) -> LayerTicket {
        let layer = &plan.layers[layer_idx];
        let (shared, plan) = (Arc::clone(self), Arc::clone(plan));
        let start =
            if shared.has_layer(layer) { LayerPhase::AlreadyExists } else { LayerPhase::PullingFsLayer };
        self.layers.join((layer.chain, layer.blob.digest), start, move |reporter| {
            // Boxed because a layer waits for the one below, which is the same future.
            let work: std::pin::Pin<Box<dyn Future<Output = _> + Send>> =
                Box::pin(async move { shared.bring_layer(&plan, layer_idx, &reporter).await });
            work
        })
    }

    /// Whether a layer is stored and unpacked.
    fn has_layer(&self, layer: &PlannedLayer) -> bool {
        self.snapshots.stat(&SnapshotName::Committed(layer.chain)).is_some()
            && self.content.size(layer.blob.digest).is_some()
    }

    async fn bring_layer(
        self: Arc<Self>,
        plan: &Arc<LayerPlan>,
        layer_idx: usize,
        reporter: &Reporter<LayerPhase>,
    ) -> Result<(), NodeError> {
        let layer = &plan.layers[layer_idx];
        if self.has_layer(layer) {
            return Ok(());
        }
        let below = layer_idx.checked_sub(1).map(|below| self.join_layer(plan, below));
        let is_unpacked = self.snapshots.stat(&SnapshotName::Committed(layer.chain)).is_some();
        // Waits as long as another image's layer downloads the same blob.
        let partial = self.content.resume(layer.blob.digest).await;
        let staged = if self.content.size(layer.blob.digest).is_some() {
            drop(partial);
            if is_unpacked { None } else { Some(self.unpack_blob(layer, reporter).await?) }
        } else {
            self.download(plan, layer, partial, is_unpacked, reporter).await?
        };
        if let Some(below) = below {
            below.landed().await?;
        }
        if let Some((staged, unpacked)) = staged {
            reporter.report(LayerPhase::Extracting(layer.blob.size, layer.blob.size));
            let parent = layer_idx.checked_sub(1).map(|below| plan.layers[below].chain);
            self.commit_layer_dir(staged, unpacked, layer.chain, parent).await?;
        }
        reporter.report(LayerPhase::PullComplete);
        Ok(())
    }

    async fn download(
        self: &Arc<Self>,
        plan: &LayerPlan,
        layer: &PlannedLayer,
        partial: crate::content::Partial,
        is_unpacked: bool,
        reporter: &Reporter<LayerPhase>,
    ) -> Result<Option<(Staged, Unpacked)>, NodeError> {
        let Some(repository) = &plan.repository else {
            return Err(crate::content::ContentError::Missing(layer.blob.digest).into());
        };
        let staged = if is_unpacked { None } else { Some(self.stage().await?) };
        let mut sink =
            LayerSink::new(partial, staged.as_ref().map(|staged| staged.dir.clone()), self.ids.clone());
        let progress = |_: &Digest, progress: Progress| {
            if let Some(phase) = phase(&progress) {
                reporter.report(phase);
            }
        };
        repository.fetch_blob(&layer.blob, &mut sink, &progress).await?;
        reporter.report(LayerPhase::DownloadComplete);
        match (staged, sink.into_unpacked()) {
            (Some(staged), Some(unpacked)) => {
                let checked = unpacked.and_then(|unpacked| check(unpacked, layer.diff_id));
                if checked.is_err() {
                    // The blob is what the manifest says, but nobody can use it.
                    let digest = layer.blob.digest;
                    self.block("remove a layer that is refused", move |shared| {
                        Ok(shared.content.remove(digest)?)
                    })
                    .await?;
                }
                Ok(Some((staged, checked?)))
            }
            _ => Ok(None),
        }
    }

    /// Unpacks a layer whose blob is here.
    async fn unpack_blob(
        self: &Arc<Self>,
        layer: &PlannedLayer,
        reporter: &Reporter<LayerPhase>,
    ) -> Result<(Staged, Unpacked), NodeError> {
        // Each takes two processors or so.
        let _turn =
            self.unpacking.acquire().await.map_err(|source| NodeError::failed("unpack a layer", source))?;
        let staged = self.stage().await?;
        let (dir, layer, reporter) = (staged.dir.clone(), layer.clone(), reporter.clone());
        let unpacked = self
            .block("unpack a layer", move |shared| {
                let blob = shared.content.open_blob(layer.blob.digest)?;
                let counted = Counted { source: blob, done: 0, total: layer.blob.size, reporter };
                let unpacked = unpack(counted, &dir, Limits::default(), &shared.ids)?;
                Ok(check(unpacked, layer.diff_id)?)
            })
            .await?;
        Ok((staged, unpacked))
    }

    /// An empty directory for a layer.
    pub(super) async fn stage(self: &Arc<Self>) -> Result<Staged, NodeError> {
        let number = self.next_stage.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let key = SnapshotKey::job("layer", &number.to_string());
        let prepared = key.clone();
        let stack = self
            .block("make a directory for a layer", move |shared| {
                // Not recorded: a crash leaves a directory without a record, which the next boot removes.
                let (stack, _unrecorded) = shared.snapshots.prepare(&prepared, None, Purpose::Layer)?;
                Ok(stack)
            })
            .await?;
        Ok(Staged { shared: Arc::clone(self), key, dir: stack.upper, is_committed: false })
    }

    /// Gives an unpacked layer its name, once the one below has its own. Runs to its end even if nobody waits any more,
    /// because what is visible in memory must become durable.
    pub(super) async fn commit_layer_dir(
        self: &Arc<Self>,
        staged: Staged,
        unpacked: Unpacked,
        chain: ChainId,
        parent: Option<ChainId>,
    ) -> Result<(), NodeError> {
        let shared = Arc::clone(self);
        let committing = tokio::spawn(async move {
            let (key, dir) = (staged.key.clone(), staged.dir.clone());
            let batch = shared
                .block("commit a layer", move |shared| {
                    let lowers = shared.snapshots.lowers(parent)?;
                    let usage = graft(&dir, &lowers, &unpacked.applied)?;
                    Ok(shared.snapshots.commit(&key, chain, parent, usage)?)
                })
                .await?;
            staged.keep();
            shared.store.commit(batch).await?;
            shared.plan_sync();
            Ok(())
        });
        committing.await.map_err(|source| NodeError::failed("commit a layer", source))?
    }

    /// Unpacks again what containers stand on and a crash of the machine has torn. Called at boot.
    pub(super) async fn repair_layers(self: &Arc<Self>) {
        let snapshots = self.snapshots.list();
        let parents = snapshots.iter().filter_map(|(_, snapshot)| snapshot.parent);
        let missing: BTreeSet<ChainId> =
            parents.filter(|chain| self.snapshots.stat(&SnapshotName::Committed(*chain)).is_none()).collect();
        for chain in missing {
            let plan = self.plan_for(chain);
            let repaired = match plan {
                Some((plan, layer_idx)) => self.join_layer(&plan, layer_idx).landed().await,
                None => Err(LayerError::NoSuchSnapshot(chain.to_string()).into()),
            };
            if let Err(error) = repaired {
                tracing::error!(layer.chain = %chain, error = %ErrorChain(&error), "a layer that containers stand on is lost");
            }
        }
    }

    /// How a stack of layers can be unpacked from content.
    fn plan_for(&self, chain: ChainId) -> Option<(Arc<LayerPlan>, usize)> {
        let catalog = self.catalog();
        let parts = catalog.targets().flat_map(|(_, target)| &target.tree.parts);
        parts.filter_map(|part| part.manifest.as_ref().zip(part.facts.as_ref())).find_map(
            |(manifest, facts)| {
                let layer_idx = facts.chains.iter().position(|known| *known == chain)?;
                Some((LayerPlan::new(&manifest.layers, facts, None).ok()?, layer_idx))
            },
        )
    }
}

impl Staged {
    /// It has a name now.
    fn keep(mut self) {
        self.is_committed = true;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.is_committed {
            return;
        }
        // Renames a directory and unlocks a table: short enough for any thread.
        if let Err(error) = self.shared.snapshots.remove(&SnapshotName::Active(self.key.clone())) {
            tracing::warn!(path = %self.dir.display(), error = %ErrorChain(&error), "an unfinished layer still takes up space");
        }
    }
}

fn check(unpacked: Unpacked, expected: DiffId) -> Result<Unpacked, LayerError> {
    let found = unpacked.diff_id;
    if found == expected { Ok(unpacked) } else { Err(LayerError::WrongDiffId { expected, found }) }
}

fn phase(progress: &Progress) -> Option<LayerPhase> {
    match *progress {
        Progress::Waiting => Some(LayerPhase::Waiting),
        Progress::Downloading { current, total } => Some(LayerPhase::Downloading(current, total)),
        Progress::Verifying => Some(LayerPhase::VerifyingChecksum),
        Progress::Downloaded => Some(LayerPhase::DownloadComplete),
        Progress::Retrying { .. }
        | Progress::Pushing { .. }
        | Progress::Pushed
        | Progress::AlreadyExists
        | Progress::Mounted { .. } => None,
    }
}

/// Reports how much of a blob has been read.
struct Counted<R> {
    source: R,
    done: u64,
    total: u64,
    reporter: Reporter<LayerPhase>,
}

impl<R: std::io::Read> std::io::Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.done += n as u64;
        self.reporter.report(LayerPhase::Extracting(self.done, self.total));
        Ok(n)
    }
}
