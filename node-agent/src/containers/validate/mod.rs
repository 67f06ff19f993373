//! PURE. What a spec must satisfy before anything is made of it.
//!
//! Start reading at [`check`]; `resources.rs` knows the limits of the kernel, `networking.rs` which modes exclude each
//! other, `logging.rs` the log drivers' options. The texts are Docker's: clients and tests compare them. A wish that the
//! kernel cannot meet and that is only a limit becomes a warning and is dropped.

mod logging;
mod networking;
mod resources;

use std::time::Duration;

use shoal_types::container::health::HealthSpec;
use shoal_types::container::mounts::{MountAccess, MountSource, MountSpec};
use shoal_types::container::networking::NetworkMode;
use shoal_types::container::restart::RestartPolicy;
use shoal_types::container::security::{CgroupMode, NamespacesSpec, PidMode, SecuritySpec, UserMode};
use shoal_types::container::spec::{ContainerSpec, ProcessSpec};

pub(crate) use self::resources::Occasion;
use super::config::{CgroupDriver, EngineConfig};
use super::host::Host;
use super::{paths, signal};
use crate::error::NodeError;
use crate::runtime::capabilities;

/// Longest host name (HOST_NAME_MAX of Linux).
const MAX_HOSTNAME_LEN: usize = 64;
/// Shortest duration of a health check that makes sense.
const SHORTEST_DURATION: Duration = Duration::from_millis(1);

/// Checks a spec as the client sent it, drops what the kernel cannot do, and returns warnings.
pub(crate) fn check(
    spec: &mut ContainerSpec,
    config: &EngineConfig,
    host: &Host,
) -> Result<Vec<String>, NodeError> {
    check_process(&mut spec.process)?;
    if let Some(health) = &spec.health {
        check_health(health)?;
    }
    if spec.auto_remove && spec.restart != RestartPolicy::No {
        return Err(NodeError::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    check_security(&spec.security)?;
    if spec.annotations.contains_key("") {
        return Err(NodeError::invalid(
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ));
    }
    for mount in &spec.mounts {
        check_mount(mount)?;
    }
    let mut warnings = resources::check(&mut spec.resources, host, Occasion::Create)?;
    check_platform(spec, config)?;
    warnings.extend(networking::check(spec, host)?);
    check_user_namespace(spec, config)?;
    warnings.extend(check_namespaces(&mut spec.namespaces, host));
    logging::check(&spec.logging, config)?;
    Ok(warnings)
}

/// Checks new limits of a container that exists.
pub(crate) fn check_update(
    resources: &mut shoal_types::container::resources::Resources,
    host: &Host,
) -> Result<Vec<String>, NodeError> {
    resources::check(resources, host, Occasion::Update)
}

fn check_process(process: &mut ProcessSpec) -> Result<(), NodeError> {
    if !process.working_dir.is_empty() {
        if !process.working_dir.starts_with('/') {
            return Err(NodeError::invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                process.working_dir
            )));
        }
        process.working_dir = paths::clean(&process.working_dir);
    }
    if process.hostname.len() > MAX_HOSTNAME_LEN {
        return Err(NodeError::invalid(format!(
            "hostname {:?} is too long (maximum {MAX_HOSTNAME_LEN} bytes)",
            process.hostname
        )));
    }
    if let Some(name) = process.stop_signal.as_deref().filter(|name| !name.is_empty()) {
        signal::parse(name)?;
    }
    for variable in &process.env {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(NodeError::invalid(format!("invalid environment variable: {variable}")));
        }
    }
    Ok(())
}

fn check_health(health: &HealthSpec) -> Result<(), NodeError> {
    let durations = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    for (name, duration) in durations {
        if !duration.is_zero() && duration < SHORTEST_DURATION {
            return Err(NodeError::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    Ok(())
}

fn check_security(security: &SecuritySpec) -> Result<(), NodeError> {
    for (field, names) in [("CapAdd", &security.cap_add), ("CapDrop", &security.cap_drop)] {
        if let Err(unknown) = capabilities::normalize(names) {
            return Err(NodeError::invalid(format!("invalid {field}: unknown capability: \"{unknown}\"")));
        }
    }
    Ok(())
}

fn check_mount(mount: &MountSpec) -> Result<(), NodeError> {
    if matches!(mount.source, MountSource::VolumesFrom { .. }) {
        return Ok(());
    }
    if !mount.destination.starts_with('/') {
        return Err(NodeError::invalid(format!(
            "invalid mount path: '{}' mount path must be absolute",
            mount.destination
        )));
    }
    if paths::clean(&mount.destination) == "/" {
        return Err(NodeError::invalid("invalid specification: destination can't be '/'"));
    }
    let is_bind = matches!(mount.source, MountSource::Bind { .. });
    if mount.access == MountAccess::ReadOnlyForceRecursive && !is_bind {
        return Err(NodeError::invalid("only bind mounts can be forced to be read-only recursively"));
    }
    Ok(())
}

fn check_platform(spec: &ContainerSpec, config: &EngineConfig) -> Result<(), NodeError> {
    let oom_score_adj = spec.resources.oom_score_adj;
    if !(-1000..=1000).contains(&oom_score_adj) {
        return Err(NodeError::invalid(format!(
            "Invalid value {oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )));
    }
    let parent = &spec.resources.cgroup_parent;
    let is_slice = parent.len() > ".slice".len() && parent.ends_with(".slice");
    if config.cgroup_driver == CgroupDriver::Systemd && !parent.is_empty() && !is_slice {
        return Err(NodeError::invalid(
            "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"",
        ));
    }
    if let Some(name) = spec.runtime.as_deref().filter(|name| !name.is_empty())
        && config.runtime(name).is_none()
    {
        return Err(NodeError::invalid(format!("unknown or invalid runtime name: {name}")));
    }
    Ok(())
}

/// A user namespace has no rights over what is the host's.
fn check_user_namespace(spec: &mut ContainerSpec, config: &EngineConfig) -> Result<(), NodeError> {
    if config.ids.is_identity() {
        // Both are the same, and stay so should the daemon be told to map ids later.
        spec.namespaces.user = UserMode::DaemonDefault;
    }
    if config.ids.is_identity() || spec.namespaces.user == UserMode::Host {
        return Ok(());
    }
    let refused = [
        (
            spec.security.privileged,
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        ),
        (
            spec.networking.mode == NetworkMode::Host,
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (
            spec.namespaces.pid == PidMode::Host,
            "cannot share the host PID namespace when user namespaces are enabled",
        ),
    ];
    match refused.into_iter().find(|(applies, _)| *applies) {
        Some((_, message)) => Err(NodeError::invalid(message)),
        None => Ok(()),
    }
}

/// A namespace that the kernel lacks is dropped with a warning.
fn check_namespaces(namespaces: &mut NamespacesSpec, host: &Host) -> Vec<String> {
    if namespaces.cgroup == Some(CgroupMode::Private) && !host.cgroup_namespaces {
        namespaces.cgroup = Some(CgroupMode::Host);
        return vec![
            "Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.".to_owned(),
        ];
    }
    Vec::new()
}

#[cfg(test)]
mod tests;
