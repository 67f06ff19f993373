//! Commands that change a container: `kill`, `delete`, `pause`, `resume`, `update`, `events`.

use std::io::Read as _;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::store::{Found, Store};
use super::{Invocation, terminal};
use crate::cgroup::Readings;
use crate::error::{Context, Result, RuntimeError};
use crate::{KillScope, lifecycle};

fn id_alone(invocation: &mut Invocation) -> Result<String> {
    if let Some(option) = invocation.arguments.next_option()? {
        return Err(invocation.arguments.unknown(&option));
    }
    let id = invocation.arguments.id()?;
    invocation.arguments.finish()?;
    Ok(id)
}

/// Sends a signal to the init process, or to all with `--all`.
pub(super) fn kill(mut invocation: Invocation) -> Result<u8> {
    let mut scope = KillScope::Init;
    while let Some(option) = invocation.arguments.next_option()? {
        match option.as_str() {
            "all" | "a" => scope = KillScope::All,
            other => return Err(invocation.arguments.unknown(other)),
        }
    }
    let id = invocation.arguments.id()?;
    let signal = match invocation.arguments.next_word()? {
        Some(text) => parse_signal(&text)?,
        None => libc::SIGTERM,
    };
    invocation.arguments.finish()?;
    let entry = invocation.store.entry(&id)?;
    match (invocation.store.find(&entry.record)?, scope) {
        // Processes can outlive init when they share the host's pid namespace.
        (Found::Stopped, KillScope::All) if signal == libc::SIGKILL => entry.record.cgroup.kill_all()?,
        (Found::Stopped, KillScope::All) => entry.record.cgroup.signal_all(signal)?,
        (found, scope) => {
            if !found.alive("kill")?.kill(signal, scope)? {
                return Err(RuntimeError::WrongState { operation: "kill", status: "stopped" });
            }
        }
    }
    Ok(0)
}

/// The names of signals 1 to 31 without `SIG`.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

fn parse_signal(text: &str) -> Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return Ok(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let index = SIGNALS.iter().position(|signal| *signal == name);
    let number = index.and_then(|index| i32::try_from(index + 1).ok());
    number.ok_or_else(|| RuntimeError::InvalidSpec(format!("unknown signal {text:?}")))
}

/// Removes what is left of a container; with `--force` also a running one, and one that does not exist.
pub(super) fn delete(mut invocation: Invocation) -> Result<u8> {
    let mut is_forced = false;
    while let Some(option) = invocation.arguments.next_option()? {
        match option.as_str() {
            "force" | "f" => is_forced = true,
            other => return Err(invocation.arguments.unknown(other)),
        }
    }
    let id = invocation.arguments.id()?;
    invocation.arguments.finish()?;
    match delete_by_id(&invocation.store, &id, is_forced) {
        Err(RuntimeError::NoSuchContainer { .. }) if is_forced => Ok(0),
        other => other.map(|()| 0),
    }
}

fn delete_by_id(store: &Store, id: &str, is_forced: bool) -> Result<()> {
    let Some(entry) = store.read(id)? else { return store.forget(id) };
    let spec = store.spec(id).ok();
    match store.find(&entry.record)? {
        // A container that was never started has done nothing that could be lost.
        Found::Stopped | Found::Created(_) => {}
        other if !is_forced => {
            return Err(RuntimeError::WrongState { operation: "delete", status: other.status() });
        }
        _ => {}
    }
    if let Ok(container) = store.find(&entry.record)?.alive("delete") {
        // All, because that also reaches a paused container.
        container.kill(libc::SIGKILL, KillScope::All)?;
        container.kill(libc::SIGKILL, KillScope::Init)?;
        wait_for_end(&container);
    }
    lifecycle::clean_up(&entry.record, spec.as_ref())?;
    store.forget(id)
}

/// Waits until a killed process has ended; it is the child of somebody else.
fn wait_for_end(container: &crate::Container) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let pidfd = container.pidfd();
    let mut events = [PollFd::new(&pidfd, PollFlags::IN)];
    // Whatever comes of it, the cgroup tells next whether something is left.
    let _ = poll(&mut events, Some(&Timespec { tv_sec: 10, tv_nsec: 0 }));
}

/// Stops all processes of a container.
pub(super) fn pause(mut invocation: Invocation) -> Result<u8> {
    let id = id_alone(&mut invocation)?;
    let entry = invocation.store.entry(&id)?;
    match invocation.store.find(&entry.record)? {
        Found::Running(container) | Found::Created(container) => container.cgroup().freeze()?,
        other => return Err(RuntimeError::WrongState { operation: "pause", status: other.status() }),
    }
    Ok(0)
}

/// Lets them run again.
pub(super) fn resume(mut invocation: Invocation) -> Result<u8> {
    let id = id_alone(&mut invocation)?;
    let entry = invocation.store.entry(&id)?;
    match invocation.store.find(&entry.record)? {
        Found::Paused(container) => container.cgroup().thaw()?,
        other => return Err(RuntimeError::WrongState { operation: "resume", status: other.status() }),
    }
    Ok(0)
}

/// Changes the limits of a container.
pub(super) fn update(mut invocation: Invocation) -> Result<u8> {
    let (mut memory, mut cpu) = (LinuxMemory::default(), LinuxCpu::default());
    let mut resources: Option<LinuxResources> = None;
    let mut pids = None;
    let arguments = &mut invocation.arguments;
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "resources" | "r" => resources = Some(read_resources(&PathBuf::from(arguments.value()?))?),
            "memory" => drop(memory.set_limit(Some(arguments.number()?))),
            "memory-reservation" => drop(memory.set_reservation(Some(arguments.number()?))),
            "memory-swap" => drop(memory.set_swap(Some(arguments.number()?))),
            "cpu-share" => drop(cpu.set_shares(Some(arguments.number()?))),
            "cpu-quota" => drop(cpu.set_quota(Some(arguments.number()?))),
            "cpu-period" => drop(cpu.set_period(Some(arguments.number()?))),
            "cpu-rt-period" => drop(cpu.set_realtime_period(Some(arguments.number()?))),
            "cpu-rt-runtime" => drop(cpu.set_realtime_runtime(Some(arguments.number()?))),
            "cpu-idle" => drop(cpu.set_idle(Some(arguments.number()?))),
            "cpuset-cpus" => drop(cpu.set_cpus(Some(arguments.text()?))),
            "cpuset-mems" => drop(cpu.set_mems(Some(arguments.text()?))),
            "pids-limit" => pids = Some(arguments.number()?),
            other => return Err(arguments.unknown(other)),
        }
    }
    let id = arguments.id()?;
    arguments.finish()?;
    let resources = resources.unwrap_or_else(|| {
        let mut resources = LinuxResources::default();
        resources.set_memory(Some(memory)).set_cpu(Some(cpu)).set_devices(None);
        resources.set_pids(pids.map(|limit| {
            let mut pids = LinuxPids::default();
            pids.set_limit(limit);
            pids
        }));
        resources
    });
    let warnings = invocation.store.entry(&id)?.record.cgroup.apply(&resources)?;
    invocation.log.warnings(&warnings);
    Ok(0)
}

fn read_resources(path: &std::path::Path) -> Result<LinuxResources> {
    let mut text = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut text).step(|| "read the resources from stdin")?;
    } else {
        text = std::fs::read(path).step(|| format!("read {}", path.display()))?;
    }
    serde_json::from_slice(&text).map_err(|error| RuntimeError::InvalidSpec(format!("resources: {error}")))
}

/// Prints the counters of a container once, in runc's form.
pub(super) fn events(mut invocation: Invocation) -> Result<u8> {
    let mut is_once = false;
    while let Some(option) = invocation.arguments.next_option()? {
        match option.as_str() {
            "stats" => is_once = true,
            "interval" => drop(invocation.arguments.text()?),
            other => return Err(invocation.arguments.unknown(other)),
        }
    }
    let id = invocation.arguments.id()?;
    invocation.arguments.finish()?;
    if !is_once {
        return Err(RuntimeError::Unsupported("events without --stats: a stream of events".to_owned()));
    }
    let readings = invocation.store.entry(&id)?.record.cgroup.readings();
    terminal::print_line(&stats_of(&id, &readings).to_string());
    Ok(0)
}

fn stats_of(id: &str, readings: &Readings) -> serde_json::Value {
    let Readings { cpu, memory, pids, blkio } = readings;
    let entries = |entries: &[crate::cgroup::readings::BlkioEntry]| {
        entries
            .iter()
            .map(|entry| {
                serde_json::json!({
                    "major": entry.major, "minor": entry.minor, "op": entry.operation, "value": entry.value,
                })
            })
            .collect::<Vec<_>>()
    };
    serde_json::json!({
        "type": "stats",
        "id": id,
        "data": {
            "cpu": {
                "usage": { "total": cpu.usage, "percpu": cpu.per_cpu, "kernel": cpu.system, "user": cpu.user },
                "throttling": {
                    "periods": cpu.periods, "throttledPeriods": cpu.throttled_periods, "throttledTime": cpu.throttled,
                },
            },
            "memory": {
                "usage": {
                    "limit": memory.limit.unwrap_or(u64::MAX), "usage": memory.usage,
                    "max": memory.max_usage.unwrap_or(0), "failcnt": memory.failures,
                },
                "raw": memory.stat.iter().collect::<std::collections::BTreeMap<_, _>>(),
            },
            "pids": { "current": pids.current, "limit": pids.limit.unwrap_or(0) },
            "blkio": {
                "ioServiceBytesRecursive": entries(&blkio.bytes), "ioServicedRecursive": entries(&blkio.operations),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (text, number) in [("KILL", 9), ("sigterm", 15), ("SIGSYS", 31), ("34", 34), ("0", 0)] {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        assert!(parse_signal("NOPE").is_err());
    }
}
