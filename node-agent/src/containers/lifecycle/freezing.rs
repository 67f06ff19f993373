//! PURE. Pause and unpause.
//!
//! Start reading at [`Lifecycle::on_pause`].

use shoal_types::container::state::ContainerState;

use super::{Effect, Happening, HealthOrder, Lifecycle, Refusal, Ticket, is_restarting, refuse};

impl Lifecycle {
    pub(super) fn on_pause(&mut self, ticket: Ticket) -> Vec<Effect> {
        match &self.condition.state {
            ContainerState::Running(_) => vec![Effect::Freeze(Some(ticket))],
            ContainerState::Paused(_) => refuse(ticket, format!("container {} is already paused", self.id)),
            ContainerState::Restarting { .. } => refuse(ticket, is_restarting(self.id)),
            ContainerState::Created
            | ContainerState::Exited(_)
            | ContainerState::Removing { .. }
            | ContainerState::Dead { .. } => refuse(ticket, format!("container {} is not running", self.id)),
        }
    }

    pub(super) fn on_frozen(&mut self, ticket: Option<Ticket>, outcome: Result<(), String>) -> Vec<Effect> {
        if let Err(reason) = outcome {
            let refusal = Refusal::Failed(format!("cannot pause container {}: {reason}", self.id));
            return ticket.map(|ticket| Effect::Answer(ticket, Err(refusal))).into_iter().collect();
        }
        let ContainerState::Running(run) = &self.condition.state else { return Vec::new() };
        self.condition.state = ContainerState::Paused(run.clone());
        let mut effects =
            vec![Effect::Health(HealthOrder::Halt), Effect::Commit, Effect::Emit(Happening::Pause)];
        effects.extend(ticket.map(|ticket| Effect::Answer(ticket, Ok(()))));
        effects
    }

    pub(super) fn on_unpause(&mut self, ticket: Ticket) -> Vec<Effect> {
        if matches!(self.condition.state, ContainerState::Paused(_)) {
            return vec![Effect::Thaw(Some(ticket))];
        }
        let refusal = Refusal::Impossible(format!("Container {} is not paused", self.id));
        vec![Effect::Answer(ticket, Err(refusal))]
    }

    pub(super) fn on_thawed(&mut self, ticket: Option<Ticket>, outcome: Result<(), String>) -> Vec<Effect> {
        if let Err(reason) = outcome {
            let refusal = Refusal::Failed(format!("Cannot unpause container {}: {reason}", self.id));
            return ticket.map(|ticket| Effect::Answer(ticket, Err(refusal))).into_iter().collect();
        }
        let ContainerState::Paused(run) = &self.condition.state else { return Vec::new() };
        self.condition.state = ContainerState::Running(run.clone());
        let mut effects =
            vec![Effect::Health(HealthOrder::Resume), Effect::Commit, Effect::Emit(Happening::Unpause)];
        effects.extend(ticket.map(|ticket| Effect::Answer(ticket, Ok(()))));
        effects
    }
}
