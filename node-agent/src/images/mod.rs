//! Images: names, what they point to, who uses them, how they come and go.
//!
//! Start reading at [`ImageStore`]. An image is named by references, kept as content by digest, and unpacked as
//! snapshots; its identity is the digest of its target (docs/decisions/2026-11-21-image-identity.md).
//!
//! | file | what |
//! |---|---|
//! | `catalog.rs`, `refs.rs` | names and targets in memory, and how texts find them |
//! | `tree.rs`, `config.rs` | what an image consists of, as its content says |
//! | `resolve.rs`, `rootfs.rs`, `usage.rs` | what containers need: an unpacked image, a layer of their own, and that it stays |
//! | `list.rs`, `inspect.rs`, `filter.rs` | looking |
//! | `remove.rs`, `prune.rs`, `garbage.rs`, `holds.rs` | removing, and what stands in the way |
//! | `pull.rs`, `fetch.rs`, `flights.rs`, `sink.rs` | from a registry |
//! | `push.rs` | to a registry |
//! | `load/`, `save.rs`, `import.rs`, `commit.rs` | from and to archives and containers |
//!
//! After a crash: the tables say which images exist; their content is read at boot; what was half removed is written
//! down as garbage and swept up; what was half fetched stays for the next pull.

mod attestations;
mod catalog;
pub mod commit;
mod config;
mod events;
mod fetch;
mod filter;
mod flights;
mod garbage;
mod glob;
mod holds;
mod import;
mod inspect;
mod instructions;
mod list;
mod load;
mod make;
mod port;
mod prune;
mod pull;
mod push;
mod record;
mod refs;
mod remove;
mod resolve;
mod rootfs;
mod save;
mod sink;
pub(crate) mod source;
mod stream;
mod tag;
mod tree;
mod usage;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use registry_client::{Client, RegistryConfig};
use shoal_types::{ImageId, ImageRef, Platform};

use self::catalog::{Catalog, Change, Target};
pub use self::commit::CommitLayer;
use self::garbage::GarbageRecord;
use self::record::{NameRecord, TargetRecord};
pub use self::resolve::Resolved;
use self::tree::ImageTree;
pub use self::usage::{ContainerUse, ImageUse, Lease, UsedPart};
use crate::api::images::LayerPhase;
use crate::content::ContentStore;
use crate::error::{ErrorChain, NodeError};
use crate::events::EventLog;
use crate::figures::Figures;
use crate::layers::{Overlayfs, Snapshotter};
use crate::store::{Batch, Store};
use crate::userns::IdMapping;

/// How long after a layer was committed all of it is flushed to disk. Long enough that the layers of one pull share the
/// work, short enough that few are unpacked again after a power loss.
const SYNC_DELAY: Duration = Duration::from_secs(5);

/// dockerd's words for a default size that cannot be had.
const NO_DEFAULT_SIZE: &str = "error initializing graphdriver: Storage option overlay2.size not supported. \
     Filesystem does not support Project Quota";

/// What the image store must be told.
#[derive(Debug, Clone)]
pub struct ImageSettings {
    /// The daemon's data directory; `content` and `overlayfs` are made below it.
    pub data_root: PathBuf,
    /// Registries: mirrors, certificates, limits.
    pub registries: RegistryConfig,
    /// What images are chosen for; the machine's own platform except in tests.
    pub platform: Platform,
    /// Whose ids the files of containers have.
    pub ids: IdMapping,
    /// How much containers may write that do not say; needs quotas of the file system.
    pub container_size: Option<u64>,
    /// Where pulls, pushes and the like are timed.
    pub figures: Figures,
}

/// The images of this node. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct ImageStore {
    shared: Arc<Shared>,
}

struct Shared {
    platform: Platform,
    ids: IdMapping,
    container_size: Option<u64>,
    figures: Figures,
    content: ContentStore,
    snapshots: Arc<dyn Snapshotter>,
    registries: Client,
    store: Store,
    events: EventLog,
    catalog: RwLock<Catalog>,
    /// Held from planning a change of the catalog until it is applied, across the commit, so that plans do not meet.
    changes: tokio::sync::Mutex<()>,
    users: usage::Users,
    /// Layers of images that are gone whose last container is being removed.
    orphans: Mutex<BTreeMap<ImageId, GarbageRecord>>,
    holds: holds::Holds,
    /// Layers that are on their way, each once.
    layers: flights::Flights<fetch::LayerKey, LayerPhase>,
    /// How many layers are unpacked from content at once.
    unpacking: tokio::sync::Semaphore,
    next_stage: AtomicU64,
    is_pruning: AtomicBool,
    is_sync_planned: AtomicBool,
}

impl ImageStore {
    /// Opens what is on disk and cleans up what a crash left. Called once at boot, before containers are restored.
    pub async fn open(settings: ImageSettings, store: Store, events: EventLog) -> Result<Self, NodeError> {
        let registries = Client::new(settings.registries)?;
        let opened = {
            let store = store.clone();
            let (data_root, ids) = (settings.data_root, settings.ids.clone());
            tokio::task::spawn_blocking(move || Opened::read(&data_root, &store, &ids))
        };
        let opened = opened.await.map_err(|source| NodeError::failed("open the image store", source))??;
        if settings.container_size.is_some() && !opened.snapshots.has_limits() {
            return Err(NodeError::invalid(NO_DEFAULT_SIZE));
        }
        store.commit(opened.cleanup).await?;
        let shared = Arc::new(Shared {
            platform: settings.platform,
            ids: settings.ids,
            container_size: settings.container_size,
            figures: settings.figures,
            content: opened.content,
            snapshots: Arc::new(opened.snapshots),
            registries,
            store,
            events,
            catalog: RwLock::new(opened.catalog),
            changes: tokio::sync::Mutex::new(()),
            users: usage::Users::default(),
            orphans: Mutex::default(),
            holds: holds::Holds::default(),
            layers: flights::Flights::default(),
            unpacking: tokio::sync::Semaphore::new(
                std::thread::available_parallelism().map_or(1, NonZero::get),
            ),
            next_stage: AtomicU64::new(0),
            is_pruning: AtomicBool::new(false),
            is_sync_planned: AtomicBool::new(false),
        });
        shared.collect(opened.garbage).await?;
        shared.repair_layers().await;
        shared.plan_sync();
        Ok(Self { shared })
    }

    /// The snapshots, for the writable layers of containers.
    pub fn snapshotter(&self) -> Arc<dyn Snapshotter> {
        Arc::clone(&self.shared.snapshots)
    }

    /// The client for registries, with its connections and limits.
    pub fn registries(&self) -> &Client {
        &self.shared.registries
    }

    /// How many images there are.
    pub fn count(&self) -> usize {
        self.shared.catalog().len()
    }
}

/// What boot finds on disk.
struct Opened {
    content: ContentStore,
    snapshots: Overlayfs,
    catalog: Catalog,
    garbage: Vec<(ImageId, GarbageRecord)>,
    cleanup: Batch,
}

impl Opened {
    fn read(data_root: &std::path::Path, store: &Store, ids: &IdMapping) -> Result<Self, NodeError> {
        let content = ContentStore::open(&data_root.join("content"))?;
        let (snapshots, mut cleanup) =
            Overlayfs::open(&data_root.join("overlayfs"), store.load()?, ids.clone())?;
        let mut changes = Vec::new();
        for (key, record) in store.load::<TargetRecord>()? {
            let id = key.parse().map(ImageId);
            let tree = id
                .map_err(|error| NodeError::failed("read an image's digest", error))
                .and_then(|id| Ok((id, ImageTree::read(&content, id, &record.media_type)?)));
            match tree {
                Ok((id, tree)) => {
                    changes.push(Change::Target(id, Box::new(Target { record, tree: Arc::new(tree) })));
                }
                Err(error) => {
                    tracing::error!(image.id = key, error = %ErrorChain(&error), "an image is lost: its content cannot be read");
                    cleanup = cleanup.delete::<TargetRecord>(key);
                }
            }
        }
        let mut catalog = Catalog::default();
        catalog.apply(changes);
        for (key, record) in store.load::<NameRecord>()? {
            match ImageRef::parse(&key) {
                Ok(name) if catalog.target(&record.target).is_some() => {
                    catalog.apply(vec![Change::Name(name, record)]);
                }
                _ => cleanup = cleanup.delete::<NameRecord>(key),
            }
        }
        let mut garbage = Vec::new();
        for (key, record) in store.load::<GarbageRecord>()? {
            match key.parse() {
                Ok(digest) => garbage.push((ImageId(digest), record)),
                Err(_) => cleanup = cleanup.delete::<GarbageRecord>(key),
            }
        }
        Ok(Self { content, snapshots, catalog, garbage, cleanup })
    }
}

impl Shared {
    /// The names and targets as they are. Not to be held across an await.
    fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        // A catalog is consistent after each change that it applied.
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the catalog: plans on what is, makes it durable together with what else the plan says, applies it. Runs to
    /// its end even if the caller goes away.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        plan: impl FnOnce(&Catalog) -> Result<(Vec<Change>, Batch, T), NodeError> + Send + 'static,
    ) -> Result<T, NodeError> {
        let shared = Arc::clone(self);
        let changing = tokio::spawn(async move {
            let _sole = shared.changes.lock().await;
            let (changes, extra, result) = plan(&shared.catalog())?;
            let batch = changes.iter().try_fold(extra, record)?;
            shared.store.commit(batch).await?;
            shared.catalog.write().unwrap_or_else(PoisonError::into_inner).apply(changes);
            Ok(result)
        });
        changing.await.map_err(|source| NodeError::failed("change images", source))?
    }

    /// Runs blocking work on a thread for it.
    async fn block<T: Send + 'static>(
        self: &Arc<Self>,
        doing: &'static str,
        work: impl FnOnce(&Shared) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<T, NodeError> {
        let shared = Arc::clone(self);
        let working = tokio::task::spawn_blocking(move || work(&shared));
        working.await.map_err(|source| NodeError::failed(doing, source))?
    }

    /// Flushes unpacked layers to disk in a while. The task ends by itself; if the daemon ends first, the next one does it.
    fn plan_sync(self: &Arc<Self>) {
        if self.is_sync_planned.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            // There is no condition to wait for: layers of several pulls are gathered into one flush.
            tokio::time::sleep(SYNC_DELAY).await;
            shared.is_sync_planned.store(false, Ordering::Release);
            let synced = shared.block("flush layers to disk", |shared| Ok(shared.snapshots.sync()?)).await;
            let recorded = match synced {
                Ok(batch) => shared.store.commit(batch).await.map_err(NodeError::from),
                Err(error) => Err(error),
            };
            if let Err(error) = recorded {
                tracing::warn!(error = %ErrorChain(&error), "layers could not be flushed to disk");
            }
        });
    }
}

/// Adds a change to what is going to be made durable.
fn record(batch: Batch, change: &Change) -> Result<Batch, crate::store::StoreError> {
    match change {
        Change::Name(name, record) => batch.put(name.to_string(), record),
        Change::Unname(name) => Ok(batch.delete::<NameRecord>(name.to_string())),
        Change::Target(id, target) => batch.put(id.to_string(), &target.record),
        Change::Forget(id) => Ok(batch.delete::<TargetRecord>(id.to_string())),
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("content", &self.content).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
