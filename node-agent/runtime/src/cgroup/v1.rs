//! Limits and readings on cgroup v1, one function per controller.
//!
//! Start reading at [`apply`]. `directory` is always the container's directory in the hierarchy of the controller that the
//! function is named after. A file that this kernel does not have is a warning, a value that it refuses is an error.

use std::io;
use std::path::Path;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids, LinuxResources,
};

use super::devices::{Verdict, effective_rules};
use super::files::{self, OpenFiles, number, try_write, write};
use super::readings::{BlkioEntry, BlkioReadings, CpuReadings, MemoryReadings, PidsReadings};
use super::table::entry;
use crate::error::{Context, Result, RuntimeError, Warning};

/// Sets the limits of one controller in its directory.
pub(crate) fn apply(
    controller: &str,
    directory: &Path,
    resources: &LinuxResources,
    warnings: &mut Vec<Warning>,
) -> Result<()> {
    match controller {
        "memory" => {
            resources.memory().as_ref().map_or(Ok(()), |memory| apply_memory(directory, memory, warnings))
        }
        "cpu" => resources.cpu().as_ref().map_or(Ok(()), |cpu| apply_cpu(directory, cpu, warnings)),
        "cpuset" => resources.cpu().as_ref().map_or(Ok(()), |cpu| apply_cpuset(directory, cpu)),
        "pids" => resources.pids().as_ref().map_or(Ok(()), |pids| apply_pids(directory, *pids)),
        "blkio" => {
            resources.block_io().as_ref().map_or(Ok(()), |blkio| apply_blkio(directory, blkio, warnings))
        }
        "hugetlb" => apply_hugetlb(directory, resources.hugepage_limits().as_deref().unwrap_or_default()),
        "net_cls" | "net_prio" => resources
            .network()
            .as_ref()
            .map_or(Ok(()), |network| apply_network(controller, directory, network)),
        "devices" => apply_devices(directory, resources),
        _ => Ok(()),
    }
}

/// Writes a limit whose file some kernels lack.
fn write_or_warn(
    directory: &Path,
    file: &str,
    value: &str,
    limit: &'static str,
    warnings: &mut Vec<Warning>,
) -> Result<()> {
    match try_write(directory, file, value) {
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EACCES)) =>
        {
            warnings.push(Warning::LimitUnavailable { limit, reason: format!("{file}: {error}") });
            Ok(())
        }
        other => other.step(|| format!("write {value:?} to {}", directory.join(file).display())),
    }
}

fn apply_memory(directory: &Path, memory: &LinuxMemory, warnings: &mut Vec<Warning>) -> Result<()> {
    set_memory_and_swap(directory, memory, warnings)?;
    if let Some(reservation) = memory.reservation() {
        write(directory, "memory.soft_limit_in_bytes", &reservation.to_string())?;
    }
    if let Some(kernel) = memory.kernel() {
        write_or_warn(
            directory,
            "memory.kmem.limit_in_bytes",
            &kernel.to_string(),
            "memory.kernel",
            warnings,
        )?;
    }
    if let Some(kernel_tcp) = memory.kernel_tcp() {
        let file = "memory.kmem.tcp.limit_in_bytes";
        write_or_warn(directory, file, &kernel_tcp.to_string(), "memory.kernelTCP", warnings)?;
    }
    if memory.disable_oom_killer() == Some(true) {
        write(directory, "memory.oom_control", "1")?;
    }
    match memory.swappiness() {
        Some(swappiness @ 0..=100) => write(directory, "memory.swappiness", &swappiness.to_string()),
        Some(other) => {
            Err(RuntimeError::InvalidSpec(format!("memory.swappiness {other} is not between 0 and 100")))
        }
        None => Ok(()),
    }
}

/// Sets both limits in the order that keeps `limit <= memory+swap` true at every moment.
fn set_memory_and_swap(directory: &Path, memory: &LinuxMemory, warnings: &mut Vec<Warning>) -> Result<()> {
    const LIMIT: &str = "memory.limit_in_bytes";
    const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
    let limit = memory.limit().filter(|limit| *limit != 0);
    // Without a memory limit there is nothing that a limit of both together could mean.
    let swap = match (limit, memory.swap().filter(|swap| *swap != 0)) {
        (Some(-1), None) => Some(-1),
        (_, swap) => swap,
    };
    let set_limit = || match limit {
        Some(limit) => try_write(directory, LIMIT, &limit.to_string()).map_err(|error| {
            let usage = number(directory, "memory.usage_in_bytes").unwrap_or(0);
            let peak = number(directory, "memory.max_usage_in_bytes").unwrap_or(0);
            if error.raw_os_error() == Some(libc::EBUSY) {
                io::Error::other(format!(
                    "unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})"
                ))
            } else {
                error
            }
        }),
        None => Ok(()),
    };
    let describe = || format!("set the memory limits in {}", directory.display());
    let mut set_swap = || match swap {
        Some(swap) => write_or_warn(directory, WITH_SWAP, &swap.to_string(), "memory.swap", warnings),
        None => Ok(()),
    };
    let current = number(directory, LIMIT).unwrap_or(0);
    let swap_first =
        swap.is_some_and(|swap| swap == -1 || u64::try_from(swap).is_ok_and(|swap| swap > current));
    if swap_first {
        set_swap()?;
        set_limit().step(describe)
    } else {
        set_limit().step(describe)?;
        set_swap()
    }
}

fn apply_cpu(directory: &Path, cpu: &LinuxCpu, warnings: &mut Vec<Warning>) -> Result<()> {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        write(directory, "cpu.shares", &shares.to_string())?;
        // The kernel clamps silently; the caller asked for something else.
        if let Some(applied) = number(directory, "cpu.shares")
            && applied != shares
        {
            let bound = if shares > applied { "maximum" } else { "minimum" };
            return Err(RuntimeError::InvalidSpec(format!("the {bound} allowed cpu-shares is {applied}")));
        }
    }
    set_bandwidth(directory, cpu)?;
    if let Some(burst) = cpu.burst() {
        write_or_warn(directory, "cpu.cfs_burst_us", &burst.to_string(), "cpu.burst", warnings)?;
    }
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        write(directory, "cpu.rt_period_us", &period.to_string())?;
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        write(directory, "cpu.rt_runtime_us", &runtime.to_string())?;
    }
    if let Some(idle) = cpu.idle() {
        write_or_warn(directory, "cpu.idle", &idle.to_string(), "cpu.idle", warnings)?;
    }
    Ok(())
}

/// Sets period and quota; a new period may be impossible with the old quota, then the quota goes first.
fn set_bandwidth(directory: &Path, cpu: &LinuxCpu) -> Result<()> {
    let mut period_is_set = true;
    let period = cpu.period().filter(|period| *period != 0);
    let quota = cpu.quota().filter(|quota| *quota != 0);
    if let Some(period) = period {
        match try_write(directory, "cpu.cfs_period_us", &period.to_string()) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && quota.is_some() => {
                period_is_set = false;
            }
            other => other.step(|| format!("set cpu.cfs_period_us to {period}"))?,
        }
    }
    if let Some(quota) = quota {
        write(directory, "cpu.cfs_quota_us", &quota.to_string())?;
    }
    match period {
        Some(period) if !period_is_set => write(directory, "cpu.cfs_period_us", &period.to_string()),
        _ => Ok(()),
    }
}

fn apply_cpuset(directory: &Path, cpu: &LinuxCpu) -> Result<()> {
    if let Some(cpus) = cpu.cpus().as_ref().filter(|cpus| !cpus.is_empty()) {
        write(directory, "cpuset.cpus", cpus)?;
    }
    if let Some(mems) = cpu.mems().as_ref().filter(|mems| !mems.is_empty()) {
        write(directory, "cpuset.mems", mems)?;
    }
    Ok(())
}

/// Gives a new cpuset the processors and memory nodes of its parent; without both nothing can enter it.
pub(crate) fn inherit_cpuset(directory: &Path, parent: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if files::read(directory, file)?.trim().is_empty() {
            write(directory, file, files::read(parent, file)?.trim())?;
        }
    }
    Ok(())
}

fn apply_pids(directory: &Path, pids: LinuxPids) -> Result<()> {
    match pids.limit() {
        0 => Ok(()),
        limit @ 1.. => write(directory, "pids.max", &limit.to_string()),
        _ => write(directory, "pids.max", "max"),
    }
}

fn apply_blkio(directory: &Path, blkio: &LinuxBlockIo, warnings: &mut Vec<Warning>) -> Result<()> {
    // The file is named after the scheduler that implements weights.
    let weight_file = |name: &str| {
        let plain = format!("blkio.{name}");
        if directory.join(&plain).exists() { plain } else { format!("blkio.bfq.{name}") }
    };
    if let Some(weight) = blkio.weight().filter(|weight| *weight != 0) {
        write_or_warn(directory, &weight_file("weight"), &weight.to_string(), "blockIO.weight", warnings)?;
    }
    if let Some(weight) = blkio.leaf_weight().filter(|weight| *weight != 0) {
        write_or_warn(directory, "blkio.leaf_weight", &weight.to_string(), "blockIO.leafWeight", warnings)?;
    }
    for device in blkio.weight_device().as_deref().unwrap_or_default() {
        let line = |weight: u16| format!("{}:{} {weight}", device.major(), device.minor());
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            let file = weight_file("weight_device");
            write_or_warn(directory, &file, &line(weight), "blockIO.weightDevice", warnings)?;
        }
        if let Some(weight) = device.leaf_weight().filter(|weight| *weight != 0) {
            let file = "blkio.leaf_weight_device";
            write_or_warn(directory, file, &line(weight), "blockIO.weightDevice", warnings)?;
        }
    }
    let throttles = [
        ("blkio.throttle.read_bps_device", blkio.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", blkio.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", blkio.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", blkio.throttle_write_iops_device()),
    ];
    for (file, devices) in throttles {
        for device in devices.as_deref().unwrap_or_default() {
            write(directory, file, &format!("{}:{} {}", device.major(), device.minor(), device.rate()))?;
        }
    }
    Ok(())
}

fn apply_hugetlb(directory: &Path, limits: &[LinuxHugepageLimit]) -> Result<()> {
    for limit in limits {
        let size = limit.page_size();
        write(directory, &format!("hugetlb.{size}.limit_in_bytes"), &limit.limit().to_string())?;
        // Reservations are limited too where the kernel counts them, as in runc.
        let file = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        if directory.join(&file).exists() {
            write(directory, &file, &limit.limit().to_string())?;
        }
    }
    Ok(())
}

fn apply_network(controller: &str, directory: &Path, network: &LinuxNetwork) -> Result<()> {
    if controller == "net_cls" {
        return match network.class_id() {
            Some(class) => write(directory, "net_cls.classid", &class.to_string()),
            None => Ok(()),
        };
    }
    for priority in network.priorities().as_deref().unwrap_or_default() {
        write(directory, "net_prio.ifpriomap", &format!("{} {}", priority.name(), priority.priority()))?;
    }
    Ok(())
}

fn apply_devices(directory: &Path, resources: &LinuxResources) -> Result<()> {
    for rule in effective_rules(resources.devices().as_deref().unwrap_or_default())? {
        let file = match rule.verdict {
            Verdict::Allow => "devices.allow",
            Verdict::Deny => "devices.deny",
        };
        write(directory, file, &rule.to_line())?;
    }
    Ok(())
}

/// Reads the counters of the `cpuacct` and `cpu` directories.
pub(crate) fn read_cpu(cpuacct: Option<&mut OpenFiles>, cpu: Option<&mut OpenFiles>) -> CpuReadings {
    let mut readings = CpuReadings::default();
    if let Some(files) = cpuacct {
        // These two say what `cpuacct.usage`, `usage_user` and `usage_sys` say, each of which adds up the same counters.
        let numbers = |text: &str| text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        readings.per_cpu = files.read("cpuacct.usage_percpu", numbers).unwrap_or_default();
        readings.usage = readings.per_cpu.iter().copied().fold(0, u64::saturating_add);
        (readings.user, readings.system) =
            files.read("cpuacct.usage_all", parse_usage_all).unwrap_or_default();
    }
    if let Some(files) = cpu {
        files.read("cpu.stat", |stat| {
            readings.periods = entry(stat, "nr_periods");
            readings.throttled_periods = entry(stat, "nr_throttled");
            readings.throttled = entry(stat, "throttled_time");
        });
    }
    readings
}

/// Adds up the columns of `cpuacct.usage_all`, which are `cpu user system` below their names.
fn parse_usage_all(text: &str) -> (u64, u64) {
    text.lines().skip(1).fold((0, 0), |(user, system), line| {
        let mut columns = line.split(' ').skip(1).map(|figure| figure.parse::<u64>().unwrap_or(0));
        let mut add = |sum: u64| sum.saturating_add(columns.next().unwrap_or(0));
        (add(user), add(system))
    })
}

/// Limits at or above this are the kernel's way to say that there is none.
const NO_LIMIT: u64 = i64::MAX as u64 - 0xffff;

/// Reads the counters of the `memory` directory.
pub(crate) fn read_memory(files: &mut OpenFiles) -> MemoryReadings {
    MemoryReadings {
        usage: files.number("memory.usage_in_bytes").unwrap_or(0),
        max_usage: files.number("memory.max_usage_in_bytes"),
        limit: files.number("memory.limit_in_bytes").filter(|limit| *limit < NO_LIMIT),
        failures: files.number("memory.failcnt").unwrap_or(0),
        stat: files.table("memory.stat"),
    }
}

/// Reads the counters of the `pids` directory; the file names are the same on v2.
pub(crate) fn read_pids(files: &mut OpenFiles) -> PidsReadings {
    PidsReadings { current: files.number("pids.current").unwrap_or(0), limit: files.number("pids.max") }
}

/// Reads the counters of the `blkio` directory.
pub(crate) fn read_blkio(files: &mut OpenFiles) -> BlkioReadings {
    let mut read = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| files.read(name, parse_blkio)).unwrap_or_default()
    };
    BlkioReadings {
        bytes: read(["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"]),
        operations: read(["blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"]),
    }
}

fn parse_blkio(text: &str) -> Vec<BlkioEntry> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split([' ', ':']);
            Some(BlkioEntry {
                major: fields.next()?.parse().ok()?,
                minor: fields.next()?.parse().ok()?,
                operation: fields.next()?.to_ascii_lowercase(),
                value: fields.next()?.parse().ok()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_processors_are_added_up() {
        let text = "cpu user system\n0 56583713270684 12971994631146\n1 3 4\n";
        assert_eq!(parse_usage_all(text), (56_583_713_270_687, 12_971_994_631_150));
        assert_eq!(parse_usage_all(""), (0, 0));
    }

    #[test]
    fn block_counters_are_parsed_and_the_total_line_is_not_one() {
        let entries = parse_blkio("8:16 Read 4096\n8:16 Total 4096\nTotal 4096\n");
        assert_eq!(entries.len(), 2);
        let first = BlkioEntry { major: 8, minor: 16, operation: "read".to_owned(), value: 4096 };
        assert_eq!(entries.first(), Some(&first));
    }
}
