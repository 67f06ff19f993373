//! PURE. What goes into the machine of a container's life and what comes out of it.
//!
//! Start reading at [`Input`] and [`Effect`]. An effect that has an outcome says which input brings it back; the actor
//! feeds that input at once, and runs what it causes before the rest of the effects.

use std::time::Duration;

use jiff::Timestamp;
use shoal_types::container::state::{Run, StartFailure};

use crate::api::containers::{OfRunning, OfVolumes};

/// Time since the daemon's start, by the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) Duration);

impl Moment {
    /// So much later.
    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// The two clocks: one for waiting, one for showing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For deadlines.
    pub(crate) moment: Moment,
    /// For what users see.
    pub(crate) wall: Timestamp,
}

/// Names a caller that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// How to stop: which signal, and how long to wait before SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopPlan {
    /// The signal's number.
    pub(crate) signal: i32,
    /// `None` waits for ever.
    pub(crate) grace: Option<Duration>,
}

/// What is asked for, what has happened, and what came of an effect.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// Start, at a client's wish.
    Start(Ticket),
    /// Start because the daemon has just started.
    BootStart(Ticket),
    /// Stop.
    Stop(Ticket, StopPlan),
    /// Stop if it runs, then start.
    Restart(Ticket, StopPlan),
    /// Send a signal. SIGKILL is answered after the exit.
    Kill(Ticket, i32),
    /// Freeze.
    Pause(Ticket),
    /// Thaw.
    Unpause(Ticket),
    /// Remove.
    Remove(Ticket, OfRunning, OfVolumes),
    /// The daemon has started: from now on the restart policy acts by itself.
    Serve,

    /// Of [`Effect::Launch`]: it runs.
    Launched(Run),
    /// Of [`Effect::Launch`]: it does not, and nothing is left of the attempt.
    LaunchFailed(StartFailure),
    /// Of [`Effect::TearDown`]: nothing is left of the run but its bundle.
    TornDown,
    /// Of [`Effect::Erase`]: it is gone, or why it is not.
    Erased(Result<(), String>),
    /// Of [`Effect::Signal`].
    Signalled(Option<Ticket>, i32, SignalOutcome),
    /// Of [`Effect::Freeze`].
    Frozen(Option<Ticket>, Result<(), String>),
    /// Of [`Effect::Thaw`].
    Thawed(Option<Ticket>, Result<(), String>),

    /// The init process has ended.
    Exited(Ended),
    /// The kernel has killed a process for want of memory.
    OutOfMemory,
    /// Time has passed; see [`super::Lifecycle::next_deadline`].
    Tick,
    /// What was found of it when the daemon started.
    Observed(Observed),
}

/// How the init process has ended, as the shim tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Exit code.
    pub(crate) code: i32,
    /// Whether memory had run out.
    pub(crate) oom_killed: bool,
    /// Whether it was killed because a checkpoint holds its state.
    pub(crate) checkpointed: bool,
    /// When.
    pub(crate) at: Timestamp,
}

/// What became of a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SignalOutcome {
    /// It was sent.
    Sent,
    /// There is no process any more; the exit is on its way.
    ProcessGone,
    /// It could not be sent.
    Failed(String),
}

/// What the daemon finds of a container when it starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Observed {
    /// Its shim lives and so does its init process.
    Running(Run),
    /// Its init process has ended meanwhile; when it had been started, if that is known.
    Exited(Ended, Option<Timestamp>),
    /// A start was interrupted before the program ran.
    Unstarted,
    /// Nothing.
    Gone,
}

/// What the machine wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Acquire everything and start the process; brings [`Input::Launched`] or [`Input::LaunchFailed`].
    Launch,
    /// Give back everything that belongs to a run but its bundle; brings [`Input::TornDown`].
    TearDown,
    /// Delete the bundle. After the commit of an exit, because the bundle knows how the run ended until then.
    Discard,
    /// Write down that it is being removed, remove all that belongs to it, then its record; brings [`Input::Erased`].
    Erase(OfVolumes),
    /// Send a signal; brings [`Input::Signalled`].
    Signal {
        /// The number.
        signal: i32,
        /// Who gets it.
        scope: Scope,
        /// Who wanted it.
        ticket: Option<Ticket>,
    },
    /// Freeze; brings [`Input::Frozen`].
    Freeze(Option<Ticket>),
    /// Thaw; brings [`Input::Thawed`].
    Thaw(Option<Ticket>),
    /// Make the state durable, then visible.
    Commit,
    /// Tell those who listen.
    Emit(Happening),
    /// Tell the one who asked.
    Answer(Ticket, Result<(), Refusal>),
    /// Tell the health monitor.
    Health(HealthOrder),
    /// It is gone: forget it.
    Vanish,
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The init process.
    Init,
    /// Every process of the container.
    All,
}

/// What the health monitor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthOrder {
    /// Begin anew.
    Begin,
    /// Stop for good or until [`HealthOrder::Resume`].
    Halt,
    /// Go on.
    Resume,
}

/// What listeners are told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happening {
    /// The program runs.
    Start,
    /// The program has ended with this code after so many whole seconds.
    Die {
        /// Exit code.
        code: i32,
        /// Length of the run.
        seconds: u64,
    },
    /// A stop is complete.
    Stop,
    /// A signal was sent.
    Kill {
        /// The number.
        signal: i32,
    },
    /// A restart is complete.
    Restart,
    /// It is frozen.
    Pause,
    /// It is thawed.
    Unpause,
    /// Memory has run out.
    Oom,
    /// It is gone.
    Destroy,
}

/// Why a wish is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It already is as wished.
    NotModified,
    /// The state forbids it.
    Conflict(String),
    /// The state forbids it, which Docker tells as a failure.
    Impossible(String),
    /// It was tried and failed.
    Failed(String),
    /// It could not be started.
    StartFailed(StartFailure),
    /// Somebody else is removing it.
    RemovalInProgress,
}
