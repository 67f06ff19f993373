//! What the daemon's configuration says to the container engine.
//!
//! Start reading at [`EngineConfig`]. It is made once, by the composition root; a reload that changes it makes a new
//! one ([`super::Engine::reconfigure`]). No reading of files and no flags here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use shoal_types::container::resources::Ulimit;
use shoal_types::container::security::{CgroupMode, SeccompChoice};

use crate::userns::IdMapping;

/// Name of the embedded runtime in `--runtime` and in inspect.
///
/// Docker's clients and scripts expect the default runtime to be called `runc`; it is what containers ask for when
/// they name none, so the embedded one answers to it too unless the operator has configured a `runc` of his own.
pub const EMBEDDED_RUNTIME: &str = "shoal";

/// Settings of the container engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where containers' files live across reboots: `<data-root>/containers/<id>/`.
    pub data_root: PathBuf,
    /// Where bundles live until the next reboot: `<exec-root>/containers/<id>/`.
    pub exec_root: PathBuf,
    /// OCI runtimes by name. [`EMBEDDED_RUNTIME`] need not be listed.
    pub runtimes: BTreeMap<String, RuntimeProgram>,
    /// The runtime of containers that name none.
    pub default_runtime: String,
    /// Whether containers that do not say get an init process.
    pub init: InitDefault,
    /// The program that is bound to `/sbin/docker-init`.
    pub init_path: PathBuf,
    /// Size of `/dev/shm` in bytes for containers that do not say.
    pub shm_size: u64,
    /// IPC mode of containers that do not say.
    pub ipc: IpcDefault,
    /// Cgroup namespace of containers that do not say; `None` follows the version of the hierarchy.
    pub cgroup_namespace: Option<CgroupMode>,
    /// Who makes cgroups.
    pub cgroup_driver: CgroupDriver,
    /// Parent of containers' cgroups; empty is the driver's default.
    pub cgroup_parent: String,
    /// Whether set-user-id programs gain nothing in containers that do not say.
    pub no_new_privileges: NoNewPrivilegesDefault,
    /// System call filter of containers that do not say; never [`SeccompChoice::DaemonDefault`].
    pub seccomp: SeccompChoice,
    /// Limits of processes that containers do not set themselves.
    pub ulimits: Vec<Ulimit>,
    /// Where specifications of devices by name (CDI) are; empty switches them off.
    pub cdi_directories: Vec<PathBuf>,
    /// Log driver of containers that name none.
    pub log_driver: String,
    /// Its options.
    pub log_options: BTreeMap<String, String>,
    /// Seconds between the stop signal and SIGKILL for containers that do not say.
    pub stop_timeout: i64,
    /// Keys that end an attachment, in Docker's notation.
    pub detach_keys: String,
    /// How ids in containers are those of the host, unless a container wants the host's. Stays what it is until the
    /// daemon ends.
    pub ids: IdMapping,
    /// Environment that every container gets underneath its own, such as proxies.
    pub environment: Vec<String>,
}

/// An OCI runtime that is driven by its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeProgram {
    /// The one inside the shim.
    Embedded,
    /// A program.
    CommandLine {
        /// Absolute, or looked up in `PATH`.
        path: PathBuf,
        /// Global arguments before the verb.
        arguments: Vec<String>,
    },
}

/// Whether containers that do not say get an init process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InitDefault {
    /// They do not.
    #[default]
    Without,
    /// They do.
    With,
}

/// IPC mode of containers that do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IpcDefault {
    /// Nobody can join it.
    #[default]
    Private,
    /// Others may join it.
    Shareable,
}

/// Who makes cgroups, which decides what their paths look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupDriver {
    /// The runtime, by directories.
    #[default]
    Cgroupfs,
    /// systemd, by scopes.
    Systemd,
}

/// Whether set-user-id programs gain nothing in containers that do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoNewPrivilegesDefault {
    /// They gain.
    #[default]
    Off,
    /// They do not.
    On,
}

impl EngineConfig {
    /// Docker's defaults with these directories.
    pub fn new(data_root: impl Into<PathBuf>, exec_root: impl Into<PathBuf>) -> Self {
        Self {
            data_root: data_root.into(),
            exec_root: exec_root.into(),
            runtimes: BTreeMap::new(),
            default_runtime: "runc".to_owned(),
            init: InitDefault::Without,
            init_path: PathBuf::from("/proc/self/exe"),
            shm_size: 64 * 1024 * 1024,
            ipc: IpcDefault::Private,
            cgroup_namespace: None,
            cgroup_driver: CgroupDriver::Cgroupfs,
            cgroup_parent: String::new(),
            no_new_privileges: NoNewPrivilegesDefault::Off,
            seccomp: SeccompChoice::Builtin,
            ulimits: Vec::new(),
            cdi_directories: Vec::new(),
            log_driver: "json-file".to_owned(),
            log_options: BTreeMap::new(),
            stop_timeout: 10,
            detach_keys: "ctrl-p,ctrl-q".to_owned(),
            ids: IdMapping::default(),
            environment: Vec::new(),
        }
    }

    /// The program behind a runtime's name; `None` when nobody configured it. The default name `runc` means the
    /// embedded runtime unless the operator listed a `runc`.
    pub fn runtime(&self, name: &str) -> Option<RuntimeProgram> {
        if let Some(program) = self.runtimes.get(name) {
            return Some(program.clone());
        }
        matches!(name, EMBEDDED_RUNTIME | "runc" | "io.containerd.runc.v2")
            .then_some(RuntimeProgram::Embedded)
    }
}
