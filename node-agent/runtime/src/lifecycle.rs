//! What happens to a container after it was created: start, signals, deletion, and being found again.
//!
//! Start reading at [`Container::start`]. Every operation may be repeated after a crash: deletion goes on over errors
//! and finds things gone without complaint.

use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use crate::channel::{Channel, Message};
use crate::container::{Container, ContainerRecord};
use crate::error::{Context, Result, RuntimeError};
use crate::hooks::{self, Stage, Subject};
use crate::limits;
use crate::listener;
use crate::sys;

/// Whom a signal is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillScope {
    /// The init process.
    Init,
    /// Every process of the container's cgroup.
    All,
}

impl Container {
    /// Opens the private gate and returns once the program has been executed.
    ///
    /// The `startContainer` hooks run inside before it, the `poststart` hooks outside after it; a failure of the latter
    /// kills the container. The caller reaps the init process also when this fails.
    pub fn start(&mut self, spec: &Spec) -> Result<()> {
        let gate =
            self.gate.take().ok_or(RuntimeError::WrongState { operation: "start", status: "running" })?;
        let channel = Channel::from_socket(gate);
        // The init process may have died; the answer that is then missing says so.
        let _ = channel.send(&Message::Continue);
        await_execution(&channel, &self.record, self.pidfd.as_fd(), spec)?;
        self.run_poststart(spec)
    }

    fn run_poststart(&self, spec: &Spec) -> Result<()> {
        run_poststart(&self.record, spec).inspect_err(|_| {
            // The hook's failure is what is reported.
            let _ = self.kill(Signal::KILL.as_raw(), KillScope::Init);
        })
    }

    /// Sends a signal by number; `Ok(false)` when it was for the init process and that has ended already.
    pub fn kill(&self, signal: i32, scope: KillScope) -> Result<bool> {
        if scope == KillScope::All {
            if signal == libc::SIGKILL {
                self.cgroup().kill_all()?;
            } else {
                self.cgroup().signal_all(signal)?;
            }
            return Ok(true);
        }
        match sys::signal_process(&self.pidfd, signal) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                Err(RuntimeError::InvalidSpec(format!("invalid signal: {signal}")))
            }
            Err(other) => Err(RuntimeError::step(format!("send signal {signal} to the container"), other)),
        }
    }

    /// Tells whether the init process has not ended yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let mut events = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !matches!(poll(&mut events, Some(&now)), Ok(1..))
    }

    /// Kills what is left, runs the `poststop` hooks and removes the cgroup.
    ///
    /// Goes on over errors and reports the first. The init process, if it still runs, is killed and reaped when it is a
    /// child of the caller.
    pub fn delete(self, spec: &Spec) -> Result<()> {
        if self.is_running() {
            // In the cgroup first, because a frozen process does not die of its own signal. Failures show below.
            let _ = self.cgroup().kill_all();
        }
        // Gone already, or somebody else's child: either way there is nothing left to do about it here.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        clean_up(&self.record, Some(spec))
    }

    /// Finds a container again; `None` when its init process has ended meanwhile (then [`clean_up`] is what is left to do).
    pub fn from_record(record: ContainerRecord) -> Result<Option<Self>> {
        let Some(pid) = Pid::from_raw(record.pid) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(other) => return Err(RuntimeError::step(format!("open process {}", record.pid), other)),
        };
        // Compared after the descriptor was opened: it cannot change to another process any more.
        match limits::start_time(record.pid) {
            Ok(start_time) if start_time == record.start_time => {}
            _ => return Ok(None),
        }
        let container = Self { record, pidfd, gate: None };
        Ok(container.is_running().then_some(container))
    }
}

/// Starts a container that waits at a listening gate at `socket`.
///
/// Only one of several callers starts it; the others are refused. Returns once the program has been executed.
pub fn start_through(socket: &Path, container: &Container, spec: &Spec) -> Result<()> {
    let channel = listener::connect(socket)?;
    // The init process may have died; the answer that is then missing says so.
    let _ = channel.send(&Message::Continue);
    await_execution(&channel, &container.record, container.pidfd.as_fd(), spec)?;
    container.run_poststart(spec)
}

/// Waits until the program has been executed.
fn await_execution(
    channel: &Channel,
    record: &ContainerRecord,
    pidfd: std::os::fd::BorrowedFd<'_>,
    spec: &Spec,
) -> Result<()> {
    loop {
        match channel.receive()? {
            None => return Ok(()),
            Some((Message::Failed(failure), _)) => return Err(failure.into_error()),
            Some((Message::SeccompListener(number), _)) => {
                listener::hand_over_seccomp(pidfd, number, record, spec)?;
                channel.send(&Message::Continue)?;
            }
            Some(_) => return Err(RuntimeError::Vanished { pid: record.pid }),
        }
    }
}

fn run_poststart(record: &ContainerRecord, spec: &Spec) -> Result<()> {
    hooks::run(subject(record, Some(record.pid), spec), Stage::Poststart)
}

fn subject<'a>(record: &'a ContainerRecord, pid: Option<i32>, spec: &'a Spec) -> Subject<'a> {
    Subject { id: &record.id, bundle: &record.bundle, pid, spec }
}

/// Does the work of [`Container::delete`] for a container whose handle is lost, by its record alone.
///
/// Kills every process that is left in the cgroup, runs the `poststop` hooks (their failures do not stop the rest) and
/// removes the cgroup. A second call finds nothing and succeeds.
pub fn clean_up(record: &ContainerRecord, spec: Option<&Spec>) -> Result<()> {
    let mut first_failure = None;
    let cgroup = &record.cgroup;
    match cgroup.pids() {
        Ok(pids) if !pids.is_empty() => {
            if let Err(error) = cgroup.kill_all() {
                first_failure.get_or_insert(error);
            }
        }
        Ok(_) => {}
        Err(error) => {
            first_failure.get_or_insert(error);
        }
    }
    if let Err(error) = cgroup.remove() {
        first_failure.get_or_insert(error);
    }
    if let Some(spec) = spec {
        for error in hooks::run_all(subject(record, None, spec), Stage::Poststop) {
            first_failure.get_or_insert(error);
        }
    }
    first_failure.map_or(Ok(()), Err)
}

/// Reaps the init process if it is a child of the caller and has ended; for callers without a reaper of their own.
pub fn reap(container: &Container) -> Result<Option<i32>> {
    let status = waitid(WaitId::PidFd(container.pidfd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
        .step(|| "reap the container process")?;
    Ok(status.and_then(|status| {
        status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
    }))
}
