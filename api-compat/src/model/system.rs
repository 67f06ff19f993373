//! The daemon: versions, settings, counters.
//!
//! Start reading at [`SystemVersion`].

use serde::Serialize;

use super::cluster::ClusterInfo;
use super::{Texts, is_zero};

/// The versions of the daemon and its parts.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct SystemVersion {
    /// The product.
    pub platform: PlatformName,
    /// The daemon's parts.
    pub components: Vec<ComponentVersion>,
    /// Version of the daemon.
    pub version: String,
    /// Newest version of the API.
    pub api_version: String,
    /// Oldest version of the API.
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    /// Commit it was built from.
    pub git_commit: String,
    /// Compiler it was built with.
    pub go_version: String,
    /// Operating system.
    pub os: String,
    /// Architecture.
    pub arch: String,
    /// Release of the kernel.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kernel_version: String,
    /// Whether experimental features are on.
    #[serde(skip_serializing_if = "is_zero")]
    pub experimental: bool,
    /// When it was built.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build_time: String,
}

/// The product.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct PlatformName {
    /// Its name.
    pub name: String,
}

/// A part of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ComponentVersion {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Texts>,
}

/// The machine, the daemon's settings and counters.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct SystemInfo {
    /// Identity of the daemon.
    #[serde(rename = "ID")]
    pub id: String,
    /// Containers.
    pub containers: usize,
    /// Containers that run.
    pub containers_running: usize,
    /// Containers that are paused.
    pub containers_paused: usize,
    /// Containers that do not run.
    pub containers_stopped: usize,
    /// Images.
    pub images: usize,
    /// Storage driver.
    pub driver: String,
    /// What it says of itself.
    pub driver_status: Vec<[String; 2]>,
    /// Drivers that can be chosen.
    pub plugins: PluginsInfo,
    /// Whether memory can be limited.
    pub memory_limit: bool,
    /// Whether swap can be limited.
    pub swap_limit: bool,
    /// Whether kernel memory can be limited; it cannot. Below 1.42.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_memory: Option<bool>,
    /// Whether TCP buffers can be limited; they cannot. Below 1.52.
    #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "Option::is_none")]
    pub kernel_memory_tcp: Option<bool>,
    /// Whether the scheduler's period can be set.
    pub cpu_cfs_period: bool,
    /// Whether the scheduler's quota can be set.
    pub cpu_cfs_quota: bool,
    /// Whether processor shares can be set.
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    /// Whether processors can be chosen.
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    /// Whether processes can be limited.
    pub pids_limit: bool,
    /// Whether the kernel forwards IPv4.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// Always false. Below 1.50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge_nf_iptables: Option<bool>,
    /// Always false. Below 1.50.
    #[serde(rename = "BridgeNfIp6tables", skip_serializing_if = "Option::is_none")]
    pub bridge_nf_ip6tables: Option<bool>,
    /// Whether the daemon logs for debugging.
    pub debug: bool,
    /// Open file descriptors of the daemon.
    #[serde(rename = "NFd")]
    pub n_fd: usize,
    /// Whether the OOM killer can be switched off.
    pub oom_kill_disable: bool,
    /// Tasks of the daemon.
    #[serde(rename = "NGoroutines")]
    pub n_goroutines: usize,
    /// Time of the machine.
    pub system_time: String,
    /// Default log driver.
    pub logging_driver: String,
    /// `cgroupfs`, `systemd` or `none`.
    pub cgroup_driver: String,
    /// `1` or `2`. Since 1.41.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroup_version: String,
    /// Listeners to events.
    #[serde(rename = "NEventsListener")]
    pub n_events_listener: usize,
    /// Release of the kernel.
    pub kernel_version: String,
    /// Distribution.
    pub operating_system: String,
    /// Its version.
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// `linux`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// Architecture as uname has it.
    pub architecture: String,
    /// The default registry.
    pub index_server_address: String,
    /// Registries.
    pub registry_config: RegistryServiceConfig,
    /// Processors.
    #[serde(rename = "NCPU")]
    pub ncpu: usize,
    /// Memory in bytes.
    pub mem_total: u64,
    /// Named resources of this node in the cluster.
    pub generic_resources: Option<Vec<Texts>>,
    /// Where the state is.
    pub docker_root_dir: String,
    /// Proxy for HTTP.
    pub http_proxy: String,
    /// Proxy for HTTPS.
    pub https_proxy: String,
    /// What no proxy is used for.
    pub no_proxy: String,
    /// Host name.
    pub name: String,
    /// Labels of the daemon.
    pub labels: Vec<String>,
    /// Whether experimental features are on.
    pub experimental_build: bool,
    /// Version of the daemon.
    pub server_version: String,
    /// OCI runtimes.
    pub runtimes: std::collections::BTreeMap<String, Runtime>,
    /// The runtime of containers that name none.
    pub default_runtime: String,
    /// The cluster.
    pub swarm: SwarmInfo,
    /// Whether containers outlive the daemon; they do.
    pub live_restore_enabled: bool,
    /// Empty on Linux.
    pub isolation: String,
    /// Path of the init program.
    pub init_binary: String,
    /// Commit of containerd; there is none.
    pub containerd_commit: Commit,
    /// Commit of the default runtime.
    pub runc_commit: Commit,
    /// Commit of the init program.
    pub init_commit: Commit,
    /// Confinement in effect.
    pub security_options: Vec<String>,
    /// Pools of addresses for networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default_address_pools: Vec<AddressPool>,
    /// The firewall. Since 1.49.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_backend: Option<FirewallInfo>,
    /// Directories of CDI specs. Since 1.44.
    #[serde(rename = "CDISpecDirs", skip_serializing_if = "Option::is_none")]
    pub cdi_spec_dirs: Option<Vec<String>>,
    /// Devices that can be asked for by name. Since 1.50.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discovered_devices: Vec<DiscoveredDevice>,
    /// What the user should know.
    pub warnings: Option<Vec<String>>,
    /// Always `<not supported>`. Below 1.25.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_driver: Option<String>,
}

/// A device that can be asked for by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct DiscoveredDevice {
    /// The driver that knows it: `cdi`.
    pub source: String,
    /// Its name, `vendor.com/class=name`.
    #[serde(rename = "ID")]
    pub id: String,
}

/// Drivers that can be chosen.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct PluginsInfo {
    /// For volumes.
    pub volume: Vec<String>,
    /// For networks.
    pub network: Vec<String>,
    /// For authorization.
    pub authorization: Option<Vec<String>>,
    /// For logs.
    pub log: Vec<String>,
}

/// Registries.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct RegistryServiceConfig {
    /// Always null. Below 1.49.
    #[serde(rename = "AllowNondistributableArtifactsCIDRs", skip_serializing_if = "Option::is_none")]
    pub allow_nondistributable_artifacts_cidrs: Option<Option<Vec<String>>>,
    /// Always null. Below 1.49.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_nondistributable_artifacts_hostnames: Option<Option<Vec<String>>>,
    /// Networks whose registries need no proper TLS.
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Vec<String>,
    /// Registries by name.
    pub index_configs: std::collections::BTreeMap<String, IndexInfo>,
    /// Mirrors of the default registry.
    pub mirrors: Vec<String>,
}

/// A registry.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct IndexInfo {
    /// Name.
    pub name: String,
    /// Mirrors.
    pub mirrors: Vec<String>,
    /// Whether proper TLS is demanded.
    pub secure: bool,
    /// Whether it is the default one.
    pub official: bool,
}

/// An OCI runtime.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// Path, or name.
    pub path: String,
    /// Arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runtime_args: Vec<String>,
    /// What it says of itself. Since 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Texts>,
}

/// The commit of a program.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Commit {
    /// The commit.
    #[serde(rename = "ID")]
    pub id: String,
    /// The same. Below 1.49.
    #[serde(rename = "Expected", skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// A pool of addresses for networks.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct AddressPool {
    /// The pool.
    pub base: String,
    /// Prefix length of each piece.
    pub size: u8,
}

/// The firewall.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct FirewallInfo {
    /// Its kind.
    pub driver: String,
    /// What it says of itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub info: Vec<[String; 2]>,
}

/// The cluster, as a node sees it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct SwarmInfo {
    /// Id of this node.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Address of this node.
    pub node_addr: String,
    /// `inactive`, `pending`, `active`, `error` or `locked`.
    pub local_node_state: String,
    /// Whether this node is a manager.
    pub control_available: bool,
    /// What is wrong.
    pub error: String,
    /// The managers.
    pub remote_managers: Option<Vec<PeerNode>>,
    /// How many nodes there are; managers know.
    #[serde(skip_serializing_if = "is_zero")]
    pub nodes: usize,
    /// How many of them are managers.
    #[serde(skip_serializing_if = "is_zero")]
    pub managers: usize,
    /// The cluster; managers know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterInfo>,
    /// What the administrator should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A manager.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct PeerNode {
    /// Its id.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Its address.
    pub addr: String,
}

/// The outcome of a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct AuthResponse {
    /// In words.
    pub status: String,
    /// A token to use from now on; empty if the password stays in use.
    pub identity_token: String,
}

/// Credentials for a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "lowercase")]
pub struct AuthConfig {
    /// Name.
    pub username: String,
    /// Password.
    pub password: String,
    /// The registry.
    pub serveraddress: String,
}
