//! Children that have ended: runtime commands, the container's processes, and what they left behind.
//!
//! Start reading at [`Shim::reap`]. As a subreaper the shim is the parent of every process of the container whose own
//! parent has gone, and collects them all. A process may end before the command that made it: its exit then waits in
//! [`Commands`] until it is known whose it is.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};
use shoal_types::ExecId;

use crate::checkpoint::Checkpoint;
use crate::container::Life;
use crate::process::Shim;
use crate::protocol::Failure;
use crate::requests::ReplyTo;
use crate::runtime::NewProcess;
use crate::runtime::command_line::RunningCommand;
use crate::sys;

/// What a runtime command is run for.
#[derive(Debug)]
pub(crate) enum Errand {
    Create(ReplyTo),
    Start(ReplyTo),
    Exec(ExecId),
    Checkpoint(Checkpoint),
    Delete,
}

/// The runtime commands at work.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    running: Vec<(RunningCommand, Errand)>,
    /// Children that ended while a command was at work and that nobody knows, or that cannot be told of yet.
    early_exits: Vec<(Pid, WaitStatus)>,
    /// When they are killed: somebody waits for the end.
    deadline: Option<Instant>,
}

impl Commands {
    pub(crate) fn push(&mut self, command: RunningCommand, errand: Errand) {
        self.running.push((command, errand));
    }

    /// Whether no command is at work.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether one of them writes a checkpoint.
    pub(crate) fn has_checkpoint(&self) -> bool {
        self.running.iter().any(|(_, errand)| matches!(errand, Errand::Checkpoint(_)))
    }

    /// When the commands run out of time, if they have to hurry.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Lets the commands finish, but not for ever: one that hangs is killed. To be called again at the deadline.
    pub(crate) fn hurry(&mut self, patience: Duration) {
        let now = Instant::now();
        let deadline = *self.deadline.get_or_insert(now + patience);
        if deadline > now {
            return;
        }
        self.deadline = Some(now + patience);
        for (command, _) in &self.running {
            // It is reaped like one that ended by itself, and fails.
            let _ = sys::send_signal(command.pid(), libc::SIGKILL);
        }
    }

    fn take(&mut self, pid: Pid) -> Option<(RunningCommand, Errand)> {
        let position = self.running.iter().position(|(command, _)| command.pid() == pid)?;
        let taken = self.running.remove(position);
        if self.running.is_empty() {
            self.deadline = None;
        }
        Some(taken)
    }

    fn take_early_exit(&mut self, pid: Pid) -> Option<WaitStatus> {
        let position = self.early_exits.iter().position(|(early, _)| *early == pid)?;
        Some(self.early_exits.remove(position).1)
    }
}

impl Shim {
    /// Collects every child that has ended.
    pub(crate) fn reap(&mut self) {
        self.drain_signals();
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.child_ended(pid, status),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn child_ended(&mut self, pid: Pid, status: WaitStatus) {
        if let Some((command, errand)) = self.commands.take(pid) {
            self.conclude(errand, command.conclude(status));
            if self.commands.is_idle() {
                // Whatever is left ended without being anything but an orphan.
                self.commands.early_exits.clear();
            }
            return;
        }
        let is_success = status.exit_status() == Some(0);
        if self.init.log().file().is_some_and(|file| file.rotation().child_ended(pid, is_success)) {
            return;
        }
        if self.life.pid() == Some(pid) && !matches!(self.life, Life::Starting { .. }) {
            self.init_ended(status);
        } else if self.has_running_exec(pid) {
            self.exec_ended(pid, status);
        } else if !self.commands.is_idle() {
            self.commands.early_exits.push((pid, status));
        }
    }

    fn conclude(&mut self, errand: Errand, outcome: Result<Option<NewProcess>, Failure>) {
        match errand {
            Errand::Create(reply) => self.created(reply, outcome),
            Errand::Start(reply) => self.started(reply, outcome.map(drop)),
            Errand::Exec(exec_id) => self.exec_made(exec_id, outcome),
            Errand::Checkpoint(checkpoint) => self.checkpointed(checkpoint, outcome.map(drop)),
            Errand::Delete => self.deleted(outcome.map(drop)),
        }
    }

    /// A process is known now that may have ended before.
    pub(crate) fn catch_up(&mut self, pid: Pid) {
        if let Some(status) = self.commands.take_early_exit(pid) {
            self.child_ended(pid, status);
        }
    }
}
