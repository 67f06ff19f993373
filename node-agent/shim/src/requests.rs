//! Requests on the control connection: one method for each, one reply for each.
//!
//! Start reading at [`Shim::handle`]. Everything that takes longer than a moment replies from where it ends, in
//! `container.rs`.

use crate::container::{Freezer, Life, Shutdown, internal};
use crate::poll::ConnectionId;
use crate::process::{Shim, wrong_phase};
use crate::protocol::{Answer, Call, ConsoleSize, Failure, FailureKind, KillScope, Message, Request, Target};
use crate::sys;

/// The highest signal number that Linux knows.
const MAX_SIGNAL: i32 = 64;

/// Where the reply to a request goes: nowhere, once its connection is not the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    connection: ConnectionId,
    id: u64,
}

impl Shim {
    /// Does what is asked, or begins it.
    pub(crate) fn handle(&mut self, connection: ConnectionId, request: &Request) {
        let reply = ReplyTo { connection, id: request.id };
        let result = match &request.call {
            Call::Create => return self.create(reply),
            Call::Start => return self.start(reply),
            Call::Checkpoint { place, after } => return self.checkpoint(reply, place, *after),
            Call::Shutdown => return self.ask_shutdown(reply),
            Call::Kill { signal, scope } => self.kill(*signal, *scope).map(|()| Answer::Done),
            Call::Pause => self.set_freezer(Freezer::Frozen).map(|()| Answer::Done),
            Call::Resume => self.set_freezer(Freezer::Thawed).map(|()| Answer::Done),
            Call::SignalExec { exec_id, signal } => {
                self.exec_pid(*exec_id).and_then(|pid| signal_process(pid, *signal)).map(|()| Answer::Done)
            }
            Call::Resize { target, size } => self.resize(*target, *size).map(|()| Answer::Done),
            Call::CloseStdin => {
                let closed = self.init.close_input(&self.poller);
                closed.map(|()| Answer::Done).map_err(|error| internal("close standard input", error))
            }
            Call::State => Ok(Answer::State(self.state())),
            Call::AcknowledgeExec { exec_id } => {
                self.acknowledge_exec(*exec_id);
                Ok(Answer::Done)
            }
        };
        self.reply(reply, result);
    }

    /// Sends the one reply to a request.
    pub(crate) fn reply(&mut self, to: ReplyTo, result: Result<Answer, Failure>) {
        if self.control.as_ref().is_some_and(|control| control.id == to.connection) {
            self.send(&Message::Reply { id: to.id, result });
        }
    }

    fn ask_shutdown(&mut self, reply: ReplyTo) {
        match self.shutdown {
            Shutdown::NotAsked => self.shutdown = Shutdown::Asked(Some(reply)),
            // Whoever asks last is there to hear the answer.
            Shutdown::Asked(_) => self.shutdown = Shutdown::Asked(Some(reply)),
            Shutdown::Deleting(_) => self.shutdown = Shutdown::Deleting(Some(reply)),
            Shutdown::Done => self.reply(reply, Ok(Answer::Done)),
        }
    }

    fn kill(&self, signal: i32, scope: KillScope) -> Result<(), Failure> {
        let Some(pid) = self.life.pid() else {
            return Err(Failure::new(FailureKind::NotRunning, "the container is not running"));
        };
        match scope {
            KillScope::Init => signal_process(pid, signal),
            KillScope::All => self.signal_all(signal),
        }
    }

    fn signal_all(&self, signal: i32) -> Result<(), Failure> {
        check_signal(signal)?;
        let cgroup = self.cgroup()?;
        if signal == libc::SIGKILL {
            return cgroup.kill_all().map_err(|error| internal("kill the container", error.chain()));
        }
        // One that has gone meanwhile does not need the signal.
        cgroup.signal_all(signal).map_err(|error| internal("signal the container", error.chain()))
    }

    fn set_freezer(&mut self, wanted: Freezer) -> Result<(), Failure> {
        if !matches!(self.life, Life::Running { .. }) {
            return Err(wrong_phase(&self.life.phase(), "pause or resume it"));
        }
        if self.commands.has_checkpoint() {
            // CRIU freezes and thaws the container as well.
            let text = "cannot pause or resume it: a checkpoint of the container is being made";
            return Err(Failure::new(FailureKind::WrongPhase, text));
        }
        self.apply_freezer(wanted)?;
        if let Life::Running { freezer, .. } = &mut self.life {
            *freezer = wanted;
        }
        Ok(())
    }

    /// Brings the freezer to where it shall be, after somebody else has used it.
    pub(crate) fn restore_freezer(&self) -> Result<(), Failure> {
        match self.life {
            Life::Running { freezer, .. } => self.apply_freezer(freezer),
            _ => Ok(()),
        }
    }

    fn apply_freezer(&self, wanted: Freezer) -> Result<(), Failure> {
        let cgroup = self.cgroup()?;
        let changed = match wanted {
            Freezer::Frozen => cgroup.freeze(),
            Freezer::Thawed => cgroup.thaw(),
        };
        changed.map_err(|error| internal("change the container's freezer", error.chain()))
    }

    fn cgroup(&self) -> Result<&node_runtime::cgroup::Cgroup, Failure> {
        let missing = || Failure::new(FailureKind::Internal, "the container's cgroup is not known");
        self.cgroup.as_ref().ok_or_else(missing)
    }

    fn resize(&mut self, target: Target, size: ConsoleSize) -> Result<(), Failure> {
        let session = match target {
            Target::Init => &mut self.init,
            Target::Exec(exec_id) => self.exec_session(exec_id)?,
        };
        session.resize(size).map_err(|error| internal("resize the terminal", error))
    }
}

fn check_signal(signal: i32) -> Result<(), Failure> {
    if (1..=MAX_SIGNAL).contains(&signal) {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Invalid, format!("{signal} is not a signal")))
}

fn signal_process(pid: rustix::process::Pid, signal: i32) -> Result<(), Failure> {
    check_signal(signal)?;
    match sys::send_signal(pid, signal) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(FailureKind::NotRunning, "the process is gone")),
        Err(error) => Err(internal("send the signal", error)),
    }
}
