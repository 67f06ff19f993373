//! The engine with fakes of everything around it: what clients see, what is left behind, and what a crash changes.
//!
//! Start reading at [`Machine`]. A machine outlives its daemons: closing an engine and booting another on the same machine is
//! a restart, and an engine that is closed at an armed fault has crashed there.

mod checkpoints;
mod create;
mod execs;
mod faults;
mod health;
mod life;
mod restarts;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shoal_types::ContainerId;
use shoal_types::container::mounts::{
    MountAccess, MountOrigin, MountSource, MountSpec, Propagation, VolumeCopy,
};
use shoal_types::container::networking::{PortPublish, PortSpec, Protocol};
use shoal_types::container::spec::ContainerSpec;
use shoal_types::container::state::ContainerState;
use tempfile::TempDir;
use tokio::sync::broadcast;

use super::Engine;
use super::config::EngineConfig;
use super::fakes::{FakeImages, FakeMounter, FakeNetworks, FakeVolumes, Faults, FaultyShims};
use super::host::{CgroupVersion, Host};
use super::ports::Seams;
use crate::api::containers::{
    ContainerView, Containers as _, CreateContainer, OfRunning, OfVolumes, RemoveOptions,
};
use crate::api::events::Event;
use crate::api::images::{EmptyObject, ImageRunConfig};
use crate::boot::{BootReport, boot};
use crate::error::NodeError;
use crate::events::EventLog;
use crate::shim_client::fake::{FakeContainer, FakeShims};
use crate::store::Store;

/// How long a condition may take to come true. Only a broken engine needs this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything around the engine.
pub(crate) struct Machine {
    faults: Faults,
    images: Arc<FakeImages>,
    networks: Arc<FakeNetworks>,
    volumes: Arc<FakeVolumes>,
    mounter: Arc<FakeMounter>,
    shims: Arc<FakeShims>,
    pub(crate) store: Store,
    events: EventLog,
    pub(crate) root: TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let faults = Faults::new();
        let images = FakeImages::new(faults.clone());
        images.add(
            "busybox:latest",
            ImageRunConfig {
                cmd: Some(vec!["sh".to_owned()]),
                env: Some(vec!["PATH=/bin".to_owned()]),
                volumes: Some([("/data".to_owned(), EmptyObject::default())].into()),
                working_dir: "/work".to_owned(),
                ..ImageRunConfig::default()
            },
        );
        Self {
            images: Arc::new(images),
            networks: Arc::new(FakeNetworks::new(faults.clone())),
            volumes: Arc::new(FakeVolumes::new(faults.clone())),
            mounter: Arc::new(FakeMounter::new(faults.clone())),
            shims: FakeShims::new(),
            store: Store::in_memory().unwrap(),
            events: EventLog::new(),
            root: TempDir::new().unwrap(),
            faults,
        }
    }

    /// A daemon on this machine that has booted.
    pub(crate) async fn daemon(&self) -> Engine {
        self.daemon_and_report().await.0
    }

    async fn daemon_and_report(&self) -> (Engine, BootReport) {
        let seams = Seams {
            figures: crate::figures::Figures::default(),
            store: self.store.clone(),
            events: self.events.clone(),
            shims: FaultyShims::new(self.faults.clone(), Arc::clone(&self.shims)),
            images: self.images.clone(),
            networks: self.networks.clone(),
            volumes: self.volumes.clone(),
            mounter: self.mounter.clone(),
        };
        let config = EngineConfig::new(self.root.path().join("data"), self.root.path().join("exec"));
        let engine = Engine::new(seams, config, Host::capable(CgroupVersion::V1));
        let report = boot(&engine, crate::boot::Policies::Follow).await.unwrap();
        (engine, report)
    }

    /// The daemon is killed and another one starts.
    pub(crate) async fn restart(&self, engine: Engine) -> Engine {
        engine.close().await;
        self.daemon().await
    }

    fn bundle(&self, id: ContainerId) -> PathBuf {
        self.root.path().join("exec/containers").join(id.to_string())
    }

    pub(crate) fn process(&self, id: ContainerId) -> Arc<FakeContainer> {
        self.shims.container(&self.bundle(id)).expect("no shim was ever spawned")
    }

    pub(crate) fn follow_events(&self) -> EventReader {
        EventReader { receiver: self.events.receiver() }
    }

    /// Fails when anything is held by a container that does not run, or kept of one that does not exist.
    fn assert_nothing_leaks(&self, engine: &Engine) {
        let views: Vec<Arc<ContainerView>> =
            engine.boot_access().slots().iter().map(|slot| slot.view()).collect();
        let known: BTreeSet<ContainerId> = views.iter().map(|view| view.id).collect();
        let running: BTreeSet<ContainerId> =
            views.iter().filter(|view| view.state.run().is_some()).map(|view| view.id).collect();
        let set = |ids: Vec<ContainerId>| ids.into_iter().collect::<BTreeSet<_>>();
        assert_eq!(set(self.networks.holders()), running, "networks");
        assert_eq!(set(self.volumes.users()), running, "mounted volumes");
        assert!(self.volumes.referrers().is_subset(&known), "references to volumes");
        assert_eq!(set(self.images.rootfs_owners()), known, "writable layers");
        assert_eq!(set(self.images.holds().into_keys().collect()), known, "holds on images");
        let bundles = list(&self.root.path().join("exec/containers"));
        assert_eq!(bundles, running.iter().map(ToString::to_string).collect(), "bundles");
        let directories = list(&self.root.path().join("data/containers"));
        assert_eq!(directories, known.iter().map(ToString::to_string).collect(), "directories");
        assert!(self.mounter.mounts().len() <= running.len(), "mounts on the host");
        assert_eq!(
            set(self.shims.living_bundles().iter().filter_map(|path| id_of(path)).collect()),
            running,
            "shims"
        );
    }
}

fn id_of(path: &std::path::Path) -> Option<ContainerId> {
    path.file_name()?.to_str()?.parse().ok()
}

fn list(directory: &std::path::Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Reads events in their order, without missing one.
pub(crate) struct EventReader {
    receiver: broadcast::Receiver<Arc<Event>>,
}

impl EventReader {
    /// The actions so far, with what tells them apart.
    fn actions(&mut self) -> Vec<String> {
        let mut actions = Vec::new();
        while let Ok(event) = self.receiver.try_recv() {
            actions.push(summary(&event));
        }
        actions
    }

    /// Names of the containers that an action has happened to, in order.
    fn names_of(&mut self, action: &str) -> Vec<String> {
        let mut names = Vec::new();
        while let Ok(event) = self.receiver.try_recv() {
            if event.action == action {
                names.extend(event.attributes.get("name").cloned());
            }
        }
        names
    }

    /// Waits for an action and returns all up to it.
    pub(crate) async fn until(&mut self, action: &str) -> Vec<String> {
        let mut actions = Vec::new();
        let waiting = async {
            while let Ok(event) = self.receiver.recv().await {
                actions.push(summary(&event));
                if event.action == action {
                    return;
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "no {action} after {actions:?}");
        actions
    }
}

fn summary(event: &Event) -> String {
    let known: Vec<&str> = ["signal", "exitCode", "oldName"]
        .into_iter()
        .filter_map(|key| event.attributes.get(key).map(String::as_str))
        .collect();
    let kind = match event.kind {
        crate::api::events::EventKind::Container => String::new(),
        kind => format!("{} ", kind.name()),
    };
    if known.is_empty() {
        format!("{kind}{}", event.action)
    } else {
        format!("{kind}{}({})", event.action, known.join(","))
    }
}

fn spec() -> ContainerSpec {
    ContainerSpec { image: "busybox".to_owned(), ..ContainerSpec::default() }
}

/// A container that holds something of every kind.
fn rich_spec() -> ContainerSpec {
    let mut spec = spec();
    let port = PortSpec { port: 80, protocol: Protocol::Tcp };
    spec.networking.published =
        vec![PortPublish { container_port: port, host_ip: None, host_ports: Some((8080, 8080)) }];
    spec.namespaces.ipc = shoal_types::container::security::IpcMode::Shareable;
    spec.mounts = vec![MountSpec {
        destination: "/named".to_owned(),
        source: MountSource::Volume {
            name: "named".to_owned(),
            subpath: String::new(),
            copy: VolumeCopy::FromImage,
            driver: String::new(),
            options: Default::default(),
            labels: Default::default(),
            propagation: Propagation::Default,
            relabel: None,
        },
        access: MountAccess::ReadWrite,
        origin: MountOrigin::Mount,
        mode: String::new(),
    }];
    spec
}

async fn create(engine: &Engine, name: &str, spec: ContainerSpec) -> Result<ContainerId, NodeError> {
    let request = CreateContainer { name: Some(name.to_owned()), spec, requested: "{}".into() };
    Ok(engine.create(request).await?.id)
}

async fn created(engine: &Engine, name: &str, spec: ContainerSpec) -> ContainerId {
    create(engine, name, spec).await.unwrap()
}

async fn started(engine: &Engine, name: &str, spec: ContainerSpec) -> ContainerId {
    let id = created(engine, name, spec).await;
    engine.start(name).await.unwrap();
    id
}

/// Waits until what is published of a container satisfies a condition.
async fn wait_for(
    engine: &Engine,
    name: &str,
    is_met: impl Fn(&ContainerView) -> bool,
) -> Arc<ContainerView> {
    let mut published = engine.find(name).unwrap().subscribe();
    let met = tokio::time::timeout(PATIENCE, published.wait_for(|now| is_met(&now.view))).await;
    Arc::clone(&met.expect("the condition did not come true").unwrap().view)
}

async fn wait_for_state(engine: &Engine, name: &str, state: &str) -> Arc<ContainerView> {
    wait_for(engine, name, |view| view.state.name() == state).await
}

fn state_of(engine: &Engine, name: &str) -> ContainerState {
    engine.find(name).unwrap().view().state.clone()
}

const FORCE: RemoveOptions = RemoveOptions {
    running: OfRunning::Kill,
    volumes: OfVolumes::RemoveAnonymous,
    target: crate::api::containers::RemoveTarget::Container,
};
