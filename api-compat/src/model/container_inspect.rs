//! A container in detail.
//!
//! Start reading at [`ContainerInspect`].

use serde::Serialize;

use super::container_config::ContainerConfig;
use super::host_config::HostConfig;
use super::mount::MountPoint;
use super::network_settings::NetworkSettings;
use super::time::Time;
use super::{OciDescriptor, Texts};

/// A container in detail.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ContainerInspect {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created: Time,
    /// Program that runs.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it is.
    pub state: ContainerState,
    /// Id of its image.
    pub image: String,
    /// Its resolv.conf on the host.
    pub resolv_conf_path: String,
    /// Its hostname file on the host.
    pub hostname_path: String,
    /// Its hosts file on the host.
    pub hosts_path: String,
    /// Its log on the host.
    pub log_path: String,
    /// Its name, with a slash in front.
    pub name: String,
    /// How often it was started again.
    pub restart_count: u32,
    /// Storage driver.
    pub driver: String,
    /// Operating system.
    pub platform: String,
    /// The manifest it was made from. Since 1.48.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<OciDescriptor>,
    /// SELinux label of its mounts.
    pub mount_label: String,
    /// SELinux label of its processes.
    pub process_label: String,
    /// AppArmor profile.
    pub app_armor_profile: String,
    /// Commands that run in it.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// What depends on the host, as it was asked for.
    pub host_config: HostConfig,
    /// Where its root file system is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    /// Where its root file system is. Since 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Bytes it has written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<u64>,
    /// Bytes of its whole root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<u64>,
    /// Its mounts.
    pub mounts: Vec<MountPoint>,
    /// What does not depend on the host, the image's merged in.
    pub config: ContainerConfig,
    /// How it is connected.
    pub network_settings: NetworkSettings,
}

/// What a container is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ContainerState {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub status: String,
    /// Whether it runs; also true while it is paused or about to be started again.
    pub running: bool,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether it is about to be started again.
    pub restarting: bool,
    /// Whether the kernel killed a process of it for lack of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Whether its removal failed.
    pub dead: bool,
    /// Process id on the host; 0 when it does not run.
    pub pid: u32,
    /// Exit code of the last run.
    pub exit_code: i32,
    /// Why it did not start, or what else went wrong.
    pub error: String,
    /// When it was last started.
    pub started_at: Time,
    /// When it last ended.
    pub finished_at: Time,
    /// What the health check has found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// What a health check has found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// `none`, `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Probes that failed in a row.
    pub failing_streak: u32,
    /// The last probes.
    pub log: Vec<HealthcheckResult>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct HealthcheckResult {
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub end: Time,
    /// Its exit code.
    pub exit_code: i32,
    /// What it wrote.
    pub output: String,
}

/// Where a root file system is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct DriverData {
    /// Paths by kind.
    pub data: Option<Texts>,
    /// Storage driver.
    pub name: String,
}

/// Where a root file system is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Storage {
    /// The root file system.
    #[serde(rename = "RootFS", skip_serializing_if = "Option::is_none")]
    pub root_fs: Option<RootFsStorage>,
}

/// How a root file system is stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "RootFSStorage", rename_all = "PascalCase")]
pub struct RootFsStorage {
    /// As a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<RootFsSnapshot>,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "RootFSStorageSnapshot", rename_all = "PascalCase")]
pub struct RootFsSnapshot {
    /// Name of the snapshotter.
    pub name: String,
}
