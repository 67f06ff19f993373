//! Execs: further processes in the running container, each with streams of its own.
//!
//! Start reading at [`Shim::exec`], then [`Exec`]. An exec's exit is told when its output is complete, before its
//! stream ends, and stays in the state until the daemon has acknowledged it. An exec does not notice when its client
//! or the daemon goes, except that its input ends.

use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::process::{Pid, WaitStatus};
use serde_json::value::RawValue;
use shoal_types::ExecId;

use crate::bundle::{Console, ProcessConfig};
use crate::container::{DRAIN_TIME, Life, exit_record, internal, number};
use crate::poll::{ConnectionId, SessionId};
use crate::process::{Shim, wrong_phase};
use crate::protocol::{
    AttachRequest, Event, ExecMode, ExecRequest, ExecState, ExitRecord, Failure, FailureKind, Welcome,
};
use crate::reaper::Errand;
use crate::report;
use crate::runtime::{NewProcess, ProcessStdio, Progress};
use crate::socket;
use crate::stdio::{EndOfInput, Plan, Session};

/// One exec.
#[derive(Debug)]
pub(crate) struct Exec {
    id: ExecId,
    session_id: SessionId,
    /// Until the last client has gone.
    session: Option<Session>,
    stage: Stage,
}

/// How far an exec is.
#[derive(Debug)]
enum Stage {
    /// The runtime makes the process; somebody waits for the answer.
    Starting(Applicant),
    Running {
        pid: Pid,
    },
    /// The process has ended; its output is being collected.
    Ending {
        pid: Pid,
        exit: ExitRecord,
    },
    /// Everything was told; the daemon has not taken note yet.
    Ended {
        pid: Pid,
        exit: ExitRecord,
    },
    /// The daemon has taken note.
    Acknowledged,
}

/// Who asked for an exec.
#[derive(Debug)]
struct Applicant {
    connection: ConnectionId,
    socket: UnixStream,
    streams: AttachRequest,
    mode: ExecMode,
}

impl Exec {
    pub(crate) fn session_id(&self) -> SessionId {
        self.session_id
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    /// Whether somebody is attached.
    pub(crate) fn has_client(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.n_clients() > 0)
    }

    /// What the daemon has to know.
    pub(crate) fn state(&self) -> Option<ExecState> {
        let (pid, exit) = match &self.stage {
            Stage::Starting(_) | Stage::Acknowledged => return None,
            Stage::Running { pid } | Stage::Ending { pid, .. } => (*pid, None),
            Stage::Ended { pid, exit } => (*pid, Some(*exit)),
        };
        Some(ExecState { exec_id: self.id, pid: number(pid), exit })
    }

    /// The process, while it has not been reaped.
    fn pid(&self) -> Option<Pid> {
        match self.stage {
            Stage::Running { pid } => Some(pid),
            Stage::Starting(_) | Stage::Ending { .. } | Stage::Ended { .. } | Stage::Acknowledged => None,
        }
    }
}

impl Shim {
    /// Runs a process for the client behind this connection.
    pub(crate) fn exec(&mut self, connection: ConnectionId, socket: UnixStream, request: &ExecRequest) {
        let exec_id = request.exec_id;
        if let Err(failure) = self.check_exec(exec_id) {
            return socket::refuse(socket, failure);
        }
        let process = match parse_process(&request.process) {
            Ok(process) => process,
            Err(failure) => return socket::refuse(socket, failure),
        };
        let session_id = SessionId(self.next_session);
        self.next_session += 1;
        let end_of_input = match process.console() {
            Console::None => EndOfInput::ClosesInput,
            Console::Terminal(_) => EndOfInput::EndsAttachment,
        };
        let mut session = Session::new(session_id, end_of_input);
        let begun = self
            .exec_stdio(&mut session, process.console(), request)
            .and_then(|stdio| self.runtime.exec(request, stdio));
        let applicant = Applicant { connection, socket, streams: request.streams, mode: request.mode };
        let stage = Stage::Starting(applicant);
        self.execs.push(Exec { id: exec_id, session_id, session: Some(session), stage });
        match begun {
            Ok(Progress::Done(process)) => self.exec_made(exec_id, Ok(Some(process))),
            Ok(Progress::Running(command)) => self.commands.push(command, Errand::Exec(exec_id)),
            Err(failure) => self.exec_made(exec_id, Err(failure)),
        }
    }

    fn check_exec(&self, exec_id: ExecId) -> Result<(), Failure> {
        if !matches!(self.life, Life::Running { .. }) {
            return Err(wrong_phase(&self.life.phase(), "run a process in it"));
        }
        // Also when somebody else has frozen it: whatever entered the cgroup would stop there, the runtime with it.
        let is_frozen = self.cgroup.as_ref().and_then(|cgroup| cgroup.is_frozen().ok()).unwrap_or(false);
        if is_frozen || self.life.is_paused() {
            return Err(Failure::new(
                FailureKind::WrongPhase,
                "cannot run a process in it: the container is paused",
            ));
        }
        if self.execs.iter().any(|exec| exec.id == exec_id) {
            return Err(Failure::new(FailureKind::Invalid, "an exec of this id exists"));
        }
        Ok(())
    }

    fn exec_stdio(
        &self,
        session: &mut Session,
        console: Console,
        request: &ExecRequest,
    ) -> Result<ProcessStdio, Failure> {
        match console {
            Console::Terminal(size) => Ok(ProcessStdio::Terminal(size)),
            Console::None => {
                let is_attached = request.mode == ExecMode::Attached;
                let plan = Plan {
                    stdin: is_attached && request.streams.stdin,
                    stdout: is_attached && request.streams.stdout,
                    stderr: is_attached && request.streams.stderr,
                    owner: self.bundle.launch.stdio_owner,
                    null: self.bundle.null_device(),
                };
                let ends = session.open_pipes(plan, &self.poller);
                ends.map(ProcessStdio::Ends).map_err(|error| internal("make the streams of an exec", error))
            }
        }
    }

    /// The runtime has made the process, or not.
    pub(crate) fn exec_made(&mut self, exec_id: ExecId, outcome: Result<Option<NewProcess>, Failure>) {
        let Some(position) = self.execs.iter().position(|exec| exec.id == exec_id) else { return };
        let Stage::Starting(applicant) =
            std::mem::replace(&mut self.execs[position].stage, Stage::Acknowledged)
        else {
            return;
        };
        let process = outcome.and_then(|process| {
            process.ok_or_else(|| Failure::new(FailureKind::Runtime, "the runtime has made no process"))
        });
        match process {
            Ok(process) => {
                self.execs[position].stage = Stage::Running { pid: process.pid };
                let pid = process.pid;
                self.tell(Event::ExecStarted { exec_id, pid: number(pid) });
                if let Err(error) = self.connect_exec(position, process, applicant) {
                    report(&format!("cannot serve the streams of exec {exec_id}: {error}"));
                }
                self.catch_up(pid);
            }
            Err(failure) => {
                self.execs.remove(position);
                socket::refuse(applicant.socket, failure);
            }
        }
    }

    /// Joins the process' streams and its client. A client that has gone meanwhile does not matter to the process.
    fn connect_exec(
        &mut self,
        position: usize,
        process: NewProcess,
        applicant: Applicant,
    ) -> std::io::Result<()> {
        let Some(session) = self.execs[position].session.as_mut() else { return Ok(()) };
        if let Some(master) = process.terminal {
            session.open_terminal(master, &self.poller)?;
        }
        let Applicant { connection, mut socket, streams, mode } = applicant;
        let welcomed = socket::welcome(&mut socket, &Ok(Welcome::Exec { pid: number(process.pid) }));
        match mode {
            ExecMode::Attached if welcomed.is_ok() => {
                session.attach(connection, socket, streams, &self.poller)?;
            }
            ExecMode::Attached | ExecMode::Detached => session.close_input(&self.poller)?,
        }
        session.release(&self.poller)
    }

    /// Whether this is the process of an exec.
    pub(crate) fn has_running_exec(&self, pid: Pid) -> bool {
        self.execs.iter().any(|exec| exec.pid() == Some(pid))
    }

    /// The process of an exec has ended.
    pub(crate) fn exec_ended(&mut self, pid: Pid, status: WaitStatus) {
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.pid() == Some(pid)) else { return };
        exec.stage = Stage::Ending { pid, exit: exit_record(status) };
        let drained =
            exec.session.as_mut().map(|session| session.drain(Instant::now() + DRAIN_TIME, &self.poller));
        if let Some(Err(error)) = drained {
            report(&format!("cannot collect the output of exec {}: {error}", exec.id));
        }
    }

    /// Tells of the execs whose output is complete, and forgets those that nobody will ask about.
    pub(crate) fn settle_execs(&mut self) {
        for position in 0..self.execs.len() {
            self.settle_exec(position);
        }
        self.execs.retain_mut(|exec| {
            exec.session.take_if(|session| session.is_deserted());
            !matches!(exec.stage, Stage::Acknowledged) || exec.session.is_some()
        });
    }

    fn settle_exec(&mut self, position: usize) {
        let exec = &mut self.execs[position];
        let Stage::Ending { pid, exit } = exec.stage else { return };
        let is_complete = exec.session.as_ref().is_none_or(|session| {
            session.is_drained() || session.deadline().is_none_or(|deadline| deadline <= Instant::now())
        });
        if !is_complete {
            return;
        }
        exec.stage = Stage::Ended { pid, exit };
        let exec_id = exec.id;
        self.tell(Event::ExecExited { exec_id, exit });
        let finished = self.execs[position].session.as_mut().map(|session| session.finish(&self.poller));
        if let Some(Err(error)) = finished {
            report(&format!("cannot finish the output of exec {exec_id}: {error}"));
        }
    }

    /// The daemon has taken note of an exit.
    pub(crate) fn acknowledge_exec(&mut self, exec_id: ExecId) {
        if let Some(exec) = self.execs.iter_mut().find(|exec| exec.id == exec_id)
            && matches!(exec.stage, Stage::Ended { .. })
        {
            exec.stage = Stage::Acknowledged;
        }
    }

    /// The session of an exec that is known.
    pub(crate) fn exec_session(&mut self, exec_id: ExecId) -> Result<&mut Session, Failure> {
        let exec = self.execs.iter_mut().find(|exec| exec.id == exec_id);
        exec.and_then(Exec::session_mut).ok_or_else(no_such_exec)
    }

    /// The process of an exec that runs.
    pub(crate) fn exec_pid(&self, exec_id: ExecId) -> Result<Pid, Failure> {
        let exec = self.execs.iter().find(|exec| exec.id == exec_id).ok_or_else(no_such_exec)?;
        exec.pid()
            .ok_or_else(|| Failure::new(FailureKind::NotRunning, "the process of the exec is not running"))
    }
}

fn no_such_exec() -> Failure {
    Failure::new(FailureKind::NoSuchExec, "no such exec")
}

fn parse_process(process: &RawValue) -> Result<ProcessConfig, Failure> {
    serde_json::from_str(process.get())
        .map_err(|error| Failure::new(FailureKind::Invalid, format!("the process to run: {error}")))
}
