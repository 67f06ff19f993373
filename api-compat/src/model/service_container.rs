//! The container of a service's tasks.
//!
//! Start reading at [`ContainerSpec`]. It is another type than a container's own configuration: fewer things, other names.

use serde::{Deserialize, Serialize};

use super::bytes::Base64;
use super::container_config::HealthConfig;
use super::host_config::Ulimit;
use super::mount::Mount;
use super::{Empty, Texts, is_zero};

/// The container of a service's tasks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerSpec {
    /// Image reference.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Labels of the containers.
    #[serde(skip_serializing_if = "Texts::is_empty")]
    pub labels: Texts,
    /// Replaces the image's entrypoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Replaces the image's command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Host name; may be a template.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Environment; values may be templates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Working directory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dir: String,
    /// `user[:group]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Supplementary groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What it may and may not do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileges: Option<Privileges>,
    /// Whether an init process runs. Since 1.37.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// Signal that stops it. Since 1.28.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Whether it gets a terminal.
    #[serde(rename = "TTY", skip_serializing_if = "is_zero")]
    pub tty: bool,
    /// Whether standard input is kept open.
    #[serde(skip_serializing_if = "is_zero")]
    pub open_stdin: bool,
    /// Whether the root file system is read-only. Since 1.28.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only: bool,
    /// Mounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Nanoseconds between the stop signal and SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace_period: Option<i64>,
    /// How to find out whether it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Lines of /etc/hosts: an address and names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Name resolution.
    #[serde(rename = "DNSConfig", skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<DnsConfig>,
    /// Secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretReference>,
    /// Configs. Since 1.30.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<ConfigReference>,
    /// Isolation technology, of Windows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub isolation: String,
    /// Kernel parameters. Since 1.40.
    #[serde(skip_serializing_if = "Texts::is_empty")]
    pub sysctls: Texts,
    /// Capabilities added. Since 1.41.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capability_add: Vec<String>,
    /// Capabilities taken away. Since 1.41.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capability_drop: Vec<String>,
    /// Limits of processes. Since 1.41.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<Ulimit>,
    /// Added to the badness by which the kernel chooses whom to kill. Since 1.46.
    #[serde(skip_serializing_if = "is_zero")]
    pub oom_score_adj: i64,
}

/// What a container may and may not do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Privileges {
    /// Where a Windows credential spec comes from.
    pub credential_spec: Option<CredentialSpec>,
    /// SELinux context.
    #[serde(rename = "SELinuxContext")]
    pub selinux_context: Option<SelinuxContext>,
    /// System call filter. Since 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<SeccompOptions>,
    /// AppArmor profile. Since 1.44.
    #[serde(rename = "AppArmor", skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<AppArmorOptions>,
    /// Whether processes may gain no privileges. Since 1.44.
    pub no_new_privileges: bool,
}

/// Where a Windows credential spec comes from; one of the three.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct CredentialSpec {
    /// Id of a config. Since 1.40.
    pub config: String,
    /// Name of a file.
    pub file: String,
    /// Name in the Windows registry.
    pub registry: String,
}

/// An SELinux context.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "SELinuxContext")]
pub struct SelinuxContext {
    /// Whether it is switched off.
    pub disable: bool,
    /// User.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type.
    pub r#type: String,
    /// Level.
    pub level: String,
}

/// A system call filter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "SeccompOpts")]
pub struct SeccompOptions {
    /// `default`, `unconfined` or `custom`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// The profile of `custom`, in base64.
    #[serde(skip_serializing_if = "Base64::is_empty")]
    pub profile: Base64,
}

/// An AppArmor profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "AppArmorOpts")]
pub struct AppArmorOptions {
    /// `default` or `disabled`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
}

/// Name resolution.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "DNSConfig")]
pub struct DnsConfig {
    /// Addresses of name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Search domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of resolv.conf.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A wish for a secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct SecretReference {
    /// Where it appears.
    pub file: Option<FileTarget>,
    /// The secret.
    #[serde(rename = "SecretID")]
    pub secret_id: String,
    /// Its name.
    pub secret_name: String,
}

/// A wish for a config.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "ServiceConfigReference")]
pub struct ConfigReference {
    /// Where it appears.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileTarget>,
    /// Given instead, if it is for the runtime only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Empty>,
    /// The config.
    #[serde(rename = "ConfigID")]
    pub config_id: String,
    /// Its name.
    pub config_name: String,
}

/// Where a file appears, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct FileTarget {
    /// Path.
    pub name: String,
    /// Owner.
    #[serde(rename = "UID")]
    pub uid: String,
    /// Group.
    #[serde(rename = "GID")]
    pub gid: String,
    /// Permission bits.
    pub mode: u32,
}
