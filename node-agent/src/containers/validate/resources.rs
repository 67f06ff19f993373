//! PURE. Limits: their ranges, their contradictions, and what the kernel of this machine can do.
//!
//! Start reading at [`check`].

use shoal_types::container::resources::Resources;

use crate::containers::host::{CgroupVersion, Host};
use crate::error::NodeError;

/// Less memory than this does not run anything useful; Docker's limit, not the kernel's.
const LEAST_MEMORY: i64 = 6 * 1024 * 1024;

/// What the limits are checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A new container.
    Create,
    /// A change of an existing one, where a missing field keeps its value.
    Update,
}

type Warnings = Vec<String>;

/// Checks limits, drops what the kernel cannot enforce, and returns warnings.
pub(super) fn check(
    resources: &mut Resources,
    host: &Host,
    occasion: Occasion,
) -> Result<Warnings, NodeError> {
    let mut warnings = Vec::new();
    check_memory(resources, host, occasion, &mut warnings)?;
    check_oom_and_pids(resources, host, &mut warnings);
    check_cpu(resources, host, &mut warnings)?;
    check_realtime(resources, host)?;
    check_cpuset(resources, host, &mut warnings)?;
    check_blkio(resources, host, &mut warnings)?;
    check_ulimits(resources)?;
    Ok(warnings)
}

/// The words are the client's, which checks the same.
fn check_ulimits(resources: &Resources) -> Result<(), NodeError> {
    for limit in &resources.ulimits {
        // Unlimited is -1, and more than any number.
        if limit.soft.cast_unsigned() > limit.hard.cast_unsigned() {
            let (soft, hard) = (limit.soft, limit.hard);
            return Err(NodeError::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            )));
        }
    }
    Ok(())
}

fn check_memory(
    resources: &mut Resources,
    host: &Host,
    occasion: Occasion,
    warnings: &mut Warnings,
) -> Result<(), NodeError> {
    // Clients of old send -1 for "nothing".
    if resources.memory_swappiness == Some(-1) {
        resources.memory_swappiness = None;
    }
    if resources.memory != 0 && resources.memory < LEAST_MEMORY {
        return Err(NodeError::invalid("Minimum memory limit allowed is 6MB"));
    }
    if resources.memory > 0 && !host.limits.memory {
        warnings.push(
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
                .to_owned(),
        );
        resources.memory = 0;
        resources.memory_swap = -1;
    }
    if resources.memory > 0 && resources.memory_swap != -1 && !host.limits.swap {
        warnings.push(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
                .to_owned(),
        );
        resources.memory_swap = -1;
    }
    if resources.memory > 0 && resources.memory_swap > 0 && resources.memory_swap < resources.memory {
        return Err(NodeError::invalid(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ));
    }
    if resources.memory == 0 && resources.memory_swap > 0 && occasion == Occasion::Create {
        return Err(NodeError::invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    if resources.memory_swappiness.is_some() && !host.limits.swappiness {
        warnings.push(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded."
                .to_owned(),
        );
        resources.memory_swappiness = None;
    }
    if let Some(swappiness) = resources.memory_swappiness
        && !(0..=100).contains(&swappiness)
    {
        return Err(NodeError::invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )));
    }
    check_reservation(resources, host, warnings)
}

fn check_reservation(
    resources: &mut Resources,
    host: &Host,
    warnings: &mut Warnings,
) -> Result<(), NodeError> {
    if resources.memory_reservation > 0 && !host.limits.memory_reservation {
        warnings.push(
            "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded."
                .to_owned(),
        );
        resources.memory_reservation = 0;
    }
    if resources.memory_reservation > 0 && resources.memory_reservation < LEAST_MEMORY {
        return Err(NodeError::invalid("Minimum memory reservation allowed is 6MB"));
    }
    if resources.memory > 0 && resources.memory_reservation > resources.memory {
        return Err(NodeError::invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    Ok(())
}

fn check_oom_and_pids(resources: &mut Resources, host: &Host, warnings: &mut Warnings) {
    if let Some(disable) = resources.oom_kill_disable
        && !host.limits.oom_kill_disable
    {
        if disable {
            warnings
                .push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
        }
        resources.oom_kill_disable = None;
    }
    if resources.oom_kill_disable == Some(true) && resources.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources."
                .to_owned(),
        );
    }
    if resources.pids_limit.is_some_and(|limit| limit > 0) && !host.limits.pids {
        warnings.push(
            "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
                .to_owned(),
        );
        resources.pids_limit = None;
    }
}

fn check_cpu(resources: &mut Resources, host: &Host, warnings: &mut Warnings) -> Result<(), NodeError> {
    if resources.cpu_shares < 0 {
        return Err(NodeError::invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            resources.cpu_shares
        )));
    }
    if resources.nano_cpus > 0 {
        if resources.cpu_period > 0 {
            return Err(NodeError::invalid(
                "Conflicting options: Nano CPUs and CPU Period cannot both be set",
            ));
        }
        if resources.cpu_quota > 0 {
            return Err(NodeError::invalid(
                "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
            ));
        }
        if !host.limits.cpu_quota {
            return Err(NodeError::invalid(
                "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
            ));
        }
    }
    let n_cpus = i64::try_from(host.n_cpus).unwrap_or(i64::MAX);
    if resources.nano_cpus < 0 || resources.nano_cpus > n_cpus.saturating_mul(1_000_000_000) {
        return Err(NodeError::invalid(format!(
            "range of CPUs is from 0.01 to {n_cpus}.00, as there are only {n_cpus} CPUs available"
        )));
    }
    if resources.cpu_shares > 0 && !host.limits.cpu_shares {
        warnings.push(
            "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded."
                .to_owned(),
        );
        resources.cpu_shares = 0;
    }
    if (resources.cpu_period != 0 || resources.cpu_quota != 0) && !host.limits.cpu_quota {
        warnings
            .push("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.".to_owned());
        resources.cpu_period = 0;
        resources.cpu_quota = 0;
    }
    if resources.cpu_period != 0 && !(1000..=1_000_000).contains(&resources.cpu_period) {
        return Err(NodeError::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if resources.cpu_quota > 0 && resources.cpu_quota < 1000 {
        return Err(NodeError::invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    Ok(())
}

fn check_realtime(resources: &Resources, host: &Host) -> Result<(), NodeError> {
    if resources.cpu_realtime_period == 0 && resources.cpu_realtime_runtime == 0 {
        return Ok(());
    }
    if host.cgroup_version == CgroupVersion::V2 || !host.limits.cpu_realtime {
        return Err(NodeError::invalid("kernel does not support CPU real-time scheduler"));
    }
    if resources.cpu_realtime_runtime > resources.cpu_realtime_period && resources.cpu_realtime_period != 0 {
        return Err(NodeError::invalid("cpu real-time runtime cannot be higher than cpu real-time period"));
    }
    Ok(())
}

fn check_cpuset(resources: &mut Resources, host: &Host, warnings: &mut Warnings) -> Result<(), NodeError> {
    let is_set = !resources.cpuset_cpus.is_empty() || !resources.cpuset_mems.is_empty();
    if is_set && !host.limits.cpuset {
        warnings.push(
            "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.".to_owned(),
        );
        resources.cpuset_cpus.clear();
        resources.cpuset_mems.clear();
    }
    let sets = [
        ("cpuset cpus", "CPUs", &resources.cpuset_cpus, &host.cpus),
        ("cpuset mems", "memory nodes", &resources.cpuset_mems, &host.mems),
    ];
    for (field, what, requested, available) in sets {
        let Some(wanted) = parse_set(requested) else {
            return Err(NodeError::invalid(format!("Invalid value {requested} for {field}")));
        };
        // A machine that does not tell what it has is not contradicted.
        let known = parse_set(available).filter(|known| !known.is_empty());
        if known.is_some_and(|known| wanted.iter().any(|number| !known.contains(number))) {
            return Err(NodeError::invalid(format!(
                "Requested {what} are not available - requested {requested}, available: {available}"
            )));
        }
    }
    Ok(())
}

/// Reads a set such as `0-2,7`; `None` when it is not one. Numbers beyond any machine are refused.
fn parse_set(text: &str) -> Option<Vec<u32>> {
    const LARGEST: u32 = 8192;
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        if first > last || last > LARGEST {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

fn check_blkio(resources: &mut Resources, host: &Host, warnings: &mut Warnings) -> Result<(), NodeError> {
    if resources.blkio_weight > 0 && !host.limits.blkio_weight {
        warnings.push(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
                .to_owned(),
        );
        resources.blkio_weight = 0;
    }
    if resources.blkio_weight > 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return Err(NodeError::invalid("Range of blkio weight is from 10 to 1000"));
    }
    if !resources.blkio_weight_device.is_empty() && !host.limits.blkio_weight_device {
        warnings.push(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
                .to_owned(),
        );
        resources.blkio_weight_device.clear();
    }
    if host.limits.blkio_throttle {
        return Ok(());
    }
    let rates = [
        ("BPS Block I/O read limit", "Block I/O BPS read limit", &mut resources.blkio_read_bps),
        ("BPS Block I/O write limit", "Block I/O BPS write limit", &mut resources.blkio_write_bps),
        ("IOPS Block read limit", "Block I/O IOPS read limit", &mut resources.blkio_read_iops),
        ("IOPS Block write limit", "Block I/O IOPS write limit", &mut resources.blkio_write_iops),
    ];
    for (lacking, dropped, devices) in rates {
        if !devices.is_empty() {
            devices.clear();
            warnings.push(format!(
                "Your kernel does not support {lacking} or the cgroup is not mounted. {dropped} discarded."
            ));
        }
    }
    Ok(())
}
