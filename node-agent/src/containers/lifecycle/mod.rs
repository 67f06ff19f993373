//! PURE. The machine of a container's life: state and input in, state and effects out.
//!
//! Start reading at [`Lifecycle::step`]; `io.rs` lists inputs and effects, `start.rs`, `ending.rs`, `exit.rs`,
//! `freezing.rs` and `removal.rs` react to them, `boot.rs` is what a starting daemon feeds, `tests.rs` holds the tables. The machine never waits and knows no clock but the one it is given. What it must still
//! know after a crash is [`Condition`]; everything else (callers, deadlines, back-off) may be forgotten, because the
//! clients are gone as well and boot asks the world again.
//!
//! Deliberately not here: how any effect is done (`effects.rs`), health verdicts (`health.rs`), execs.

mod boot;
mod ending;
mod exit;
mod freezing;
mod io;
mod removal;
mod start;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shoal_types::ContainerId;
use shoal_types::container::restart::RestartPolicy;
use shoal_types::container::state::{ContainerState, Exit, StartFailure};

pub(crate) use self::boot::BootWish;
use self::exit::exit_of;
pub(crate) use self::io::{
    Effect, Ended, Happening, HealthOrder, Input, Moment, Now, Observed, Refusal, Scope, SignalOutcome,
    StopPlan, Ticket,
};
use super::restart::{BackOff, EndedBy};
use super::signal::StopSignal;
use crate::api::containers::OfVolumes;

/// How long a killed container may take to end before every process of it is killed one by one.
const KILL_GRACE: Duration = Duration::from_secs(10);
/// How long to wait after that, and after a stop signal that could not be sent.
const LAST_GRACE: Duration = Duration::from_secs(2);

const MARKED_FOR_REMOVAL: &str = "container is marked for removal and cannot be started";
const NO_EXIT_EVENT: &str = "tried to kill container, but did not receive an exit event";

/// What is persisted of a container's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Condition {
    /// Where it is.
    pub(crate) state: ContainerState,
    /// Why the last start failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_failure: Option<StartFailure>,
    /// How often the policy has started it since the user did.
    #[serde(default)]
    pub(crate) restart_count: u32,
    /// Who ended, or is ending, the last run; reset by a start.
    #[serde(default)]
    pub(crate) last_wish: LastWish,
    /// What happens to anonymous volumes, while the state is `Removing`.
    #[serde(default)]
    pub(crate) removal: RemovalScope,
}

/// What a user has last asked of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LastWish {
    /// That it runs, or nothing yet.
    #[default]
    Run,
    /// That it stops.
    Stop,
}

/// The stored form of [`OfVolumes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RemovalScope {
    /// Volumes stay.
    #[default]
    KeepVolumes,
    /// Anonymous ones go.
    WithAnonymousVolumes,
}

impl From<OfVolumes> for RemovalScope {
    fn from(volumes: OfVolumes) -> Self {
        match volumes {
            OfVolumes::Keep => Self::KeepVolumes,
            OfVolumes::RemoveAnonymous => Self::WithAnonymousVolumes,
        }
    }
}

impl From<RemovalScope> for OfVolumes {
    fn from(scope: RemovalScope) -> Self {
        match scope {
            RemovalScope::KeepVolumes => Self::Keep,
            RemovalScope::WithAnonymousVolumes => Self::RemoveAnonymous,
        }
    }
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            state: ContainerState::Created,
            start_failure: None,
            restart_count: 0,
            last_wish: LastWish::Run,
            removal: RemovalScope::KeepVolumes,
        }
    }
}

/// What the container's spec says about its life. An update changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What happens after an exit.
    pub(crate) policy: RestartPolicy,
    /// Whether it is removed after an exit.
    pub(crate) auto_remove: bool,
    /// The signal that stops it.
    pub(crate) stop_signal: StopSignal,
}

/// The machine of one container.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    id: ContainerId,
    condition: Condition,
    rules: Rules,
    back_off: BackOff,
    /// When the policy starts it again.
    due: Option<Moment>,
    /// The exit whose run is being torn down.
    leaving: Option<Exit>,
    /// The start under way.
    starting: Option<Starting>,
    /// The removal under way.
    removing: Option<Removing>,
    /// Those who wait for the exit.
    waiting: Vec<Waiting>,
    mode: Mode,
}

/// Whether the policy may act by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The daemon is starting and decides about all containers together.
    Booting,
    /// It may.
    Serving,
}

#[derive(Debug)]
struct Starting {
    tickets: Vec<Ticket>,
    kind: StartKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StartKind {
    Plain,
    Restart,
    /// By the policy, when the daemon starts.
    Boot,
    /// By the policy, after an exit.
    Policy,
}

#[derive(Debug)]
struct Removing {
    ticket: Option<Ticket>,
    answer: Result<(), Refusal>,
}

/// Somebody who waits for the exit, and what follows if it does not come.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    purpose: Purpose,
    stage: Stage,
    until: Option<Moment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Stop,
    Kill,
    Restart,
    Remove(OfVolumes),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The stop signal was sent.
    Asked,
    /// SIGKILL was sent.
    Killed,
    /// SIGKILL was sent to every process.
    KilledAll,
    /// A stop gives it one more chance.
    GivingUp,
}

impl Lifecycle {
    /// The machine of a container that is known to be in this condition, while the daemon serves.
    pub(crate) fn new(id: ContainerId, condition: Condition, rules: Rules) -> Self {
        Self {
            id,
            condition,
            rules,
            back_off: BackOff::default(),
            due: None,
            leaving: None,
            starting: None,
            removing: None,
            waiting: Vec::new(),
            mode: Mode::Serving,
        }
    }

    /// The machine of a container whose record was just read.
    pub(crate) fn booting(id: ContainerId, condition: Condition, rules: Rules) -> Self {
        Self { mode: Mode::Booting, ..Self::new(id, condition, rules) }
    }

    /// What must be persisted.
    pub(crate) fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Follows an update of the spec.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Whether nothing but a wish can change anything: no process, no deadline, nobody waiting.
    pub(crate) fn is_dormant(&self) -> bool {
        self.mode == Mode::Serving
            && self.condition.state.run().is_none()
            && self.next_deadline().is_none()
            && self.waiting.is_empty()
    }

    /// When [`Input::Tick`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.waiting.iter().filter_map(|waiting| waiting.until).chain(self.due).min()
    }

    /// Takes an input and says what is to be done.
    pub(crate) fn step(&mut self, input: Input, now: Now) -> Vec<Effect> {
        match input {
            Input::Start(ticket) => self.on_start(ticket),
            Input::BootStart(ticket) => self.begin_start(vec![ticket], StartKind::Boot),
            Input::Stop(ticket, plan) => self.on_stop(ticket, plan, now),
            Input::Restart(ticket, plan) => self.on_restart(ticket, plan, now),
            Input::Kill(ticket, signal) => self.on_kill(ticket, signal, now),
            Input::Pause(ticket) => self.on_pause(ticket),
            Input::Unpause(ticket) => self.on_unpause(ticket),
            Input::Remove(ticket, running, volumes) => self.on_remove(ticket, running, volumes, now),
            Input::Serve => {
                self.mode = Mode::Serving;
                Vec::new()
            }
            Input::Launched(run) => self.on_launched(run),
            Input::LaunchFailed(failure) => self.on_launch_failed(failure, now),
            Input::TornDown => self.on_torn_down(now),
            Input::Erased(outcome) => self.on_erased(outcome),
            Input::Signalled(ticket, signal, outcome) => self.on_signalled(ticket, signal, outcome, now),
            Input::Frozen(ticket, outcome) => self.on_frozen(ticket, outcome),
            Input::Thawed(ticket, outcome) => self.on_thawed(ticket, outcome),
            Input::Exited(ended) => self.on_exited(ended),
            Input::OutOfMemory => self.on_out_of_memory(),
            Input::Tick => self.on_tick(now),
            Input::Observed(observed) => self.on_observed(observed, now),
        }
    }

    /// When the run before the one that is about to be noted ended.
    fn previous_end(&self) -> Option<Timestamp> {
        match self.condition.state.run() {
            Some(run) => run.previous_end,
            None => self.condition.state.last_exit().map(|exit| exit.finished_at),
        }
    }

    fn ended_by(&self) -> EndedBy {
        match self.condition.last_wish {
            LastWish::Run => EndedBy::Itself,
            LastWish::Stop => EndedBy::User,
        }
    }
}

fn refuse(ticket: Ticket, message: String) -> Vec<Effect> {
    vec![Effect::Answer(ticket, Err(Refusal::Conflict(message)))]
}

/// Docker's text for what cannot be done between an exit and the next start.
pub(crate) fn is_restarting(id: ContainerId) -> String {
    format!("Container {id} is restarting, wait until the container is running")
}
