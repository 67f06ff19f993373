//! Services of one task on every node that qualifies.
//!
//! Start reading at [`cover_nodes`]. Pure.

use std::collections::BTreeMap;

use shoal_types::cluster::node::{Availability, Node, NodeState};
use shoal_types::cluster::service::Service;
use shoal_types::cluster::task::TaskPlace;
use shoal_types::cluster::task_state::TaskState;

use super::Slot;
use super::slots::Slots;
use super::task::{Start, TaskMaker};
use crate::scheduler::constraint::{Constraint, parse_all};
use crate::store::{Conflict, Draft};

/// What a node is to a service that runs on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coverage {
    /// It shall have a task.
    Covered,
    /// It keeps what it has.
    Kept,
    /// It shall have none.
    Excluded,
}

/// What a node is to a service with these constraints.
pub(super) fn coverage(node: &Node, constraints: Option<&[Constraint]>) -> Coverage {
    let qualifies = constraints
        .is_some_and(|constraints| constraints.iter().all(|constraint| constraint.is_met_by(node)));
    let is_lost = node.status.state == NodeState::Down || node.spec.availability == Availability::Drain;
    if is_lost || !qualifies {
        Coverage::Excluded
    } else if node.spec.availability == Availability::Pause {
        Coverage::Kept
    } else {
        Coverage::Covered
    }
}

/// Makes a task for every node that shall have one and has none, and ends those of other nodes. Returns the places that an
/// update looks at.
pub(super) fn cover_nodes(
    draft: &mut Draft,
    service: &Service,
) -> Result<BTreeMap<TaskPlace, Slot>, Conflict> {
    let Slots { mut kept, empty: _ } = Slots::of(draft.view(), service);
    let constraints = parse_all(&service.spec.template.placement.constraints).ok();
    let mut maker = TaskMaker::new(service);
    let mut slots = BTreeMap::new();
    let nodes: Vec<_> = draft.view().nodes().cloned().collect();
    for node in nodes {
        let place = TaskPlace::Node(node.id);
        match coverage(&node, constraints.as_deref()) {
            Coverage::Covered => match kept.remove(&place) {
                Some(tasks) => drop(slots.insert(place, tasks)),
                // It waits for one before it, if there is one that has not stopped yet.
                None => maker.make(draft, place, Start::AfterPredecessors)?,
            },
            Coverage::Kept => drop(kept.remove(&place)),
            Coverage::Excluded => {}
        }
    }
    // What is left is on nodes that shall have none, or that are gone.
    for task in kept.values().flatten() {
        draft.desire(task.id, TaskState::Shutdown)?;
    }
    Ok(slots)
}
