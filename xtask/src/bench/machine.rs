//! The machine as a whole: what it is, and how busy it is.
//!
//! Start reading at [`description`].

use std::fs::read_to_string;

use anyhow::Result;

/// Processor time since boot, in clock ticks of all processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ticks {
    total: u64,
    idle: u64,
}

/// Reads the clock ticks; zeros when the kernel does not say.
pub(super) fn ticks() -> Ticks {
    parse_ticks(&read_to_string("/proc/stat").unwrap_or_default())
}

/// The part of the time since `before` in which processors worked, 0 to 1.
pub(super) fn busy_since(before: Ticks) -> f64 {
    busy(before, ticks())
}

fn busy(before: Ticks, after: Ticks) -> f64 {
    let total = after.total.saturating_sub(before.total).max(1);
    let idle = after.idle.saturating_sub(before.idle).min(total);
    1.0 - idle as f64 / total as f64
}

/// The first line of /proc/stat: user nice system idle iowait irq softirq steal. What runs niced gives way and counts as idle.
fn parse_ticks(stat: &str) -> Ticks {
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let at = |index: usize| fields.get(index).copied().unwrap_or_default();
    Ticks { total: fields.iter().take(8).sum(), idle: at(1) + at(3) + at(4) }
}

/// In general words, for a heading.
pub(super) fn description() -> Result<String> {
    let release = read_to_string("/proc/sys/kernel/osrelease")?;
    let memory = read_to_string("/proc/meminfo")?;
    let kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default();
    let processors = std::thread::available_parallelism()?;
    let load = read_to_string("/proc/loadavg")?;
    let load = load.split_whitespace().next().unwrap_or_default();
    Ok(format!(
        "Linux {}, {processors} processors, {:.0} GiB of memory, load {load} at the end",
        release.trim(),
        kib as f64 / 1024.0 / 1024.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn niced_and_waiting_time_counts_as_idle() {
        let before = parse_ticks("cpu 0 0 0 0 0 0 0 0 0 0\ncpu0 1 1 1 1\n");
        let after = parse_ticks("cpu 20 10 20 30 10 0 0 10 7 7\n");
        assert_eq!(after, Ticks { total: 100, idle: 50 });
        assert!((busy(before, after) - 0.5).abs() < 1e-9);
    }
}
