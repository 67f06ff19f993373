//! Forgets tasks: those whose service or place is gone, and history beyond what is kept.
//!
//! Start reading at [`trim_history`] and [`dispose`]. Pure. Containers of forgotten tasks are removed by their nodes.

use std::time::Duration;

use shoal_types::ServiceId;
use shoal_types::cluster::node::NodeState;
use shoal_types::cluster::service::{Service, UpdateState};
use shoal_types::cluster::task::{Task, TaskPlace};
use shoal_types::cluster::task_state::TaskState;

use super::slots::all;
use super::task::orphaned;
use super::update::is_exchange;
use crate::clock::after;
use crate::store::{Conflict, Draft, Key};

/// How many ended tasks of a place are kept if the cluster does not say.
const USUAL_HISTORY: i64 = 5;
/// After how long the tasks of a node that is down are given up (swarm's figure).
const LOST_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Removes ended tasks of each place of a service beyond the history that is kept, oldest first.
pub(super) fn trim_history(draft: &mut Draft, service: &Service) -> Result<(), Conflict> {
    let usual = draft.view().cluster().map_or(USUAL_HISTORY, |cluster| cluster.spec.task_history);
    // An update that is under way reads its failures from the tasks that it has made.
    let is_updating = service
        .update
        .as_ref()
        .is_some_and(|update| matches!(update.state, UpdateState::Updating | UpdateState::RollbackStarted));
    for tasks in all(draft.view(), service).into_values() {
        let Some(newest) = tasks.last() else { continue };
        let attempts = newest.template.restart.max_attempts;
        let limit = match attempts {
            0 => usual,
            // Attempts are counted from history.
            _ => i64::try_from(attempts).unwrap_or(i64::MAX).saturating_add(1),
        };
        // Nobody comes back to the place of a node that is gone.
        let is_deserted = matches!(newest.place, TaskPlace::Node(node) if draft.view().node(node).is_none());
        let limit = if is_deserted { 0 } else { limit };
        let Ok(limit) = usize::try_from(limit) else { continue };
        let history: Vec<&std::sync::Arc<Task>> = tasks
            .iter()
            .filter(|task| is_history(task))
            .filter(|task| !(is_updating && is_exchange(service, task)))
            .collect();
        for task in history.iter().take(history.len().saturating_sub(limit)) {
            draft.remove(Key::Task(task.id))?;
        }
    }
    Ok(())
}

/// Whether a task has had its time.
fn is_history(task: &Task) -> bool {
    let never_ran = task.status.state < TaskState::Assigned;
    !task.is_wanted() && (never_ran || task.status.state.is_terminal())
}

/// Ends all tasks of a service that is gone.
pub(super) fn remove_all(draft: &mut Draft, service: ServiceId) -> Result<(), Conflict> {
    let tasks: Vec<_> = draft.view().tasks_of(service).map(|task| task.id).collect();
    tasks.into_iter().try_for_each(|task| draft.desire(task, TaskState::Remove))
}

/// Gives up tasks of nodes that do not exist: one may have been given to a node while that was removed.
pub(super) fn orphan_homeless(draft: &mut Draft, service: ServiceId) -> Result<(), Conflict> {
    let now = draft.now();
    let view = draft.view();
    let homeless: Vec<_> = view
        .tasks_of(service)
        .filter(|task| (TaskState::Assigned..=TaskState::Running).contains(&task.status.state))
        .filter(|task| task.node.is_some_and(|node| view.node(node).is_none()))
        .cloned()
        .collect();
    homeless.iter().try_for_each(|task| draft.update(orphaned(task, now)))
}

/// Removes tasks that were to be forgotten and have stopped.
pub fn dispose(draft: &mut Draft) -> Result<(), Conflict> {
    let most = crate::scheduler::MOST_CHANGES;
    let tasks: Vec<_> = draft.view().disposable_tasks().take(most).map(|task| task.id).collect();
    tasks.into_iter().try_for_each(|task| draft.remove(Key::Task(task)))
}

/// Gives up tasks of nodes that have been down for a day.
pub fn orphan_lost_tasks(draft: &mut Draft) -> Result<(), Conflict> {
    let now = draft.now();
    let is_lost = |node: &shoal_types::cluster::node::Node| {
        node.status.state == NodeState::Down
            && node.status.since.is_some_and(|since| after(since, LOST_AFTER) <= now)
    };
    let lost: Vec<_> = draft
        .view()
        .nodes()
        .filter(|node| is_lost(node))
        .flat_map(|node| draft.view().tasks_on(node.id))
        .filter(|task| (TaskState::Assigned..=TaskState::Running).contains(&task.status.state))
        .cloned()
        .collect();
    lost.iter().try_for_each(|task| draft.update(orphaned(task, now)))
}
