//! Privileges, confinement and namespaces of a container.
//!
//! Start reading at [`SecuritySpec`]. Turning it into capabilities, a seccomp filter and masks is
//! `node-agent/src/runtime/security.rs`.

use serde::{Deserialize, Serialize};

/// What the container may do beyond or below the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SecuritySpec {
    /// All capabilities, all devices, no confinement.
    pub privileged: bool,
    /// Capabilities added to the default set, as written (`NET_ADMIN`, `cap_net_admin`, `ALL`).
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default set.
    pub cap_drop: Vec<String>,
    /// Whether the root file system is read-only.
    pub readonly_rootfs: bool,
    /// Whether set-user-id programs gain nothing; `None` is the daemon's default.
    pub no_new_privileges: Option<bool>,
    /// System call filter.
    pub seccomp: SeccompChoice,
    /// Name of the AppArmor profile, or `unconfined`; `None` is the default profile where the kernel has AppArmor.
    pub apparmor: Option<String>,
    /// SELinux label options (`user:…`, `type:…`, `disable`).
    pub selinux_labels: Vec<String>,
    /// Whether the cgroup file system is writable inside; `None` follows `privileged`.
    pub writable_cgroups: Option<bool>,
    /// Paths hidden inside; `None` is the default list.
    pub masked_paths: Option<Vec<String>>,
    /// Paths made read-only inside; `None` is the default list.
    pub readonly_paths: Option<Vec<String>>,
}

/// Which system call filter applies.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "choice", content = "profile")]
pub enum SeccompChoice {
    /// The daemon's: the built-in one unless it was configured otherwise.
    #[default]
    DaemonDefault,
    /// The built-in one, whatever the daemon's is.
    Builtin,
    /// None at all.
    Unconfined,
    /// This one, in Docker's JSON profile format.
    Custom(String),
}

/// Which namespaces the container has of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespacesSpec {
    /// Processes.
    pub pid: PidMode,
    /// System V IPC and POSIX message queues, and `/dev/shm`.
    pub ipc: IpcMode,
    /// Host name.
    pub uts: UtsMode,
    /// User ids.
    pub user: UserMode,
    /// View of the cgroup tree; `None` is the daemon's default.
    pub cgroup: Option<CgroupMode>,
}

/// Whose processes the container sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode", content = "of")]
pub enum PidMode {
    /// Its own only.
    #[default]
    Private,
    /// All of the host.
    Host,
    /// Those of another container, by name or id; by id once resolved.
    Container(String),
}

/// Whose IPC objects the container sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode", content = "of")]
pub enum IpcMode {
    /// What the daemon is configured to (`private` unless told otherwise).
    #[default]
    DaemonDefault,
    /// Its own, and no `/dev/shm`.
    None,
    /// Its own, which nobody can join.
    Private,
    /// Its own, which others may join.
    Shareable,
    /// The host's.
    Host,
    /// Those of another container, by name or id; by id once resolved.
    Container(String),
}

/// Whose host name the container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UtsMode {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
}

/// How user ids inside map to those outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserMode {
    /// As the daemon is configured.
    #[default]
    DaemonDefault,
    /// Not mapped.
    Host,
}

/// What the container sees of the cgroup tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupMode {
    /// Its own cgroup as the root.
    Private,
    /// The host's tree.
    Host,
}
