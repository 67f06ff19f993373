//! What a container uses. The names are the odd ones out: Docker writes them in lower case.
//!
//! Start reading at [`ContainerStats`].

use std::collections::BTreeMap;

use node_runtime::cgroup::CounterTable;
use serde::{Serialize, Serializer};

use super::time::Time;
use super::{is_empty_list, is_zero};

/// What a container used at one moment and at the moment before.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "ContainerStatsResponse")]
pub struct ContainerStats {
    /// Its id.
    pub id: String,
    /// Its name, with a slash in front.
    pub name: String,
    /// Operating system. Since 1.52.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_type: String,
    /// When.
    pub read: Time,
    /// Processor time.
    pub cpu_stats: CpuStats,
    /// Memory.
    pub memory_stats: MemoryStats,
    /// Network traffic by interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<BTreeMap<String, NetworkStats>>,
    /// Processes and threads.
    pub pids_stats: PidsStats,
    /// Block IO.
    pub blkio_stats: BlkioStats,
    /// Processes (Windows).
    pub num_procs: u32,
    /// Storage (Windows).
    pub storage_stats: StorageStats,
    /// When the moment before was.
    pub preread: Time,
    /// Processor time then.
    pub precpu_stats: CpuStats,
}

/// Processor time.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "ContainerCPUStats")]
pub struct CpuStats {
    /// Of the container.
    pub cpu_usage: CpuUsage,
    /// Of the machine in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub system_cpu_usage: u64,
    /// Processors.
    #[serde(skip_serializing_if = "is_zero")]
    pub online_cpus: u32,
    /// How often it was held back.
    pub throttling_data: ThrottlingData,
}

/// Processor time of a container in nanoseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "ContainerCPUUsage")]
pub struct CpuUsage {
    /// On all processors.
    pub total_usage: u64,
    /// On each (cgroup v1).
    #[serde(skip_serializing_if = "is_empty_list")]
    pub percpu_usage: Option<Vec<u64>>,
    /// In the kernel.
    pub usage_in_kernelmode: u64,
    /// In user mode.
    pub usage_in_usermode: u64,
}

/// How often a container was held back.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "ContainerThrottlingData")]
pub struct ThrottlingData {
    /// Periods with a quota.
    pub periods: u64,
    /// Periods in which it was used up.
    pub throttled_periods: u64,
    /// Nanoseconds of waiting.
    pub throttled_time: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "ContainerMemoryStats")]
pub struct MemoryStats {
    /// What is charged now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most that was ever charged (cgroup v1).
    #[serde(skip_serializing_if = "is_zero")]
    pub max_usage: u64,
    /// The kernel's own counters.
    #[serde(skip_serializing_if = "CounterTable::is_empty", serialize_with = "by_name")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, u64>"))]
    pub stats: CounterTable,
    /// How often the limit was hit (cgroup v1).
    #[serde(skip_serializing_if = "is_zero")]
    pub failcnt: u64,
    /// The limit; the machine's memory without one.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
    /// Committed bytes (Windows).
    #[serde(skip_serializing_if = "is_zero")]
    pub commitbytes: u64,
    /// Most committed bytes (Windows).
    #[serde(skip_serializing_if = "is_zero")]
    pub commitpeakbytes: u64,
    /// Private working set (Windows).
    #[serde(skip_serializing_if = "is_zero")]
    pub privateworkingset: u64,
}

/// Counters by the names that the kernel gives them.
fn by_name<S: Serializer>(counters: &CounterTable, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counters.iter())
}

/// Counters of one interface.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "ContainerNetworkStats")]
pub struct NetworkStats {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets received with errors.
    pub rx_errors: u64,
    /// Packets dropped on receipt.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets dropped instead of sent.
    pub tx_dropped: u64,
    /// Id of the endpoint (Windows).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint_id: String,
    /// Id of the instance (Windows).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instance_id: String,
}

/// Processes and threads.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "ContainerPidsStats")]
pub struct PidsStats {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// The limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block IO; lists are `null` while the container does not run.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "ContainerBlkioStats")]
pub struct BlkioStats {
    /// Bytes.
    pub io_service_bytes_recursive: Option<Vec<BlkioEntry>>,
    /// Operations.
    pub io_serviced_recursive: Option<Vec<BlkioEntry>>,
    /// Queued operations; not told by today's kernels.
    pub io_queue_recursive: Option<Vec<BlkioEntry>>,
    /// Time of service; not told by today's kernels.
    pub io_service_time_recursive: Option<Vec<BlkioEntry>>,
    /// Time of waiting; not told by today's kernels.
    pub io_wait_time_recursive: Option<Vec<BlkioEntry>>,
    /// Merged operations; not told by today's kernels.
    pub io_merged_recursive: Option<Vec<BlkioEntry>>,
    /// Time; not told by today's kernels.
    pub io_time_recursive: Option<Vec<BlkioEntry>>,
    /// Sectors; not told by today's kernels.
    pub sectors_recursive: Option<Vec<BlkioEntry>>,
}

/// One counter of block IO.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "ContainerBlkioStatEntry")]
pub struct BlkioEntry {
    /// Major number of the device.
    pub major: u64,
    /// Minor number of the device.
    pub minor: u64,
    /// Operation.
    pub op: String,
    /// The count.
    pub value: u64,
}

/// Storage (Windows); always empty.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "ContainerStorageStats")]
pub struct StorageStats {
    /// Reads.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_count_normalized: u64,
    /// Bytes read.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_size_bytes: u64,
    /// Writes.
    #[serde(skip_serializing_if = "is_zero")]
    pub write_count_normalized: u64,
    /// Bytes written.
    #[serde(skip_serializing_if = "is_zero")]
    pub write_size_bytes: u64,
}
