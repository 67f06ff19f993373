//! What a container uses, in Docker's shape.
//!
//! Start reading at [`stats`].

use node_agent::api::streams::{StatsReading, StatsSample};
use node_runtime::cgroup::Readings;

use crate::model::container_stats::{
    BlkioEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats,
    StorageStats, ThrottlingData,
};
use crate::model::time::Time;
use crate::version::ApiVersion;

/// A sample in the shape of a version. A container that does not run has zeros everywhere.
pub(crate) fn stats(sample: &StatsSample, version: ApiVersion) -> ContainerStats {
    let current = sample.current.as_deref();
    let previous = sample.previous.as_deref();
    ContainerStats {
        id: sample.id.to_string(),
        name: format!("/{}", sample.name),
        os_type: if version.is_below(52) { String::new() } else { "linux".to_owned() },
        read: Time(current.map(|reading| reading.at)),
        cpu_stats: current.map(cpu).unwrap_or_default(),
        memory_stats: current.map(memory).unwrap_or_default(),
        networks: current.map(networks).filter(|interfaces| !interfaces.is_empty()),
        pids_stats: current.map(pids).unwrap_or_default(),
        blkio_stats: current.map(|reading| blkio(&reading.cgroup)).unwrap_or_default(),
        num_procs: 0,
        storage_stats: StorageStats::default(),
        preread: Time(previous.map(|reading| reading.at)),
        precpu_stats: previous.map(cpu).unwrap_or_default(),
    }
}

/// Whether the reading is of cgroup v1, which alone counts each processor.
fn is_v1(cgroup: &Readings) -> bool {
    !cgroup.cpu.per_cpu.is_empty()
}

fn cpu(reading: &StatsReading) -> CpuStats {
    let cpu = &reading.cgroup.cpu;
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: cpu.usage,
            percpu_usage: Some(cpu.per_cpu.clone()).filter(|list| !list.is_empty()),
            usage_in_kernelmode: cpu.system,
            usage_in_usermode: cpu.user,
        },
        system_cpu_usage: reading.system_cpu,
        online_cpus: reading.online_cpus,
        throttling_data: ThrottlingData {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: cpu.throttled,
        },
    }
}

fn memory(reading: &StatsReading) -> MemoryStats {
    let memory = &reading.cgroup.memory;
    MemoryStats {
        usage: memory.usage,
        max_usage: memory.max_usage.filter(|_| is_v1(&reading.cgroup)).unwrap_or_default(),
        stats: memory.stat.clone(),
        failcnt: if is_v1(&reading.cgroup) { memory.failures } else { 0 },
        limit: memory.limit.map_or(reading.machine_memory, |limit| limit.min(reading.machine_memory)),
        ..MemoryStats::default()
    }
}

fn networks(reading: &StatsReading) -> std::collections::BTreeMap<String, NetworkStats> {
    let shown = reading.interfaces.iter().map(|(name, counters)| {
        let stats = NetworkStats {
            rx_bytes: counters.rx_bytes,
            rx_packets: counters.rx_packets,
            rx_errors: counters.rx_errors,
            rx_dropped: counters.rx_dropped,
            tx_bytes: counters.tx_bytes,
            tx_packets: counters.tx_packets,
            tx_errors: counters.tx_errors,
            tx_dropped: counters.tx_dropped,
            ..NetworkStats::default()
        };
        (name.clone(), stats)
    });
    shown.collect()
}

fn pids(reading: &StatsReading) -> PidsStats {
    let pids = &reading.cgroup.pids;
    PidsStats { current: pids.current, limit: pids.limit.unwrap_or_default() }
}

fn blkio(cgroup: &Readings) -> BlkioStats {
    let is_v1 = is_v1(cgroup);
    let (bytes, operations) = (cgroup.blkio.bytes.iter(), cgroup.blkio.operations.iter());
    let word = |word: &str| if is_v1 { capitalised(word) } else { word.to_owned() };
    let bytes = bytes.map(|entry| BlkioEntry {
        major: entry.major,
        minor: entry.minor,
        op: word(&entry.operation),
        value: entry.value,
    });
    let operations = operations.map(|entry| BlkioEntry {
        major: entry.major,
        minor: entry.minor,
        op: word(&entry.operation),
        value: entry.value,
    });
    // On v1 a list without entries is empty, on v2 what the kernel does not count is null.
    let uncounted = is_v1.then(Vec::new);
    BlkioStats {
        io_service_bytes_recursive: Some(bytes.collect()),
        io_serviced_recursive: is_v1.then(|| operations.collect()),
        io_queue_recursive: uncounted.clone(),
        io_service_time_recursive: uncounted.clone(),
        io_wait_time_recursive: uncounted.clone(),
        io_merged_recursive: uncounted.clone(),
        io_time_recursive: uncounted.clone(),
        sectors_recursive: uncounted,
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}
