//! Exchanges tasks of an older spec for those of the present one, a few at a time, and stops or goes back when that fails.
//!
//! Start reading at [`advance`]. Pure. Nothing is remembered between two passes: which tasks an update has made, which of
//! them have failed and how long ago the last one started is read from the tasks ([`is_exchange`]), so an update goes on under
//! another leader as if nothing had happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shoal_types::cluster::service::{
    FailureAction, Service, UpdateOrder, UpdatePolicy, UpdateState, UpdateStatus,
};
use shoal_types::cluster::task::{Task, TaskPlace};
use shoal_types::cluster::task_state::TaskState;

use super::dirty::is_dirty;
use super::slots::all;
use super::task::{Start, TaskMaker};
use super::{Deadline, Slot};
use crate::clock::after;
use crate::control::rollback_started;
use crate::scheduler::waits_for_host_port;
use crate::store::{Conflict, Draft};

const UPDATING: &str = "update in progress";
const COMPLETED: &str = "update completed";
const ROLLED_BACK: &str = "rollback completed";

/// Which way an update goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Back,
}

/// How far an update has come.
#[derive(Debug, Default)]
struct Progress {
    /// Places that still have a task of another spec.
    dirty: Vec<(TaskPlace, Slot)>,
    /// Places where both tasks of a start-first exchange are wanted and the new one runs, or can run only when the old one has given
    /// a port of its node back.
    overlapping: Vec<Slot>,
    /// How many exchanges are under way, waiting out the delay included.
    n_under_way: u64,
    /// How many of them are so far only waiting out the delay: until when.
    delays: Vec<Timestamp>,
    /// The tasks that the update has made.
    made: Vec<Arc<Task>>,
    /// How many of its places are done or under way.
    n_exchanged: usize,
}

/// Goes on with an update of a service, or begins one if `slots` (the places that count) are not what it wants.
pub(super) fn advance(
    draft: &mut Draft,
    service: &Arc<Service>,
    slots: BTreeMap<TaskPlace, Slot>,
    deadline: &mut Deadline,
) -> Result<(), Conflict> {
    let state = service.update.as_ref().map(|update| update.state);
    let direction = match state {
        Some(UpdateState::RollbackStarted | UpdateState::RollbackCompleted | UpdateState::RollbackPaused) => {
            Direction::Back
        }
        Some(UpdateState::Updating | UpdateState::Completed | UpdateState::Paused) | None => {
            Direction::Forward
        }
    };
    let policy = policy(service, direction);
    let progress = survey(draft, service, slots, &policy);
    for slot in &progress.overlapping {
        keep_newest(draft, service, slot)?;
    }
    // A pause begins nothing; what had begun is brought to its end above.
    if matches!(state, Some(UpdateState::Paused | UpdateState::RollbackPaused)) {
        return Ok(());
    }
    let is_open = matches!(state, Some(UpdateState::Updating | UpdateState::RollbackStarted));
    if is_open && let Some(failed) = too_many_failures(&progress, &policy) {
        return stop(draft, service, (direction, policy.on_failure), failed);
    }
    if progress.dirty.is_empty() {
        if is_open {
            finish(draft, service, (direction, &policy), &progress, deadline)?;
        }
        progress.delays.iter().for_each(|&delay| deadline.at(delay));
        return Ok(());
    }
    if state.is_none() {
        let status = UpdateStatus {
            state: UpdateState::Updating,
            started: draft.now(),
            completed: None,
            message: UPDATING.to_owned(),
        };
        set_status(draft, service, status)?;
    }
    progress.delays.iter().for_each(|&delay| deadline.at(delay));
    let n_free = match policy.parallelism {
        0 => usize::MAX,
        n => usize::try_from(n.saturating_sub(progress.n_under_way)).unwrap_or(usize::MAX),
    };
    let mut maker = TaskMaker::new(service);
    for (place, slot) in progress.dirty.iter().take(n_free) {
        exchange(draft, service, &mut maker, (*place, slot, policy.order))?;
    }
    Ok(())
}

fn policy(service: &Service, direction: Direction) -> UpdatePolicy {
    let policy = match direction {
        Direction::Forward => &service.spec.update,
        Direction::Back => &service.spec.rollback,
    };
    policy.clone().unwrap_or_default()
}

/// Whether a task was made by the update of the service that is under way, or was the last.
pub(super) fn is_exchange(service: &Service, task: &Task) -> bool {
    let since =
        service.update.as_ref().map_or(Timestamp::MIN, |update| update.completed.unwrap_or(update.started));
    task.spec_version == service.spec_version && task.not_before.is_none() && task.meta.created >= since
}

/// Looks at every place: what is still to be exchanged, what is being exchanged, what has come of it.
fn survey(
    draft: &Draft,
    service: &Service,
    slots: BTreeMap<TaskPlace, Slot>,
    policy: &UpdatePolicy,
) -> Progress {
    let view = draft.view();
    let history = match service.update {
        Some(_) => all(view, service),
        None => BTreeMap::new(),
    };
    let is_clean = |task: &Task| !is_dirty(service, task, task.node.and_then(|node| view.node(node)));
    let mut progress = Progress::default();
    for (place, slot) in slots {
        let made = history
            .get(&place)
            .and_then(|tasks| tasks.iter().find(|task| is_exchange(service, task)))
            .cloned();
        let is_dirty_slot = slot.len() != 1 || slot.iter().any(|task| !is_clean(task));
        let newest = slot.iter().find(|task| task.is_wanted() && is_clean(task));
        let done_at = made.as_ref().and_then(|made| made.started.or(made.ended));
        let waits_until = done_at.map(|at| after(at, policy.delay)).filter(|&at| at > draft.now());
        let is_coming = made.is_some() && done_at.is_none();
        if is_coming || waits_until.is_some() {
            progress.n_under_way = progress.n_under_way.saturating_add(1);
            progress.delays.extend(waits_until);
        }
        progress.n_exchanged = progress.n_exchanged.saturating_add(usize::from(made.is_some()));
        match newest {
            Some(newest) if is_dirty_slot => match may_replace(newest) {
                true => progress.overlapping.push(slot),
                false if made.is_some() => {}
                false => progress.dirty.push((place, slot)),
            },
            None if is_dirty_slot && made.is_none() => progress.dirty.push((place, slot)),
            _ => {}
        }
        progress.made.extend(made);
    }
    progress
}

/// Whether the task of a start-first exchange that is there already may end now.
///
/// No node has another port for the new one where the old one has it: both would wait for ever, as they do in swarm.
fn may_replace(newest: &Task) -> bool {
    newest.status.state == TaskState::Running || waits_for_host_port(newest)
}

/// The task whose failure is one too many.
fn too_many_failures<'a>(progress: &'a Progress, policy: &UpdatePolicy) -> Option<&'a Arc<Task>> {
    let failed: Vec<&Arc<Task>> =
        progress.made.iter().filter(|task| has_failed(task, policy.monitor)).collect();
    let n_total = progress.n_exchanged.saturating_add(progress.dirty.len());
    let ratio = failed.len() as f64 / n_total.max(1) as f64;
    let last = failed.into_iter().max_by_key(|task| task.ended)?;
    (policy.on_failure != FailureAction::Continue && ratio > f64::from(policy.max_failure_ratio))
        .then_some(last)
}

/// Whether a task that an update has made ended by itself before it was watched long enough.
fn has_failed(task: &Task, monitor: Duration) -> bool {
    let ended_by_itself = matches!(
        task.status.state,
        TaskState::Failed | TaskState::Rejected | TaskState::Complete | TaskState::Orphaned
    );
    let was_early = match (task.started, task.ended) {
        (Some(started), Some(ended)) => ended <= after(started, monitor),
        _ => true,
    };
    ended_by_itself && was_early
}

/// Brings the task of the present spec into a place.
fn exchange(
    draft: &mut Draft,
    service: &Service,
    maker: &mut TaskMaker<'_>,
    (place, slot, order): (TaskPlace, &Slot, UpdateOrder),
) -> Result<(), Conflict> {
    let is_clean = |task: &Task| !is_dirty(service, task, task.node.and_then(|node| draft.view().node(node)));
    // One of the present spec may be there already, left by an update that was superseded or beside another by mistake.
    if slot.iter().any(|task| task.is_wanted() && is_clean(task)) {
        return keep_newest(draft, service, slot);
    }
    match order {
        UpdateOrder::StopFirst => {
            for task in slot {
                draft.desire(task.id, TaskState::Shutdown)?;
            }
            maker.make(draft, place, Start::AfterPredecessors)
        }
        UpdateOrder::StartFirst => maker.make(draft, place, Start::Now),
    }
}

/// Keeps the one task of the present spec that has come furthest, and ends the others of the place.
fn keep_newest(draft: &mut Draft, service: &Service, slot: &Slot) -> Result<(), Conflict> {
    let best = slot
        .iter()
        .filter(|task| {
            task.is_wanted() && !is_dirty(service, task, task.node.and_then(|node| draft.view().node(node)))
        })
        .max_by_key(|task| (task.status.state, task.desired, std::cmp::Reverse(task.meta.created)))
        .map(|task| task.id);
    for task in slot.iter().filter(|task| Some(task.id) != best) {
        draft.desire(task.id, TaskState::Shutdown)?;
    }
    Ok(())
}

/// Says that an update is done, once the last task that it has made was watched long enough.
fn finish(
    draft: &mut Draft,
    service: &Arc<Service>,
    (direction, policy): (Direction, &UpdatePolicy),
    progress: &Progress,
    deadline: &mut Deadline,
) -> Result<(), Conflict> {
    let mut last = None;
    for task in &progress.made {
        // One that was neither started nor ended is still coming.
        let Some(at) = task.started.or(task.ended) else { return Ok(()) };
        last = last.max(Some(at));
    }
    if !progress.overlapping.is_empty() {
        return Ok(());
    }
    let watch = match policy.delay >= policy.monitor {
        true => policy.delay.saturating_add(Duration::from_secs(1)),
        false => policy.monitor,
    };
    let now = draft.now();
    let done_at = last.map_or(now, |last| after(last, watch));
    if done_at > now {
        deadline.at(done_at);
        return Ok(());
    }
    let (state, message) = match direction {
        Direction::Forward => (UpdateState::Completed, COMPLETED),
        Direction::Back => (UpdateState::RollbackCompleted, ROLLED_BACK),
    };
    let started = service.update.as_ref().map_or(now, |update| update.started);
    set_status(
        draft,
        service,
        UpdateStatus { state, started, completed: Some(now), message: message.to_owned() },
    )
}

/// Pauses an update, or goes back, because of a task that has failed. A rollback is never rolled back.
fn stop(
    draft: &mut Draft,
    service: &Arc<Service>,
    (direction, action): (Direction, FailureAction),
    failed: &Task,
) -> Result<(), Conflict> {
    let reason = format!("due to failure or early termination of task {}", failed.id);
    let now = draft.now();
    let started = service.update.as_ref().map_or(now, |update| update.started);
    let paused = |state, word: &str| UpdateStatus {
        state,
        started,
        completed: None,
        message: format!("{word} paused {reason}"),
    };
    match (direction, action, &service.previous) {
        (Direction::Back, _, _) => {
            set_status(draft, service, paused(UpdateState::RollbackPaused, "rollback"))
        }
        (Direction::Forward, FailureAction::Rollback, Some(previous)) => {
            let status = rollback_started(now, format!("update rolled back {reason}"));
            draft.update(Service {
                spec: (**previous).clone(),
                previous: Some(Box::new(service.spec.clone())),
                spec_version: service.spec_version.saturating_add(1),
                update: Some(status),
                ..Service::clone(service)
            })
        }
        (Direction::Forward, _, _) => set_status(draft, service, paused(UpdateState::Paused, "update")),
    }
}

fn set_status(draft: &mut Draft, service: &Arc<Service>, status: UpdateStatus) -> Result<(), Conflict> {
    draft.update(Service { update: Some(status), ..Service::clone(service) })
}
