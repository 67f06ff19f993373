//! What the daemon runs when a shim has died: afterwards nothing of the container runs, and its exit is on record.
//!
//! Start reading at [`clean_up`]. It can be repeated, and interrupted at any point. The order matters: first the shim and the
//! runtime's commands, then the processes, then the record, then the runtime's state; whoever is interrupted leaves work and no lie. What
//! cannot be read is done without: a bundle may have been left half-written. Failures are collected, not obeyed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use node_runtime::cgroup::Cgroup;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::bundle::{self, Config};
use crate::error::ProcessError;
use crate::protocol::{
    CONFIG_FILE, EXIT_FILE, ExitRecord, INIT_PID_FILE, LAUNCH_FILE, Launch, ProcessRecord, RuntimeChoice,
    SHIM_PID_FILE, SOCKET_FILE,
};
use crate::runtime::{command_line, embedded};

/// How long a killed process may take to be gone. Longer only if it sits in the kernel, waiting for a device.
const DEATH_TIME: Duration = Duration::from_secs(10);

/// Ends everything that was done on behalf of a bundle.
pub(crate) fn clean_up(bundle: &Path) -> Result<(), ProcessError> {
    bundle::enter(bundle)?;
    let _lock = end_shim()?;
    let launch: Option<Launch> = bundle::read_json_if_any(LAUNCH_FILE);
    let config: Option<Config> = bundle::read_json_if_any(CONFIG_FILE);
    let init: Option<ProcessRecord> = bundle::read_json_if_any(INIT_PID_FILE);
    let cgroup = find_cgroup(init.as_ref(), config.as_ref());
    let mut failures = Vec::new();
    end_commands(&mut failures);
    let has_ended = end_processes(init.as_ref(), cgroup.as_ref(), &mut failures);
    if has_ended {
        record_exit(cgroup.as_ref(), &mut failures);
        if let Some(launch) = &launch {
            forget(launch, cgroup.as_ref(), &mut failures);
        }
    }
    // A socket that nobody listens to, and a record of this very process.
    for file in [SOCKET_FILE, SHIM_PID_FILE] {
        let _ = fs::remove_file(file);
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(ProcessError::Cleanup { failures: failures.join("; ") }),
    }
}

/// Takes the bundle over from whoever serves it: a shim that hangs is killed. The lock is held until the end, so that
/// a shim which was started but is late finds the run to be over.
fn end_shim() -> Result<fs::File, ProcessError> {
    loop {
        match bundle::take_bundle() {
            Err(ProcessError::Served { pid }) => {
                if let Some(pid) = Pid::from_raw(pid) {
                    kill_and_wait(pid, || true);
                }
            }
            taken => return taken,
        }
    }
}

/// Kills the runtime's commands that the shim has left at work, with their helpers: a checkpoint that nobody can put into its place
/// would hold the container's processes, and its end would be the end of what runs under the container's id by then.
fn end_commands(failures: &mut Vec<String>) {
    let Ok(bundle) = std::env::current_dir() else { return };
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for entry in processes.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|pid| is_command(*pid, &bundle)) else { continue };
        if !kill_and_wait(pid, || is_command(pid, &bundle)) {
            failures.push(format!("the runtime's process {} does not die", Pid::as_raw(Some(pid))));
        }
    }
}

/// Whether a process works in the bundle and is of a session whose leader has gone: the shim was one, and is not inherited by anybody
/// else, since the kernel does not give its number away for as long as the session has members.
fn is_command(pid: Pid, bundle: &Path) -> bool {
    if pid == rustix::process::getpid() {
        return false;
    }
    let of = |pid: Pid, name: &str| fs::read_link(format!("/proc/{}/{name}", Pid::as_raw(Some(pid))));
    let works_here = of(pid, "cwd").is_ok_and(|directory| directory.starts_with(bundle));
    // A leader that has ended and was not waited for has no program either.
    works_here && bundle::session_of(pid).is_some_and(|leader| of(leader, "exe").is_err())
}

/// The cgroup in which the container's processes are: as the kernel says while the init process lives, else as the
/// configuration wanted it.
fn find_cgroup(init: Option<&ProcessRecord>, config: Option<&Config>) -> Option<Cgroup> {
    let of_init = init.and_then(bundle::find_process).and_then(command_line::cgroup_of);
    let path = of_init.or_else(|| config?.cgroups_path().map(Path::to_owned))?;
    Cgroup::at(&path).ok()
}

/// Kills what is left; `false` when something cannot be killed, which must not be recorded as an exit.
fn end_processes(init: Option<&ProcessRecord>, cgroup: Option<&Cgroup>, failures: &mut Vec<String>) -> bool {
    let mut has_ended = true;
    if let Some(cgroup) = cgroup.filter(|cgroup| cgroup.is_occupied()) {
        if let Err(error) = cgroup.kill_all() {
            failures.push(format!("kill the container's processes: {}", error.chain()));
        }
        // A frozen process dies only when it is thawed. One that is gone needs nothing.
        let _ = cgroup.thaw();
    }
    if let Some(record) = init
        && let Some(pid) = bundle::find_process(record)
        && !kill_and_wait(pid, || bundle::find_process(record) == Some(pid))
    {
        failures.push(format!("the container's process {} does not die", record.pid));
        has_ended = false;
    }
    has_ended
}

/// Kills a process if it still is the one that is meant once its descriptor is held, and waits for its end; `false`
/// when it outlives the wait.
fn kill_and_wait(pid: Pid, is_meant: impl FnOnce() -> bool) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    if !is_meant() {
        return true;
    }
    // Fails only if it has ended already.
    let _ = pidfd_send_signal(&process, Signal::KILL);
    let patience = Timespec { tv_sec: i64::try_from(DEATH_TIME.as_secs()).unwrap_or_default(), tv_nsec: 0 };
    let mut polled = [PollFd::new(&process, PollFlags::IN)];
    matches!(poll(&mut polled, Some(&patience)), Ok(n_ready) if n_ready > 0)
}

/// Writes down how the container ended, unless the shim has: killed, as far as anybody can know.
fn record_exit(cgroup: Option<&Cgroup>, failures: &mut Vec<String>) {
    if bundle::read_json_if_any::<ExitRecord>(EXIT_FILE).is_some() {
        return;
    }
    let signal = Signal::KILL.as_raw();
    let oom_killed = cgroup.and_then(|cgroup| cgroup.oom_kills().ok()).is_some_and(|kills| kills > 0);
    let exit = ExitRecord {
        code: 128 + signal,
        signal: Some(signal),
        oom_killed,
        at: Timestamp::now(),
        unstarted: true,
        checkpointed: false,
    };
    if let Err(error) = bundle::write_exit(&exit) {
        failures.push(error.to_string());
    }
}

/// Makes the runtime forget the container, and the kernel its cgroup.
fn forget(launch: &Launch, cgroup: Option<&Cgroup>, failures: &mut Vec<String>) {
    let id = launch.container_id.to_string();
    let forgotten = match &launch.runtime {
        RuntimeChoice::Embedded { .. } => embedded::forget(),
        RuntimeChoice::CommandLine { program, arguments, root } => {
            command_line::forget(&id, program, arguments, root)
        }
    };
    if let Err(failure) = forgotten {
        failures.push(format!("make the runtime forget the container: {failure}"));
    }
    // The runtime may never have heard of the container and still have left its cgroup.
    if let Some(cgroup) = cgroup
        && let Err(error) = cgroup.remove()
    {
        failures.push(format!("remove the container's cgroup: {}", error.chain()));
    }
    remove_leftovers();
}

/// Removes what runtime commands that were interrupted have left in the bundle.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir(".") else { return };
    for entry in entries.flatten() {
        let name = PathBuf::from(entry.file_name());
        if command_line::is_command_file(&name) {
            let _ = fs::remove_file(name);
        }
    }
}
