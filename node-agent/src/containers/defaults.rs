//! PURE. What a spec becomes where the client said nothing: Docker's and the operator's defaults.
//!
//! Start reading at [`fill`]. Defaults that depend on the machine at start time (AppArmor, seccomp) are not filled in here;
//! those that inspect shows are.

use shoal_types::ContainerId;
use shoal_types::container::networking::NetworkMode;
use shoal_types::container::resources::Resources;
use shoal_types::container::security::{CgroupMode, IpcMode};
use shoal_types::container::spec::ContainerSpec;

use super::config::{EngineConfig, IpcDefault};
use super::host::{CgroupVersion, Host};

/// Fills in what the client left open. The image's configuration has been merged before.
pub(crate) fn fill(spec: &mut ContainerSpec, id: ContainerId, config: &EngineConfig, host: &Host) {
    fill_names(spec, id);
    fill_resources(&mut spec.resources, host);
    // No limit of processes may be asked for in three ways; an update keeps the difference, because Docker shows it.
    spec.resources.pids_limit = spec.resources.pids_limit.filter(|&limit| limit > 0);
    spec.shm_size = Some(spec.shm_size.filter(|&size| size != 0).unwrap_or(config.shm_size));
    if spec.namespaces.ipc == IpcMode::DaemonDefault {
        spec.namespaces.ipc = match config.ipc {
            IpcDefault::Private => IpcMode::Private,
            IpcDefault::Shareable => IpcMode::Shareable,
        };
    }
    if spec.namespaces.cgroup.is_none() {
        spec.namespaces.cgroup = Some(cgroup_namespace(spec.security.privileged, config, host));
    }
    if spec.runtime.as_ref().is_none_or(String::is_empty) {
        spec.runtime = Some(config.default_runtime.clone());
    }
    fill_logging(spec, config);
    for port in spec.networking.published.iter().map(|publish| publish.container_port) {
        if !spec.networking.exposed.contains(&port) {
            spec.networking.exposed.push(port);
        }
    }
}

/// Swap follows memory: twice as much for both together.
pub(crate) fn fill_resources(resources: &mut Resources, host: &Host) {
    if resources.memory > 0 && resources.memory_swap == 0 {
        resources.memory_swap = resources.memory.saturating_mul(2);
    }
    if resources.oom_kill_disable.is_none() && host.limits.oom_kill_disable {
        resources.oom_kill_disable = Some(false);
    }
}

/// A container is named after its id, unless its name comes from the machine or from another container at the start.
fn fill_names(spec: &mut ContainerSpec, id: ContainerId) {
    let shares_name = matches!(spec.networking.mode, NetworkMode::Host | NetworkMode::Container(_));
    if spec.process.hostname.is_empty() && !shares_name {
        spec.process.hostname = id.short();
    }
}

fn cgroup_namespace(privileged: bool, config: &EngineConfig, host: &Host) -> CgroupMode {
    match (host.cgroup_version, privileged, config.cgroup_namespace) {
        // Docker leaves privileged containers the host's view on version 1, whatever the daemon's default is.
        (CgroupVersion::V1, true, _) => CgroupMode::Host,
        (_, _, Some(mode)) => mode,
        (CgroupVersion::V1, false, None) => CgroupMode::Host,
        (CgroupVersion::V2, _, None) => CgroupMode::Private,
    }
}

/// The daemon's options apply underneath the container's when the driver is the daemon's.
fn fill_logging(spec: &mut ContainerSpec, config: &EngineConfig) {
    if spec.logging.driver.is_empty() {
        spec.logging.driver.clone_from(&config.log_driver);
    }
    if spec.logging.driver == config.log_driver {
        for (key, value) in &config.log_options {
            spec.logging.options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_types::container::networking::{PortPublish, PortSpec, Protocol};

    const ID: ContainerId = ContainerId::from_bytes([0xc3; 32]);

    fn filled(version: CgroupVersion, change: impl FnOnce(&mut ContainerSpec)) -> ContainerSpec {
        let mut spec = ContainerSpec::default();
        change(&mut spec);
        let mut config = EngineConfig::new("/data", "/run");
        config.log_options.insert("max-size".to_owned(), "1m".to_owned());
        fill(&mut spec, ID, &config, &Host::capable(version));
        spec
    }

    #[test]
    fn an_empty_spec_becomes_dockers_default_container() {
        let spec = filled(CgroupVersion::V1, |_| {});
        assert_eq!(spec.process.hostname, "c3c3c3c3c3c3");
        assert_eq!(spec.shm_size, Some(67_108_864));
        assert_eq!(spec.namespaces.ipc, IpcMode::Private);
        assert_eq!(spec.namespaces.cgroup, Some(CgroupMode::Host));
        assert_eq!(spec.runtime.as_deref(), Some("runc"));
        assert_eq!(spec.logging.driver, "json-file");
        assert_eq!(spec.logging.options["max-size"], "1m");
        assert_eq!(spec.resources.oom_kill_disable, Some(false));
    }

    #[test]
    fn version_2_has_private_cgroups_and_no_oom_switch() {
        let spec = filled(CgroupVersion::V2, |spec| spec.security.privileged = true);
        assert_eq!(spec.namespaces.cgroup, Some(CgroupMode::Private));
        assert_eq!(spec.resources.oom_kill_disable, None);
    }

    #[test]
    fn shared_namespaces_leave_the_host_name_alone() {
        for mode in [NetworkMode::Host, NetworkMode::Container("x".to_owned())] {
            let spec = filled(CgroupVersion::V1, |spec| spec.networking.mode = mode);
            assert_eq!(spec.process.hostname, "");
        }
    }

    #[test]
    fn memory_brings_as_much_swap_and_other_drivers_bring_no_options() {
        let spec = filled(CgroupVersion::V1, |spec| {
            spec.resources.memory = 10 << 20;
            spec.resources.pids_limit = Some(-1);
            spec.logging.driver = "local".to_owned();
        });
        assert_eq!((spec.resources.memory_swap, spec.resources.pids_limit), (20 << 20, None));
        assert!(spec.logging.options.is_empty());
    }

    #[test]
    fn published_ports_are_exposed() {
        let port = PortSpec { port: 80, protocol: Protocol::Tcp };
        let spec = filled(CgroupVersion::V1, |spec| {
            spec.networking.published =
                vec![PortPublish { container_port: port, host_ip: None, host_ports: None }];
        });
        assert_eq!(spec.networking.exposed, [port]);
    }
}
