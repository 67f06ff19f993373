//! Limits, weights and devices of a container.
//!
//! Start reading at [`Resources`]. Zero and `None` both mean "no limit of its own" where Docker does not tell them
//! apart. Translation into cgroup files is `node-runtime`'s, range checks are `node-agent`'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that the kernel's resource controllers and the device list are told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative weight of processor time, 2 to 262144; 0 leaves the kernel's 1024.
    pub cpu_shares: i64,
    /// Processor limit in billionths of a processor; excludes period and quota.
    pub nano_cpus: i64,
    /// Length of the scheduler's period in microseconds.
    pub cpu_period: i64,
    /// Processor time within a period in microseconds; negative lifts the limit.
    pub cpu_quota: i64,
    /// Length of the real-time period in microseconds (cgroup v1 only).
    pub cpu_realtime_period: i64,
    /// Real-time processor time within a period in microseconds (cgroup v1 only).
    pub cpu_realtime_runtime: i64,
    /// Processors that may be used, such as `0-2,7`.
    pub cpuset_cpus: String,
    /// Memory nodes that may be used.
    pub cpuset_mems: String,
    /// Memory limit in bytes.
    pub memory: i64,
    /// Memory below which the kernel does not reclaim first, in bytes.
    pub memory_reservation: i64,
    /// Memory and swap together in bytes; -1 leaves swap unlimited.
    pub memory_swap: i64,
    /// Readiness to swap, 0 to 100 (cgroup v1 only).
    pub memory_swappiness: Option<i64>,
    /// Whether the kernel stalls instead of killing when memory runs out (cgroup v1 only).
    pub oom_kill_disable: Option<bool>,
    /// Added to the badness by which the kernel chooses whom to kill, -1000 to 1000.
    pub oom_score_adj: i32,
    /// Most processes and threads; `None` or not positive is unlimited.
    pub pids_limit: Option<i64>,
    /// Relative weight of block IO, 10 to 1000.
    pub blkio_weight: u16,
    /// Weight by device.
    pub blkio_weight_device: Vec<WeightDevice>,
    /// Bytes per second read, by device.
    pub blkio_read_bps: Vec<ThrottleDevice>,
    /// Bytes per second written, by device.
    pub blkio_write_bps: Vec<ThrottleDevice>,
    /// Reads per second, by device.
    pub blkio_read_iops: Vec<ThrottleDevice>,
    /// Writes per second, by device.
    pub blkio_write_iops: Vec<ThrottleDevice>,
    /// Limits of the process, such as open files.
    pub ulimits: Vec<Ulimit>,
    /// Host devices that appear inside.
    pub devices: Vec<DeviceMapping>,
    /// Rules for the device controller in the kernel's form, such as `c 42:* rmw`.
    pub device_cgroup_rules: Vec<String>,
    /// Requests that a device driver (CDI, GPUs) resolves.
    pub device_requests: Vec<DeviceRequest>,
    /// Parent of the container's cgroup; empty is the daemon's.
    pub cgroup_parent: String,
}

/// A weight that holds for one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightDevice {
    /// Path of the device on the host.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A rate that holds for one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleDevice {
    /// Path of the device on the host.
    pub path: String,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// A limit of the process in setrlimit(2)'s terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Name without `RLIMIT_`, lower case, such as `nofile`.
    pub name: String,
    /// What the process starts with; -1 is unlimited.
    pub soft: i64,
    /// How far the process may raise it; -1 is unlimited.
    pub hard: i64,
}

/// A host device made available inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Path on the host.
    pub path_on_host: String,
    /// Path inside the container.
    pub path_in_container: String,
    /// Any of `r`, `w`, `m`.
    pub cgroup_permissions: String,
}

/// A request that a device driver resolves to devices, mounts and environment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// Name of the driver, such as `cdi`; empty lets the capabilities choose.
    pub driver: String,
    /// How many devices; -1 is all.
    pub count: i64,
    /// Names of particular devices.
    pub device_ids: Vec<String>,
    /// Alternatives of capability sets, one of which must be met.
    pub capabilities: Vec<Vec<String>>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}
