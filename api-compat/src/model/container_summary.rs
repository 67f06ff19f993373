//! A container as lists show it, and the small replies of changes.
//!
//! Start reading at [`ContainerSummary`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mount::MountPoint;
use super::network_settings::EndpointSettings;
use super::{OciDescriptor, Texts, is_empty_map};

/// A container as lists show it. The state in words stands alone because it changes with the clock, the rest only with
/// the container.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSummary {
    /// What stands before the state in words.
    #[serde(flatten)]
    pub facts: SummaryFacts,
    /// The state in words, such as `Up 5 minutes (healthy)`.
    pub status: String,
    /// What stands after it.
    #[serde(flatten)]
    pub details: SummaryDetails,
}

/// The first part of a list's entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct SummaryFacts {
    /// Its id.
    pub id: String,
    /// Its names, each with a slash in front; those of links too.
    pub names: Vec<String>,
    /// Its image.
    pub image: String,
    /// Id of its image.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// The manifest it was made from. Since 1.48.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<OciDescriptor>,
    /// Program and arguments as one line.
    pub command: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Its ports.
    pub ports: Vec<PortSummary>,
    /// Bytes it has written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<u64>,
    /// Bytes of its whole root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<u64>,
    /// Its labels.
    pub labels: Texts,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub state: String,
}

/// The second part of a list's entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct SummaryDetails {
    /// A little of what depends on the host.
    pub host_config: SummaryHostConfig,
    /// What the health check has found. Since 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSummary>,
    /// How it is connected.
    pub network_settings: SummaryNetworkSettings,
    /// Its mounts.
    pub mounts: Vec<MountPoint>,
}

/// A port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct PortSummary {
    /// Address of the host that leads to it.
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The port inside.
    pub private_port: u16,
    /// The port of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    /// `tcp`, `udp` or `sctp`.
    pub r#type: String,
}

/// What a list shows of the part that depends on the host.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct SummaryHostConfig {
    /// Whose network it uses.
    pub network_mode: String,
    /// Annotations. Since 1.46.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub annotations: Option<Texts>,
}

/// What a list shows of a health check.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct HealthSummary {
    /// `none`, `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Probes that failed in a row.
    pub failing_streak: u32,
}

/// What a list shows of the networks.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct SummaryNetworkSettings {
    /// Its networks by name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// What a wait reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ContainerWaitResponse {
    /// The exit code.
    pub status_code: i64,
    /// What went wrong beside the exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ContainerWaitExitError>,
}

/// What went wrong beside an exit.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ContainerWaitExitError {
    /// In words.
    pub message: String,
}

/// What an update could not do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ContainerUpdateResponse {
    /// In sentences.
    pub warnings: Option<Vec<String>>,
}

/// The processes of a container.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ContainerTopResponse {
    /// Headings.
    pub titles: Vec<String>,
    /// One row for each.
    pub processes: Vec<Vec<String>>,
}

/// What a prune of containers removed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ContainerPruneResponse {
    /// Ids.
    pub containers_deleted: Option<Vec<String>>,
    /// Bytes of disk that were freed.
    pub space_reclaimed: u64,
}

/// A path that differs from the image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct FilesystemChange {
    /// The path.
    pub path: String,
    /// 0 modified, 1 added, 2 deleted.
    pub kind: u8,
}

/// What is known of a path, in the header of archives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPathStat {
    /// Last component.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Mode in the bits of Go's `fs.FileMode`.
    pub mode: u32,
    /// When its content last changed.
    pub mtime: String,
    /// Where a symbolic link leads.
    pub link_target: String,
}
