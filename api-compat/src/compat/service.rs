//! Services and tasks as older versions ask for them and see them.
//!
//! Start reading at [`asked`] and [`shown`]. What a version did not know is neither taken nor told: a client that sends back what
//! it was shown would lose it anyway. Only that a service is a job is told to everybody, because a service without a mode has
//! no sense.

use crate::model::container_config::HealthConfig;
use crate::model::service::{Service, ServiceSpec};
use crate::model::service_container::ContainerSpec;
use crate::model::task::Task;
use crate::model::task_spec::TaskSpec;
use crate::version::ApiVersion;

/// Turns a request of a version into one of today.
pub(crate) fn asked(asked: &mut ServiceSpec, version: ApiVersion) {
    let networks = std::mem::take(&mut asked.networks);
    if version.is_below(44) && asked.task_template.networks.is_empty() {
        asked.task_template.networks = networks;
    }
    if version.is_below(41) {
        asked.mode.replicated_job = None;
        asked.mode.global_job = None;
    }
    spec(asked, version);
}

/// Turns a service back.
pub(crate) fn shown(service: &mut Service, version: ApiVersion) {
    for shown in std::iter::once(&mut service.spec).chain(service.previous_spec.as_mut()) {
        spec(shown, version);
        networks_beside_template(shown, version);
    }
    if version.is_below(41) {
        service.service_status = None;
        service.job_status = None;
    }
}

/// The oldest clients look for networks in the service itself.
fn networks_beside_template(spec: &mut ServiceSpec, version: ApiVersion) {
    if version.is_below(25) {
        spec.networks.clone_from(&spec.task_template.networks);
    }
}

/// Turns a task back.
pub(crate) fn task(task: &mut Task, version: ApiVersion) {
    task_spec(&mut task.spec, version);
    if version.is_below(41) {
        task.job_iteration = None;
    }
}

fn spec(spec: &mut ServiceSpec, version: ApiVersion) {
    if version.is_below(28) {
        spec.rollback_config = None;
    }
    task_spec(&mut spec.task_template, version);
}

fn task_spec(spec: &mut TaskSpec, version: ApiVersion) {
    if let Some(placement) = spec.placement.as_mut().filter(|_| version.is_below(40)) {
        placement.max_replicas = 0;
    }
    if let Some(resources) = &mut spec.resources {
        if version.is_below(52) {
            resources.swap_bytes = None;
            resources.memory_swappiness = None;
        }
        if let Some(limits) = resources.limits.as_mut().filter(|_| version.is_below(41)) {
            limits.pids = 0;
        }
    }
    if let Some(spec) = &mut spec.container_spec {
        container(spec, version);
    }
}

fn container(spec: &mut ContainerSpec, version: ApiVersion) {
    if version.is_below(28) {
        spec.stop_signal.clear();
        spec.read_only = false;
    }
    if version.is_below(30) {
        spec.configs.clear();
    }
    if version.is_below(37) {
        spec.init = None;
    }
    if version.is_below(40) {
        spec.sysctls.clear();
        spec.configs.iter_mut().for_each(|config| config.runtime = None);
        let privileges = spec.privileges.as_mut();
        if let Some(credentials) = privileges.and_then(|privileges| privileges.credential_spec.as_mut()) {
            credentials.config.clear();
        }
    }
    if version.is_below(41) {
        spec.capability_add.clear();
        spec.capability_drop.clear();
        spec.ulimits.clear();
    }
    if version.is_below(44) {
        if let Some(privileges) = &mut spec.privileges {
            privileges.seccomp = None;
            privileges.apparmor = None;
            privileges.no_new_privileges = false;
        }
        if let Some(HealthConfig { start_interval, .. }) = &mut spec.healthcheck {
            *start_interval = 0;
        }
    }
    if version.is_below(46) {
        spec.oom_score_adj = 0;
    }
    mounts(spec, version);
}

fn mounts(spec: &mut ContainerSpec, version: ApiVersion) {
    for mount in &mut spec.mounts {
        if let Some(options) = mount.bind_options.as_mut().filter(|_| version.is_below(44)) {
            options.read_only_non_recursive = false;
            options.read_only_force_recursive = false;
        }
        if let Some(options) = mount.volume_options.as_mut().filter(|_| version.is_below(45)) {
            options.subpath.clear();
        }
        if let Some(options) = mount.tmpfs_options.as_mut().filter(|_| version.is_below(46)) {
            options.options = None;
        }
        if version.is_below(48) {
            mount.image_options = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value) -> ServiceSpec {
        crate::json::decode_value(value).unwrap()
    }

    /// Where a field stands in a service's JSON.
    const FIELDS: [(&str, u16); 16] = [
        ("/RollbackConfig", 28),
        ("/TaskTemplate/ContainerSpec/StopSignal", 28),
        ("/TaskTemplate/ContainerSpec/Configs", 30),
        ("/TaskTemplate/ContainerSpec/Init", 37),
        ("/TaskTemplate/ContainerSpec/Sysctls", 40),
        ("/TaskTemplate/Placement/MaxReplicas", 40),
        ("/TaskTemplate/ContainerSpec/CapabilityAdd", 41),
        ("/TaskTemplate/ContainerSpec/Ulimits", 41),
        ("/TaskTemplate/Resources/Limits/Pids", 41),
        ("/Mode/GlobalJob", 41),
        ("/TaskTemplate/ContainerSpec/Privileges/Seccomp", 44),
        ("/TaskTemplate/ContainerSpec/Healthcheck/StartInterval", 44),
        ("/TaskTemplate/ContainerSpec/Mounts/0/VolumeOptions/Subpath", 45),
        ("/TaskTemplate/ContainerSpec/OomScoreAdj", 46),
        ("/TaskTemplate/ContainerSpec/Mounts/1/TmpfsOptions/Options", 46),
        ("/TaskTemplate/Resources/SwapBytes", 52),
    ];

    #[test]
    fn the_oldest_clients_see_networks_beside_the_template() {
        let spec = read(&json!({"TaskTemplate": {"Networks": [{"Target": "net"}]}}));
        for (version, n_beside) in [(24, 1), (25, 0)] {
            let mut shown = spec.clone();
            networks_beside_template(&mut shown, ApiVersion::v1(version));
            assert_eq!(
                (shown.networks.len(), shown.task_template.networks.len()),
                (n_beside, 1),
                "1.{version}"
            );
        }
    }

    #[test]
    fn what_a_version_did_not_know_is_dropped() {
        let body = json!({
            "Mode": {"GlobalJob": {}}, "RollbackConfig": {},
            "TaskTemplate": {
                "Placement": {"MaxReplicas": 1},
                "Resources": {"Limits": {"Pids": 1}, "SwapBytes": 1},
                "ContainerSpec": {
                    "StopSignal": "INT", "Init": true, "Sysctls": {"a": "b"}, "CapabilityAdd": ["ALL"],
                    "Configs": [{"ConfigID": "x"}], "Ulimits": [{"Name": "nofile"}], "OomScoreAdj": 1,
                    "Privileges": {"Seccomp": {"Mode": "default"}}, "Healthcheck": {"StartInterval": 1},
                    "Mounts": [{"VolumeOptions": {"Subpath": "s", "NoCopy": true}}, {"TmpfsOptions": {"Options": [["exec"]]}}],
                },
            },
        });
        for minor in [25, 28, 29, 30, 37, 39, 40, 41, 43, 44, 45, 46, 51, 52, 56] {
            let mut spec = read(&body);
            asked(&mut spec, ApiVersion::v1(minor));
            let left = serde_json::to_value(&spec).unwrap();
            for (place, since) in FIELDS {
                assert_eq!(left.pointer(place).is_some(), minor >= since, "{place} in 1.{minor}");
            }
        }
    }

    #[test]
    fn networks_of_the_service_are_those_of_its_tasks_for_old_clients() {
        let seen = |body: Value, minor: u16| {
            let mut spec = read(&body);
            asked(&mut spec, ApiVersion::v1(minor));
            assert!(spec.networks.is_empty());
            spec.task_template.networks.iter().map(|network| network.target.clone()).collect::<Vec<_>>()
        };
        let old = json!({"Networks": [{"Target": "a"}]});
        let both = json!({"Networks": [{"Target": "a"}], "TaskTemplate": {"Networks": [{"Target": "b"}]}});
        assert_eq!(seen(old.clone(), 43), ["a"]);
        assert_eq!(seen(both, 43), ["b"]);
        assert!(seen(old, 44).is_empty());
    }
}
