//! PURE. Stops, kills and restarts: signals, those who wait for the exit, and what follows when it does not come.
//!
//! Start reading at [`Lifecycle::on_stop`] and [`Lifecycle::on_kill`].

use shoal_types::container::restart::RestartPolicy;
use shoal_types::container::state::{ContainerState, Exit};

use super::{
    Effect, Happening, KILL_GRACE, LAST_GRACE, LastWish, Lifecycle, MARKED_FOR_REMOVAL, NO_EXIT_EVENT, Now,
    Purpose, Refusal, Scope, SignalOutcome, Stage, StartKind, StopPlan, Ticket, Waiting, refuse,
};
use crate::containers::signal::SIGKILL;

impl Lifecycle {
    pub(super) fn on_stop(&mut self, ticket: Ticket, plan: StopPlan, now: Now) -> Vec<Effect> {
        match &self.condition.state {
            ContainerState::Running(_) | ContainerState::Paused(_) => {
                self.ask_to_end(ticket, Purpose::Stop, plan, now)
            }
            ContainerState::Restarting { last, .. } => {
                let last = last.clone();
                self.abandon_restart(last);
                vec![Effect::Commit, Effect::Emit(Happening::Stop), Effect::Answer(ticket, Ok(()))]
            }
            ContainerState::Created
            | ContainerState::Exited(_)
            | ContainerState::Removing { .. }
            | ContainerState::Dead { .. } => vec![Effect::Answer(ticket, Err(Refusal::NotModified))],
        }
    }

    pub(super) fn on_restart(&mut self, ticket: Ticket, plan: StopPlan, now: Now) -> Vec<Effect> {
        match &self.condition.state {
            ContainerState::Running(_) | ContainerState::Paused(_) => {
                self.ask_to_end(ticket, Purpose::Restart, plan, now)
            }
            ContainerState::Restarting { last, .. } => {
                let last = last.clone();
                self.abandon_restart(last);
                let mut effects = vec![Effect::Commit, Effect::Emit(Happening::Stop)];
                effects.extend(self.begin_start(vec![ticket], StartKind::Restart));
                effects
            }
            ContainerState::Created | ContainerState::Exited(_) => {
                self.begin_start(vec![ticket], StartKind::Restart)
            }
            ContainerState::Removing { .. } | ContainerState::Dead { .. } => {
                refuse(ticket, MARKED_FOR_REMOVAL.to_owned())
            }
        }
    }

    /// Sends the stop signal to a running container and lets the caller wait for the exit.
    pub(super) fn ask_to_end(
        &mut self,
        ticket: Ticket,
        purpose: Purpose,
        plan: StopPlan,
        now: Now,
    ) -> Vec<Effect> {
        let until = plan.grace.map(|grace| now.moment.plus(grace));
        self.waiting.push(Waiting { ticket, purpose, stage: Stage::Asked, until });
        let mut effects = self.wish_to_stop();
        effects.push(Effect::Signal { signal: plan.signal, scope: Scope::Init, ticket: Some(ticket) });
        effects
    }

    /// Remembers that the user wants an end, durably if anything depends on it.
    pub(super) fn wish_to_stop(&mut self) -> Vec<Effect> {
        let is_news = self.condition.last_wish != LastWish::Stop;
        self.condition.last_wish = LastWish::Stop;
        if is_news && self.rules.policy != RestartPolicy::No { vec![Effect::Commit] } else { Vec::new() }
    }

    pub(super) fn abandon_restart(&mut self, last: Exit) {
        self.due = None;
        self.condition.state = ContainerState::Exited(last);
        self.condition.last_wish = LastWish::Stop;
    }

    pub(super) fn on_kill(&mut self, ticket: Ticket, signal: i32, now: Now) -> Vec<Effect> {
        let ends = self.rules.stop_signal.is_asked_by(signal);
        match &self.condition.state {
            ContainerState::Running(_) | ContainerState::Paused(_) => {
                let mut effects = if ends { self.wish_to_stop() } else { Vec::new() };
                if signal == SIGKILL {
                    self.wait_for_kill(ticket, Purpose::Kill, now);
                }
                effects.push(Effect::Signal { signal, scope: Scope::Init, ticket: Some(ticket) });
                effects
            }
            ContainerState::Restarting { last, .. } => {
                let mut effects = Vec::new();
                if ends {
                    let last = last.clone();
                    self.abandon_restart(last);
                    effects.push(Effect::Commit);
                }
                effects.push(Effect::Answer(ticket, Ok(())));
                effects
            }
            ContainerState::Created
            | ContainerState::Exited(_)
            | ContainerState::Removing { .. }
            | ContainerState::Dead { .. } => refuse(ticket, format!("container {} is not running", self.id)),
        }
    }

    pub(super) fn wait_for_kill(&mut self, ticket: Ticket, purpose: Purpose, now: Now) {
        let until = Some(now.moment.plus(KILL_GRACE));
        self.waiting.push(Waiting { ticket, purpose, stage: Stage::Killed, until });
    }

    pub(super) fn on_signalled(
        &mut self,
        ticket: Option<Ticket>,
        signal: i32,
        outcome: SignalOutcome,
        now: Now,
    ) -> Vec<Effect> {
        let waiting =
            ticket.and_then(|ticket| self.waiting.iter_mut().find(|waiting| waiting.ticket == ticket));
        let is_plain = waiting.is_none();
        if let SignalOutcome::Failed(reason) = outcome {
            if let Some(waiting) = waiting {
                if waiting.stage == Stage::Asked && waiting.until.is_some() {
                    waiting.until = Some(now.moment.plus(LAST_GRACE));
                }
                return Vec::new();
            }
            let refusal = Refusal::Failed(format!("Cannot kill container {}: {reason}", self.id));
            return ticket.map(|ticket| Effect::Answer(ticket, Err(refusal))).into_iter().collect();
        }
        let mut effects = vec![Effect::Emit(Happening::Kill { signal })];
        if is_plain {
            effects.extend(ticket.map(|ticket| Effect::Answer(ticket, Ok(()))));
        }
        let is_paused = matches!(self.condition.state, ContainerState::Paused(_));
        if is_paused
            && outcome == SignalOutcome::Sent
            && (!is_plain || self.rules.stop_signal.is_asked_by(signal))
        {
            effects.push(Effect::Thaw(None));
        }
        effects
    }

    pub(super) fn on_tick(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.due.is_some_and(|due| due <= now.moment) {
            effects.extend(self.begin_start(Vec::new(), StartKind::Policy));
        }
        let mut given_up = Vec::new();
        for waiting in &mut self.waiting {
            if waiting.until.is_none_or(|until| until > now.moment) {
                continue;
            }
            let ticket = Some(waiting.ticket);
            let is_stop = matches!(waiting.purpose, Purpose::Stop | Purpose::Restart);
            match waiting.stage {
                Stage::Asked => {
                    waiting.stage = Stage::Killed;
                    waiting.until = Some(now.moment.plus(KILL_GRACE));
                    effects.push(Effect::Signal { signal: SIGKILL, scope: Scope::Init, ticket });
                }
                Stage::Killed => {
                    waiting.stage = Stage::KilledAll;
                    waiting.until = Some(now.moment.plus(LAST_GRACE));
                    effects.push(Effect::Signal { signal: SIGKILL, scope: Scope::All, ticket });
                }
                Stage::KilledAll if is_stop => {
                    waiting.stage = Stage::GivingUp;
                    waiting.until = Some(now.moment.plus(LAST_GRACE));
                }
                Stage::KilledAll | Stage::GivingUp => given_up.push(waiting.ticket),
            }
        }
        self.waiting.retain(|waiting| !given_up.contains(&waiting.ticket));
        let refusal = Refusal::Failed(NO_EXIT_EVENT.to_owned());
        effects.extend(given_up.into_iter().map(|ticket| Effect::Answer(ticket, Err(refusal.clone()))));
        effects
    }
}
