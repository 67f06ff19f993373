//! What all containers share: the seams, the settings, the index, the register of commands, the tasks.
//!
//! Start reading at [`Shared`]. Nothing here decides; locks are held for a few lines and never across an await.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use shoal_types::ContainerId;
use shoal_types::container::mounts::MountAccess;
use shoal_types::container::networking::NetworkMode;
use shoal_types::container::security::UserMode;
use shoal_types::container::spec::ContainerSpec;
use shoal_types::container::state::{ContainerState, MountKind, MountPoint};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::actor::{Clock, Core};
use super::config::EngineConfig;
use super::exec::Execs;
use super::handle::Handle;
use super::host::Host;
use super::index::Index;
use super::lifecycle::{Now, Rules};
use super::links::Links;
use super::ports::{HeldImage, Hold, HostMount, ImageHold, JoinedNetwork, Seams};
use super::record::{ContainerRecord, MountRecord};
use super::signal;
use super::slot::Slot;
use super::stats::Sampler;
use crate::api::containers::ContainerView;
use crate::api::events::EventKind;
use crate::error::NodeError;
use crate::logs::follow::LogNews;
use crate::logs::forward::Forwarders;
use crate::runtime::bundle::Bundles;
use crate::runtime::filters::Filters;
use crate::store::Batch;
use crate::userns::IdMapping;

/// The directory below the data root that holds containers' own files.
const CONTAINERS_DIR: &str = "containers";
/// The directory below the exec root that holds `/dev/shm` of containers that share it.
const SHM_DIR: &str = "shm";

/// What all containers share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What the engine stands on.
    pub(crate) seams: Seams,
    /// The machine.
    pub(crate) host: Arc<Host>,
    /// Where bundles are.
    pub(crate) bundles: Bundles,
    /// Commands of all containers.
    pub(crate) execs: Execs,
    /// System call filters that were made before.
    pub(crate) filters: Filters,
    /// Who tells of news in logs.
    pub(crate) log_news: LogNews,
    /// Who sends logs elsewhere.
    pub(crate) forwarders: Forwarders,
    /// Who reads what containers use, for all who watch.
    pub(crate) sampler: Sampler,
    /// Held by the one prune that may run.
    pub(crate) pruning: tokio::sync::Mutex<()>,
    config: RwLock<Arc<EngineConfig>>,
    index: Mutex<Index<Arc<Slot>>>,
    links: Mutex<Links>,
    clock: Clock,
    versions: AtomicU64,
    tasks: TaskTracker,
    /// Cancelled when the engine ends; every task of the engine ends then, wherever it waits.
    end: CancellationToken,
    closing: AtomicBool,
}

impl Shared {
    pub(super) fn new(seams: Seams, config: EngineConfig, host: Host) -> Arc<Self> {
        Arc::new(Self {
            seams,
            host: Arc::new(host),
            bundles: Bundles::new(&config.exec_root),
            execs: Execs::default(),
            filters: Filters::default(),
            log_news: LogNews::default(),
            forwarders: Forwarders::default(),
            sampler: Sampler::default(),
            pruning: tokio::sync::Mutex::new(()),
            config: RwLock::new(Arc::new(config)),
            index: Mutex::default(),
            links: Mutex::default(),
            clock: Clock::start(),
            versions: AtomicU64::new(1),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
            closing: AtomicBool::new(false),
        })
    }

    /// The settings as they are now.
    pub(crate) fn config(&self) -> Arc<EngineConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How the ids in a container are those of the host.
    pub(crate) fn ids_of(&self, spec: &ContainerSpec) -> IdMapping {
        match spec.namespaces.user {
            UserMode::DaemonDefault => self.config().ids.clone(),
            UserMode::Host => IdMapping::default(),
        }
    }

    pub(super) fn reconfigure(&self, config: EngineConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// Both clocks.
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// The monotonic clock.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// A number that was not used for a view before.
    pub(crate) fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts a task that ends with the engine.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tasks.spawn(async move {
            // A task that is dropped here leaves what a crash would leave, and boot finds it.
            let _ = end.run_until_cancelled(task).await;
        });
    }

    /// Whether the engine is ending.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) async fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Finds a container by whole id, name, or unique prefix of its id.
    pub(crate) fn find(self: &Arc<Self>, name: &str) -> Result<Handle, NodeError> {
        Ok(Handle::new(Arc::clone(self), self.find_slot(name)?))
    }

    /// The place of a container, by whole id, name, unique prefix of its id, or the name `parent/alias` that a link
    /// gives it.
    pub(crate) fn find_slot(&self, name: &str) -> Result<Arc<Slot>, NodeError> {
        let found = self.index().find(name).cloned();
        let Some((parent, alias)) = name.trim_start_matches('/').split_once('/') else { return found };
        found.or_else(|error| {
            let parent = self.index().find(parent).map(|slot| slot.id());
            let links = self.links();
            let link = parent.ok().and_then(|id| links.of(id).iter().find(|link| link.alias == alias));
            let target = link.map(|link| link.target);
            drop(links);
            target.and_then(|id| self.slot(id)).ok_or(error)
        })
    }

    /// One container by its id.
    pub(crate) fn slot(&self, id: ContainerId) -> Option<Arc<Slot>> {
        self.index().get(id).cloned()
    }

    /// All containers, ordered by id.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot>> {
        self.index().entries().cloned().collect()
    }

    /// Takes a name for a container.
    pub(crate) fn reserve_name(&self, name: &str, id: ContainerId) -> Result<(), NodeError> {
        self.index().reserve(name, id)
    }

    /// Gives a name back.
    pub(crate) fn release_name(&self, name: &str, id: ContainerId) {
        self.index().release(name, id);
    }

    /// Makes a container known.
    pub(crate) fn know(&self, slot: Arc<Slot>) {
        self.index().insert(slot.id(), slot);
    }

    /// Forgets a container that was removed, and frees its names.
    pub(crate) fn forget(&self, id: ContainerId, record: &ContainerRecord) {
        self.links().remove(id);
        self.execs.forget_container(id);
        let mut index = self.index();
        index.release(&record.name, id);
        index.remove(id);
    }

    /// Links of the old kind.
    pub(crate) fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are any links; spares lists the look at each container.
    pub(crate) fn has_links(&self) -> bool {
        !self.links().is_empty()
    }

    /// Makes a batch durable.
    pub(crate) async fn commit(&self, batch: Batch) -> Result<(), NodeError> {
        Ok(self.seams.store.commit(batch).await?)
    }

    /// Where a container's files are across reboots.
    pub(crate) fn directory(&self, id: ContainerId) -> PathBuf {
        self.config().data_root.join(CONTAINERS_DIR).join(id.to_string())
    }

    /// Where all containers' directories are.
    pub(crate) fn directories_root(&self) -> PathBuf {
        self.config().data_root.join(CONTAINERS_DIR)
    }

    /// Where a container's log is, in Docker's place, which other tools know.
    pub(crate) fn log_path(&self, id: ContainerId) -> PathBuf {
        self.directory(id).join(format!("{id}-json.log"))
    }

    /// Where `/dev/shm` of a container that shares it is mounted.
    pub(crate) fn shm_path(&self, id: ContainerId) -> PathBuf {
        self.config().exec_root.join(SHM_DIR).join(id.to_string())
    }

    /// The host name of a container: its own, or the machine's when it shares that.
    pub(crate) fn hostname(&self, spec: &ContainerSpec) -> String {
        if spec.process.hostname.is_empty() && spec.networking.mode == NetworkMode::Host {
            return rustix::system::uname().nodename().to_string_lossy().into_owned();
        }
        spec.process.hostname.clone()
    }

    /// What a spec says about the container's life.
    pub(crate) fn rules(&self, spec: &ContainerSpec) -> Rules {
        let named = spec.process.stop_signal.as_deref().filter(|name| !name.is_empty());
        // The name was checked when the container was made; an image's mistake is not the user's.
        let stop_signal = named
            .and_then(|name| signal::parse(name).ok())
            .map_or(signal::StopSignal::Unnamed, signal::StopSignal::Named);
        Rules { policy: spec.restart, auto_remove: spec.auto_remove, stop_signal }
    }

    /// Tells images what a container uses.
    pub(crate) fn hold_image(&self, core: &Core) {
        let has_processes = match core.life.condition().state {
            ContainerState::Running(_) | ContainerState::Paused(_) | ContainerState::Restarting { .. } => {
                Hold::Uses
            }
            ContainerState::Created
            | ContainerState::Exited(_)
            | ContainerState::Removing { .. }
            | ContainerState::Dead { .. } => Hold::Refers,
        };
        let root = core.record.image_id.map(|image| HeldImage {
            image,
            manifest: core.record.image_manifest.as_ref().map(|manifest| manifest.digest),
            name: core.record.spec.image.clone(),
        });
        let mounted = core.record.mounts.iter().filter_map(|mount| {
            let image = mount.point.image.as_ref()?;
            let name = mount.point.name.clone();
            Some(HeldImage { image: image.id, manifest: Some(image.manifest), name })
        });
        let hold = ImageHold { root, mounted: mounted.collect(), hold: has_processes };
        self.seams.images.hold(core.id, hold);
    }

    /// Publishes an event about a container: its labels, its image and name, and what is known besides.
    pub(crate) fn emit<const N: usize>(
        &self,
        view: &ContainerView,
        action: &str,
        known: [(&str, String); N],
    ) {
        let mut attributes: BTreeMap<String, String> = view.spec.labels.clone();
        attributes.insert("image".to_owned(), view.spec.image.clone());
        attributes.insert("name".to_owned(), view.name.clone());
        attributes.extend(known.map(|(key, value)| (key.to_owned(), value)));
        self.seams.events.publish(EventKind::Container, action, &view.id.to_string(), attributes);
    }

    /// Publishes that a container was connected to a network, or disconnected.
    pub(crate) fn emit_network(&self, action: &str, joined: &JoinedNetwork, container: ContainerId) {
        let attributes = [
            ("container", container.to_string()),
            ("name", joined.name.clone()),
            ("type", joined.driver.clone()),
        ];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value)).into();
        self.seams.events.publish(EventKind::Network, action, joined.id.as_str(), attributes);
    }

    /// Publishes that volumes were mounted.
    pub(crate) fn tell_of_mounts(&self, container: ContainerId, mounts: &[MountRecord]) {
        for point in mounts.iter().map(|mount| &mount.point).filter(|point| point.kind == MountKind::Volume) {
            let writes = point.access == MountAccess::ReadWrite;
            let attributes = [
                ("container", container.to_string()),
                ("destination", point.destination.clone()),
                ("driver", point.driver.clone()),
                ("propagation", String::new()),
                ("read/write", writes.to_string()),
            ];
            let attributes = attributes.map(|(key, value)| (key.to_owned(), value)).into();
            self.seams.events.publish(EventKind::Volume, "mount", &point.name, attributes);
        }
    }

    /// Publishes that volumes that had been mounted were unmounted.
    pub(crate) fn tell_of_unmounts(
        &self,
        container: ContainerId,
        points: &[MountPoint],
        mounted: &[HostMount],
    ) {
        if mounted.is_empty() {
            return;
        }
        for point in points.iter().filter(|point| point.kind == MountKind::Volume) {
            let attributes = [("container", container.to_string()), ("driver", point.driver.clone())];
            let attributes = attributes.map(|(key, value)| (key.to_owned(), value)).into();
            self.seams.events.publish(EventKind::Volume, "unmount", &point.name, attributes);
        }
    }

    fn index(&self) -> MutexGuard<'_, Index<Arc<Slot>>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
