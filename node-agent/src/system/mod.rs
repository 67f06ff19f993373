//! What the node says of itself: the machine, the daemon's settings, and what takes up disk.
//!
//! Start reading at [`NodeSystem`]. `facts.rs` reads the machine; `disk.rs` adds up. Nothing here changes anything.

mod disk;
mod facts;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use registry_client::Credentials;

use crate::api::containers::{ContainerViews, ListQuery};
use crate::api::events::Events;
use crate::api::images::{ImageQuery, Images};
use crate::api::system::{DiskUsage, System, SystemInfo, UsageKinds};
use crate::api::volumes::Volumes;
use crate::error::NodeError;
use crate::figures::{Action, Figures};
use crate::runtime::cdi::Catalog;

/// What only the daemon's settings know, and what is shown of them.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Whether containers are confined by AppArmor.
    pub apparmor: bool,
    /// Whether ids of containers are mapped to others of the host.
    pub user_namespaces: bool,
    /// Identity of this daemon.
    pub id: String,
    /// Where the state is.
    pub data_root: String,
    /// Labels, `key=value`.
    pub labels: Vec<String>,
    /// Registries without (proper) TLS, by network.
    pub insecure_networks: Vec<String>,
    /// Registries without (proper) TLS, by name.
    pub insecure_registries: Vec<String>,
    /// Mirrors of the default registry.
    pub mirrors: Vec<String>,
    /// OCI runtimes by name: path and arguments.
    pub runtimes: BTreeMap<String, (String, Vec<String>)>,
    /// The runtime of containers that name none.
    pub default_runtime: String,
    /// Default log driver.
    pub default_log_driver: String,
    /// Path of the init program.
    pub init_binary: String,
    /// Pools from which subnets are taken.
    pub address_pools: Vec<(String, u8)>,
    /// Proxies for HTTP, HTTPS, and hosts to reach without.
    pub proxies: (String, String, String),
    /// Directories of CDI specs.
    pub cdi_directories: Vec<String>,
    /// Default system call filter, as Docker writes it: `builtin`, `unconfined` or a path.
    pub seccomp_profile: String,
    /// Whether containers get no-new-privileges unless they say otherwise.
    pub no_new_privileges: bool,
    /// Plugins that decide about requests.
    pub authorization_plugins: Vec<String>,
    /// Whether the daemon logs for debugging.
    pub debug: bool,
    /// Sentences about the settings that the user should know.
    pub warnings: Vec<String>,
}

/// The ports whose objects are counted.
#[derive(Clone)]
pub struct Counted {
    /// Containers.
    pub views: Arc<dyn ContainerViews>,
    /// Images.
    pub images: Arc<dyn Images>,
    /// Volumes.
    pub volumes: Arc<dyn Volumes>,
    /// Subscribers.
    pub events: Arc<dyn Events>,
    /// Where it is timed how long telling of the node takes.
    pub figures: Figures,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").finish_non_exhaustive()
    }
}

/// Answers for the whole node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeSystem {
    settings: Arc<std::sync::RwLock<Arc<Settings>>>,
    counted: Counted,
    registries: registry_client::Client,
}

impl NodeSystem {
    /// Puts together what it needs; reads nothing yet.
    pub fn new(settings: Settings, counted: Counted, registries: registry_client::Client) -> Self {
        Self { settings: Arc::new(std::sync::RwLock::new(Arc::new(settings))), counted, registries }
    }

    /// Shows other settings from now on, after a reload.
    pub fn replace_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(settings);
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

#[async_trait]
impl System for NodeSystem {
    async fn info(&self) -> Result<SystemInfo, NodeError> {
        let start = Instant::now();
        let told = self.tell().await;
        self.counted.figures.noted(Action::SystemInfo, start, told)
    }

    async fn disk_usage(&self, what: UsageKinds) -> Result<DiskUsage, NodeError> {
        disk::usage(&self.counted, what).await
    }

    async fn login(&self, registry: &str, credentials: Credentials) -> Result<String, NodeError> {
        let login = self.registries.login(registry, &credentials).await?;
        Ok(login.identity_token.expose().to_owned())
    }
}

impl NodeSystem {
    async fn tell(&self) -> Result<SystemInfo, NodeError> {
        let containers = self.counted.views.list(ListQuery { all: true, ..ListQuery::default() }).await?;
        let count = |names: &[&str]| {
            containers.iter().filter(|listed| names.contains(&listed.view.state.name())).count()
        };
        let images = self.counted.images.list(ImageQuery::default()).await?;
        let settings = self.settings();
        let directories: Vec<PathBuf> = settings.cdi_directories.iter().map(PathBuf::from).collect();
        let looked =
            tokio::task::spawn_blocking(move || (facts::read(), Catalog::read(&directories).names()));
        let (machine, cdi_devices) =
            looked.await.map_err(|source| NodeError::failed("look at the machine", source))?;
        let mut info = SystemInfo {
            running: count(&["running", "restarting"]),
            paused: count(&["paused"]),
            stopped: count(&["created", "exited", "dead", "removing"]),
            images: images.len(),
            cdi_devices,
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            ..machine
        };
        apply(&mut info, &settings);
        Ok(info)
    }
}

/// Adds what the settings say to what the machine says.
fn apply(info: &mut SystemInfo, settings: &Settings) {
    info.id.clone_from(&settings.id);
    info.data_root.clone_from(&settings.data_root);
    info.labels.clone_from(&settings.labels);
    info.insecure_networks.clone_from(&settings.insecure_networks);
    info.insecure_registries.clone_from(&settings.insecure_registries);
    info.mirrors.clone_from(&settings.mirrors);
    info.runtimes.clone_from(&settings.runtimes);
    info.default_runtime.clone_from(&settings.default_runtime);
    info.default_log_driver.clone_from(&settings.default_log_driver);
    info.init_binary.clone_from(&settings.init_binary);
    info.address_pools.clone_from(&settings.address_pools);
    info.proxies.clone_from(&settings.proxies);
    info.cdi_directories.clone_from(&settings.cdi_directories);
    info.authorization_plugins.clone_from(&settings.authorization_plugins);
    info.debug = settings.debug;
    info.security_options = security_options(info, settings);
    info.warnings.extend(settings.warnings.iter().cloned());
}

/// Confinement that is in effect, in Docker's notation.
fn security_options(info: &SystemInfo, settings: &Settings) -> Vec<String> {
    let mut options = Vec::new();
    if settings.apparmor {
        options.push("name=apparmor".to_owned());
    }
    options.push(format!("name=seccomp,profile={}", settings.seccomp_profile));
    if settings.user_namespaces {
        options.push("name=userns".to_owned());
    }
    if info.cgroup_version == 2 {
        options.push("name=cgroupns".to_owned());
    }
    if settings.no_new_privileges {
        options.push("name=no-new-privileges".to_owned());
    }
    options
}
