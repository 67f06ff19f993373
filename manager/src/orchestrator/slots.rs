//! The places of a service, and what is in each.
//!
//! Start reading at [`Slots`]. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use shoal_types::cluster::service::{Service, UpdateState};
use shoal_types::cluster::task::{Task, TaskPlace};

use super::Slot;
use super::restart::should_restart;
use super::update::is_exchange;
use crate::store::Snapshot;

/// The places of a service by what is in them.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// With the tasks that count: those that are wanted or, if none is, the last one, which has ended for good.
    pub(super) kept: BTreeMap<TaskPlace, Slot>,
    /// Where nothing is wanted and something should be.
    pub(super) empty: BTreeMap<TaskPlace, Slot>,
}

impl Slots {
    /// Sorts the tasks of a service into its places.
    pub(super) fn of(view: &Snapshot, service: &Service) -> Self {
        let mut slots = Self::default();
        let is_rolling_back =
            service.update.as_ref().is_some_and(|update| update.state == UpdateState::RollbackStarted);
        for (place, tasks) in all(view, service) {
            let wanted: Slot = tasks.iter().filter(|task| task.is_wanted()).cloned().collect();
            if !wanted.is_empty() {
                slots.kept.insert(place, wanted);
                continue;
            }
            // A rollback leads to a whole service again, whatever has ended for good before it.
            let counts = |last: &Task| !is_rolling_back || is_exchange(service, last);
            let last = tasks.last().filter(|last| counts(last) && !should_restart(last, &tasks));
            match last {
                Some(last) => drop(slots.kept.insert(place, vec![Arc::clone(last)])),
                None => drop(slots.empty.insert(place, tasks)),
            }
        }
        slots
    }
}

/// All tasks of a service by place, oldest first. Those that are to be forgotten count no more.
pub(super) fn all(view: &Snapshot, service: &Service) -> BTreeMap<TaskPlace, Slot> {
    let mut places: BTreeMap<TaskPlace, Slot> = BTreeMap::new();
    for task in view.tasks_of(service.id) {
        if !is_forgotten(task) {
            places.entry(task.place).or_default().push(Arc::clone(task));
        }
    }
    for tasks in places.values_mut() {
        tasks.sort_by_key(|task| (task.meta.created, task.id));
    }
    places
}

/// Whether a task is to be forgotten as soon as it has stopped.
fn is_forgotten(task: &Task) -> bool {
    use shoal_types::cluster::task_state::TaskState;
    task.desired >= TaskState::Remove
}
