//! What the daemon says of itself.
//!
//! Start reading at [`version`] and [`info`].

use jiff::Timestamp;
use manager::api::membership::{Standing, Surroundings};
use node_agent::api::system::SystemInfo;
use shoal_types::cluster::settings::Cluster;

use crate::model::Texts;
use crate::model::system::{
    AddressPool, Commit, ComponentVersion, DiscoveredDevice, FirewallInfo, IndexInfo, PeerNode, PlatformName,
    PluginsInfo, RegistryServiceConfig, Runtime, SwarmInfo, SystemInfo as Info, SystemVersion,
};
use crate::state::{Component, DaemonInfo};
use crate::version::MAX_VERSION;

/// The product's name, in `docker version`.
const PRODUCT: &str = "Shoal";

/// The architecture in Go's names.
fn go_architecture() -> String {
    shoal_types::Platform::host().architecture
}

/// The versions of the daemon and its parts.
pub(crate) fn version(daemon: &DaemonInfo, info: &SystemInfo) -> SystemVersion {
    let details: Texts = [
        ("ApiVersion", MAX_VERSION.to_string()),
        ("Arch", go_architecture()),
        ("BuildTime", daemon.build_time.clone()),
        ("Experimental", daemon.experimental.to_string()),
        ("GitCommit", daemon.commit.clone()),
        ("GoVersion", daemon.compiler.clone()),
        ("KernelVersion", info.kernel.clone()),
        ("MinAPIVersion", daemon.min_api_version.to_string()),
        ("Os", "linux".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let engine = ComponentVersion {
        name: "Engine".to_owned(),
        version: daemon.version.clone(),
        details: Some(details),
    };
    SystemVersion {
        platform: PlatformName { name: PRODUCT.to_owned() },
        components: std::iter::once(engine).chain(daemon.components.iter().map(component)).collect(),
        version: daemon.version.clone(),
        api_version: MAX_VERSION.to_string(),
        min_api_version: daemon.min_api_version.to_string(),
        git_commit: daemon.commit.clone(),
        go_version: daemon.compiler.clone(),
        os: "linux".to_owned(),
        arch: go_architecture(),
        kernel_version: info.kernel.clone(),
        experimental: daemon.experimental,
        build_time: daemon.build_time.clone(),
    }
}

fn component(component: &Component) -> ComponentVersion {
    ComponentVersion {
        name: component.name.clone(),
        version: component.version.clone(),
        details: Some(Texts::from([("GitCommit".to_owned(), component.commit.clone())])),
    }
}

/// The default registry, by the name that clients know it by.
const INDEX_SERVER: &str = "https://index.docker.io/v1/";
/// Its short name.
const INDEX_NAME: &str = "docker.io";

/// What is said of a cluster with two managers.
const TWO_MANAGERS: &str = "WARNING: Running Swarm in a two-manager configuration. This configuration provides\n         no fault tolerance, and poses a high risk to lose control over the cluster.\n         Refer to https://docs.docker.com/engine/swarm/admin_guide/ to configure the\n         Swarm for fault-tolerance.";

/// The machine, the daemon's settings and counters, in the newest shape.
pub(crate) fn info(daemon: &DaemonInfo, info: &SystemInfo, listeners: usize, view: &ClusterView) -> Info {
    let controllers = info.controllers;
    let (http_proxy, https_proxy, no_proxy) = info.proxies.clone();
    Info {
        id: info.id.clone(),
        containers: info.running + info.paused + info.stopped,
        containers_running: info.running,
        containers_paused: info.paused,
        containers_stopped: info.stopped,
        images: info.images,
        driver: info.storage_driver.clone(),
        driver_status: pairs(&info.storage_status),
        plugins: PluginsInfo {
            volume: info.volume_drivers.clone(),
            network: info.network_drivers.clone(),
            authorization: (!info.authorization_plugins.is_empty())
                .then(|| info.authorization_plugins.clone()),
            log: info.log_drivers.clone(),
        },
        memory_limit: controllers.memory,
        swap_limit: controllers.swap,
        cpu_cfs_period: controllers.cpu_period,
        cpu_cfs_quota: controllers.cpu_quota,
        cpu_shares: controllers.cpu_shares,
        cpu_set: controllers.cpuset,
        pids_limit: controllers.pids,
        ipv4_forwarding: info.ipv4_forwarding,
        debug: info.debug,
        n_fd: info.open_files,
        oom_kill_disable: controllers.oom_kill_disable,
        n_goroutines: info.tasks,
        system_time: Timestamp::now().to_string(),
        logging_driver: info.default_log_driver.clone(),
        cgroup_driver: info.cgroup_driver.clone(),
        cgroup_version: info.cgroup_version.to_string(),
        n_events_listener: listeners,
        kernel_version: info.kernel.clone(),
        operating_system: info.operating_system.clone(),
        os_version: info.os_version.clone(),
        os_type: "linux".to_owned(),
        architecture: info.architecture.clone(),
        index_server_address: INDEX_SERVER.to_owned(),
        registry_config: registries(info),
        ncpu: info.cpus,
        mem_total: info.memory,
        docker_root_dir: info.data_root.clone(),
        http_proxy,
        https_proxy,
        no_proxy,
        name: info.hostname.clone(),
        labels: info.labels.clone(),
        experimental_build: daemon.experimental,
        server_version: daemon.version.clone(),
        runtimes: info.runtimes.iter().map(runtime).collect(),
        default_runtime: info.default_runtime.clone(),
        swarm: swarm(view),
        live_restore_enabled: true,
        init_binary: info.init_binary.clone(),
        runc_commit: Commit { id: daemon.commit.clone(), expected: None },
        init_commit: Commit { id: daemon.commit.clone(), expected: None },
        security_options: info.security_options.clone(),
        default_address_pools: info.address_pools.iter().map(pool).collect(),
        firewall_backend: Some(FirewallInfo {
            driver: info.firewall.0.clone(),
            info: pairs(&info.firewall.1),
        })
        .filter(|firewall| !firewall.driver.is_empty()),
        cdi_spec_dirs: Some(info.cdi_directories.clone()),
        discovered_devices: info
            .cdi_devices
            .iter()
            .map(|id| DiscoveredDevice { source: "cdi".to_owned(), id: id.clone() })
            .collect(),
        warnings: Some(info.warnings.clone()).filter(|list| !list.is_empty()),
        ..Info::default()
    }
}

fn pairs(list: &[(String, String)]) -> Vec<[String; 2]> {
    list.iter().map(|(name, value)| [name.clone(), value.clone()]).collect()
}

fn pool((base, size): &(String, u8)) -> AddressPool {
    AddressPool { base: base.clone(), size: *size }
}

fn runtime((name, (path, args)): (&String, &(String, Vec<String>))) -> (String, Runtime) {
    (name.clone(), Runtime { path: path.clone(), runtime_args: args.clone(), status: None })
}

fn registries(info: &SystemInfo) -> RegistryServiceConfig {
    let default = IndexInfo {
        name: INDEX_NAME.to_owned(),
        mirrors: info.mirrors.clone(),
        secure: true,
        official: true,
    };
    let insecure = info.insecure_registries.iter().map(|name| {
        (name.clone(), IndexInfo { name: name.clone(), mirrors: Vec::new(), secure: false, official: false })
    });
    RegistryServiceConfig {
        insecure_registry_cidrs: info.insecure_networks.clone(),
        index_configs: insecure.chain([(INDEX_NAME.to_owned(), default)]).collect(),
        mirrors: info.mirrors.clone(),
        ..RegistryServiceConfig::default()
    }
}

/// What this machine knows of its cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClusterView {
    /// What it is in it.
    pub(crate) standing: Standing,
    /// Where it and the managers are.
    pub(crate) surroundings: Surroundings,
    /// The cluster, if this machine is a manager and the cluster has answered.
    pub(crate) cluster: Option<Cluster>,
    /// All nodes and how many of them are managers, likewise.
    pub(crate) counts: Option<(usize, usize)>,
}

fn swarm(view: &ClusterView) -> SwarmInfo {
    let (state, node, is_manager, error) = match &view.standing {
        Standing::Inactive => ("inactive", None, false, ""),
        Standing::Pending => ("pending", None, false, ""),
        Standing::Error(error) => ("error", None, false, error.as_str()),
        Standing::Locked => ("locked", None, false, ""),
        Standing::Worker(id) => ("active", Some(*id), false, ""),
        Standing::Manager(id) => ("active", Some(*id), true, ""),
    };
    let peers = view.surroundings.managers.iter();
    let peers: Vec<PeerNode> = peers
        .map(|peer| PeerNode { node_id: peer.node.to_string(), addr: peer.address.to_string() })
        .collect();
    let (nodes, managers) = view.counts.unwrap_or_default();
    SwarmInfo {
        node_id: node.map(|id| id.to_string()).unwrap_or_default(),
        node_addr: view.surroundings.address.clone(),
        local_node_state: state.to_owned(),
        control_available: is_manager,
        error: error.to_owned(),
        remote_managers: Some(peers).filter(|peers| !peers.is_empty()),
        nodes,
        managers,
        cluster: view.cluster.as_ref().map(super::cluster::info),
        warnings: if managers == 2 { vec![TWO_MANAGERS.to_owned()] } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_outside_a_cluster_tells_nothing_of_one() {
        let shown = serde_json::to_value(swarm(&ClusterView::default())).unwrap();
        assert_eq!(
            shown,
            serde_json::json!({
                "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
                "RemoteManagers": null,
            })
        );
    }

    #[test]
    fn two_managers_are_warned_of() {
        let warnings = |managers| {
            swarm(&ClusterView { counts: Some((5, managers)), ..ClusterView::default() }).warnings.len()
        };
        assert_eq!([1, 2, 3].map(warnings), [0, 1, 0]);
    }
}
