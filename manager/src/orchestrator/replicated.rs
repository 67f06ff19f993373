//! Services of so many replicas.
//!
//! Start reading at [`scale`]. Pure.

use std::collections::{BTreeMap, HashMap};

use shoal_types::cluster::service::Service;
use shoal_types::cluster::task::TaskPlace;
use shoal_types::cluster::task_state::TaskState;

use super::Slot;
use super::slots::Slots;
use super::task::{Start, TaskMaker};
use crate::scheduler::MOST_CHANGES;
use crate::store::{Conflict, Draft};

/// Makes and ends tasks until the service has `replicas` places. Returns the places that an update looks at.
pub(super) fn scale(
    draft: &mut Draft,
    service: &Service,
    replicas: u64,
) -> Result<BTreeMap<TaskPlace, Slot>, Conflict> {
    let Slots { mut kept, empty } = Slots::of(draft.view(), service);
    let n_kept = u64::try_from(kept.len()).unwrap_or(u64::MAX);
    for tasks in empty.values() {
        forget(draft, tasks)?;
    }
    if replicas > n_kept {
        let mut maker = TaskMaker::new(service);
        let free = (1..).map(TaskPlace::Slot).filter(|place| !kept.contains_key(place));
        let n_missing = usize::try_from(replicas.saturating_sub(n_kept)).unwrap_or(usize::MAX);
        // The rest follows in the next pass, which this one's changes bring about.
        for place in free.take(n_missing.min(MOST_CHANGES)) {
            maker.make(draft, place, Start::AfterPredecessors)?;
        }
    } else if replicas < n_kept {
        let n_extra = usize::try_from(n_kept.saturating_sub(replicas)).unwrap_or(usize::MAX);
        for place in victims(&kept).into_iter().take(n_extra) {
            kept.remove(&place);
            let tasks: Slot = draft.view().tasks_in(service.id, place).cloned().collect();
            forget(draft, &tasks)?;
        }
    }
    Ok(kept)
}

/// Ends tasks whose place is no more; they are forgotten when they have stopped.
fn forget(draft: &mut Draft, tasks: &Slot) -> Result<(), Conflict> {
    tasks.iter().try_for_each(|task| draft.desire(task.id, TaskState::Remove))
}

/// The places in the order in which they are given up: those that do not run, then those of the nodes with most copies, then
/// the higher numbers.
fn victims(kept: &BTreeMap<TaskPlace, Slot>) -> Vec<TaskPlace> {
    let mut running: Vec<(TaskPlace, bool)> = kept
        .iter()
        .map(|(&place, tasks)| (place, tasks.iter().any(|task| task.status.state == TaskState::Running)))
        .collect();
    // Those that run are counted first, so that among copies of one node it is they that are kept.
    running.sort_by_key(|&(place, is_running)| (!is_running, place));
    let mut copies = HashMap::new();
    let mut order: Vec<(u64, bool, TaskPlace)> = running
        .into_iter()
        .map(|(place, is_running)| {
            let node = kept.get(&place).and_then(|tasks| match tasks.as_slice() {
                [task] => task.node,
                _ => None,
            });
            let nth = node.map_or(u64::MAX, |node| {
                let nth = copies.entry(node).or_insert(0_u64);
                *nth = nth.saturating_add(1);
                *nth
            });
            (nth, is_running, place)
        })
        .collect();
    order.sort_by_key(|&(nth, is_running, place)| std::cmp::Reverse((nth, !is_running, place)));
    order.into_iter().map(|(_, _, place)| place).collect()
}
