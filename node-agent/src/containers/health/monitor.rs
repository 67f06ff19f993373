//! The clock of one container's health check: when the next probe is due, and the probe that runs.
//!
//! Start reading at [`Monitor`]. It is a part of the actor, not a task; the probe that it starts is a task, which the
//! monitor owns and aborts. Verdicts are made in `mod.rs`.

use std::time::Duration;

use shoal_types::container::health::{Health, HealthStatus, ProbeResult};
use tokio::task::JoinHandle;

use super::{Change, Check};
use crate::containers::lifecycle::Moment;

/// What a probe task ends with.
pub(crate) type ProbeOutcome = ProbeResult;

/// The health check of one container.
#[derive(Debug)]
pub(crate) struct Monitor {
    check: Check,
    health: Health,
    started: Moment,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Nothing is probed: it does not run, or is frozen.
    Halted,
    /// The next probe is due at this moment.
    Waiting(Moment),
    /// A probe runs since this moment.
    Probing { since: Moment, task: JoinHandle<ProbeOutcome> },
}

impl Monitor {
    /// A monitor of a container that has just been started, and the first probe one pause away.
    pub(crate) fn begin(check: Check, previous: Option<&Health>, now: Moment) -> Self {
        let health = super::starting(previous);
        let due = now.plus(check.pause(health.status, Duration::ZERO));
        Self { check, health, started: now, phase: Phase::Waiting(due) }
    }

    /// What is known.
    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// The check.
    pub(crate) fn check(&self) -> &Check {
        &self.check
    }

    /// Stops probing. Docker calls a container whose monitor has stopped unhealthy; tools have come to know it.
    pub(crate) fn halt(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Halted) {
            Phase::Halted => return,
            Phase::Waiting(_) => {}
            Phase::Probing { task, .. } => task.abort(),
        }
        self.health.status = HealthStatus::Unhealthy;
    }

    /// Goes on after a halt.
    pub(crate) fn resume(&mut self, now: Moment) {
        if matches!(self.phase, Phase::Halted) {
            self.phase = Phase::Waiting(now.plus(self.pause(now)));
        }
    }

    /// When the next probe is due.
    pub(crate) fn next_due(&self) -> Option<Moment> {
        match self.phase {
            Phase::Waiting(due) => Some(due),
            Phase::Halted | Phase::Probing { .. } => None,
        }
    }

    /// Whether a probe is to be started now.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        self.next_due().is_some_and(|due| due <= now)
    }

    /// Takes over the task of the probe that was due.
    pub(crate) fn probing(&mut self, task: JoinHandle<ProbeOutcome>, now: Moment) {
        self.phase = Phase::Probing { since: now, task };
    }

    /// Waits for the probe that runs; for ever when none does. May be dropped: the task keeps its result.
    pub(crate) async fn outcome(&mut self) -> ProbeOutcome {
        match &mut self.phase {
            Phase::Probing { task, .. } => match task.await {
                Ok(outcome) => outcome,
                Err(error) => ended_badly(&error),
            },
            Phase::Halted | Phase::Waiting(_) => std::future::pending().await,
        }
    }

    /// Takes the result of the probe that ran and plans the next.
    pub(crate) fn take(&mut self, outcome: ProbeOutcome, now: Moment) -> Change {
        let Phase::Probing { since, .. } = self.phase else { return Change::Same };
        let into_run = since.0.saturating_sub(self.started.0);
        let change = super::record(&mut self.health, &self.check, outcome, into_run);
        self.phase = Phase::Waiting(now.plus(self.pause(now)));
        change
    }

    fn pause(&self, now: Moment) -> Duration {
        self.check.pause(self.health.status, now.0.saturating_sub(self.started.0))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Phase::Probing { task, .. } = &self.phase {
            task.abort();
        }
    }
}

fn ended_badly(error: &tokio::task::JoinError) -> ProbeOutcome {
    let at = jiff::Timestamp::now();
    ProbeResult { start: at, end: at, exit_code: -1, output: format!("health check failed: {error}") }
}
