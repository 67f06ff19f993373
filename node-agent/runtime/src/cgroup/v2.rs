//! Limits and readings on cgroup v2.
//!
//! Start reading at [`settings`] (pure): it turns the resources of a spec, which are written in the terms of v1, into the
//! files and values of v2. `directory` is the container's directory. The device program is in `bpf.rs`.

use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::files::{self, OpenFiles, try_write};
use super::readings::{BlkioEntry, BlkioReadings, CpuReadings, MemoryReadings};
use super::table::entry;
use crate::error::{Context, Result, RuntimeError, Warning};

/// One value to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) file: String,
    pub(crate) value: String,
    /// The limit in the words of the runtime spec, for a warning when the kernel has no such file.
    pub(crate) limit: &'static str,
}

fn setting(file: impl Into<String>, value: impl std::fmt::Display, limit: &'static str) -> Setting {
    Setting { file: file.into(), value: value.to_string(), limit }
}

/// Turns resources into the files and values of v2, `unified` last so that it wins.
pub(crate) fn settings(resources: &LinuxResources) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    if let Some(memory) = resources.memory() {
        memory_settings(memory, &mut settings)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_settings(cpu, &mut settings)?;
    }
    match resources.pids().map(|pids| pids.limit()) {
        None | Some(0) => {}
        Some(limit @ 1..) => settings.push(setting("pids.max", limit, "pids.limit")),
        Some(_) => settings.push(setting("pids.max", "max", "pids.limit")),
    }
    if let Some(blkio) = resources.block_io() {
        io_settings(blkio, &mut settings);
    }
    for limit in resources.hugepage_limits().as_deref().unwrap_or_default() {
        let file = format!("hugetlb.{}.max", limit.page_size());
        settings.push(setting(file, limit.limit(), "hugepageLimits"));
    }
    if resources.network().is_some() {
        return Err(RuntimeError::Unsupported("linux.resources.network on cgroup v2".to_owned()));
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        if file.is_empty() || file.contains('/') {
            return Err(RuntimeError::InvalidSpec(format!("unified resource {file:?} must be a file name")));
        }
        settings.push(setting(file.as_str(), value, "unified"));
    }
    Ok(settings)
}

/// Writes the settings; a limit whose file is missing is a warning, except those of `unified`, which name files.
pub(crate) fn write_settings(
    directory: &Path,
    settings: &[Setting],
    warnings: &mut Vec<Warning>,
) -> Result<()> {
    for Setting { file, value, limit } in settings {
        match try_write(directory, file, value) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && *limit != "unified" => {
                // Swap accounting can be off; asking for no swap at all is then harmless.
                warnings.push(Warning::LimitUnavailable { limit, reason: format!("no file {file}") });
            }
            other => other.step(|| format!("write {value:?} to {}", directory.join(file).display()))?,
        }
    }
    Ok(())
}

fn bytes(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

fn memory_settings(memory: &LinuxMemory, settings: &mut Vec<Setting>) -> Result<()> {
    let limit = memory.limit().filter(|limit| *limit != 0);
    let swap = memory.swap().filter(|swap| *swap != 0);
    // The spec's `swap` is memory and swap together; v2 limits swap alone.
    let swap_alone = match (limit, swap) {
        (_, Some(-1)) | (Some(-1), None) => Some("max".to_owned()),
        (_, None) => None,
        (None | Some(-1), Some(_)) => {
            return Err(RuntimeError::InvalidSpec("memory.swap needs memory.limit".to_owned()));
        }
        (Some(limit), Some(swap)) if swap < limit => {
            return Err(RuntimeError::InvalidSpec("memory.swap is smaller than memory.limit".to_owned()));
        }
        (Some(limit), Some(swap)) => Some((swap - limit).to_string()),
    };
    if let Some(swap) = swap_alone {
        settings.push(setting("memory.swap.max", swap, "memory.swap"));
    }
    if let Some(limit) = limit {
        settings.push(setting("memory.max", bytes(limit), "memory.limit"));
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        settings.push(setting("memory.low", bytes(reservation), "memory.reservation"));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(RuntimeError::Unsupported("memory.disableOOMKiller on cgroup v2".to_owned()));
    }
    // The kernel has no such knobs on v2; runc drops them silently, a spec written for v1 keeps working.
    Ok(())
}

fn cpu_settings(cpu: &LinuxCpu, settings: &mut Vec<Setting>) -> Result<()> {
    if cpu.realtime_period().is_some_and(|value| value != 0)
        || cpu.realtime_runtime().is_some_and(|value| value != 0)
    {
        return Err(RuntimeError::Unsupported("realtime processor limits on cgroup v2".to_owned()));
    }
    // A weight cannot be set on an idle group, so idleness goes first.
    if let Some(idle) = cpu.idle() {
        settings.push(setting("cpu.idle", idle, "cpu.idle"));
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0)
        && cpu.idle() != Some(1)
    {
        settings.push(setting("cpu.weight", weight_of_shares(shares), "cpu.shares"));
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        let quota = match quota {
            Some(quota @ 1..) => quota.to_string(),
            _ => "max".to_owned(),
        };
        let value = match period {
            Some(period) => format!("{quota} {period}"),
            None => quota,
        };
        settings.push(setting("cpu.max", value, "cpu.quota"));
    }
    if let Some(burst) = cpu.burst() {
        settings.push(setting("cpu.max.burst", burst, "cpu.burst"));
    }
    for (file, list, limit) in
        [("cpuset.cpus", cpu.cpus(), "cpu.cpus"), ("cpuset.mems", cpu.mems(), "cpu.mems")]
    {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            settings.push(setting(file, list, limit));
        }
    }
    Ok(())
}

/// Converts shares (2 to 262144, 1024 by default) to a weight (1 to 10000, 100 by default).
///
/// The curve is that of the opencontainers cgroups library since 2025, which maps default to default; the older
/// straight line made a container with default shares weigh less than half of an ordinary service.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[expect(clippy::cast_precision_loss, reason = "shares are below 2^18")]
            let logarithm = (shares as f64).log2();
            let exponent = (logarithm * logarithm + 125.0 * logarithm) / 612.0 - 7.0 / 34.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and 10000"
            )]
            let weight = 10_f64.powf(exponent).ceil() as u64;
            weight.clamp(1, 10_000)
        }
    }
}

/// Converts a v1 block weight (10 to 1000) to an io weight (1 to 10000).
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

fn io_settings(blkio: &LinuxBlockIo, settings: &mut Vec<Setting>) {
    if let Some(weight) = blkio.weight().filter(|weight| *weight != 0) {
        settings.push(setting("io.weight", format!("default {}", io_weight(weight)), "blockIO.weight"));
    }
    for device in blkio.weight_device().as_deref().unwrap_or_default() {
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            let value = format!("{}:{} {}", device.major(), device.minor(), io_weight(weight));
            settings.push(setting("io.weight", value, "blockIO.weightDevice"));
        }
    }
    let throttles = [
        ("rbps", blkio.throttle_read_bps_device()),
        ("wbps", blkio.throttle_write_bps_device()),
        ("riops", blkio.throttle_read_iops_device()),
        ("wiops", blkio.throttle_write_iops_device()),
    ];
    for (key, devices) in throttles {
        for device in devices.as_deref().unwrap_or_default() {
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            let value = format!("{}:{} {key}={rate}", device.major(), device.minor());
            settings.push(setting("io.max", value, "blockIO.throttle"));
        }
    }
}

/// Offers controllers to the children of every directory between the root and the container's own.
///
/// Asks only where something is missing: the usual case is one read per level.
pub(crate) fn enable_controllers(root: &Path, below: &Path, offered: &[String]) {
    let mut directory = root.to_path_buf();
    let levels = below.components().count();
    for component in std::iter::once(None).chain(below.components().take(levels.saturating_sub(1)).map(Some))
    {
        if let Some(component) = component {
            directory.push(component);
        }
        let enabled = files::read_if_present(&directory, "cgroup.subtree_control").unwrap_or_default();
        let enabled: Vec<&str> = enabled.split_whitespace().collect();
        for controller in offered.iter().filter(|name| !enabled.contains(&name.as_str())) {
            // One by one and without regard to failure: a controller that cannot be had here shows as a warning
            // when a limit needs it, and must not cost the others.
            let _ = try_write(&directory, "cgroup.subtree_control", &format!("+{controller}"));
        }
    }
}

/// Reads the processor counters.
pub(crate) fn read_cpu(files: &mut OpenFiles) -> CpuReadings {
    files.read("cpu.stat", parse_cpu_stat).unwrap_or_default()
}

fn parse_cpu_stat(stat: &str) -> CpuReadings {
    let nanoseconds = |key| entry(stat, key).saturating_mul(1000);
    CpuReadings {
        usage: nanoseconds("usage_usec"),
        user: nanoseconds("user_usec"),
        system: nanoseconds("system_usec"),
        per_cpu: Vec::new(),
        periods: entry(stat, "nr_periods"),
        throttled_periods: entry(stat, "nr_throttled"),
        throttled: nanoseconds("throttled_usec"),
    }
}

/// Reads the memory counters.
pub(crate) fn read_memory(files: &mut OpenFiles) -> MemoryReadings {
    MemoryReadings {
        usage: files.number("memory.current").unwrap_or(0),
        max_usage: files.number("memory.peak"),
        limit: files.number("memory.max"),
        failures: files.read("memory.events", |events| entry(events, "max")).unwrap_or_default(),
        stat: files.table("memory.stat"),
    }
}

/// Reads the block device counters.
pub(crate) fn read_io(files: &mut OpenFiles) -> BlkioReadings {
    files.read("io.stat", parse_io_stat).unwrap_or_default()
}

fn parse_io_stat(text: &str) -> BlkioReadings {
    let mut readings = BlkioReadings::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let entry = |operation: &str| BlkioEntry { major, minor, operation: operation.to_owned(), value };
            match key {
                "rbytes" => readings.bytes.push(entry("read")),
                "wbytes" => readings.bytes.push(entry("write")),
                "dbytes" => readings.bytes.push(entry("discard")),
                "rios" => readings.operations.push(entry("read")),
                "wios" => readings.operations.push(entry("write")),
                "dios" => readings.operations.push(entry("discard")),
                _ => {}
            }
        }
    }
    readings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(json: &str) -> Vec<String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        settings(&resources)
            .unwrap()
            .iter()
            .map(|setting| format!("{}={}", setting.file, setting.value))
            .collect()
    }

    #[test]
    fn resources_of_v1_become_files_of_v2() {
        let cases: [(&str, &[&str]); 9] = [
            (r#"{"memory":{"limit":100,"swap":300}}"#, &["memory.swap.max=200", "memory.max=100"]),
            (r#"{"memory":{"limit":-1}}"#, &["memory.swap.max=max", "memory.max=max"]),
            (
                r#"{"memory":{"limit":100,"swap":-1,"reservation":50}}"#,
                &["memory.swap.max=max", "memory.max=100", "memory.low=50"],
            ),
            (r#"{"cpu":{"shares":1024}}"#, &["cpu.weight=100"]),
            (r#"{"cpu":{"quota":50000,"period":100000}}"#, &["cpu.max=50000 100000"]),
            (r#"{"cpu":{"period":100000,"cpus":"0-1"}}"#, &["cpu.max=max 100000", "cpuset.cpus=0-1"]),
            (r#"{"pids":{"limit":-1}}"#, &["pids.max=max"]),
            (
                r#"{"blockIO":{"weight":10,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":7}]}}"#,
                &["io.weight=default 1", "io.max=8:0 rbps=7"],
            ),
            (
                r#"{"pids":{"limit":3},"unified":{"pids.max":"5","cpu.idle":"1"}}"#,
                &["pids.max=3", "cpu.idle=1", "pids.max=5"],
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(lines(json), expected, "{json}");
        }
    }

    #[test]
    fn shares_map_ends_to_ends_and_default_to_default() {
        for (shares, weight) in [(1, 1), (2, 1), (1024, 100), (262_144, 10_000), (500_000, 10_000)] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn what_v2_cannot_do_is_refused() {
        for json in [
            r#"{"cpu":{"realtimeRuntime":5}}"#,
            r#"{"memory":{"swap":5}}"#,
            r#"{"memory":{"limit":10,"swap":5}}"#,
            r#"{"memory":{"disableOOMKiller":true}}"#,
            r#"{"network":{"classID":5}}"#,
            r#"{"unified":{"../x":"1"}}"#,
        ] {
            assert!(settings(&serde_json::from_str(json).unwrap()).is_err(), "{json}");
        }
    }

    #[test]
    fn io_counters_are_parsed() {
        let readings = parse_io_stat("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n");
        let bytes: Vec<u64> = readings.bytes.iter().map(|entry| entry.value).collect();
        let operations: Vec<u64> = readings.operations.iter().map(|entry| entry.value).collect();
        assert_eq!((bytes, operations), (vec![1, 2, 5], vec![3, 4, 6]));
    }
}
