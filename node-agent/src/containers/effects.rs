//! Doing what the lifecycle wants: one function for each effect.
//!
//! Start reading at [`Actor::feed`], which runs effects in their order and feeds their outcomes back. Every effect can be
//! repeated: a crash at any of them is followed by a boot that feeds the same machine with what it finds. Starting is
//! `launch.rs`, ending a run `teardown.rs`, removing `erase.rs`.

use std::collections::VecDeque;
use std::sync::Arc;

use node_shim::protocol::{FailureKind, KillScope};
use shoal_types::container::health::HealthStatus;
use shoal_types::container::state::ContainerState;

use super::actor::{Actor, Fate};
use super::health::monitor::{Monitor, ProbeOutcome};
use super::health::{Change, Check, probe};
use super::lifecycle::{Effect, Happening, HealthOrder, Input, Scope, SignalOutcome};
use super::record::StateRecord;
use crate::crash_point::crash_point;
use crate::error::ErrorChain;
use crate::shim_client::ShimError;
use crate::store::Batch;

impl Actor {
    /// Takes an input through the machine and does everything that follows from it.
    pub(super) async fn feed(&mut self, input: Input) -> Fate {
        let mut queue: VecDeque<Effect> = self.core.life.step(input, self.shared.now()).into();
        while let Some(effect) = queue.pop_front() {
            if effect == Effect::Vanish {
                self.slot.vanish();
                return Fate::Gone;
            }
            let outcome = Box::pin(self.perform(effect)).await;
            crash_point("after an effect");
            let Some(outcome) = outcome else { continue };
            for effect in self.core.life.step(outcome, self.shared.now()).into_iter().rev() {
                queue.push_front(effect);
            }
        }
        Fate::Here
    }

    async fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Launch => Some(match self.launch().await {
                Ok(run) => Input::Launched(run),
                Err(failure) => Input::LaunchFailed(failure),
            }),
            Effect::TearDown => {
                self.tear_down().await;
                Some(Input::TornDown)
            }
            Effect::Discard => {
                self.discard_bundle().await;
                None
            }
            Effect::Erase(volumes) => {
                let outcome = self.erase(volumes).await;
                Some(Input::Erased(outcome.map_err(|error| error.message())))
            }
            Effect::Signal { signal, scope, ticket } => {
                let outcome = self.signal(signal, scope).await;
                Some(Input::Signalled(ticket, signal, outcome))
            }
            Effect::Freeze(ticket) => Some(Input::Frozen(ticket, self.freeze().await)),
            Effect::Thaw(ticket) => Some(Input::Thawed(ticket, self.thaw().await)),
            Effect::Commit => {
                self.commit().await;
                None
            }
            Effect::Emit(happening) => {
                self.emit(&happening);
                None
            }
            Effect::Answer(ticket, outcome) => {
                self.core.answer(ticket, outcome);
                None
            }
            Effect::Health(order) => {
                self.order_health(order);
                None
            }
            Effect::Vanish => None,
        }
    }

    /// Makes the state durable, then visible. A database that fails does not stop a container: what runs runs, and the
    /// daemon says loudly that it will not remember.
    async fn commit(&mut self) {
        let id = self.core.id.to_string();
        let record = StateRecord { condition: self.core.life.condition().clone() };
        let stored = match Batch::new().put(id, &record) {
            Ok(batch) => self.shared.commit(batch).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = stored {
            let error = ErrorChain(&error);
            tracing::error!(container.id = %self.core.id, %error, "state of a container cannot be stored");
        }
        if let Some(exit) = self.core.life.condition().state.last_exit()
            && self.core.last_exit.as_deref() != Some(exit)
        {
            self.core.last_exit = Some(Arc::new(exit.clone()));
            self.core.n_exits += 1;
        }
        self.publish();
        self.shared.hold_image(&self.core);
    }

    fn emit(&self, happening: &Happening) {
        let view = self.slot.view();
        let shared = &self.shared;
        match happening {
            Happening::Start => shared.emit(&view, "start", []),
            Happening::Die { code, seconds } => {
                let attributes = [("exitCode", code.to_string()), ("execDuration", seconds.to_string())];
                shared.emit(&view, "die", attributes);
            }
            Happening::Stop => shared.emit(&view, "stop", []),
            Happening::Kill { signal } => shared.emit(&view, "kill", [("signal", signal.to_string())]),
            Happening::Restart => shared.emit(&view, "restart", []),
            Happening::Pause => shared.emit(&view, "pause", []),
            Happening::Unpause => shared.emit(&view, "unpause", []),
            Happening::Oom => shared.emit(&view, "oom", []),
            Happening::Destroy => shared.emit(&view, "destroy", []),
        }
    }

    async fn signal(&self, signal: i32, scope: Scope) -> SignalOutcome {
        let Some(shim) = self.core.run.as_deref().and_then(|run| run.shim.as_ref()) else {
            return SignalOutcome::ProcessGone;
        };
        let scope = match scope {
            Scope::Init => KillScope::Init,
            Scope::All => KillScope::All,
        };
        match shim.kill(signal, scope).await {
            Ok(()) => SignalOutcome::Sent,
            Err(ShimError::Gone) => SignalOutcome::ProcessGone,
            Err(ShimError::Refused(failure)) if failure.kind == FailureKind::NotRunning => {
                SignalOutcome::ProcessGone
            }
            Err(error) => SignalOutcome::Failed(ErrorChain(&error).to_string()),
        }
    }

    async fn freeze(&self) -> Result<(), String> {
        match self.core.run.as_deref().and_then(|run| run.shim.as_ref()) {
            Some(shim) => shim.pause().await.map_err(|error| ErrorChain(&error).to_string()),
            None => Err("its shim is gone".to_owned()),
        }
    }

    async fn thaw(&self) -> Result<(), String> {
        match self.core.run.as_deref().and_then(|run| run.shim.as_ref()) {
            Some(shim) => shim.resume().await.map_err(|error| ErrorChain(&error).to_string()),
            None => Err("its shim is gone".to_owned()),
        }
    }

    fn order_health(&mut self, order: HealthOrder) {
        let now = self.shared.now().moment;
        match order {
            HealthOrder::Begin => {
                let spec = &self.core.record.spec;
                let check = Check::of(spec.health.as_ref(), spec.process.shell.as_deref());
                let previous = self.core.health.take();
                self.core.health = check.map(|check| {
                    Box::new(Monitor::begin(check, previous.as_deref().map(Monitor::health), now))
                });
            }
            HealthOrder::Halt => {
                if let Some(monitor) = &mut self.core.health {
                    monitor.halt();
                }
            }
            HealthOrder::Resume => {
                if let Some(monitor) = &mut self.core.health {
                    monitor.resume(now);
                }
            }
        }
    }

    /// Starts the probe that is due.
    pub(super) fn tick_health(&mut self) {
        let now = self.shared.now().moment;
        let Some(monitor) = self.core.health.as_deref_mut().filter(|monitor| monitor.is_due(now)) else {
            return;
        };
        if !matches!(self.core.life.condition().state, ContainerState::Running(_)) {
            return monitor.halt();
        }
        let check = monitor.check().clone();
        let probe = probe::run(Arc::clone(&self.shared), Arc::clone(&self.slot), check);
        monitor.probing(tokio::spawn(probe), now);
    }

    /// Takes the result of a probe. Not stored: the next probe tells as much, and disks live longer.
    pub(super) fn on_probe(&mut self, outcome: ProbeOutcome) {
        let now = self.shared.now().moment;
        let Some(monitor) = self.core.health.as_deref_mut() else { return };
        let change = monitor.take(outcome, now);
        let status = match monitor.health().status {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        };
        self.publish();
        if change == Change::Changed {
            self.shared.emit(&self.slot.view(), &format!("health_status: {status}"), []);
        }
    }
}
