//! Makes tasks for services and ends them: what is wanted, compared with what there is.
//!
//! Start reading at [`reconcile_service`], the one pass over a service, in this order: restart what has ended or was lost
//! ([`restart`]), make and end tasks until there are as many as wanted ([`replicated`], [`global`], [`jobs`]), exchange those
//! of an older spec ([`update`]), start what has waited long enough ([`restart::promote`]), forget what is history
//! ([`reaper`]). Everything is pure and derives from the objects alone: a new leader, or the same one after a restart, decides
//! as the one before, because delays, attempts and an update's failures are read from the tasks.

mod constraints;
mod dirty;
mod global;
mod jobs;
mod reaper;
mod replicated;
mod restart;
mod slots;
mod task;
#[cfg(test)]
mod tests;
mod update;

use std::sync::Arc;

use jiff::Timestamp;
use shoal_types::ServiceId;
use shoal_types::cluster::service::{Service, ServiceMode};
use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;

use crate::store::{Conflict, Draft};

pub use constraints::enforce_constraints;
pub use dirty::is_dirty;
pub use reaper::{dispose, orphan_lost_tasks};
pub(crate) use task::orphaned;

/// Brings the tasks of a service nearer to what it wants. Returns when it must be looked at again even if nothing changes.
pub fn reconcile_service(draft: &mut Draft, id: ServiceId) -> Result<Option<Timestamp>, Conflict> {
    reaper::orphan_homeless(draft, id)?;
    let Some(service) = draft.view().service(id).cloned() else {
        reaper::remove_all(draft, id)?;
        return Ok(None);
    };
    let mut deadline = Deadline::default();
    restart::restart_ended(draft, &service)?;
    match service.spec.mode {
        ServiceMode::Replicated { replicas } => {
            let slots = replicated::scale(draft, &service, replicas)?;
            update::advance(draft, &service, slots, &mut deadline)?;
        }
        ServiceMode::Global => {
            let slots = global::cover_nodes(draft, &service)?;
            update::advance(draft, &service, slots, &mut deadline)?;
        }
        ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
            jobs::run_replicated(draft, &service, max_concurrent, total_completions)?;
        }
        ServiceMode::GlobalJob => jobs::run_on_nodes(draft, &service)?,
    }
    restart::promote(draft, &service, &mut deadline)?;
    reaper::trim_history(draft, &service)?;
    Ok(deadline.0)
}

/// Whether a task has only come nearer to running, of which nothing follows for its service: it has not ended, waits for no other
/// and no other waits for it, and no update looks on.
pub(crate) fn is_mere_progress(service: &Service, before: &Task, after: &Task) -> bool {
    let is_coming = |task: &Task| {
        (TaskState::Assigned..=TaskState::Running).contains(&task.status.state)
            && task.desired == TaskState::Running
    };
    service.update.is_none()
        && service.job.is_none()
        && is_coming(before)
        && is_coming(after)
        && (before.node, before.spec_version) == (after.node, service.spec_version)
}

/// The earliest of several times.
#[derive(Debug, Default)]
pub(crate) struct Deadline(Option<Timestamp>);

impl Deadline {
    /// Adds a time.
    pub(crate) fn at(&mut self, time: Timestamp) {
        self.0 = Some(self.0.map_or(time, |earliest| earliest.min(time)));
    }
}

/// Tasks in one place of a service, oldest first.
pub(crate) type Slot = Vec<Arc<Task>>;
