//! The composition: every part of the daemon is made here and handed to those that use it.
//!
//! Start reading at [`Engine::open`], from top to bottom. No part knows another but through the ports it was given.
//!
//! ```text
//! store ── images ─┐
//!       ── volumes ┼─ containers ── ports ── API
//!       ── networks┘       │
//! events ──────────────────┴─ shims (processes of their own)
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api_compat::{Api, ApiState, ApiVersion, Authorization, Component, DaemonInfo, PreferredBuilder};
use manager::NotAMember;
use node_agent::NodeError;
use node_agent::api::Node;
use node_agent::api::containers::{
    ContainerViews as _, Containers as _, ListQuery, OfRunning, OfVolumes, RemoveOptions,
};
use node_agent::api::events::EventKind;
use node_agent::boot::{self, Policies};
use node_agent::containers::Engine as Containers;
use node_agent::containers::host::Host;
use node_agent::containers::mounter::KernelMounts;
use node_agent::containers::ports::Seams;
use node_agent::events::EventLog;
use node_agent::figures::Figures;
use node_agent::files::Files;
use node_agent::images::{ImageSettings, ImageStore};
use node_agent::networks::{NetworkPort, NetworkStore};
use node_agent::plugins::Plugins;
use node_agent::runtime::apparmor::{self, Confinement, LoadError};
use node_agent::shim_client::{ProcessShims, ShimProgram};
use node_agent::store::{Store, StoreError};
use node_agent::system::{Counted, NodeSystem};
use node_agent::volumes::{ImageMounts, VolumeSettings, VolumeStore};
use node_agent::worker::Overlays;
use rustix::process::Rlimit;
use shoal_types::Platform;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::identity;
use crate::listen::{ListenError, Listener};
use crate::membership::{MembershipParts, SwarmMembership};
use crate::metrics::Metrics;
use crate::parts::{
    containers::engine_config, networks::network_config, registries::registry_config, reload, swarm, system,
};
use crate::pidfile::PidfileError;
use crate::stacks;

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Another one runs.
    #[error(transparent)]
    Pidfile(#[from] PidfileError),
    /// No place to listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A directory cannot be used.
    #[error("use {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// Signals cannot be handled.
    #[error("handle signals")]
    Signals(#[from] std::io::Error),
    /// The state cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part cannot start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A plugin that shall decide about requests is not there.
    #[error("error validating authorization plugin")]
    Authorization(#[source] NodeError),
    /// Settings of registries make no sense.
    #[error(transparent)]
    Registries(#[from] registry_client::ConfigError),
    /// Containers cannot be confined as they should.
    #[error(transparent)]
    Confinement(#[from] LoadError),
    /// Work was cut off.
    #[error("work was cut off")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// The running engine, behind its API.
#[derive(Debug)]
pub(crate) struct Engine {
    identity: String,
    containers: Containers,
    images: ImageStore,
    networks: NetworkStore,
    system: NodeSystem,
    events: EventLog,
    figures: Figures,
    /// The swarm part; `None` when the engine was opened only to be taken away.
    membership: Option<SwarmMembership>,
    /// Listeners that anybody may use who reaches them.
    open: Vec<String>,
    confinement: Confinement,
    authorization: Authorization,
    api: Api,
}

impl Engine {
    /// Opens the state, finds again what runs, and does what the restart policies want.
    ///
    /// Containers get `descriptors` as their limit of open files.
    pub(crate) async fn open(
        config: &Config,
        listeners: &[Listener],
        descriptors: Rlimit,
        policies: Policies,
    ) -> Result<Self, StartError> {
        let confinement = apparmor::prepare(&config.exec_root).await?;
        let identity = identity::read_or_make(&config.data_root)
            .map_err(|source| StartError::Directory { path: config.data_root.clone(), source })?;
        let path = config.data_root.join("db/engine.redb");
        let store = tokio::task::spawn_blocking(move || Store::open(&path)).await??;
        let events = EventLog::new();
        let plugins = Plugins::default();
        let figures = Figures::default();

        let ground = Ground { store: &store, events: &events, plugins: &plugins, figures: &figures };
        let stores = Stores::open(config, &identity, ground).await?;
        let seams = stores.seams(config, descriptors, ground);
        let Stores { images, volumes, networks } = stores;
        let host = host(config, confinement);
        let daemon = daemon_info(config, &host);
        let containers = Containers::new(seams, engine_config(config), host);
        boot::boot(&containers, policies).await?;

        let counted = Counted {
            views: Arc::new(containers.clone()),
            images: Arc::new(images.clone()),
            volumes: Arc::new(volumes.clone()),
            events: Arc::new(events.clone()),
            figures: figures.clone(),
        };
        let open = open_listeners(listeners);
        let settings = system::settings(config, &identity, &open, confinement);
        let system = NodeSystem::new(settings, counted, images.registries().clone());
        let node = Node {
            containers: Arc::new(containers.clone()),
            views: Arc::new(containers.clone()),
            streams: Arc::new(containers.clone()),
            files: Arc::new(Files::new(containers.clone(), images.clone())),
            checkpoints: Arc::new(containers.clone()),
            execs: Arc::new(containers.clone()),
            images: Arc::new(images.clone()),
            transfers: Arc::new(images.clone()),
            networks: Arc::new(NetworkPort {
                networks: networks.clone(),
                connections: Arc::new(containers.clone()),
            }),
            volumes: Arc::new(volumes),
            system: Arc::new(system.clone()),
            events: Arc::new(events.clone()),
        };
        let authorization = Authorization::new(plugins);
        authorization.check(&config.authorization_plugins).await.map_err(StartError::Authorization)?;
        authorization.ask(&config.authorization_plugins);
        let membership = match policies {
            Policies::Follow => Some(open_membership(config, &node, store, Arc::new(networks.clone())).await),
            Policies::LeaveAlone => None,
        };
        let cluster = membership.as_ref().map_or_else(NotAMember::bundle, SwarmMembership::cluster);
        let state = ApiState { node, cluster, builder: Arc::new(builder::Unsupported), daemon };
        let api = Api::new(state).authorized_by(authorization.clone());
        Ok(Self {
            identity,
            containers,
            images,
            networks,
            system,
            events,
            figures,
            membership,
            open,
            confinement,
            authorization,
            api,
        })
    }

    /// What answers requests.
    pub(crate) fn api(&self) -> Api {
        self.api.clone()
    }

    /// What answers with figures.
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::new(self.system.clone(), self.events.clone(), self.figures.clone())
    }

    /// Starts what watches over the engine's helpers until `stop`.
    pub(crate) fn spawn_keepers(&self, background: &TaskTracker, stop: &CancellationToken) {
        let networks = self.networks.clone();
        let netd = async move { networks.watch_netd().await };
        background.spawn(stop.clone().run_until_cancelled_owned(netd));
        let networks = self.networks.clone();
        let departures = async move { networks.watch_departures().await };
        background.spawn(stop.clone().run_until_cancelled_owned(departures));
        let networks = self.networks.clone();
        let overlays = async move { networks.watch_overlays().await };
        background.spawn(stop.clone().run_until_cancelled_owned(overlays));
        if let Some(membership) = self.membership.clone() {
            let events = self.events.clone();
            let relay = async move { membership.relay_events(events).await };
            background.spawn(stop.clone().run_until_cancelled_owned(relay));
        }
    }

    /// Takes other settings and tells it as an event. Containers that run keep what they were started with. Fails without
    /// having changed anything.
    pub(crate) fn reconfigure(&self, config: &Config) -> Result<(), String> {
        let registries = registry_config(config).map_err(|error| error.to_string())?;
        self.images.registries().reload(registries).map_err(|error| error.to_string())?;
        self.authorization.ask(&config.authorization_plugins);
        self.containers.reconfigure(engine_config(config));
        self.system.replace_settings(system::settings(config, &self.identity, &self.open, self.confinement));
        self.events.publish(EventKind::Daemon, "reload", &self.identity, reload::attributes(config));
        Ok(())
    }

    /// Says in the log how the daemon is, and in a file below `directory` what its threads do. Blocks for a moment.
    pub(crate) fn report(&self, directory: &Path) {
        let metrics = tokio::runtime::Handle::current().metrics();
        tracing::info!(
            tasks = metrics.num_alive_tasks(),
            workers = metrics.num_workers(),
            queue = metrics.global_queue_depth(),
            "daemon is alive"
        );
        match stacks::write(directory) {
            Ok(path) => tracing::info!(path = %path.display(), "stacks of all threads are written"),
            Err(error) => tracing::error!(%error, "stacks of the threads cannot be written"),
        }
    }

    /// Removes every container with its volumes, every network and every rule. Goes on where it can; fails at the end when
    /// something is left.
    pub(crate) async fn remove_everything(&self) -> Result<(), StartError> {
        let mut first_failure = None;
        let all = ListQuery { all: true, ..ListQuery::default() };
        for listed in self.containers.list(all).await? {
            let options = RemoveOptions {
                running: OfRunning::Kill,
                volumes: OfVolumes::RemoveAnonymous,
                ..RemoveOptions::default()
            };
            if let Err(error) = self.containers.remove(&listed.view.id.to_string(), options).await {
                tracing::error!(container.id = %listed.view.id, %error, "container cannot be removed");
                first_failure.get_or_insert(error);
            }
        }
        if let Err(error) = self.networks.dismantle().await {
            tracing::error!(%error, "networks cannot be removed");
            first_failure.get_or_insert(error);
        }
        first_failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Ends this machine's part in a cluster for now; tasks go on. Takes some seconds when leadership is handed over.
    pub(crate) async fn close_membership(&self) {
        if let Some(membership) = &self.membership {
            membership.stop().await;
        }
    }

    /// Ends the engine's tasks, and the helper process when it has nothing to do. Containers go on.
    pub(crate) async fn close(&self) {
        self.containers.close().await;
        self.networks.close().await;
    }
}

/// What the stores stand on.
#[derive(Clone, Copy)]
struct Ground<'a> {
    store: &'a Store,
    events: &'a EventLog,
    plugins: &'a Plugins,
    figures: &'a Figures,
}

/// What containers are made of and connected to.
struct Stores {
    images: ImageStore,
    volumes: VolumeStore,
    networks: NetworkStore,
}

impl Stores {
    /// Everything that the engine of containers calls.
    fn seams(&self, config: &Config, descriptors: Rlimit, ground: Ground<'_>) -> Seams {
        Seams {
            store: ground.store.clone(),
            events: ground.events.clone(),
            shims: Arc::new(
                ProcessShims::new(ShimProgram::own_executable()).with_descriptor_limit(descriptors),
            ),
            images: Arc::new(self.images.clone()),
            networks: Arc::new(self.networks.clone()),
            volumes: Arc::new(ImageMounts::new(
                Arc::new(self.volumes.clone()),
                Arc::new(self.images.clone()),
                config.exec_root.join("image-mounts"),
            )),
            mounter: Arc::new(KernelMounts),
            figures: ground.figures.clone(),
        }
    }

    async fn open(config: &Config, identity: &str, ground: Ground<'_>) -> Result<Self, StartError> {
        let Ground { store, events, plugins, figures } = ground;
        let image_settings = ImageSettings {
            data_root: config.data_root.clone(),
            registries: registry_config(config)?,
            platform: Platform::host(),
            ids: config.ids.clone(),
            container_size: config.containers.size,
            figures: figures.clone(),
        };
        let images = ImageStore::open(image_settings, store.clone(), events.clone()).await?;
        let volumes = {
            let (store, events, plugins) = (store.clone(), events.clone(), plugins.clone());
            let settings = VolumeSettings {
                root: config.data_root.join("volumes"),
                subpaths: config.exec_root.join("subpaths"),
                owner: config.ids.root(),
            };
            tokio::task::spawn_blocking(move || VolumeStore::open(store, events, plugins, settings)).await??
        };
        let networks = {
            let (store, events) = (store.clone(), events.clone());
            let wanted = network_config(config, identity);
            tokio::task::spawn_blocking(move || NetworkStore::open(store, events, wanted)).await??
        };
        Ok(Self { images, volumes, networks })
    }
}

async fn open_membership(
    config: &Config,
    node: &Node,
    store: Store,
    overlays: Arc<dyn Overlays>,
) -> SwarmMembership {
    let settings = swarm::membership_settings(config, overlays);
    SwarmMembership::open(MembershipParts { node: node.clone(), store, settings }).await
}

/// Names of listeners that anybody may use who reaches them.
fn open_listeners(listeners: &[Listener]) -> Vec<String> {
    let open = listeners.iter().filter(|listener| listener.is_open_to_the_network());
    open.map(|listener| listener.name().to_owned()).collect()
}

/// What this machine can do, once the networks are there: they switch forwarding on unless they are told not to.
fn host(config: &Config, confinement: Confinement) -> Host {
    let mut host = Host::read();
    host.apparmor = confinement == Confinement::AppArmor;
    host.ipv4_forwarding |= config.network.forwarding;
    host
}

/// What containers run under beside the engine. Both are parts of this program, and of its version.
const COMPONENTS: [&str; 2] = ["shoal-runtime", "docker-init"];

fn component(name: &str) -> Component {
    Component {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: crate::COMMIT.to_owned(),
    }
}

/// What the build says it was compiled by, else the oldest compiler that it may have been.
const COMPILER: &str = match option_env!("SHOAL_COMPILER") {
    Some(compiler) => compiler,
    None => concat!("rustc ", env!("CARGO_PKG_RUST_VERSION")),
};

/// When this program was built: what the build says, else the time of its file.
fn build_time() -> String {
    let of_file = || {
        let modified = std::fs::metadata("/proc/self/exe").ok()?.modified().ok()?;
        let seconds = modified.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
        jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok().map(|time| time.to_string())
    };
    option_env!("SHOAL_BUILD_TIME").map(str::to_owned).or_else(of_file).unwrap_or_default()
}

/// What the daemon says of itself.
fn daemon_info(config: &Config, host: &Host) -> DaemonInfo {
    let is_classic = config.features.get("buildkit") == Some(&false);
    DaemonInfo {
        cgroup_version: host.cgroup_version,
        builder: if is_classic { PreferredBuilder::Classic } else { PreferredBuilder::BuildKit },
        version: crate::VERSION.to_owned(),
        commit: crate::COMMIT.to_owned(),
        build_time: build_time(),
        compiler: COMPILER.to_owned(),
        experimental: config.experimental,
        components: COMPONENTS.map(component).into(),
        min_api_version: ApiVersion::new(config.min_api_version.0, config.min_api_version.1),
    }
}
