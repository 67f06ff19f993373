//! What the settings mean: one typed value for everything that the parts of the daemon are built from.
//!
//! Start reading at [`Config`]. Defaults stand here and with the parts (`containers.rs`, `listeners.rs`, `networks.rs`,
//! `registries.rs`, `swarm.rs`). Checks that need the machine (does a file exist, is an address ours) are made by whoever
//! uses the value.

use std::collections::BTreeMap;
use std::path::PathBuf;

use node_agent::userns::IdMapping;
use serde_json::Value;

use super::containers::{ContainerDefaults, container_defaults};
use super::listeners::{HostAddress, TlsSettings, hosts, tls};
use super::networks::{NetworkSettings, network_settings};
use super::registries::{RegistrySettings, registry_settings};
use super::swarm::{SwarmSettings, swarm_settings};
use super::{ConfigError, Settings};

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// The configuration file, read again at SIGHUP.
    pub(crate) file: PathBuf,
    /// Where to listen, in the order given, without repetition.
    pub(crate) hosts: Vec<HostAddress>,
    /// TLS of TCP listeners.
    pub(crate) tls: TlsSettings,
    /// Group of the unix socket.
    pub(crate) group: String,
    /// File with the process id.
    pub(crate) pidfile: PathBuf,
    /// Directory of persistent state.
    pub(crate) data_root: PathBuf,
    /// Directory of state that a reboot ends.
    pub(crate) exec_root: PathBuf,
    /// Whom containers are remapped to, as it was asked for; empty is nobody.
    pub(crate) userns_remap: String,
    /// How ids in containers are those of the host; the identity until [`Config::remapped`].
    pub(crate) ids: IdMapping,
    /// How much is logged.
    pub(crate) log_level: LogLevel,
    /// In what form.
    pub(crate) log_format: LogFormat,
    /// Whether colours are left out.
    pub(crate) raw_logs: bool,
    /// Whether debugging was asked for.
    pub(crate) debug: bool,
    /// Whether experimental features are on.
    pub(crate) experimental: bool,
    /// Oldest API version that is served.
    pub(crate) min_api_version: (u16, u16),
    /// Labels of the daemon.
    pub(crate) labels: Vec<String>,
    /// Plugins that decide about requests, in the order in which they are asked.
    pub(crate) authorization_plugins: Vec<String>,
    /// Where figures are served; `None` is nowhere.
    pub(crate) metrics_address: Option<String>,
    /// Feature switches.
    pub(crate) features: BTreeMap<String, bool>,
    /// Seconds that a shutdown may take; negative is without limit.
    pub(crate) shutdown_timeout: i64,
    /// Defaults of containers.
    pub(crate) containers: ContainerDefaults,
    /// Networks.
    pub(crate) network: NetworkSettings,
    /// Registries.
    pub(crate) registries: RegistrySettings,
    /// This machine as a node of a cluster.
    pub(crate) swarm: SwarmSettings,
    /// What all of this was made of.
    settings: Settings,
    /// What was set although it means nothing here, with the reason.
    pub(crate) ignored: Vec<(&'static str, &'static str)>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    /// Everything.
    Debug,
    /// Changes of state.
    Info,
    /// What is odd.
    Warn,
    /// What somebody must look at.
    Error,
}

/// In what form is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object for each line.
    Json,
}

impl Config {
    /// This configuration with what another one says about everything that may change while the daemon runs.
    pub(crate) fn reloaded(&self, wanted: &Self) -> Result<Self, ConfigError> {
        let next = Self::from_settings(&self.settings.reloaded(&wanted.settings), self.file.clone())?;
        Ok(next.remapped(self.ids.clone()))
    }

    /// This configuration for containers with these ids: what they own lies apart from what others own, as dockerd keeps
    /// it, so that a change of the setting finds what it had before.
    pub(crate) fn remapped(mut self, ids: IdMapping) -> Self {
        if !ids.is_identity() {
            let (uid, gid) = ids.root();
            let own = format!("{uid}.{gid}");
            self.data_root.push(&own);
            self.exec_root.push(own);
        }
        Self { ids, ..self }
    }

    /// Makes sense of settings.
    pub(super) fn from_settings(settings: &Settings, file: PathBuf) -> Result<Self, ConfigError> {
        let debug = settings.bool("debug").unwrap_or(false);
        check_storage(settings)?;
        check_exec_options(settings)?;
        Ok(Self {
            file,
            hosts: hosts(settings)?,
            tls: tls(settings),
            group: settings.get("group").and_then(Value::as_str).unwrap_or(super::DEFAULT_GROUP).to_owned(),
            pidfile: path(settings, "pidfile", "/run/shoal.pid"),
            data_root: path(settings, "data-root", "/var/lib/shoal"),
            exec_root: path(settings, "exec-root", "/run/shoal"),
            userns_remap: settings.text("userns-remap").unwrap_or_default().to_owned(),
            ids: IdMapping::default(),
            log_level: if debug { LogLevel::Debug } else { log_level(settings)? },
            log_format: match settings.text("log-format") {
                None | Some("text") => LogFormat::Text,
                Some("json") => LogFormat::Json,
                Some(other) => return Err(ConfigError::value(format!("invalid log format: {other}"))),
            },
            raw_logs: settings.bool("raw-logs").unwrap_or(false),
            debug,
            experimental: settings.bool("experimental").unwrap_or(false),
            min_api_version: min_api_version(settings)?,
            labels: labels(settings)?,
            authorization_plugins: each_once(settings.list("authorization-plugins")),
            metrics_address: settings.text("metrics-addr").filter(|a| !a.is_empty()).map(str::to_owned),
            features: features(settings)?,
            shutdown_timeout: settings.int("shutdown-timeout").unwrap_or(15),
            containers: container_defaults(settings)?,
            network: network_settings(settings)?,
            registries: registry_settings(settings)?,
            swarm: swarm_settings(settings)?,
            ignored: settings.ignored(),
            settings: settings.clone(),
        })
    }
}

fn path(settings: &Settings, name: &str, default: &str) -> PathBuf {
    PathBuf::from(settings.text(name).unwrap_or(default))
}

/// The texts without repetitions, in their order.
fn each_once(texts: Vec<String>) -> Vec<String> {
    let mut once = Vec::with_capacity(texts.len());
    for text in texts {
        if !once.contains(&text) {
            once.push(text);
        }
    }
    once
}

fn log_level(settings: &Settings) -> Result<LogLevel, ConfigError> {
    match settings.text("log-level").unwrap_or("info") {
        "debug" | "trace" => Ok(LogLevel::Debug),
        "info" => Ok(LogLevel::Info),
        "warn" | "warning" => Ok(LogLevel::Warn),
        "error" | "fatal" | "panic" => Ok(LogLevel::Error),
        other => Err(ConfigError::value(format!("unable to parse logging level: {other}"))),
    }
}

/// Oldest version that Shoal can speak; also the default, so that old clients keep working.
const OLDEST_API_VERSION: (u16, u16) = (1, 24);

fn min_api_version(settings: &Settings) -> Result<(u16, u16), ConfigError> {
    let from_environment = std::env::var("DOCKER_MIN_API_VERSION").ok();
    let Some(text) = settings.text("min-api-version").map(str::to_owned).or(from_environment) else {
        return Ok(OLDEST_API_VERSION);
    };
    let invalid =
        || ConfigError::value(format!("invalid minimum API version: {text}: must be at least 1.24"));
    let (major, minor) = text.split_once('.').ok_or_else(invalid)?;
    let version = (major.parse().map_err(|_| invalid())?, minor.parse().map_err(|_| invalid())?);
    if version < OLDEST_API_VERSION { Err(invalid()) } else { Ok(version) }
}

fn labels(settings: &Settings) -> Result<Vec<String>, ConfigError> {
    let labels = settings.list("labels");
    let mut by_key: BTreeMap<&str, &str> = BTreeMap::new();
    for label in &labels {
        let (key, value) = label
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| ConfigError::value(format!("bad attribute format: {label}")))?;
        if by_key.insert(key, value).is_some_and(|earlier| earlier != value) {
            return Err(ConfigError::value(format!("conflict labels for {key}={value}")));
        }
    }
    Ok(labels)
}

/// The features that are switched on or off.
pub(super) fn features(settings: &Settings) -> Result<BTreeMap<String, bool>, ConfigError> {
    let Some(features) = settings.get("features").and_then(Value::as_object) else {
        return Ok(BTreeMap::new());
    };
    let read_one = |(name, value): (&String, &Value)| {
        let enabled = value
            .as_bool()
            .ok_or_else(|| ConfigError::value(format!("feature {name} must be true or false")))?;
        Ok((name.clone(), enabled))
    };
    features.iter().map(read_one).collect()
}

fn check_storage(settings: &Settings) -> Result<(), ConfigError> {
    if let Some(driver) = settings.text("storage-driver")
        && !matches!(driver, "overlay2" | "overlayfs" | "overlay")
    {
        return Err(ConfigError::value(format!(
            "error initializing graphdriver: driver not supported: {driver}; shoald has overlayfs only"
        )));
    }
    Ok(())
}

fn check_exec_options(settings: &Settings) -> Result<(), ConfigError> {
    for option in settings.list("exec-opts") {
        match option.split_once('=') {
            Some(("native.cgroupdriver", "cgroupfs")) => {}
            Some(("native.cgroupdriver", "systemd")) => {
                return Err(ConfigError::value(
                    "native.cgroupdriver=systemd is not supported: shoald manages its part of the cgroup tree itself",
                ));
            }
            Some(("native.cgroupdriver", other)) => {
                return Err(ConfigError::value(format!(
                    "invalid cgroup driver: {other}. Must be cgroupfs or systemd"
                )));
            }
            _ => return Err(ConfigError::value(format!("invalid runtime option: {option}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::config::{Invocation, load, read_command_line};

    /// The configuration of a command line without a file.
    pub(in crate::config) fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        let all = ["--config-file", "/dev/null"].iter().chain(arguments).map(OsString::from);
        let Ok(Invocation::Run(line)) = read_command_line(all) else { panic!("{arguments:?}") };
        load(&line)
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_dockers_texts() {
        let text = |arguments: &[&str]| config(arguments).unwrap_err().to_string();
        assert_eq!(text(&["-l", "banana"]), "unable to parse logging level: banana");
        assert_eq!(
            text(&["-b", "br0", "--bip", "10.0.0.1/24"]),
            "You specified -b & --bip, mutually exclusive options. Please specify only one"
        );
        assert_eq!(text(&["--label", "x"]), "bad attribute format: x");
        assert_eq!(text(&["--dns", "nope"]), "nope is not an ip address");
        assert!(text(&["-s", "btrfs"]).contains("driver not supported"));
    }

    #[test]
    fn debug_wins_over_the_level() {
        assert_eq!(config(&["-D", "-l", "error"]).unwrap().log_level, LogLevel::Debug);
        assert_eq!(config(&["-l", "fatal"]).unwrap().log_level, LogLevel::Error);
    }
}
