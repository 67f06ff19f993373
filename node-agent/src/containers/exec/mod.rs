//! Commands run in containers beside their init process: what is known of them, and how they are started.
//!
//! Start reading at [`Execs`], the register, then `start.rs`. A command's record lives until some minutes after its exit,
//! or until its container is removed; one that was never started goes when its container stops. Its exit code is stored
//! before the streams of its client end, because clients ask for it then, also when the command ended with its container.
//! Starting is a task of its own, so that a client who goes away leaves nothing half done.

mod port;
pub(crate) mod start;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shoal_types::container::state::ContainerState;
use shoal_types::{ContainerId, ExecId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Shared;
use super::lifecycle::is_restarting;
use super::slot::Slot;
use crate::api::containers::ContainerView;
use crate::api::execs::{ExecSpec, ExecView};
use crate::error::NodeError;

/// How long a command that has exited can still be inspected.
const KEEP: Duration = Duration::from_secs(5 * 60);

/// Commands of all containers.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    register: Mutex<Register>,
}

#[derive(Debug, Default)]
struct Register {
    entries: HashMap<ExecId, Arc<Entry>>,
    /// Those that have exited, in the order in which they will be forgotten.
    expiring: VecDeque<(Instant, ExecId)>,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its id.
    pub(crate) id: ExecId,
    /// The container it belongs to.
    pub(crate) slot: Arc<Slot>,
    /// What was asked for.
    pub(crate) spec: ExecSpec,
    phase: watch::Sender<Phase>,
}

/// Where a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not started.
    Created,
    /// Being started.
    Starting,
    /// Running, with this process id on the host.
    Running(u32),
    /// Over, with this exit code; the process id it had, 0 if it could not be started.
    Exited(i32, u32),
}

impl Entry {
    /// Where it is.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Follows it.
    pub(crate) fn follow(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Program and arguments in one line, as events show them: the blank after the program is there without arguments
    /// as well, and listeners compare the whole text.
    pub(crate) fn command_line(&self) -> String {
        match self.spec.command.split_first() {
            Some((program, arguments)) => format!("{program} {}", arguments.join(" ")),
            None => String::new(),
        }
    }

    /// Takes the right to start it; only the first caller gets it.
    fn claim(&self) -> Result<(), NodeError> {
        let mut outcome = Ok(());
        self.phase.send_if_modified(|phase| {
            outcome = self.refuse_unless_created(*phase);
            if outcome.is_ok() {
                *phase = Phase::Starting;
            }
            outcome.is_ok()
        });
        outcome
    }

    /// Whether it could be claimed now.
    pub(crate) fn require_unclaimed(&self) -> Result<(), NodeError> {
        self.refuse_unless_created(self.phase())
    }

    fn refuse_unless_created(&self, phase: Phase) -> Result<(), NodeError> {
        let id = self.id;
        match phase {
            Phase::Created => Ok(()),
            Phase::Starting | Phase::Running(_) => {
                Err(NodeError::conflict(format!("exec command {id} is already running")))
            }
            Phase::Exited(..) => Err(NodeError::conflict(format!("exec command {id} has already run"))),
        }
    }

    fn view(&self) -> ExecView {
        let (running, exit_code, pid) = match self.phase() {
            Phase::Created => (false, None, 0),
            Phase::Starting => (true, None, 0),
            Phase::Running(pid) => (true, None, pid),
            Phase::Exited(code, pid) => (false, Some(code), pid),
        };
        ExecView { id: self.id, container: self.slot.id(), spec: self.spec.clone(), running, exit_code, pid }
    }
}

impl Execs {
    /// Registers a command that is not started yet.
    pub(crate) fn register(&self, slot: Arc<Slot>, spec: ExecSpec) -> Arc<Entry> {
        let entry =
            Arc::new(Entry { id: ExecId::random(), slot, spec, phase: watch::Sender::new(Phase::Created) });
        let mut register = self.lock();
        register.forget_expired(Instant::now());
        register.entries.insert(entry.id, Arc::clone(&entry));
        entry
    }

    /// One command by its whole id.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Entry>, NodeError> {
        let missing = || NodeError::NoSuchExec(id.to_owned());
        let parsed: ExecId = id.parse().map_err(|_| missing())?;
        let mut register = self.lock();
        register.forget_expired(Instant::now());
        register.entries.get(&parsed).cloned().ok_or_else(missing)
    }

    /// Commands of a container that have not exited.
    pub(crate) fn unfinished_of(&self, container: ContainerId) -> Vec<ExecId> {
        let register = self.lock();
        let unfinished = register
            .entries
            .values()
            .filter(|entry| entry.slot.id() == container && !matches!(entry.phase(), Phase::Exited(..)));
        let mut ids: Vec<ExecId> = unfinished.map(|entry| entry.id).collect();
        ids.sort_unstable();
        ids
    }

    /// The command runs.
    pub(crate) fn note_running(&self, id: ExecId, pid: u32) {
        self.change(id, |phase| {
            if *phase == Phase::Starting {
                *phase = Phase::Running(pid);
            }
        });
    }

    /// The command has exited, or could not be started. Later news change nothing.
    pub(crate) fn note_exit(&self, id: ExecId, code: i32) {
        self.change(id, |phase| match *phase {
            Phase::Exited(..) => {}
            Phase::Running(pid) => *phase = Phase::Exited(code, pid),
            Phase::Created | Phase::Starting => *phase = Phase::Exited(code, 0),
        });
        self.lock().expiring.push_back((Instant::now() + KEEP, id));
    }

    /// Forgets the commands of a container that has stopped which nobody started. The others end with it, and what became
    /// of them is asked for afterwards.
    pub(crate) fn forget_unstarted(&self, container: ContainerId) {
        let is_over = |entry: &Entry| entry.slot.id() == container && entry.phase() == Phase::Created;
        self.lock().entries.retain(|_, entry| !is_over(entry));
    }

    /// Forgets all commands of a container that is removed.
    pub(crate) fn forget_container(&self, container: ContainerId) {
        self.lock().entries.retain(|_, entry| entry.slot.id() != container);
    }

    fn change(&self, id: ExecId, change: impl FnOnce(&mut Phase)) {
        let entry = self.lock().entries.get(&id).cloned();
        if let Some(entry) = entry {
            entry.phase.send_modify(change);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Register {
    fn forget_expired(&mut self, now: Instant) {
        while let Some((_, id)) = self.expiring.front().filter(|(until, _)| *until <= now) {
            self.entries.remove(id);
            self.expiring.pop_front();
        }
    }
}

/// Refuses a command in a container that cannot run one now. `name` is what the client called the container.
pub(crate) fn require_running(view: &ContainerView, name: &str) -> Result<(), NodeError> {
    match &view.state {
        ContainerState::Running(_) => Ok(()),
        ContainerState::Paused(_) => {
            Err(NodeError::conflict(format!("Container {name} is paused, unpause the container before exec")))
        }
        ContainerState::Restarting { .. } => Err(NodeError::conflict(is_restarting(view.id))),
        ContainerState::Created
        | ContainerState::Exited(_)
        | ContainerState::Removing { .. }
        | ContainerState::Dead { .. } => {
            Err(NodeError::conflict(format!("container {} is not running", view.id)))
        }
    }
}

impl Shared {
    /// Registers a command in a running container and tells listeners.
    pub(crate) fn create_exec(&self, slot: &Arc<Slot>, spec: ExecSpec) -> Arc<Entry> {
        let entry = self.execs.register(Arc::clone(slot), spec);
        let action = format!("exec_create: {}", entry.command_line());
        self.emit(&slot.view(), &action, [("execID", entry.id.to_string())]);
        entry
    }
}
