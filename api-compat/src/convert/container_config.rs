//! The part of a container that does not depend on the host: process and health check, both ways.
//!
//! Start reading at [`process`] and [`health`]; [`lay_over`] is the way back.

use std::time::Duration;

use shoal_types::container::health::{HealthSpec, HealthTest};
use shoal_types::container::mounts::{MountOrigin, MountSource};
use shoal_types::container::spec::{ContainerSpec, ProcessSpec};

use crate::error::ApiError;
use crate::model::container_config::{ContainerConfig, HealthConfig};
use crate::model::{Empty, Set};

/// Longest host name that the kernel takes.
const MAX_HOSTNAME: usize = 64;
/// Shortest duration of a health check.
const MIN_HEALTH_DURATION: i64 = 1_000_000;

/// The process that a configuration describes.
pub(crate) fn process(config: &ContainerConfig) -> Result<ProcessSpec, ApiError> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(ApiError::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if config.hostname.len() > MAX_HOSTNAME {
        return Err(ApiError::invalid(format!(
            "hostname {:?} is too long (maximum {MAX_HOSTNAME} bytes)",
            config.hostname
        )));
    }
    if let Some(wrong) = config.env.iter().flatten().find(|variable| variable.split('=').next() == Some("")) {
        return Err(ApiError::invalid(format!("invalid environment variable: {wrong}")));
    }
    Ok(ProcessSpec {
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        shell: config.shell.clone().filter(|shell| !shell.is_empty()),
        env: config.env.clone().unwrap_or_default(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        groups: Vec::new(),
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        tty: config.tty,
        console_size: None,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        stop_signal: Some(config.stop_signal.clone()).filter(|signal| !signal.is_empty()),
        stop_timeout: config.stop_timeout,
    })
}

/// The health check that a configuration describes.
pub(crate) fn health(config: &HealthConfig) -> Result<HealthSpec, ApiError> {
    let duration = |name: &str, nanoseconds: i64| match u64::try_from(nanoseconds) {
        Ok(0) => Ok(Duration::ZERO),
        Ok(span) if nanoseconds >= MIN_HEALTH_DURATION => Ok(Duration::from_nanos(span)),
        _ => Err(ApiError::invalid(format!("{name} in Healthcheck cannot be less than 1ms"))),
    };
    Ok(HealthSpec {
        test: health_test(config.test.as_deref().unwrap_or_default())?,
        interval: duration("Interval", config.interval)?,
        timeout: duration("Timeout", config.timeout)?,
        start_period: duration("StartPeriod", config.start_period)?,
        start_interval: duration("StartInterval", config.start_interval)?,
        retries: u32::try_from(config.retries)
            .map_err(|_| ApiError::invalid("Retries in Healthcheck cannot be negative"))?,
    })
}

pub(super) fn health_test(test: &[String]) -> Result<Option<HealthTest>, ApiError> {
    let Some((kind, args)) = test.split_first() else { return Ok(None) };
    match kind.as_str() {
        "" if args.is_empty() => Ok(None),
        "NONE" => Ok(Some(HealthTest::Disabled)),
        "CMD" => Ok(Some(HealthTest::Command(args.to_vec()))),
        "CMD-SHELL" => Ok(Some(HealthTest::Shell(args.first().cloned().unwrap_or_default()))),
        other => Err(ApiError::invalid(format!(
            "unknown type '{other}' in Healthcheck; use one of 'NONE', 'CMD', or 'CMD-SHELL'"
        ))),
    }
}

/// Lays what the spec says over what was asked for: the image's configuration has been merged into the spec.
pub(crate) fn lay_over(config: &mut ContainerConfig, spec: &ContainerSpec) {
    let process = &spec.process;
    config.hostname.clone_from(&process.hostname);
    config.domainname.clone_from(&process.domainname);
    config.user.clone_from(&process.user);
    config.tty = process.tty;
    config.open_stdin = process.open_stdin;
    config.stdin_once = process.stdin_once;
    config.cmd = process.cmd.clone().filter(|cmd| !cmd.is_empty() || config.cmd.is_some());
    config.entrypoint = process.entrypoint.clone().filter(|list| !list.is_empty());
    config.working_dir.clone_from(&process.working_dir);
    if !process.env.is_empty() || config.env.is_some() {
        config.env = Some(process.env.clone());
    }
    if process.shell.is_some() {
        config.shell.clone_from(&process.shell);
    }
    config.stop_signal = process.stop_signal.clone().unwrap_or_default();
    config.stop_timeout = process.stop_timeout;
    config.image.clone_from(&spec.image);
    config.labels = Some(spec.labels.clone());
    config.network_disabled = spec.networking.disabled;
    config.healthcheck = spec.health.as_ref().map(shown_health);
    if !spec.on_build.is_empty() {
        config.on_build = Some(spec.on_build.clone());
    }
    let exposed: Set =
        spec.networking.exposed.iter().map(|port| (port.to_string(), Empty::default())).collect();
    config.exposed_ports = Some(exposed).filter(|set| !set.is_empty());
    let declared = spec.mounts.iter().filter(|mount| {
        mount.origin == MountOrigin::Declared && matches!(mount.source, MountSource::Volume { .. })
    });
    let declared: Set = declared.map(|mount| (mount.destination.clone(), Empty::default())).collect();
    if !declared.is_empty() {
        config.volumes = Some(declared);
    }
}

pub(super) fn shown_health(health: &HealthSpec) -> HealthConfig {
    let nanoseconds = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    HealthConfig {
        test: health.test.as_ref().map(|test| match test {
            HealthTest::Disabled => vec!["NONE".to_owned()],
            HealthTest::Command(args) => {
                std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect()
            }
            HealthTest::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        }),
        interval: nanoseconds(health.interval),
        timeout: nanoseconds(health.timeout),
        start_period: nanoseconds(health.start_period),
        start_interval: nanoseconds(health.start_interval),
        retries: i64::from(health.retries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_checks_go_both_ways() {
        let config = HealthConfig {
            test: Some(vec!["CMD-SHELL".into(), "true".into()]),
            interval: 1_000_000_000,
            timeout: 0,
            start_period: 5_000_000,
            start_interval: 0,
            retries: 3,
        };
        assert_eq!(shown_health(&health(&config).unwrap()), config);
    }

    #[test]
    fn wrong_health_checks_are_refused_with_dockers_texts() {
        let interval = HealthConfig { interval: 100, ..HealthConfig::default() };
        let negative = HealthConfig { start_period: -1, ..HealthConfig::default() };
        let retries = HealthConfig { retries: -1, ..HealthConfig::default() };
        let kind = HealthConfig { test: Some(vec!["SHELL".into()]), ..HealthConfig::default() };
        for (config, message) in [
            (interval, "Interval in Healthcheck cannot be less than 1ms"),
            (negative, "StartPeriod in Healthcheck cannot be less than 1ms"),
            (retries, "Retries in Healthcheck cannot be negative"),
            (kind, "unknown type 'SHELL' in Healthcheck; use one of 'NONE', 'CMD', or 'CMD-SHELL'"),
        ] {
            assert_eq!(health(&config).unwrap_err().message(), message);
        }
    }
}
