//! The readings that a cgroup gives, in one shape for cgroup v1 and v2.
//!
//! Start reading at [`Readings`]. A value that the kernel of this host does not offer is `None`, never zero. No IO here: the
//! files are read in `v1.rs` and `v2.rs`.

use super::table::CounterTable;

/// One reading of all controllers of a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readings {
    /// Processor time and throttling.
    pub cpu: CpuReadings,
    /// Memory use and events.
    pub memory: MemoryReadings,
    /// Number of tasks.
    pub pids: PidsReadings,
    /// Block device traffic.
    pub blkio: BlkioReadings,
}

/// Processor time of a cgroup; all times in nanoseconds since the cgroup was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuReadings {
    /// Time on all processors together.
    pub usage: u64,
    /// The part of it in user mode.
    pub user: u64,
    /// The part of it in the kernel.
    pub system: u64,
    /// Time on each processor; empty on cgroup v2, which does not know it.
    pub per_cpu: Vec<u64>,
    /// Enforcement periods that have passed while a quota was set.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Time for which tasks waited for a new period.
    pub throttled: u64,
}

/// Memory use of a cgroup in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryReadings {
    /// What is charged now, page cache included.
    pub usage: u64,
    /// The most that was ever charged, where the kernel tells.
    pub max_usage: Option<u64>,
    /// The limit; `None` without one.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
    /// The lines of `memory.stat` in the kernel's order.
    pub stat: CounterTable,
}

/// Tasks of a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PidsReadings {
    /// Tasks (threads) now.
    pub current: u64,
    /// The limit; `None` without one.
    pub limit: Option<u64>,
}

/// Block device traffic of a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlkioReadings {
    /// Bytes by device and operation.
    pub bytes: Vec<BlkioEntry>,
    /// Operations by device and operation.
    pub operations: Vec<BlkioEntry>,
}

/// One counter of block device traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlkioEntry {
    /// Major number of the device.
    pub major: u64,
    /// Minor number of the device.
    pub minor: u64,
    /// `read`, `write`, `sync`, `async`, `discard` or `total`.
    pub operation: String,
    /// The count.
    pub value: u64,
}
