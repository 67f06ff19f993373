//! The specification of one container, grouped by what it concerns.
//!
//! Start reading at [`ContainerSpec`]. A spec is what the user asked for: the engine merges the image's configuration
//! into it once, at creation, and never edits it afterwards except by an explicit update. It carries no observed
//! value; those are in [`super::state`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::health::HealthSpec;
use super::mounts::MountSpec;
use super::networking::NetworkingSpec;
use super::resources::Resources;
use super::restart::RestartPolicy;
use super::security::{NamespacesSpec, SecuritySpec};
use crate::platform::Platform;

/// Everything that decides what a container will be when it is started.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// The image as the client wrote it: a reference, a digest or an id prefix.
    pub image: String,
    /// The platform that was asked for; `None` takes what suits the machine best.
    pub platform: Option<Platform>,
    /// The init process: what runs, as whom, with which standard streams.
    pub process: ProcessSpec,
    /// The user's labels, the image's merged underneath.
    pub labels: BTreeMap<String, String>,
    /// Annotations handed to the runtime spec unchanged.
    pub annotations: BTreeMap<String, String>,
    /// Limits and devices.
    pub resources: Resources,
    /// Mounts in the order in which they were asked for; the engine resolves overrides by destination.
    pub mounts: Vec<MountSpec>,
    /// Networks, addresses, published ports, name resolution.
    pub networking: NetworkingSpec,
    /// Which namespaces the container shares and with whom.
    pub namespaces: NamespacesSpec,
    /// Privileges and confinement.
    pub security: SecuritySpec,
    /// How the engine finds out whether the container works; `None` when nobody asked.
    pub health: Option<HealthSpec>,
    /// Where the output goes.
    pub logging: LoggingSpec,
    /// What happens after an exit.
    pub restart: RestartPolicy,
    /// Whether the container is removed, with its anonymous volumes, after it has exited.
    pub auto_remove: bool,
    /// Name of the OCI runtime; `None` is the daemon's default.
    pub runtime: Option<String>,
    /// Options of the storage driver, such as `size`.
    pub storage_options: BTreeMap<String, String>,
    /// Size of `/dev/shm` in bytes; `None` is the daemon's default.
    pub shm_size: Option<u64>,
    /// Kernel parameters set inside the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Whether an init process that reaps and forwards signals runs as process 1; `None` is the daemon's default.
    pub init: Option<bool>,
    /// Commands that the image wants run in builds on top of it; carried for commit, never run by the engine.
    pub on_build: Vec<String>,
}

/// The init process of a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSpec {
    /// `None` takes the image's; an empty list after the merge means that there is none.
    pub entrypoint: Option<Vec<String>>,
    /// `None` takes the image's, unless the entrypoint was given.
    pub cmd: Option<Vec<String>>,
    /// The shell that the string form of commands runs in (`CMD-SHELL` of health checks, builds).
    pub shell: Option<Vec<String>>,
    /// `KEY=value`, or `KEY` alone to remove one that the image sets.
    pub env: Vec<String>,
    /// Absolute path; empty takes the image's, then `/`.
    pub working_dir: String,
    /// `user[:group]`, names or numbers, looked up in the container at start; empty takes the image's, then root.
    pub user: String,
    /// Supplementary groups, names or numbers.
    pub groups: Vec<String>,
    /// Host name inside the container; empty takes the first twelve digits of the id.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// Whether the process gets a pseudo-terminal.
    pub tty: bool,
    /// Initial height and width of the terminal in characters.
    pub console_size: Option<(u16, u16)>,
    /// Whether standard input is kept open for attached clients.
    pub open_stdin: bool,
    /// Whether standard input is closed for good when the first attached client closes it.
    pub stdin_once: bool,
    /// Name or number of the signal that stops the container; `None` takes the image's, then SIGTERM.
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL; negative waits for ever; `None` is the daemon's default.
    pub stop_timeout: Option<i64>,
}

/// Where a container's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LoggingSpec {
    /// Name of the log driver; empty is the daemon's default.
    pub driver: String,
    /// The driver's options, the daemon's merged underneath when the driver is the same.
    pub options: BTreeMap<String, String>,
}
