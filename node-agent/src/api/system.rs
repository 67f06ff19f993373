//! Ports: the machine and the daemon.
//!
//! Start reading at [`System`].

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use registry_client::Credentials;

use super::containers::Listed;
use super::images::ImageSummary;
use super::volumes::VolumeUsage;
use crate::error::NodeError;

/// What the node says of itself.
#[async_trait]
pub trait System: Send + Sync {
    /// The machine, the daemon's settings and counters.
    async fn info(&self) -> Result<SystemInfo, NodeError>;

    /// What takes up disk.
    async fn disk_usage(&self, what: UsageKinds) -> Result<DiskUsage, NodeError>;

    /// Tries credentials on a registry; the token that shall be used from now on, or an empty text.
    async fn login(&self, registry: &str, credentials: Credentials) -> Result<String, NodeError>;
}

/// What the node says of itself, in the engine's terms. What only the front end or the cluster knows is not here.
#[derive(Debug, Clone, Default)]
pub struct SystemInfo {
    /// Identity of this daemon, kept on disk.
    pub id: String,
    /// Containers that run, paused ones not counted.
    pub running: usize,
    /// Containers that are paused.
    pub paused: usize,
    /// Containers that do not run.
    pub stopped: usize,
    /// Images.
    pub images: usize,
    /// Storage driver.
    pub storage_driver: String,
    /// What it says of itself, in order.
    pub storage_status: Vec<(String, String)>,
    /// Log drivers that can be chosen.
    pub log_drivers: Vec<String>,
    /// Plugins that decide about requests, in the order in which they are asked.
    pub authorization_plugins: Vec<String>,
    /// Network drivers that can be chosen.
    pub network_drivers: Vec<String>,
    /// Volume drivers that can be chosen.
    pub volume_drivers: Vec<String>,
    /// What the kernel's controllers can do.
    pub controllers: Controllers,
    /// Whether the kernel forwards IPv4.
    pub ipv4_forwarding: bool,
    /// Open file descriptors of the daemon.
    pub open_files: usize,
    /// Tasks of the daemon's async runtime.
    pub tasks: usize,
    /// Default log driver.
    pub default_log_driver: String,
    /// Version of the cgroup hierarchy, 1 or 2.
    pub cgroup_version: u8,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Name of the distribution.
    pub operating_system: String,
    /// Its version.
    pub os_version: String,
    /// Architecture as `uname -m` says.
    pub architecture: String,
    /// Processors.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// Where the state is.
    pub data_root: String,
    /// Host name.
    pub hostname: String,
    /// Labels of the daemon, `key=value`.
    pub labels: Vec<String>,
    /// Registries without (proper) TLS: networks.
    pub insecure_networks: Vec<String>,
    /// Registries without (proper) TLS: names.
    pub insecure_registries: Vec<String>,
    /// Mirrors of the default registry.
    pub mirrors: Vec<String>,
    /// OCI runtimes by name: path (or `embedded`) and arguments.
    pub runtimes: BTreeMap<String, (String, Vec<String>)>,
    /// The runtime of containers that name none.
    pub default_runtime: String,
    /// Path of the init program.
    pub init_binary: String,
    /// Confinement in effect, as Docker writes it (`name=seccomp,profile=builtin`).
    pub security_options: Vec<String>,
    /// Pools from which subnets are taken: base and size.
    pub address_pools: Vec<(String, u8)>,
    /// Firewall backend and what it says of itself.
    pub firewall: (String, Vec<(String, String)>),
    /// Directories of CDI specs.
    pub cdi_directories: Vec<String>,
    /// Names of the devices that are described there.
    pub cdi_devices: Vec<String>,
    /// Proxies, credentials masked: HTTP, HTTPS, and those not to use them for.
    pub proxies: (String, String, String),
    /// Whether the daemon logs for debugging.
    pub debug: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Whether the kernel has what some limits need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Controllers {
    /// Memory limits.
    pub memory: bool,
    /// Swap limits.
    pub swap: bool,
    /// Period of the processor scheduler.
    pub cpu_period: bool,
    /// Quota of the processor scheduler.
    pub cpu_quota: bool,
    /// Processor shares.
    pub cpu_shares: bool,
    /// Processor sets.
    pub cpuset: bool,
    /// Process limits.
    pub pids: bool,
    /// Switching the OOM killer off.
    pub oom_kill_disable: bool,
}

/// Which kinds of objects a question about disk use is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageKinds {
    /// Containers.
    pub containers: bool,
    /// Images.
    pub images: bool,
    /// Volumes.
    pub volumes: bool,
    /// Build cache.
    pub build_cache: bool,
}

/// What takes up disk. A kind that was not asked for is `None`.
#[derive(Debug, Clone, Default)]
pub struct DiskUsage {
    /// Containers with their sizes.
    pub containers: Option<Vec<Listed>>,
    /// Images with sizes and the number of containers that use them.
    pub images: Option<Vec<ImageSummary>>,
    /// Bytes of all layers, each counted once.
    pub layers_size: u64,
    /// Volumes.
    pub volumes: Option<Vec<VolumeUsage>>,
    /// Records of the build cache.
    pub build_cache: Option<Vec<CacheRecord>>,
}

/// One record of the build cache.
#[derive(Debug, Clone)]
pub struct CacheRecord {
    /// Its id.
    pub id: String,
    /// Records it was made from.
    pub parents: Vec<String>,
    /// Kind, such as `regular` or `source.local`.
    pub kind: String,
    /// What made it.
    pub description: String,
    /// Whether a build uses it now.
    pub in_use: bool,
    /// Whether an image shares it.
    pub shared: bool,
    /// Bytes.
    pub size: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used.
    pub last_used: Option<Timestamp>,
    /// How often.
    pub usage_count: u64,
}
