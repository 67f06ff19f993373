//! Takes tasks from nodes that no longer meet what they ask for.
//!
//! Start reading at [`enforce_constraints`]. Pure.

use shoal_types::NodeId;
use shoal_types::cluster::node::Availability;
use shoal_types::cluster::task::{Task, TaskStatus};
use shoal_types::cluster::task_state::TaskState;

use crate::scheduler::constraint;
use crate::store::{Conflict, Draft};

/// What is said of a task that its node may no longer run.
const REJECTED: &str = "task rejected by constraint enforcer";
/// Why.
const REASON: &str = "assigned node no longer meets constraints";

/// Rejects tasks of an active node that no longer meets their constraints or has no longer what they reserve. They are replaced
/// as any task that has ended.
pub fn enforce_constraints(draft: &mut Draft, id: NodeId) -> Result<(), Conflict> {
    let Some(node) = draft.view().node(id).cloned() else { return Ok(()) };
    if node.spec.availability != Availability::Active {
        return Ok(());
    }
    let Some(description) = &node.description else { return Ok(()) };
    let (mut nano_cpus, mut memory) = (description.nano_cpus, description.memory);
    let tasks: Vec<_> = draft
        .view()
        .tasks_on(id)
        .filter(|task| task.is_wanted())
        .filter(|task| (TaskState::Assigned..=TaskState::Running).contains(&task.status.state))
        .cloned()
        .collect();
    for task in tasks {
        // What the service asks for now counts, if only that has changed since the task was made.
        let constraints = match draft.view().service(task.service) {
            Some(service) => &service.spec.template.placement.constraints,
            None => &task.template.placement.constraints,
        };
        let reserved = &task.template.resources;
        let fits = (reserved.reserved_nano_cpus <= 0 || reserved.reserved_nano_cpus <= nano_cpus)
            && (reserved.reserved_memory <= 0 || reserved.reserved_memory <= memory);
        if fits && constraint::meets_all(constraints, &node) {
            nano_cpus = nano_cpus.saturating_sub(reserved.reserved_nano_cpus);
            memory = memory.saturating_sub(reserved.reserved_memory);
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
