//! What happens after a task has ended or its node was lost: whether, when and how often another takes its place.
//!
//! Start reading at [`restart_ended`], then [`promote`]. Pure. A task that replaces another is made at once, to be ready when the
//! delay is over, and started when those before it in its place have stopped.

use std::time::Duration;

use jiff::Timestamp;
use shoal_types::cluster::node::{Availability, NodeState};
use shoal_types::cluster::service::{RestartCondition, Service};
use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;

use super::slots::all;
use super::task::{Start, TaskMaker, final_state};
use super::{Deadline, Slot};
use crate::clock::{after, before};
use crate::store::{Conflict, Draft, Snapshot};

/// How long a task waits for those before it to stop, if their node is there but does not stop them (swarm's figure).
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How a task was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// It has ended.
    Ended,
    /// Its node is gone, down, or lets its tasks go.
    Node,
}

/// Replaces tasks that have ended, and those of nodes that are down, drained or gone.
pub(super) fn restart_ended(draft: &mut Draft, service: &Service) -> Result<(), Conflict> {
    let mut maker = TaskMaker::new(service);
    for (place, tasks) in all(draft.view(), service) {
        let lost: Vec<_> = tasks.iter().filter_map(|task| Some((task, loss(draft.view(), task)?))).collect();
        // The newest version that has a task which is well; in an update that starts first there is an older one beside it.
        let mut newest = tasks
            .iter()
            .filter(|task| task.is_wanted() && loss(draft.view(), task).is_none())
            .map(|task| task.spec_version)
            .max();
        for (task, loss) in lost {
            if task.status.state == TaskState::Complete && task.desired == TaskState::Complete {
                // A task of a job that has done its work.
                continue;
            }
            draft.desire(task.id, TaskState::Shutdown)?;
            // A place of a global service is its node: nothing takes over while that is lost.
            let is_bound = matches!(place, shoal_types::cluster::task::TaskPlace::Node(_));
            let is_replaced = newest.is_some_and(|newest| newest >= task.spec_version);
            if is_replaced || (is_bound && loss == Loss::Node) || !should_restart(task, &tasks) {
                continue;
            }
            if task.job_iteration != service.job.map(|job| job.iteration) {
                continue;
            }
            // Who has lost a node has waited long enough for that to be noticed; the delay is for tasks that fail.
            let delay = match loss {
                Loss::Ended => task.template.restart.delay,
                Loss::Node => Duration::ZERO,
            };
            let start = Start::AfterDelay(after(draft.now(), delay));
            maker.make(draft, place, start)?;
            newest = Some(service.spec_version);
        }
    }
    Ok(())
}

/// Whether and how a task that is wanted was lost.
fn loss(view: &Snapshot, task: &Task) -> Option<Loss> {
    if !task.is_wanted() {
        return None;
    }
    let is_lost = task.node.is_some_and(|id| {
        view.node(id).is_none_or(|node| {
            node.status.state == NodeState::Down || node.spec.availability == Availability::Drain
        })
    });
    if is_lost { Some(Loss::Node) } else { task.status.state.is_terminal().then_some(Loss::Ended) }
}

/// Whether another task takes the place of one that has ended or was lost. `slot` is all that the place has seen.
pub(super) fn should_restart(task: &Task, slot: &[std::sync::Arc<Task>]) -> bool {
    let rule = &task.template.restart;
    let is_job = task.job_iteration.is_some();
    let condition = match rule.condition {
        // A job that has done its work is not done again.
        RestartCondition::Any if is_job => RestartCondition::OnFailure,
        condition => condition,
    };
    let is_allowed = match condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => task.status.state != TaskState::Complete,
        RestartCondition::Any => true,
    };
    if !is_allowed || rule.max_attempts == 0 {
        return is_allowed;
    }
    let since = match rule.bounded_window() {
        None => Timestamp::MIN,
        Some(window) => before(task.ended.unwrap_or(task.meta.updated), window),
    };
    let n_attempts = slot
        .iter()
        .filter(|other| other.spec_version == task.spec_version && other.job_iteration == task.job_iteration)
        .filter(|other| other.not_before.is_some() && other.meta.created > since)
        .count();
    u64::try_from(n_attempts).is_ok_and(|n| n < rule.max_attempts)
}

/// Starts tasks that are held back: when their delay is over and those before them in their place have stopped.
pub(super) fn promote(draft: &mut Draft, service: &Service, deadline: &mut Deadline) -> Result<(), Conflict> {
    let now = draft.now();
    for tasks in all_with_forgotten(draft.view(), service) {
        for (task_idx, task) in tasks.iter().enumerate() {
            if task.desired != TaskState::Ready || task.status.state.is_terminal() {
                continue;
            }
            let earliest = task.not_before.unwrap_or(task.meta.created);
            let latest_wait = after(earliest, LONGEST_WAIT);
            let are_gone = tasks
                .iter()
                .take(task_idx)
                .filter(|other| !other.is_wanted())
                .all(|other| has_stopped(draft.view(), other));
            if now < earliest {
                deadline.at(earliest);
            } else if are_gone || now >= latest_wait {
                draft.desire(task.id, final_state(service))?;
            } else {
                deadline.at(latest_wait);
            }
        }
    }
    Ok(())
}

/// Tasks of a service by place, oldest first, with those that only have to stop.
fn all_with_forgotten(view: &Snapshot, service: &Service) -> Vec<Slot> {
    let mut tasks: Slot = view.tasks_of(service.id).cloned().collect();
    // An update may follow within what the clock tells apart; its task comes after the one that it exchanges.
    tasks.sort_by_key(|task| (task.place, task.meta.created, task.spec_version, task.id));
    tasks.chunk_by(|a, b| a.place == b.place).map(<[_]>::to_vec).collect()
}

/// Whether nothing of a task runs any more, as far as anybody can say.
fn has_stopped(view: &Snapshot, task: &Task) -> bool {
    let never_ran = task.status.state < TaskState::Assigned;
    let node = task.node.and_then(|node| view.node(node));
    never_ran
        || task.status.state.is_terminal()
        || node.is_none_or(|node| node.status.state == NodeState::Down)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{self, cluster, node};

    #[test]
    fn a_task_waits_for_one_of_an_older_spec_that_was_made_at_the_same_moment() {
        let mut service = fixtures::service(1, 1);
        let made = fixtures::task(9, &service, 1, TaskState::Running);
        let place = Some(shoal_types::NodeId::from_u128(1));
        let old = Task { desired: TaskState::Shutdown, node: place, ..made };
        service.spec_version += 1;
        // Its id is the smaller one.
        let new = Task { desired: TaskState::Ready, ..fixtures::task(2, &service, 1, TaskState::Assigned) };
        let objects = [cluster().into(), node(1).into(), service.clone().into(), old.into(), new.into()];
        let snapshot = std::sync::Arc::new(Snapshot::from_objects(1, objects));
        let mut draft = Draft::new(&snapshot, fixtures::at(10));
        promote(&mut draft, &service, &mut Deadline::default()).unwrap();
        assert_eq!(draft.into_changes(), []);
    }
}
