//! PURE. Starts: who may, what a success and a failure change.
//!
//! Start reading at [`Lifecycle::on_start`].

use std::time::Duration;

use shoal_types::ErrorKind;
use shoal_types::container::state::{ContainerState, Run, StartFailure};

use super::{
    Effect, Happening, HealthOrder, LastWish, Lifecycle, MARKED_FOR_REMOVAL, Mode, Now, Refusal, StartKind,
    Starting, Ticket, refuse,
};
use crate::api::containers::OfVolumes;
use crate::containers::restart;

impl Lifecycle {
    pub(super) fn on_start(&mut self, ticket: Ticket) -> Vec<Effect> {
        match &self.condition.state {
            ContainerState::Created | ContainerState::Exited(_) => {
                self.begin_start(vec![ticket], StartKind::Plain)
            }
            ContainerState::Running(_) | ContainerState::Restarting { .. } => {
                vec![Effect::Answer(ticket, Err(Refusal::NotModified))]
            }
            ContainerState::Paused(_) => {
                refuse(ticket, "cannot start a paused container, try unpause instead".to_owned())
            }
            ContainerState::Removing { .. } | ContainerState::Dead { .. } => {
                refuse(ticket, MARKED_FOR_REMOVAL.to_owned())
            }
        }
    }

    pub(super) fn begin_start(&mut self, tickets: Vec<Ticket>, kind: StartKind) -> Vec<Effect> {
        if kind != StartKind::Policy {
            self.condition.restart_count = 0;
            self.condition.last_wish = LastWish::Run;
            self.back_off.reset();
        }
        self.due = None;
        self.starting = Some(Starting { tickets, kind });
        vec![Effect::Launch]
    }

    pub(super) fn on_launched(&mut self, mut run: Run) -> Vec<Effect> {
        let starting = self.starting.take();
        run.previous_end = self.previous_end();
        self.condition.state = ContainerState::Running(run);
        self.condition.start_failure = None;
        let mut effects =
            vec![Effect::Health(HealthOrder::Begin), Effect::Commit, Effect::Emit(Happening::Start)];
        if let Some(starting) = starting {
            if starting.kind == StartKind::Restart {
                effects.push(Effect::Emit(Happening::Restart));
            }
            effects.extend(starting.tickets.into_iter().map(|ticket| Effect::Answer(ticket, Ok(()))));
        }
        effects
    }

    pub(super) fn on_launch_failed(&mut self, failure: StartFailure, now: Now) -> Vec<Effect> {
        let (tickets, kind) = self.starting.take().map(|starting| (starting.tickets, starting.kind)).unzip();
        let tickets = tickets.unwrap_or_default();
        self.condition.start_failure = Some(failure.clone());
        if let ContainerState::Restarting { last, .. } = &self.condition.state {
            self.condition.state = ContainerState::Exited(last.clone());
        }
        if matches!(kind, Some(StartKind::Boot | StartKind::Policy)) && failure.kind == ErrorKind::Unavailable
        {
            self.try_again_later(now);
        }
        let refusal = Refusal::StartFailed(failure);
        if self.rules.auto_remove {
            let mut tickets = tickets.into_iter();
            let first = tickets.next();
            let mut effects: Vec<Effect> =
                tickets.map(|ticket| Effect::Answer(ticket, Err(refusal.clone()))).collect();
            effects.extend(self.begin_removal(first, Err(refusal), OfVolumes::RemoveAnonymous));
            return effects;
        }
        let answers = tickets.into_iter().map(|ticket| Effect::Answer(ticket, Err(refusal.clone())));
        std::iter::once(Effect::Commit).chain(answers).collect()
    }

    /// What the start needs is not there at the moment, as the managers of a cluster while the machine boots: the policy holds on.
    ///
    /// Docker gives up here. It counts as no restart, since the container has not run.
    fn try_again_later(&mut self, now: Now) {
        let ContainerState::Exited(last) = &self.condition.state else { return };
        let count = self.condition.restart_count;
        if self.mode == Mode::Serving
            && restart::after_exit(self.rules.policy, last.code, count, self.ended_by())
        {
            self.restart_later(last.clone(), Duration::ZERO, now);
        }
    }
}
