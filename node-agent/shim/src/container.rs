//! The life of the container: made, started, ended, forgotten; and with it the life of the shim.
//!
//! Start reading at [`Life`] and then at the methods of [`Shim`] in the order in which they are called. A phase is told
//! to the daemon as soon as it is entered, and never taken back. The exit is on disk before anybody is told; it is told
//! when the output is complete.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::{Pid, WaitStatus};

use crate::bundle::{self, Console, PidNamespace};
use crate::checkpoint::Departure;
use crate::log::LogWriter;
use crate::process::{Shim, wrong_phase};
use crate::protocol::{Answer, Event, ExitRecord, Failure, FailureKind, Phase, StdinMode};
use crate::reaper::Errand;
use crate::report;
use crate::requests::ReplyTo;
use crate::runtime::{NewProcess, ProcessStdio, Progress};
use crate::stdio::Plan;

/// How long output is collected after a process has ended: dockerd's figure. Usually the end of the streams comes first;
/// it does not when a descendant outside the process' fate holds them open.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(2);

/// How long a runtime command may go on when the shim is asked to end.
const HURRY_TIME: Duration = Duration::from_secs(5);

/// How far the container is, with what has to be known then.
#[derive(Debug)]
pub(crate) enum Life {
    Idle,
    /// The runtime makes it.
    Creating,
    Created {
        pid: Pid,
    },
    /// The runtime starts its program.
    Starting {
        pid: Pid,
        at: Timestamp,
    },
    Running {
        pid: Pid,
        started_at: Timestamp,
        freezer: Freezer,
    },
    /// The init process has ended; its output is being collected.
    Ending {
        exit: ExitRecord,
        before: Phase,
    },
    Failed(Failure),
    Exited(ExitRecord),
}

/// Whether the container's processes may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freezer {
    Thawed,
    Frozen,
}

/// How far the end of the shim is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    NotAsked,
    /// Somebody waits for it, or nobody is left who would ask.
    Asked(Option<ReplyTo>),
    /// The runtime forgets the container.
    Deleting(Option<ReplyTo>),
    /// Nothing of the container is left.
    Done,
}

impl Life {
    /// The phase as the daemon knows it.
    pub(crate) fn phase(&self) -> Phase {
        match self {
            Self::Idle => Phase::Idle,
            Self::Creating => Phase::Creating,
            Self::Created { pid } | Self::Starting { pid, .. } => Phase::Created { pid: number(*pid) },
            Self::Running { pid, started_at, .. } => {
                Phase::Running { pid: number(*pid), started_at: *started_at }
            }
            Self::Ending { before, .. } => before.clone(),
            Self::Failed(failure) => Phase::Failed(failure.clone()),
            Self::Exited(exit) => Phase::Exited(*exit),
        }
    }

    /// The init process, while it has not been reaped: until then its pid is nobody else's.
    pub(crate) fn pid(&self) -> Option<Pid> {
        match self {
            Self::Created { pid } | Self::Starting { pid, .. } | Self::Running { pid, .. } => Some(*pid),
            Self::Idle | Self::Creating | Self::Ending { .. } | Self::Failed(_) | Self::Exited(_) => None,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        matches!(self, Self::Running { freezer: Freezer::Frozen, .. })
    }
}

/// A pid as the protocol writes it.
pub(crate) fn number(pid: Pid) -> u32 {
    u32::try_from(Pid::as_raw(Some(pid))).unwrap_or_default()
}

/// How a process ended, in dockerd's terms.
pub(crate) fn exit_record(status: WaitStatus) -> ExitRecord {
    let signal = status.terminating_signal();
    let code = match signal {
        Some(signal) => 128 + signal,
        None => status.exit_status().unwrap_or_default(),
    };
    ExitRecord {
        code,
        signal,
        oom_killed: false,
        at: Timestamp::now(),
        unstarted: false,
        checkpointed: false,
    }
}

pub(crate) fn internal(doing: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Internal, format!("cannot {doing}: {error}"))
}

impl Shim {
    /// Makes the container.
    pub(crate) fn create(&mut self, reply: ReplyTo) {
        if !matches!(self.life, Life::Idle) {
            let failure = wrong_phase(&self.life.phase(), "create it");
            return self.reply(reply, Err(failure));
        }
        self.enter(Life::Creating);
        let begun = self.prepare_streams().and_then(|stdio| self.runtime.create(&self.bundle, stdio));
        match begun {
            Ok(Progress::Done(process)) => self.created(reply, Ok(Some(process))),
            Ok(Progress::Running(command)) => self.commands.push(command, Errand::Create(reply)),
            Err(failure) => self.created(reply, Err(failure)),
        }
    }

    fn prepare_streams(&mut self) -> Result<ProcessStdio, Failure> {
        let log = LogWriter::open(&self.bundle.launch.log)
            .map_err(|error| internal("open the container's log", error))?;
        self.init.set_log(log);
        // Beside the log: that is a disk, while the bundle lies in memory.
        if let Some(directory) = self.bundle.launch.log.path().and_then(Path::parent) {
            self.init.spill_into(directory.to_owned());
        }
        let config =
            self.bundle.read_config().map_err(|error| internal("read what the container shall be", error))?;
        match config.console() {
            Console::None => {
                let stdin = self.bundle.launch.stdin != StdinMode::Closed;
                let owner = self.bundle.launch.stdio_owner;
                let null = self.bundle.null_device();
                let plan = Plan { stdin, stdout: true, stderr: true, owner, null };
                let ends = self.init.open_pipes(plan, &self.poller);
                ends.map(ProcessStdio::Ends).map_err(|error| internal("make the container's streams", error))
            }
            Console::Terminal(size) => Ok(ProcessStdio::Terminal(self.init.size().or(size))),
        }
    }

    /// The runtime has made the container, or not.
    pub(crate) fn created(&mut self, reply: ReplyTo, outcome: Result<Option<NewProcess>, Failure>) {
        let process = outcome.and_then(|process| {
            process.ok_or_else(|| Failure::new(FailureKind::Runtime, "the runtime has made no process"))
        });
        match process.and_then(|process| self.take_init(process)) {
            Ok(pid) => {
                self.enter(Life::Created { pid });
                self.reply(reply, Ok(Answer::Created { pid: number(pid) }));
                self.catch_up(pid);
            }
            Err(failure) => self.fail(reply, failure),
        }
    }

    fn take_init(&mut self, process: NewProcess) -> Result<Pid, Failure> {
        let pid = process.pid;
        if let Some(master) = process.terminal {
            let opened = self.init.open_terminal(master, &self.poller);
            opened.map_err(|error| internal("take the container's terminal", error))?;
        }
        // A process that has ended already is still there to be reaped, and has its record.
        let record =
            bundle::record_of(pid).map_err(|error| internal("find the container's process", error))?;
        bundle::write_init(&record).map_err(|error| internal("note the container's process", error))?;
        match self.runtime.cgroup(pid) {
            Ok(cgroup) => {
                self.watch_oom(&cgroup);
                self.cgroup = Some(cgroup);
            }
            // Such a container can run; it cannot be paused, and its memory kills are not seen.
            Err(failure) => report(&format!("cannot find the container's cgroup: {failure}")),
        }
        let released = self.init.release(&self.poller);
        released.map_err(|error| internal("read the container's streams", error))?;
        Ok(pid)
    }

    /// Starts the container's program.
    pub(crate) fn start(&mut self, reply: ReplyTo) {
        let Life::Created { pid } = self.life else {
            let failure = wrong_phase(&self.life.phase(), "start it");
            return self.reply(reply, Err(failure));
        };
        // The moment before, so that no exit can lie before the start.
        let at = Timestamp::now();
        self.life = Life::Starting { pid, at };
        match self.runtime.start() {
            Ok(Progress::Done(())) => self.started(reply, Ok(())),
            Ok(Progress::Running(command)) => self.commands.push(command, Errand::Start(reply)),
            Err(failure) => self.started(reply, Err(failure)),
        }
    }

    /// The runtime has started the container's program, or not.
    pub(crate) fn started(&mut self, reply: ReplyTo, outcome: Result<(), Failure>) {
        let Life::Starting { pid, at } = self.life else { return };
        match outcome {
            Ok(()) => {
                self.enter(Life::Running { pid, started_at: at, freezer: Freezer::Thawed });
                self.reply(reply, Ok(Answer::Started { at }));
                self.catch_up(pid);
            }
            Err(failure) => {
                // A process that could not become the program has no other purpose.
                let _ = crate::sys::send_signal(pid, libc::SIGKILL);
                self.fail(reply, failure);
            }
        }
    }

    /// The container could not be made or started. Its record is an exit, too: whoever finds it after this process has
    /// gone learns how the run ended.
    fn fail(&mut self, reply: ReplyTo, failure: Failure) {
        let exit = ExitRecord {
            code: failure.kind.exit_code(),
            signal: None,
            oom_killed: false,
            at: Timestamp::now(),
            unstarted: false,
            checkpointed: false,
        };
        self.write_exit(&exit);
        if let Err(error) = self.init.abandon_output(&self.poller) {
            report(&format!("cannot close the streams of a failed container: {error}"));
        }
        self.enter(Life::Failed(failure.clone()));
        self.reply(reply, Err(failure));
    }

    /// The init process has ended.
    pub(crate) fn init_ended(&mut self, status: WaitStatus) {
        let before = self.life.phase();
        let mut exit = exit_record(status);
        self.read_oom_kills();
        exit.oom_killed = self.oom.kills() > 0;
        // One that is being started may have run already.
        exit.unstarted = matches!(self.life, Life::Creating | Life::Created { .. });
        exit.checkpointed = self.departure == Departure::IntoCheckpoint;
        self.write_exit(&exit);
        if self.bundle.pid_namespace() == PidNamespace::Shared {
            self.kill_leftovers();
        }
        if let Err(error) = self.init.drain(Instant::now() + DRAIN_TIME, &self.poller) {
            report(&format!("cannot collect the container's output: {error}"));
        }
        self.life = Life::Ending { exit, before };
    }

    /// The processes were killed for a checkpoint; the init process may have been reaped already.
    pub(crate) fn note_departure(&mut self) {
        let Life::Ending { exit, .. } = &mut self.life else { return };
        exit.checkpointed = true;
        let exit = *exit;
        self.write_exit(&exit);
    }

    fn write_exit(&self, exit: &ExitRecord) {
        // The daemon still learns it from this process; only both failing at once loses it.
        if let Err(error) = bundle::write_exit(exit) {
            report(&error.to_string());
        }
    }

    /// Kills what has outlived the init process.
    fn kill_leftovers(&self) {
        if let Some(cgroup) = &self.cgroup
            && let Err(error) = cgroup.kill_all()
        {
            report(&format!("cannot kill what is left of the container: {}", error.chain()));
        }
    }

    /// Goes on with whatever waits for something else to have happened. Called after every round of events.
    pub(crate) fn settle(&mut self) {
        self.settle_oom();
        self.settle_exit();
        self.settle_execs();
        self.settle_compression();
        self.settle_shutdown();
    }

    fn settle_exit(&mut self) {
        let Life::Ending { exit, .. } = self.life else { return };
        let is_late = self.init.deadline().is_some_and(|deadline| deadline <= Instant::now());
        if !self.init.is_drained() && !is_late {
            return;
        }
        if let Err(error) = self.init.finish(&self.poller) {
            report(&format!("cannot finish the container's output: {error}"));
        }
        if self.awaits_checkpoint() {
            return;
        }
        self.enter(Life::Exited(exit));
    }

    fn settle_compression(&mut self) {
        let Some(file) = self.init.log().file() else { return };
        if let Err(error) = file.rotation().compress_next() {
            report(&format!("cannot compress a rotated log: {error}"));
        }
    }

    fn settle_shutdown(&mut self) {
        if self.shutdown == Shutdown::NotAsked && self.is_forsaken() {
            self.shutdown = Shutdown::Asked(None);
        }
        let Shutdown::Asked(reply) = self.shutdown else { return };
        if !self.commands.is_idle() {
            return self.commands.hurry(HURRY_TIME);
        }
        match self.life {
            Life::Creating | Life::Starting { .. } | Life::Ending { .. } => {}
            Life::Created { .. } | Life::Running { .. } => self.kill_for_shutdown(),
            Life::Idle | Life::Failed(_) | Life::Exited(_) => {
                self.shutdown = Shutdown::Deleting(reply);
                match self.runtime.delete() {
                    Ok(Progress::Done(())) => self.deleted(Ok(())),
                    Ok(Progress::Running(command)) => self.commands.push(command, Errand::Delete),
                    Err(failure) => self.deleted(Err(failure)),
                }
            }
        }
    }

    /// Whether the run is over and nobody is there to say that this process may go. What there is to know is on disk.
    fn is_forsaken(&self) -> bool {
        matches!(self.life, Life::Failed(_) | Life::Exited(_))
            && self.control.is_none()
            && self.init.n_clients() == 0
            && self.execs.iter().all(|exec| !exec.has_client())
    }

    fn kill_for_shutdown(&mut self) {
        if let Some(pid) = self.life.pid() {
            let _ = crate::sys::send_signal(pid, libc::SIGKILL);
        }
        if let Some(cgroup) = &self.cgroup {
            // A frozen process dies only when it is thawed.
            let _ = cgroup.thaw();
        }
    }

    /// The runtime has forgotten the container, or not.
    pub(crate) fn deleted(&mut self, outcome: Result<(), Failure>) {
        let Shutdown::Deleting(reply) = self.shutdown else { return };
        match outcome {
            Ok(()) => {
                self.bundle.give_up();
                self.shutdown = Shutdown::Done;
                self.finish_streams();
                if let Some(reply) = reply {
                    self.reply(reply, Ok(Answer::Done));
                }
            }
            Err(failure) => {
                report(&format!("cannot delete the container: {failure}"));
                // May be asked for again. Nobody would, if nobody is there: then this process has no purpose either.
                match reply {
                    Some(reply) => {
                        self.shutdown = Shutdown::NotAsked;
                        self.reply(reply, Err(failure));
                    }
                    None => self.shutdown = Shutdown::Done,
                }
            }
        }
    }

    /// Lets every client go that still waits for a container which never ran.
    fn finish_streams(&mut self) {
        if let Err(error) = self.init.finish(&self.poller) {
            report(&format!("cannot finish the container's streams: {error}"));
        }
    }

    /// Enters a phase and tells the daemon.
    fn enter(&mut self, life: Life) {
        self.life = life;
        let phase = self.life.phase();
        self.tell(Event::Phase(phase));
    }
}
