//! Services that run until they have done their work.
//!
//! Start reading at [`run_replicated`] and [`run_on_nodes`]. Pure. Every update of a job begins another run of it, and ends the
//! tasks of the run before.

use std::collections::BTreeSet;

use shoal_types::cluster::service::Service;
use shoal_types::cluster::task::TaskPlace;
use shoal_types::cluster::task_state::TaskState;

use super::global::{Coverage, coverage};
use super::slots::all;
use super::task::{Start, TaskMaker};
use crate::scheduler::MOST_CHANGES;
use crate::scheduler::constraint::parse_all;
use crate::store::{Conflict, Draft};

/// Runs so many tasks at a time until so many have completed. A place whose attempts are used up counts as in use: the job does
/// not complete, and does not try for ever either.
pub(super) fn run_replicated(
    draft: &mut Draft,
    service: &Service,
    max_concurrent: u64,
    total: u64,
) -> Result<(), Conflict> {
    end_earlier_runs(draft, service)?;
    let max_concurrent = max_concurrent.max(1);
    let total = if total == 0 { max_concurrent } else { total };
    let mut used = BTreeSet::new();
    let mut n_running = 0_u64;
    for (place, tasks) in all(draft.view(), service) {
        used.insert(place);
        let is_running =
            tasks.iter().any(|task| task.is_wanted() && task.status.state != TaskState::Complete);
        n_running = n_running.saturating_add(u64::from(is_running));
    }
    let n_used = u64::try_from(used.len()).unwrap_or(u64::MAX);
    let n_new = max_concurrent.saturating_sub(n_running).min(total.saturating_sub(n_used));
    let mut maker = TaskMaker::new(service);
    let free = (0..).map(TaskPlace::Slot).filter(|place| !used.contains(place));
    for place in free.take(usize::try_from(n_new).unwrap_or(usize::MAX).min(MOST_CHANGES)) {
        maker.make(draft, place, Start::AfterPredecessors)?;
    }
    Ok(())
}

/// Runs one task to its completion on every node that qualifies, also on those that come later.
pub(super) fn run_on_nodes(draft: &mut Draft, service: &Service) -> Result<(), Conflict> {
    end_earlier_runs(draft, service)?;
    let constraints = parse_all(&service.spec.template.placement.constraints).ok();
    let places = all(draft.view(), service);
    let mut maker = TaskMaker::new(service);
    let nodes: Vec<_> = draft.view().nodes().cloned().collect();
    for node in &nodes {
        let place = TaskPlace::Node(node.id);
        match (coverage(node, constraints.as_deref()), places.get(&place)) {
            (Coverage::Covered, None) => maker.make(draft, place, Start::AfterPredecessors)?,
            // The node was away, or did not qualify, before the work was done.
            (Coverage::Covered, Some(tasks))
                if tasks
                    .iter()
                    .all(|task| !task.is_wanted() && !matches!(task.status.state, TaskState::Complete))
                    && tasks.last().is_some_and(|last| super::restart::should_restart(last, tasks)) =>
            {
                maker.make(draft, place, Start::AfterPredecessors)?;
            }
            (Coverage::Excluded, Some(tasks)) => {
                for task in tasks.iter().filter(|task| task.status.state != TaskState::Complete) {
                    draft.desire(task.id, TaskState::Shutdown)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Ends and forgets tasks of earlier runs.
fn end_earlier_runs(draft: &mut Draft, service: &Service) -> Result<(), Conflict> {
    let iteration = service.job.map(|job| job.iteration);
    let earlier: Vec<_> = draft
        .view()
        .tasks_of(service.id)
        .filter(|task| task.job_iteration != iteration)
        .map(|task| task.id)
        .collect();
    earlier.into_iter().try_for_each(|task| draft.desire(task, TaskState::Remove))
}
