//! PURE. What a starting daemon makes of a container: the same machine, fed with what was found.
//!
//! Start reading at [`Lifecycle::on_observed`]. After it, [`Lifecycle::boot_wish`] says what the restart policy wants;
//! the order among containers is `boot.rs` of the crate's.

use shoal_types::container::state::{ContainerState, Exit, Run};

use super::{Effect, Ended, Happening, HealthOrder, Lifecycle, Now, Observed, exit_of};
use crate::containers::restart;

/// Exit code of a container whose end nobody has seen: the machine went down with it.
const UNSEEN_EXIT: i32 = 255;

/// What happens to a container that does not run when the daemon starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BootWish {
    /// Nothing.
    Rest,
    /// It is started.
    Start,
    /// It is removed.
    Remove,
}

impl Lifecycle {
    /// Reconciles the record with what was found.
    pub(super) fn on_observed(&mut self, observed: Observed, now: Now) -> Vec<Effect> {
        match (self.condition.state.clone(), observed) {
            (ContainerState::Removing { .. }, observed) => {
                let mut effects = leftovers(&observed);
                effects.extend(self.begin_removal(None, Ok(()), self.condition.removal.into()));
                effects
            }
            (ContainerState::Dead { .. }, observed) => leftovers(&observed),
            (ContainerState::Running(_), Observed::Running(run)) => self.adopt_as_recorded(run),
            (ContainerState::Paused(_), Observed::Running(run)) => {
                self.condition.state = ContainerState::Paused(run);
                vec![Effect::Freeze(None)]
            }
            (_, Observed::Running(run)) => self.adopt_news(run),
            (ContainerState::Running(run) | ContainerState::Paused(run), Observed::Exited(ended, _)) => {
                self.note_departure(ended);
                self.leave(exit_of(ended, Some(&run)))
            }
            (state, observed @ Observed::Exited(ended, _)) if is_known(&state, ended) => {
                if let ContainerState::Restarting { last, .. } = state {
                    self.condition.state = ContainerState::Exited(last);
                }
                leftovers(&observed)
            }
            (_, Observed::Exited(ended, started_at)) => {
                self.leave(Exit { started_at, ..exit_of(ended, None) })
            }
            (
                ContainerState::Running(run) | ContainerState::Paused(run),
                Observed::Unstarted | Observed::Gone,
            ) => {
                let ended = Ended { code: UNSEEN_EXIT, oom_killed: false, checkpointed: false, at: now.wall };
                self.leave(exit_of(ended, Some(&run)))
            }
            (ContainerState::Restarting { last, .. }, observed @ (Observed::Unstarted | Observed::Gone)) => {
                self.condition.state = ContainerState::Exited(last);
                leftovers(&observed)
            }
            (
                ContainerState::Created | ContainerState::Exited(_),
                observed @ (Observed::Unstarted | Observed::Gone),
            ) => leftovers(&observed),
        }
    }

    /// What the restart policy and `--rm` want of a container that does not run. One that was never started is not
    /// started by any policy.
    pub(crate) fn boot_wish(&self) -> BootWish {
        let policy = self.rules.policy;
        let count = self.condition.restart_count;
        let wants_start = match &self.condition.state {
            ContainerState::Exited(exit) => restart::at_boot(policy, exit.code, count, self.ended_by()),
            ContainerState::Created => false,
            ContainerState::Running(_)
            | ContainerState::Paused(_)
            | ContainerState::Restarting { .. }
            | ContainerState::Removing { .. }
            | ContainerState::Dead { .. } => return BootWish::Rest,
        };
        if wants_start {
            BootWish::Start
        } else if self.rules.auto_remove {
            BootWish::Remove
        } else {
            BootWish::Rest
        }
    }

    /// It runs as the record says. The freezer is set to what the record says, because a crash may have come between.
    fn adopt_as_recorded(&mut self, mut run: Run) -> Vec<Effect> {
        let oom_killed = run.oom_killed || self.condition.state.run().is_some_and(|run| run.oom_killed);
        run.oom_killed = oom_killed;
        run.previous_end = self.previous_end();
        self.condition.state = ContainerState::Running(run);
        vec![Effect::Thaw(None), Effect::Health(HealthOrder::Begin)]
    }

    /// It runs, and the daemon died before it could write that down.
    fn adopt_news(&mut self, mut run: Run) -> Vec<Effect> {
        run.previous_end = self.previous_end();
        self.condition.state = ContainerState::Running(run);
        self.condition.start_failure = None;
        self.condition.last_wish = super::LastWish::Run;
        vec![Effect::Health(HealthOrder::Begin), Effect::Commit, Effect::Emit(Happening::Start)]
    }

    fn leave(&mut self, exit: Exit) -> Vec<Effect> {
        self.leaving = Some(exit);
        vec![Effect::TearDown]
    }
}

/// Whether an exit is the one that is on record: the daemon died before it could delete the bundle.
fn is_known(state: &ContainerState, ended: Ended) -> bool {
    match state {
        ContainerState::Exited(exit) | ContainerState::Restarting { last: exit, .. } => {
            exit.finished_at == ended.at && exit.code == ended.code
        }
        ContainerState::Created
        | ContainerState::Running(_)
        | ContainerState::Paused(_)
        | ContainerState::Removing { .. }
        | ContainerState::Dead { .. } => false,
    }
}

/// What is left of a start or a run that the record knows nothing of is cleared away.
fn leftovers(observed: &Observed) -> Vec<Effect> {
    match observed {
        Observed::Gone => Vec::new(),
        Observed::Running(_) | Observed::Exited(..) | Observed::Unstarted => vec![Effect::TearDown],
    }
}
