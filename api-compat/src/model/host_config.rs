//! What depends on the host: mounts, networks, limits, privileges. Part of create, update and inspect.
//!
//! Start reading at [`HostConfig`]; its [`Resources`] are also the body of an update.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

use super::mount::Mount;
use super::{Texts, is_empty_list, is_empty_map, is_zero};
use crate::json::decode_value;

/// What depends on the host. Its two parts share one JSON object.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HostConfig {
    /// Everything but limits and devices.
    #[serde(flatten)]
    pub options: HostOptions,
    /// Limits and devices.
    #[serde(flatten)]
    pub resources: Resources,
}

impl<'de> Deserialize<'de> for HostConfig {
    /// Reads each part from the same object: serde's own way would match keys by case.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self {
            options: decode_value(&value).map_err(D::Error::custom)?,
            resources: decode_value(&value).map_err(D::Error::custom)?,
        })
    }
}

/// What depends on the host, without limits and devices.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "HostConfig")]
pub struct HostOptions {
    /// `source:destination[:options]`; the source is a path of the host or the name of a volume.
    pub binds: Option<Vec<String>>,
    /// A file into which the client wrote the id.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// Where the output goes.
    pub log_config: LogConfig,
    /// `bridge`, `host`, `none`, `container:<name or id>`, or a network.
    pub network_mode: String,
    /// What to publish, by port inside.
    pub port_bindings: Option<PortMap>,
    /// What happens after an exit.
    pub restart_policy: RestartPolicy,
    /// Whether it is removed after an exit.
    pub auto_remove: bool,
    /// Driver of volumes that `Binds` has to make.
    pub volume_driver: String,
    /// Containers whose mounts it gets, `<name or id>[:ro|:rw]`.
    pub volumes_from: Option<Vec<String>>,
    /// Height and width of the terminal at the start.
    pub console_size: [u16; 2],
    /// Annotations for the runtime. Since 1.43.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub annotations: Option<Texts>,
    /// Capabilities beyond the default set.
    pub cap_add: Option<Vec<String>>,
    /// Capabilities taken from the default set.
    pub cap_drop: Option<Vec<String>>,
    /// `private`, `host`, or empty for the daemon's default.
    pub cgroupns_mode: String,
    /// Name servers.
    pub dns: Option<Vec<String>>,
    /// Options of resolv.conf.
    pub dns_options: Option<Vec<String>>,
    /// Search domains.
    pub dns_search: Option<Vec<String>>,
    /// `name:address` for /etc/hosts.
    pub extra_hosts: Option<Vec<String>>,
    /// Supplementary groups.
    pub group_add: Option<Vec<String>>,
    /// `none`, `private`, `shareable`, `host`, `container:<name or id>`, or empty for the daemon's default.
    pub ipc_mode: String,
    /// Cgroup to join; unused.
    pub cgroup: String,
    /// `container[:alias]`.
    pub links: Option<Vec<String>>,
    /// Added to the kernel's badness when it chooses whom to kill.
    pub oom_score_adj: i32,
    /// `host`, `container:<name or id>`, or empty.
    pub pid_mode: String,
    /// All capabilities, all devices, no confinement.
    pub privileged: bool,
    /// Whether every exposed port gets a random one of the host.
    pub publish_all_ports: bool,
    /// Whether the root file system cannot be written to.
    pub readonly_rootfs: bool,
    /// Confinement: `seccomp=…`, `apparmor=…`, `label=…`, `no-new-privileges`.
    pub security_opt: Option<Vec<String>>,
    /// Options of the storage driver.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub storage_opt: Option<Texts>,
    /// Memory to mount, with mount options by path.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub tmpfs: Option<Texts>,
    /// `host` or empty.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// `host` or empty.
    pub userns_mode: String,
    /// Bytes of /dev/shm.
    pub shm_size: i64,
    /// Kernel parameters inside its namespaces.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub sysctls: Option<Texts>,
    /// Name of the OCI runtime.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime: String,
    /// `default` or empty on Linux.
    pub isolation: String,
    /// Mounts, in the form with all options.
    #[serde(skip_serializing_if = "is_empty_list")]
    pub mounts: Option<Vec<Mount>>,
    /// Paths hidden inside; `null` asks for the default list.
    pub masked_paths: Option<Vec<String>>,
    /// Paths read-only inside; `null` asks for the default list.
    pub readonly_paths: Option<Vec<String>>,
    /// Whether a small init process runs as process 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

/// Limits and devices.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "Resources")]
pub struct Resources {
    /// Relative weight of processor time.
    pub cpu_shares: i64,
    /// Memory limit in bytes.
    pub memory: i64,
    /// Processor limit in billionths of one.
    pub nano_cpus: i64,
    /// Parent of its cgroup.
    pub cgroup_parent: String,
    /// Relative weight of block IO, 10 to 1000.
    pub blkio_weight: u16,
    /// Weight by device.
    pub blkio_weight_device: Option<Vec<WeightDevice>>,
    /// Bytes per second read, by device.
    pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    /// Bytes per second written, by device.
    pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    /// Reads per second, by device.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    /// Writes per second, by device.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    /// Length of a scheduler period in microseconds.
    pub cpu_period: i64,
    /// Processor time in a period in microseconds.
    pub cpu_quota: i64,
    /// Length of a real-time period in microseconds.
    pub cpu_realtime_period: i64,
    /// Real-time processor time in a period in microseconds.
    pub cpu_realtime_runtime: i64,
    /// Processors that may be used.
    pub cpuset_cpus: String,
    /// Memory nodes that may be used.
    pub cpuset_mems: String,
    /// Devices of the host that appear inside.
    pub devices: Option<Vec<DeviceMapping>>,
    /// Rules for the device controller.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Requests that a device driver resolves.
    pub device_requests: Option<Vec<DeviceRequest>>,
    /// Limit of kernel memory; not supported by kernels any more. Below 1.42.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_memory: Option<i64>,
    /// Limit of TCP buffers; not supported any more. Below 1.52.
    #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "Option::is_none")]
    pub kernel_memory_tcp: Option<i64>,
    /// Memory in bytes that is reclaimed last.
    pub memory_reservation: i64,
    /// Memory and swap together in bytes; -1 is without limit.
    pub memory_swap: i64,
    /// Readiness to swap, 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Whether the kernel stalls instead of killing when memory runs out.
    pub oom_kill_disable: Option<bool>,
    /// Most processes and threads; not positive is without limit.
    pub pids_limit: Option<i64>,
    /// Limits of the process.
    pub ulimits: Option<Vec<Ulimit>>,
    /// Processors (Windows).
    pub cpu_count: i64,
    /// Processor limit in percent (Windows).
    pub cpu_percent: i64,
    /// Limit of IO operations (Windows).
    #[serde(rename = "IOMaximumIOps")]
    pub io_maximum_iops: u64,
    /// Limit of IO bytes (Windows).
    #[serde(rename = "IOMaximumBandwidth")]
    pub io_maximum_bandwidth: u64,
}

/// The part of an update that is no limit; it shares its JSON object with [`Resources`].
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerUpdate {
    /// What happens after an exit.
    pub restart_policy: RestartPolicy,
}

/// An update as it is described to clients.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerUpdateRequest {
    /// Limits; zero leaves one as it is.
    #[serde(flatten)]
    pub resources: Resources,
    /// What happens after an exit.
    pub restart_policy: RestartPolicy,
}

/// Where the output goes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct LogConfig {
    /// Name of the log driver; empty is the daemon's default.
    pub r#type: String,
    /// Its options.
    pub config: Option<Texts>,
}

/// What happens after an exit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped` or `on-failure`.
    pub name: String,
    /// How often, for `on-failure`; 0 is without limit.
    pub maximum_retry_count: i64,
}

/// Ports of the host by port inside (`80/tcp`).
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// A port of the host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct PortBinding {
    /// Address to listen on; empty is every one.
    pub host_ip: String,
    /// Port or range of ports as a text; empty draws one.
    pub host_port: String,
}

/// A weight for one block device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct WeightDevice {
    /// Path of the device.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A rate for one block device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ThrottleDevice {
    /// Path of the device.
    pub path: String,
    /// Per second.
    pub rate: u64,
}

/// A device of the host that appears inside.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceMapping {
    /// Path on the host.
    pub path_on_host: String,
    /// Path inside.
    pub path_in_container: String,
    /// Any of `r`, `w`, `m`.
    pub cgroup_permissions: String,
}

/// A request that a device driver resolves.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceRequest {
    /// Name of the driver.
    pub driver: String,
    /// How many; -1 is all.
    pub count: i64,
    /// Names of particular devices.
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Option<Vec<String>>,
    /// Alternatives of sets of capabilities.
    pub capabilities: Option<Vec<Vec<String>>>,
    /// Options of the driver.
    pub options: Option<Texts>,
}

/// A limit of the process.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Ulimit {
    /// Name, such as `nofile`.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// How far the process may raise it.
    #[serde(skip_serializing_if = "is_zero")]
    pub hard: i64,
    /// What it starts with.
    #[serde(skip_serializing_if = "is_zero")]
    pub soft: i64,
}
