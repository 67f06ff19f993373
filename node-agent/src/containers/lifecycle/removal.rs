//! PURE. Removals.
//!
//! Start reading at [`Lifecycle::on_remove`]. A removal that fails leaves the container `dead`; it can be removed again.

use shoal_types::container::state::ContainerState;

use super::{Effect, Happening, Lifecycle, Now, Purpose, Refusal, Removing, Scope, Ticket, refuse};
use crate::api::containers::{OfRunning, OfVolumes};
use crate::containers::signal::SIGKILL;

impl Lifecycle {
    pub(super) fn on_remove(
        &mut self,
        ticket: Ticket,
        running: OfRunning,
        volumes: OfVolumes,
        now: Now,
    ) -> Vec<Effect> {
        if self.waiting.iter().any(|waiting| matches!(waiting.purpose, Purpose::Remove(_))) {
            return vec![Effect::Answer(ticket, Err(Refusal::RemovalInProgress))];
        }
        match (&self.condition.state, running) {
            (ContainerState::Created | ContainerState::Exited(_) | ContainerState::Dead { .. }, _) => {
                self.begin_removal(Some(ticket), Ok(()), volumes)
            }
            (ContainerState::Removing { .. }, _) => {
                vec![Effect::Answer(ticket, Err(Refusal::RemovalInProgress))]
            }
            (ContainerState::Paused(_), OfRunning::Refuse) => {
                refuse(ticket, "container is paused and must be unpaused first".to_owned())
            }
            (state @ (ContainerState::Running(_) | ContainerState::Restarting { .. }), OfRunning::Refuse) => {
                let name = state.name();
                refuse(
                    ticket,
                    format!("container is {name}: stop the container before removing or force remove"),
                )
            }
            (ContainerState::Running(_) | ContainerState::Paused(_), OfRunning::Kill) => {
                let mut effects = self.wish_to_stop();
                self.wait_for_kill(ticket, Purpose::Remove(volumes), now);
                effects.push(Effect::Signal { signal: SIGKILL, scope: Scope::Init, ticket: Some(ticket) });
                effects
            }
            (ContainerState::Restarting { last, .. }, OfRunning::Kill) => {
                let last = last.clone();
                self.abandon_restart(last);
                self.begin_removal(Some(ticket), Ok(()), volumes)
            }
        }
    }

    pub(super) fn begin_removal(
        &mut self,
        ticket: Option<Ticket>,
        answer: Result<(), Refusal>,
        volumes: OfVolumes,
    ) -> Vec<Effect> {
        let last = self.condition.state.last_exit().cloned();
        self.condition.state = ContainerState::Removing { last };
        self.condition.removal = volumes.into();
        self.removing = Some(Removing { ticket, answer });
        vec![Effect::Erase(volumes)]
    }

    pub(super) fn on_erased(&mut self, outcome: Result<(), String>) -> Vec<Effect> {
        let Some(Removing { ticket, answer }) = self.removing.take() else { return Vec::new() };
        match outcome {
            Ok(()) => {
                let answer = ticket.map(|ticket| Effect::Answer(ticket, answer));
                std::iter::once(Effect::Emit(Happening::Destroy))
                    .chain(answer)
                    .chain(std::iter::once(Effect::Vanish))
                    .collect()
            }
            Err(reason) => {
                let last = self.condition.state.last_exit().cloned();
                self.condition.state = ContainerState::Dead { last, reason: reason.clone() };
                let answer = answer.and(Err(Refusal::Failed(reason)));
                let answer = ticket.map(|ticket| Effect::Answer(ticket, answer));
                std::iter::once(Effect::Commit).chain(answer).collect()
            }
        }
    }
}
