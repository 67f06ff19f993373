//! The container that a task is: from what the service asks for to what the engine is asked for.
//!
//! Start reading at [`container_of`]. Pure: images, files and networks are looked up elsewhere. The container is an ordinary one of
//! the node; its labels tell which task it is. The engine never restarts it by itself, because that is the managers' decision.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shoal_types::cluster::overlay::OVERLAY_DRIVER;
use shoal_types::cluster::service::{
    GenericResource, PublishMode, Service, ServiceContainer, ServicePrivileges, ServiceSpec, TaskTemplate,
};
use shoal_types::cluster::task::{Task, TaskAttachment, TaskPlace};
use shoal_types::container::mounts::{MountSource, MountSpec};
use shoal_types::container::networking::{EndpointSpec, NetworkMode, NetworkingSpec, PortPublish, PortSpec};
use shoal_types::container::resources::Resources;
use shoal_types::container::restart::RestartPolicy;
use shoal_types::container::security::{SeccompChoice, SecuritySpec};
use shoal_types::container::spec::{ContainerSpec, ProcessSpec};
use shoal_types::network::Network;
use shoal_types::{NetworkId, NodeId, Platform, ServiceId, TaskId};

use super::template::{TemplateError, expand};
use super::values::{NodeFacts, TaskValues};

/// Label of every container of a task, without value.
pub(super) const LABEL_TASK: &str = "com.docker.swarm.task";
/// Label with the task's id.
pub(super) const LABEL_TASK_ID: &str = "com.docker.swarm.task.id";
/// Label with the node's id.
pub(super) const LABEL_NODE_ID: &str = "com.docker.swarm.node.id";
const LABEL_TASK_NAME: &str = "com.docker.swarm.task.name";
const LABEL_SERVICE_ID: &str = "com.docker.swarm.service.id";
const LABEL_SERVICE_NAME: &str = "com.docker.swarm.service.name";

/// Seconds between the stop signal and SIGKILL of services that do not say.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// Why a task cannot be a container of this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SpecError {
    /// A template cannot be filled in.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A network of the task is not known here.
    #[error("network {0} not found")]
    NoSuchNetwork(NetworkId),
    /// A system call filter that is no text.
    #[error("seccomp profile is not valid JSON")]
    Seccomp,
}

/// Refuses a service whose templates could not be filled in for any task; the reason is for users. Asked before managers take it, so
/// that it is not each of its tasks that fails.
pub fn check_templates(spec: &ServiceSpec) -> Result<(), String> {
    let service = Service::new(ServiceId::from_u128(0), spec.clone(), Timestamp::UNIX_EPOCH);
    let template = Arc::new(spec.template.clone());
    let place = TaskPlace::Slot(1);
    let task = Task::new(TaskId::from_u128(0), &service, place, template, Timestamp::UNIX_EPOCH);
    let node = NodeFacts {
        id: NodeId::from_u128(0),
        hostname: "node".to_owned(),
        platform: Platform::new("linux", "amd64", ""),
    };
    match container_of(&task, &node, &BTreeMap::new(), Vec::new()) {
        Err(SpecError::Template(error)) => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// The spec of a task's container. `files` are mounts that the worker adds.
pub(super) fn container_of(
    task: &Task,
    node: &NodeFacts,
    networks: &BTreeMap<NetworkId, Arc<Network>>,
    files: Vec<MountSpec>,
) -> Result<ContainerSpec, SpecError> {
    let values = TaskValues { task, node };
    let fill = |text: &str| expand(text, &values);
    let wanted = &task.template.container;
    let mut mounts = wanted
        .mounts
        .iter()
        .map(|mount| fill_mount(mount, &fill))
        .collect::<Result<Vec<_>, TemplateError>>()?;
    mounts.extend(files);
    Ok(ContainerSpec {
        image: wanted.image.clone(),
        process: process(task, fill(&wanted.hostname)?, environment(task, node)?),
        labels: labels(task, node.id),
        resources: resources(&task.template),
        mounts,
        networking: networking(task, networks)?,
        security: security(wanted)?,
        health: wanted.health.clone(),
        logging: task.logging().cloned().unwrap_or_default(),
        restart: RestartPolicy::No,
        sysctls: wanted.sysctls.clone(),
        init: wanted.init,
        ..ContainerSpec::default()
    })
}

/// Time between the stop signal and SIGKILL.
pub(super) fn grace(task: &Task) -> Duration {
    task.template.container.stop_grace.unwrap_or(DEFAULT_GRACE)
}

/// The same in whole seconds, never less.
pub(super) fn grace_seconds(task: &Task) -> i64 {
    let grace = grace(task);
    let whole = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    i64::try_from(whole).unwrap_or(i64::MAX)
}

/// The environment of a task with its templates filled in.
pub(super) fn environment(task: &Task, node: &NodeFacts) -> Result<Vec<String>, TemplateError> {
    let values = TaskValues { task, node };
    let filled = task.template.container.env.iter().map(|entry| expand(entry, &values));
    let mut env = filled.collect::<Result<Vec<_>, _>>()?;
    let mut kinds: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (kind, resource) in &task.generic {
        kinds.entry(kind).or_default().push(match resource {
            GenericResource::Discrete(count) => count.to_string(),
            GenericResource::Named(name) => name.clone(),
        });
    }
    env.extend(
        kinds
            .into_iter()
            .map(|(kind, given)| format!("DOCKER_RESOURCE_{}={}", kind.to_uppercase(), given.join(","))),
    );
    Ok(env)
}

fn labels(task: &Task, node: NodeId) -> BTreeMap<String, String> {
    let mut labels = task.template.container.labels.clone();
    // The system's last: nobody may pretend to be another task.
    let system = [
        (LABEL_TASK, String::new()),
        (LABEL_TASK_ID, task.id.to_string()),
        (LABEL_TASK_NAME, task.name()),
        (LABEL_NODE_ID, node.to_string()),
        (LABEL_SERVICE_ID, task.service.to_string()),
        (LABEL_SERVICE_NAME, task.service_name.clone()),
    ];
    labels.extend(system.map(|(key, value)| (key.to_owned(), value)));
    labels
}

fn process(task: &Task, hostname: String, env: Vec<String>) -> ProcessSpec {
    let wanted = &task.template.container;
    let given = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    // A command replaces the whole invocation, so the image's arguments go with its entrypoint.
    let (entrypoint, cmd) = match given(&wanted.command) {
        Some(command) => (Some(command), Some(wanted.args.clone())),
        None => (None, given(&wanted.args)),
    };
    ProcessSpec {
        entrypoint,
        cmd,
        env,
        working_dir: wanted.working_dir.clone(),
        user: wanted.user.clone(),
        groups: wanted.groups.clone(),
        hostname,
        tty: wanted.tty,
        open_stdin: wanted.open_stdin,
        stop_signal: Some(wanted.stop_signal.clone()).filter(|signal| !signal.is_empty()),
        stop_timeout: Some(grace_seconds(task)),
        ..ProcessSpec::default()
    }
}

fn fill_mount(
    mount: &MountSpec,
    fill: &dyn Fn(&str) -> Result<String, TemplateError>,
) -> Result<MountSpec, TemplateError> {
    let fill_all = |texts: &BTreeMap<String, String>| {
        texts.iter().map(|(key, value)| Ok((key.clone(), fill(value)?))).collect::<Result<_, TemplateError>>()
    };
    let mut filled = mount.clone();
    filled.destination = fill(&mount.destination)?;
    match &mut filled.source {
        MountSource::Bind { path, .. } => *path = fill(path)?,
        MountSource::Volume { name, options, labels, .. } => {
            *name = fill(name)?;
            *options = fill_all(options)?;
            *labels = fill_all(labels)?;
        }
        MountSource::Tmpfs { .. } | MountSource::Image { .. } | MountSource::VolumesFrom { .. } => {}
    }
    Ok(filled)
}

fn resources(template: &TaskTemplate) -> Resources {
    let (wanted, container) = (&template.resources, &template.container);
    let memory_swap = match wanted.swap {
        Some(swap) if swap < 0 => -1,
        Some(swap) if wanted.limit_memory > 0 => wanted.limit_memory.saturating_add(swap),
        _ => 0,
    };
    Resources {
        nano_cpus: wanted.limit_nano_cpus,
        memory: wanted.limit_memory,
        memory_reservation: wanted.reserved_memory,
        memory_swap,
        memory_swappiness: wanted.swappiness.filter(|value| *value >= 0),
        pids_limit: Some(wanted.limit_pids).filter(|limit| *limit > 0),
        ulimits: container.ulimits.clone(),
        oom_score_adj: container.oom_score_adj,
        ..Resources::default()
    }
}

fn security(wanted: &ServiceContainer) -> Result<SecuritySpec, SpecError> {
    let none = ServicePrivileges::default();
    let privileges = wanted.privileges.as_ref().unwrap_or(&none);
    let seccomp = match privileges.seccomp.as_ref().map(|(mode, profile)| (mode.as_str(), profile)) {
        Some(("unconfined", _)) => SeccompChoice::Unconfined,
        Some(("custom", profile)) => {
            SeccompChoice::Custom(String::from_utf8(profile.clone()).map_err(|_| SpecError::Seccomp)?)
        }
        _ => SeccompChoice::DaemonDefault,
    };
    let selinux_labels = privileges.selinux.as_ref().map_or_else(Vec::new, |context| {
        let named = [
            ("user", &context.user),
            ("role", &context.role),
            ("type", &context.kind),
            ("level", &context.level),
        ];
        let named = named.into_iter().filter(|(_, value)| !value.is_empty());
        let disable = context.disable.then(|| "disable".to_owned());
        disable.into_iter().chain(named.map(|(key, value)| format!("{key}:{value}"))).collect()
    });
    Ok(SecuritySpec {
        cap_add: wanted.cap_add.clone(),
        cap_drop: wanted.cap_drop.clone(),
        readonly_rootfs: wanted.read_only,
        no_new_privileges: privileges.no_new_privileges.then_some(true),
        seccomp,
        apparmor: privileges
            .apparmor
            .as_deref()
            .filter(|mode| *mode == "disabled")
            .map(|_| "unconfined".to_owned()),
        selinux_labels,
        ..SecuritySpec::default()
    })
}

fn networking(
    task: &Task,
    networks: &BTreeMap<NetworkId, Arc<Network>>,
) -> Result<NetworkingSpec, SpecError> {
    let wanted = &task.template.container;
    let mut mode = None;
    let mut endpoints = BTreeMap::new();
    for attachment in &task.networks {
        let network = networks
            .get(&attachment.network)
            .ok_or_else(|| SpecError::NoSuchNetwork(attachment.network.clone()))?;
        let (of_network, endpoint) = attach(task, attachment, network)?;
        if let Some(endpoint) = endpoint {
            endpoints.insert(network.spec.name.clone(), endpoint);
        }
        mode.get_or_insert(of_network);
    }
    let host_ports = task.endpoint.ports.iter().filter(|port| port.mode == PublishMode::Host);
    let published = host_ports.map(|port| PortPublish {
        container_port: PortSpec { port: port.target, protocol: port.protocol },
        host_ip: None,
        host_ports: (port.published != 0).then_some((port.published, port.published)),
    });
    Ok(NetworkingSpec {
        mode: mode.unwrap_or_default(),
        endpoints,
        published: published.collect(),
        dns_servers: wanted.dns_servers.clone(),
        dns_options: wanted.dns_options.clone(),
        dns_search: wanted.dns_search.clone(),
        extra_hosts: wanted.hosts.iter().flat_map(|line| hosts(line)).collect(),
        ..NetworkingSpec::default()
    })
}

/// How a container is in one network of its task.
fn attach(
    task: &Task,
    attachment: &TaskAttachment,
    network: &Network,
) -> Result<(NetworkMode, Option<EndpointSpec>), SpecError> {
    Ok(match (network.spec.name.as_str(), network.spec.driver.as_str()) {
        ("host", _) | (_, "host") => (NetworkMode::Host, None),
        ("none", _) | (_, "null") => (NetworkMode::None, None),
        ("bridge", _) => (NetworkMode::DefaultBridge, None),
        // Its names are told to every node by the managers, and its address is the one that they have given.
        (name, OVERLAY_DRIVER) => {
            let driver_options = attachment.driver_options.clone();
            let endpoint = EndpointSpec {
                ipv4_address: attachment.addresses.iter().find_map(|net| match net.addr() {
                    IpAddr::V4(address) => Some(address),
                    IpAddr::V6(_) => None,
                }),
                ipv6_address: attachment.addresses.iter().find_map(|net| match net.addr() {
                    IpAddr::V6(address) => Some(address),
                    IpAddr::V4(_) => None,
                }),
                driver_options,
                ..EndpointSpec::default()
            };
            (NetworkMode::Network(name.to_owned()), Some(endpoint))
        }
        (name, _) => {
            let mut aliases = attachment.aliases.clone();
            if !aliases.contains(&task.service_name) {
                aliases.push(task.service_name.clone());
            }
            let driver_options = attachment.driver_options.clone();
            let endpoint = EndpointSpec { aliases, driver_options, ..EndpointSpec::default() };
            (NetworkMode::Network(name.to_owned()), Some(endpoint))
        }
    })
}

/// A line of /etc/hosts, `address name...`, as the pairs `name:address` that containers take.
fn hosts(line: &str) -> Vec<String> {
    let mut words = line.split_whitespace();
    let Some(address) = words.next() else { return Vec::new() };
    words.map(|name| format!("{name}:{address}")).collect()
}

#[cfg(test)]
mod tests;
