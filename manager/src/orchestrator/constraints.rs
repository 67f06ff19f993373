//! Takes tasks from nodes that no longer meet what they ask for.
//!
//! Start reading at [`enforce_constraints`]. Pure.

use shoal_types::NodeId;
use shoal_types::cluster::node::Availability;
use shoal_types::cluster::task::{Task, TaskStatus};
use shoal_types::cluster::task_state::TaskState;

use crate::scheduler::{constraint, still_fits};
use crate::store::{Conflict, Draft, NodeLoad};

/// What is said of a task that its node may no longer run.
const REJECTED: &str = "task rejected by constraint enforcer";
/// Why.
const REASON: &str = "assigned node no longer meets constraints";

/// Rejects tasks of an active node that no longer meets their constraints or has no longer what they reserve or were given of its
/// named resources. They are replaced as any task that has ended.
pub fn enforce_constraints(draft: &mut Draft, id: NodeId) -> Result<(), Conflict> {
    let Some(node) = draft.view().node(id).cloned() else { return Ok(()) };
    if node.spec.availability != Availability::Active {
        return Ok(());
    }
    let Some(description) = &node.description else { return Ok(()) };
    let tasks: Vec<_> = draft
        .view()
        .tasks_on(id)
        .filter(|task| task.is_wanted())
        .filter(|task| (TaskState::Assigned..=TaskState::Running).contains(&task.status.state))
        .cloned()
        .collect();
    let mut load = NodeLoad::default();
    for task in tasks {
        // What the service asks for now counts, if only that has changed since the task was made.
        let constraints = match draft.view().service(task.service) {
            Some(service) => &service.spec.template.placement.constraints,
            None => &task.template.placement.constraints,
        };
        if still_fits(&task, description, &load) && constraint::meets_all(constraints, &node) {
            load.add(&task);
            continue;
        }
        let now = draft.now();
        let status = TaskStatus {
            state: TaskState::Rejected,
            at: now,
            message: REJECTED.to_owned(),
            error: REASON.to_owned(),
            ..task.status.clone()
        };
        draft.update(Task { status, ended: Some(now), ..Task::clone(&task) })?;
    }
    Ok(())
}
