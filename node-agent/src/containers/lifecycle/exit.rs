//! PURE. Exits: what is cleared away, whether the policy starts it again, and who was waiting.
//!
//! Start reading at [`Lifecycle::on_exited`], then [`Lifecycle::on_torn_down`].

use std::time::Duration;

use shoal_types::container::state::{ContainerState, Exit, Run};

use super::{
    Effect, Ended, Happening, HealthOrder, LastWish, Lifecycle, MARKED_FOR_REMOVAL, Mode, Now, Purpose,
    StartKind, refuse,
};
use crate::api::containers::OfVolumes;
use crate::containers::restart::{self, EndedBy};

impl Lifecycle {
    pub(super) fn on_exited(&mut self, ended: Ended) -> Vec<Effect> {
        let Some(run) = self.condition.state.run() else { return Vec::new() };
        self.leaving = Some(exit_of(ended, Some(run)));
        self.note_departure(ended);
        vec![Effect::Health(HealthOrder::Halt), Effect::TearDown]
    }

    /// A user wanted the end that a checkpoint brings: no policy starts the container from its beginning.
    pub(super) fn note_departure(&mut self, ended: Ended) {
        if ended.checkpointed {
            self.condition.last_wish = LastWish::Stop;
        }
    }

    pub(super) fn on_out_of_memory(&mut self) -> Vec<Effect> {
        let (ContainerState::Running(run) | ContainerState::Paused(run)) = &mut self.condition.state else {
            return Vec::new();
        };
        let is_news = !run.oom_killed;
        run.oom_killed = true;
        let emit = Effect::Emit(Happening::Oom);
        if is_news { vec![Effect::Commit, emit] } else { vec![emit] }
    }

    pub(super) fn on_torn_down(&mut self, now: Now) -> Vec<Effect> {
        let Some(exit) = self.leaving.take() else { return vec![Effect::Discard] };
        let ran_for = run_length(&exit);
        let die = Happening::Die { code: exit.code, seconds: ran_for.as_secs() };
        // Whoever waits for this exit has caused it; a daemon that shuts down does so without a user's wish.
        let ended_by = if self.waiting.is_empty() { self.ended_by() } else { EndedBy::User };
        let count = self.condition.restart_count;
        if self.mode == Mode::Serving && restart::after_exit(self.rules.policy, exit.code, count, ended_by) {
            self.condition.restart_count = count.saturating_add(1);
            self.restart_later(exit, ran_for, now);
        } else {
            self.condition.state = ContainerState::Exited(exit);
        }
        let mut effects = vec![Effect::Commit, Effect::Discard, Effect::Emit(die)];
        effects.extend(self.answer_those_who_waited());
        effects
    }

    /// Lets the policy start the container again when its delay is over.
    pub(super) fn restart_later(&mut self, last: Exit, ran_for: Duration, now: Now) {
        let delay = self.back_off.next(ran_for);
        self.due = Some(now.moment.plus(delay));
        let due = now.wall.saturating_add(delay).unwrap_or(now.wall);
        self.condition.state = ContainerState::Restarting { last, due };
    }

    /// After an exit: answers stops and kills, then does what others wanted to do with a container that has ended.
    pub(super) fn answer_those_who_waited(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut restarts = Vec::new();
        let mut removal = None;
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting.purpose {
                Purpose::Stop => {
                    effects.push(Effect::Emit(Happening::Stop));
                    effects.push(Effect::Answer(waiting.ticket, Ok(())));
                }
                Purpose::Kill => effects.push(Effect::Answer(waiting.ticket, Ok(()))),
                Purpose::Restart => {
                    effects.push(Effect::Emit(Happening::Stop));
                    restarts.push(waiting.ticket);
                }
                Purpose::Remove(volumes) => removal = Some((waiting.ticket, volumes)),
            }
        }
        let has_ended = matches!(self.condition.state, ContainerState::Exited(_));
        if let Some((ticket, volumes)) = removal {
            effects
                .extend(restarts.into_iter().flat_map(|other| refuse(other, MARKED_FOR_REMOVAL.to_owned())));
            effects.extend(self.begin_removal(Some(ticket), Ok(()), volumes));
        } else if !restarts.is_empty() {
            effects.extend(self.begin_start(restarts, StartKind::Restart));
        } else if has_ended && self.rules.auto_remove && self.mode == Mode::Serving {
            effects.extend(self.begin_removal(None, Ok(()), OfVolumes::RemoveAnonymous));
        }
        effects
    }
}

pub(super) fn exit_of(ended: Ended, run: Option<&Run>) -> Exit {
    Exit {
        code: ended.code,
        oom_killed: ended.oom_killed || run.is_some_and(|run| run.oom_killed),
        started_at: run.map(|run| run.started_at),
        finished_at: ended.at,
        error: String::new(),
    }
}

/// How long a run lasted; zero when the clock was set back meanwhile.
fn run_length(exit: &Exit) -> Duration {
    exit.started_at
        .and_then(|started_at| Duration::try_from(exit.finished_at.duration_since(started_at)).ok())
        .unwrap_or_default()
}
