//! What managers take of the machine: processor time by threads, memory by process.
//!
//! Start reading at [`processor_time`].

use std::fs;
use std::time::Duration;

/// Ticks of `/proc/PID/stat` in a second; the kernel's figure for user space on every architecture.
const TICKS: u64 = 100;

/// Processor time of all threads of this process whose name begins with `prefix`.
pub(crate) fn processor_time(prefix: &str) -> Duration {
    let mut ticks = 0;
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end while it is looked at.
        let Ok(stat) = fs::read_to_string(thread.unwrap().path().join("stat")) else { continue };
        let (name, fields) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") ")).unwrap();
        if name.starts_with(prefix) {
            // utime and stime are fields 14 and 15 of proc(5), the first after the name is field 3.
            ticks +=
                fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum::<u64>();
        }
    }
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Memory that this process has in use, and has had at most, in MiB.
pub(crate) fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// The value below which so many hundredths of some lie.
pub(crate) fn percentile(values: &[Duration], hundredths: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * hundredths / 100).min(sorted.len() - 1)]
}
