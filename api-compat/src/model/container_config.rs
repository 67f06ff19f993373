//! What does not depend on the host: program, environment, labels. Part of create, inspect and commit.
//!
//! Start reading at [`ContainerConfig`].

use serde::{Deserialize, Serialize};

use super::{Set, Texts, is_empty_list, is_empty_map, is_zero};
use crate::json::text_or_list;

/// What does not depend on the host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// Host name inside; by default the short id.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `user[:group]`, names or numbers.
    pub user: String,
    /// Whether the client that creates it will attach to standard input.
    pub attach_stdin: bool,
    /// Whether the client that creates it will attach to standard output.
    pub attach_stdout: bool,
    /// Whether the client that creates it will attach to standard error.
    pub attach_stderr: bool,
    /// Ports that it listens on, such as `80/tcp`.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub exposed_ports: Option<Set>,
    /// Whether it gets a pseudo-terminal.
    pub tty: bool,
    /// Whether standard input is kept open.
    pub open_stdin: bool,
    /// Whether standard input ends with the first client that was attached to it.
    pub stdin_once: bool,
    /// `KEY=value`; `KEY` alone removes what the image sets.
    pub env: Option<Vec<String>>,
    /// Program, or arguments of the entrypoint.
    #[serde(deserialize_with = "text_or_list")]
    pub cmd: Option<Vec<String>>,
    /// How to find out whether it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Whether the command is escaped already (Windows).
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    /// The image as it was asked for.
    pub image: String,
    /// Paths that are volumes.
    pub volumes: Option<Set>,
    /// Working directory.
    pub working_dir: String,
    /// Program that always runs.
    #[serde(deserialize_with = "text_or_list")]
    pub entrypoint: Option<Vec<String>>,
    /// Whether networking is off.
    #[serde(skip_serializing_if = "is_zero")]
    pub network_disabled: bool,
    /// Hardware address on the first network. Below 1.52.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    /// Instructions for builds on top of it.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: Option<Texts>,
    /// Signal that stops it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds between that signal and SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Shell of string commands.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub shell: Option<Vec<String>>,
}

/// How to find out whether a container works; durations in nanoseconds, zero inherits the image's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    /// `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", line]`, or empty to inherit.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub test: Option<Vec<String>>,
    /// Between probes.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Of one probe.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// In which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between probes in the start period. Since 1.44.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}
