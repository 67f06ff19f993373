//! What the creating process sets on a container's process from outside: resource limits and the OOM score.
//!
//! Start reading at [`apply`]. The host may refuse to raise a limit or to lower the score (no `CAP_SYS_RESOURCE`); as
//! with dockerd and runc on such hosts the nearest possible value is set and the caller is told.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use oci_spec::runtime::{PosixRlimit, PosixRlimitType};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::error::{Context, Result, RuntimeError, Warning};
use crate::process::ProcessPlan;

/// Sets limits and OOM score of a process that has not been executed yet.
///
/// The limit of open files is only raised here: the process still opens files while it makes itself ready, and lowers the
/// limit itself when it has what it needs ([`lower_descriptors`]).
pub(crate) fn apply(pid: i32, plan: &ProcessPlan, warnings: &mut Vec<Warning>) -> Result<()> {
    for rlimit in &plan.rlimits {
        let inherited = rustix::process::getrlimit(resource(rlimit.typ()));
        let is_lower = inherited.maximum.is_none_or(|allowed| rlimit.hard() <= allowed);
        if rlimit.typ() == PosixRlimitType::RlimitNofile && is_lower {
            continue;
        }
        set_rlimit(pid, rlimit, warnings)?;
    }
    match plan.oom_score_adj {
        Some(score) => set_oom_score(pid, score, warnings),
        None => Ok(()),
    }
}

/// Gives this process the limit of open files of its plan, as far as the creator could raise it. Needs no privilege.
pub(crate) fn lower_descriptors(plan: &ProcessPlan) -> Result<()> {
    let wanted = plan.rlimits.iter().find(|rlimit| rlimit.typ() == PosixRlimitType::RlimitNofile);
    let Some(wanted) = wanted else { return Ok(()) };
    let allowed = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let hard = wanted.hard().min(allowed);
    let limit = Rlimit { current: Some(wanted.soft().min(hard)), maximum: Some(hard) };
    rustix::process::setrlimit(Resource::Nofile, limit).step(|| "set RLIMIT_NOFILE")
}

fn set_rlimit(pid: i32, wanted: &PosixRlimit, warnings: &mut Vec<Warning>) -> Result<()> {
    let describe = || format!("set {}", wanted.typ());
    let target = Pid::from_raw(pid);
    let resource = resource(wanted.typ());
    let limit = |current: u64, maximum: u64| {
        let finite = |value: u64| (value != u64::MAX).then_some(value);
        Rlimit { current: finite(current), maximum: finite(maximum) }
    };
    match prlimit(target, resource, limit(wanted.soft(), wanted.hard())) {
        Ok(_) => Ok(()),
        Err(rustix::io::Errno::PERM) => {
            let allowed = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let hard = wanted.hard().min(allowed);
            prlimit(target, resource, limit(wanted.soft().min(hard), hard)).step(describe)?;
            warnings.push(Warning::RlimitLowered {
                name: wanted.typ().to_string(),
                requested: wanted.hard(),
                applied: hard,
            });
            Ok(())
        }
        Err(other) => Err(RuntimeError::step(describe(), other)),
    }
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

fn set_oom_score(pid: i32, score: i32, warnings: &mut Vec<Warning>) -> Result<()> {
    match fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
            warnings.push(Warning::OomScoreAdjustRefused { requested: score });
            Ok(())
        }
        other => other.step(|| format!("set the OOM score adjustment to {score}")),
    }
}

/// Reads when a process started (field 22 of its stat file), which with its pid names it for ever.
pub(crate) fn start_time(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).step(|| format!("read {path}"))?;
    // The name of the program stands in parentheses and may contain anything, parentheses too.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name
        .split_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| RuntimeError::step(format!("understand {path}"), rustix::io::Errno::INVAL))
}

/// Tells which pid a pid descriptor stands for, in the caller's pid namespace.
pub(crate) fn pid_behind(pidfd: &OwnedFd) -> Result<i32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let info = fs::read_to_string(&path).step(|| format!("read {path}"))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.filter(|pid| *pid > 0)
        .ok_or_else(|| RuntimeError::step("find a process by its descriptor", rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_of_this_process_is_stable() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(start_time(pid).unwrap(), start_time(pid).unwrap());
        assert!(start_time(i32::MAX).is_err());
    }
}
