//! Whether what users ask for makes sense by itself. What it means beside other objects is checked by the file of its noun.
//!
//! Start reading at [`service`]. Pure; texts are swarm's (spec/swarm.md sections 6 and 17).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shoal_types::cluster::secret::{ConfigReference, FileTarget};
use shoal_types::cluster::service::{
    EndpointSpec, PublishMode, ResolutionMode, ServiceContainer, ServiceMode, ServiceResources, ServiceSpec,
    UpdatePolicy,
};
use shoal_types::container::health::HealthSpec;
use shoal_types::container::mounts::MountSource;
use shoal_types::image_ref::ImageRef;

use super::refusal::Code;
use crate::error::ClusterError;
use crate::scheduler::constraint;

/// Longest name of a service.
const LONGEST_NAME: usize = 63;
/// Longest name of a secret or config.
const LONGEST_FILE_NAME: usize = 64;
/// Smallest share of a processor, in billionths.
const LEAST_NANO_CPUS: i64 = 1_000_000;
/// Smallest amount of memory.
const LEAST_MEMORY: i64 = 4 << 20;
/// Shortest time of a health check that is not zero.
const SHORTEST_PROBE: Duration = Duration::from_millis(1);

fn invalid(text: impl std::fmt::Display) -> ClusterError {
    Code::InvalidArgument.refuse(text)
}

/// Whether a service's spec makes sense.
pub(super) fn service(spec: &ServiceSpec) -> Result<(), ClusterError> {
    service_name(&spec.name)?;
    container(&spec.template.container)?;
    resources(&spec.template.resources)?;
    constraint::parse_all(&spec.template.placement.constraints)
        .map_err(|error| Code::Unknown.refuse(error))?;
    mode(&spec.mode)?;
    if spec.mode.is_job() && (spec.update.is_some() || spec.rollback.is_some()) {
        return Err(invalid("Jobs may not have an update config"));
    }
    spec.update.iter().chain(&spec.rollback).try_for_each(update_policy)?;
    endpoint(&spec.endpoint)?;
    let container = &spec.template.container;
    credentials_of_windows(container)?;
    file_targets(
        "secret",
        container.secrets.iter().map(|reference| (reference.name.as_str(), Some(&reference.target))),
    )?;
    file_targets(
        "config",
        container.configs.iter().map(|reference| (reference.name.as_str(), reference.target.as_ref())),
    )
}

/// Numbers that do not fit Docker's own are not taken at their word: they come from a difference that went below zero.
fn mode(mode: &ServiceMode) -> Result<(), ClusterError> {
    let is_negative = |number: u64| i64::try_from(number).is_err();
    match *mode {
        ServiceMode::Replicated { replicas } if is_negative(replicas) => {
            Err(invalid("Number of replicas must be non-negative"))
        }
        ServiceMode::ReplicatedJob { max_concurrent, .. } if is_negative(max_concurrent) => {
            Err(invalid("Maximum concurrent jobs must not be negative"))
        }
        ServiceMode::ReplicatedJob { total_completions, .. } if is_negative(total_completions) => {
            Err(invalid("Total completed jobs must not be negative"))
        }
        _ => Ok(()),
    }
}

/// Letters and digits with single or repeated `-` and `_` between them, as a part of a DNS name.
fn service_name(name: &str) -> Result<(), ClusterError> {
    if name.is_empty() {
        return Err(invalid("meta: name must be provided"));
    }
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let is_name = is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !is_name {
        return Err(invalid("name must be valid as a DNS name component"));
    }
    if name.len() > LONGEST_NAME {
        return Err(invalid(format_args!("name must be {LONGEST_NAME} characters or fewer")));
    }
    Ok(())
}

/// Whether a secret or config may be called so.
pub(super) fn file_name(name: &str) -> Result<(), ClusterError> {
    if name.is_empty() {
        return Err(invalid("name must be provided"));
    }
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let is_name = bytes.len() <= LONGEST_FILE_NAME
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    match is_name {
        true => Ok(()),
        false => Err(invalid(format_args!(
            "invalid name, only {LONGEST_FILE_NAME} [a-zA-Z0-9-_.] characters allowed, and the start and end character \
             must be [a-zA-Z0-9]"
        ))),
    }
}

fn container(container: &ServiceContainer) -> Result<(), ClusterError> {
    if container.image.is_empty() {
        return Err(invalid("ContainerSpec: image reference must be provided"));
    }
    if ImageRef::parse(&container.image).is_err() {
        return Err(invalid(format_args!(
            "ContainerSpec: {:?} is not a valid repository/tag",
            container.image
        )));
    }
    let mut destinations = BTreeSet::new();
    for mount in &container.mounts {
        if !destinations.insert(mount.destination.as_str()) {
            return Err(invalid(format_args!("ContainerSpec: duplicate mount point: {}", mount.destination)));
        }
        // A template may become an absolute path on its node.
        if let MountSource::Bind { path, .. } = &mount.source
            && !path.starts_with('/')
            && !path.contains("{{")
        {
            return Err(invalid(format_args!("invalid bind mount source, must be an absolute path: {path}")));
        }
    }
    container.health.as_ref().map_or(Ok(()), health)
}

/// Whether a config that holds Windows' credentials is among the service's, as swarm wants it.
fn credentials_of_windows(container: &ServiceContainer) -> Result<(), ClusterError> {
    let named = container.privileges.as_ref().and_then(|privileges| privileges.credential_spec.as_ref());
    let Some((_, config)) = named.filter(|(kind, _)| kind == "Config") else { return Ok(()) };
    let is_there =
        |reference: &ConfigReference| reference.target.is_none() && reference.id.to_string() == *config;
    match container.configs.iter().any(is_there) {
        true => Ok(()),
        false => Err(invalid(format_args!(
            "CredentialSpec references config '{config}', but that config isn't in config references with RuntimeTarget"
        ))),
    }
}

fn health(health: &HealthSpec) -> Result<(), ClusterError> {
    let times = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    match times.iter().find(|(_, time)| !time.is_zero() && *time < SHORTEST_PROBE) {
        None => Ok(()),
        Some((name, _)) => {
            Err(invalid(format_args!("ContainerSpec: {name} in HealthConfig cannot be less than 1ms")))
        }
    }
}

fn resources(resources: &ServiceResources) -> Result<(), ClusterError> {
    for nano_cpus in [resources.limit_nano_cpus, resources.reserved_nano_cpus] {
        if nano_cpus != 0 && nano_cpus < LEAST_NANO_CPUS {
            return Err(invalid(format_args!(
                "invalid cpu value {}: Must be at least 0.001",
                decimal(nano_cpus)
            )));
        }
    }
    for memory in [resources.limit_memory, resources.reserved_memory] {
        if memory != 0 && memory < LEAST_MEMORY {
            return Err(invalid(format_args!("invalid memory value {memory}: Must be at least 4MiB")));
        }
    }
    Ok(())
}

/// Billionths as a decimal number, the way Go's `%g` writes them.
fn decimal(billionths: i64) -> String {
    let value = billionths as f64 / 1e9;
    if value != 0.0 && value.abs() < 1e-4 {
        let text = format!("{value:e}");
        // Go writes at least two digits of the exponent.
        match text.split_once("e-") {
            Some((digits, exponent)) if exponent.len() == 1 => format!("{digits}e-0{exponent}"),
            _ => text,
        }
    } else {
        value.to_string()
    }
}

fn update_policy(policy: &UpdatePolicy) -> Result<(), ClusterError> {
    match (0.0..=1.0).contains(&policy.max_failure_ratio) {
        true => Ok(()),
        false => Err(invalid("TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1")),
    }
}

fn endpoint(endpoint: &EndpointSpec) -> Result<(), ClusterError> {
    let mut published = BTreeSet::new();
    for port in &endpoint.ports {
        if endpoint.resolution == ResolutionMode::Dnsrr && port.mode == PublishMode::Ingress {
            return Err(invalid(
                "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
            ));
        }
        if port.published != 0 && !published.insert((port.published, port.protocol)) {
            return Err(invalid("EndpointSpec: duplicate published ports provided"));
        }
    }
    Ok(())
}

/// Whether no two files of a container have one place.
fn file_targets<'a>(
    kind: &str,
    references: impl Iterator<Item = (&'a str, Option<&'a FileTarget>)>,
) -> Result<(), ClusterError> {
    let mut targets: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, target) in references {
        let Some(target) = target else { continue };
        if target.path.is_empty() {
            return Err(invalid(format_args!(
                "malformed file {kind} reference, invalid target file name provided"
            )));
        }
        if let Some(other) = targets.insert(&target.path, name) {
            return Err(invalid(format_args!(
                "{kind} references '{other}' and '{name}' have a conflicting target: '{}'",
                target.path
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shoal_types::cluster::service::{PublishedServicePort, ServicePrivileges};
    use shoal_types::container::networking::Protocol;

    use super::*;
    use crate::fixtures;

    const PREFIX: &str = "rpc error: code = InvalidArgument desc = ";

    fn refusal(change: impl FnOnce(&mut ServiceSpec)) -> String {
        let mut spec = fixtures::service(1, 1).spec;
        change(&mut spec);
        service(&spec).map_or_else(|error| error.to_string(), |()| String::new())
    }

    fn port(published: u16, mode: PublishMode) -> PublishedServicePort {
        PublishedServicePort { name: String::new(), protocol: Protocol::Tcp, target: 80, published, mode }
    }

    #[test]
    fn a_plain_service_is_accepted() {
        assert_eq!(refusal(|_| {}), "");
        assert_eq!(refusal(|spec| spec.name = "a-b_c--d9".to_owned()), "");
        assert_eq!(refusal(|spec| spec.name = "a".repeat(63)), "");
    }

    #[test]
    fn nonsense_is_refused_in_swarms_words() {
        type Change = fn(&mut ServiceSpec);
        let cases: [(Change, &str); 14] = [
            (|spec| spec.name = "-a".to_owned(), "name must be valid as a DNS name component"),
            (|spec| spec.name = "a.b".to_owned(), "name must be valid as a DNS name component"),
            (|spec| spec.name = "a".repeat(64), "name must be 63 characters or fewer"),
            (|spec| spec.template.container.image.clear(), "ContainerSpec: image reference must be provided"),
            (
                |spec| spec.template.container.image = "Bad Image".to_owned(),
                "ContainerSpec: \"Bad Image\" is not a valid repository/tag",
            ),
            (
                |spec| spec.template.resources.limit_nano_cpus = 100,
                "invalid cpu value 1e-07: Must be at least 0.001",
            ),
            (
                |spec| spec.template.resources.reserved_memory = 1024,
                "invalid memory value 1024: Must be at least 4MiB",
            ),
            (
                |spec| {
                    spec.template.container.health =
                        Some(HealthSpec { interval: Duration::from_micros(1), ..HealthSpec::default() });
                },
                "ContainerSpec: Interval in HealthConfig cannot be less than 1ms",
            ),
            (
                |spec| {
                    spec.endpoint.resolution = ResolutionMode::Dnsrr;
                    spec.endpoint.ports.push(port(80, PublishMode::Ingress));
                },
                "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
            ),
            (
                |spec| {
                    spec.endpoint.ports =
                        vec![port(80, PublishMode::Ingress), port(80, PublishMode::Ingress)];
                },
                "EndpointSpec: duplicate published ports provided",
            ),
            (
                |spec| {
                    spec.mode = ServiceMode::GlobalJob;
                    spec.update = Some(UpdatePolicy::default());
                },
                "Jobs may not have an update config",
            ),
            (
                |spec| {
                    spec.update = Some(UpdatePolicy { max_failure_ratio: 1.5, ..UpdatePolicy::default() });
                },
                "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
            ),
            (|spec| spec.name.clear(), "meta: name must be provided"),
            (
                |spec| spec.template.resources.reserved_nano_cpus = 500_000,
                "invalid cpu value 0.0005: Must be at least 0.001",
            ),
        ];
        for (change, text) in cases {
            assert_eq!(refusal(change), format!("{PREFIX}{text}"));
        }
    }

    #[test]
    fn modes_and_credentials_that_cannot_be_are_refused_in_swarms_words() {
        type Change = fn(&mut ServiceSpec);
        let cases: [(Change, &str); 4] = [
            (
                |spec| {
                    let credential_spec = Some(("Config".to_owned(), "x".to_owned()));
                    spec.template.container.privileges =
                        Some(ServicePrivileges { credential_spec, ..ServicePrivileges::default() });
                },
                "CredentialSpec references config 'x', but that config isn't in config references with RuntimeTarget",
            ),
            (
                |spec| spec.mode = ServiceMode::Replicated { replicas: u64::MAX },
                "Number of replicas must be non-negative",
            ),
            (
                |spec| {
                    spec.mode = ServiceMode::ReplicatedJob { max_concurrent: u64::MAX, total_completions: 1 };
                },
                "Maximum concurrent jobs must not be negative",
            ),
            (
                |spec| {
                    spec.mode = ServiceMode::ReplicatedJob { max_concurrent: 1, total_completions: u64::MAX };
                },
                "Total completed jobs must not be negative",
            ),
        ];
        for (change, text) in cases {
            assert_eq!(refusal(change), format!("{PREFIX}{text}"));
        }
    }

    #[test]
    fn a_constraint_that_is_none_is_an_unknown_failure_as_in_swarm() {
        assert_eq!(
            refusal(|spec| spec.template.placement.constraints.push("node.role=worker".to_owned())),
            "rpc error: code = Unknown desc = constraint expected one operator from ==, !="
        );
    }

    #[test]
    fn names_of_files_are_checked() {
        for name in ["a", "a.b", "A-9", "a__b"] {
            assert!(file_name(name).is_ok(), "{name}");
        }
        for name in ["", ".a", "a.", "a b", "ä", &"a".repeat(65)] {
            assert!(file_name(name).is_err(), "{name}");
        }
    }
}
