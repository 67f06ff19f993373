//! Paths of /proc and /sys that containers do not see, or see read-only.
//!
//! Start reading at [`of`]. The lists are Docker's.

use std::sync::LazyLock;

use shoal_types::container::security::SecuritySpec;

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Counters by which the temperature of processors, and so what others compute, can be guessed. Found out once: processors
/// do not come and go on the machines that have them.
static THERMAL: LazyLock<Vec<String>> = LazyLock::new(|| {
    let n_cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (0..n_cpus)
        .map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"))
        .filter(|path| std::path::Path::new(path).exists())
        .collect()
});

/// Masked and read-only paths of a container: its own lists, or the default ones; none when it is privileged.
pub(crate) fn of(security: &SecuritySpec) -> (Vec<String>, Vec<String>) {
    let default = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>();
    if security.privileged {
        return (Vec::new(), Vec::new());
    }
    let masked = security.masked_paths.clone().unwrap_or_else(|| {
        let mut paths = default(&MASKED);
        paths.extend(THERMAL.iter().cloned());
        paths
    });
    let read_only = security.readonly_paths.clone().unwrap_or_else(|| default(&READ_ONLY));
    (masked, read_only)
}
