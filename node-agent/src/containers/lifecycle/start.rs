//! PURE. Starts: who may, what a success and a failure change.
//!
//! Start reading at [`Lifecycle::on_start`].

use shoal_types::container::state::{ContainerState, Run, StartFailure};

use super::{
    Effect, Happening, HealthOrder, LastWish, Lifecycle, MARKED_FOR_REMOVAL, Refusal, StartKind, Starting,
    Ticket, refuse,
};
use crate::api::containers::OfVolumes;

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

    pub(super) fn on_launch_failed(&mut self, failure: StartFailure) -> Vec<Effect> {
        let tickets = self.starting.take().map(|starting| starting.tickets).unwrap_or_default();
        self.condition.start_failure = Some(failure.clone());
        if let ContainerState::Restarting { last, .. } = &self.condition.state {
            self.condition.state = ContainerState::Exited(last.clone());
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
}
