//! Tasks as orchestrators make them.
//!
//! Start reading at [`TaskMaker`].

use std::sync::Arc;

use jiff::Timestamp;
use shoal_types::cluster::service::{Service, TaskTemplate};
use shoal_types::cluster::task::{Task, TaskPlace, TaskStatus};
use shoal_types::cluster::task_state::TaskState;

use crate::store::{Conflict, Draft};

/// What is said of a task whose node was removed.
const NODE_DELETED: &str = "Task belonged to a node that has been deleted";

/// Makes tasks of a service's present spec, which share one template.
#[derive(Debug)]
pub(super) struct TaskMaker<'a> {
    service: &'a Service,
    template: Option<Arc<TaskTemplate>>,
}

/// When a new task may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// As soon as it is ready.
    Now,
    /// When the tasks before it in its place have stopped.
    AfterPredecessors,
    /// Then, and not before this time: it replaces one that has ended.
    AfterDelay(Timestamp),
}

impl<'a> TaskMaker<'a> {
    pub(super) fn new(service: &'a Service) -> Self {
        Self { service, template: None }
    }

    /// Writes a new task.
    pub(super) fn make(&mut self, draft: &mut Draft, place: TaskPlace, start: Start) -> Result<(), Conflict> {
        let service = self.service;
        let template = match &self.template {
            Some(template) => Arc::clone(template),
            None => {
                let template = shared_template(draft, service);
                self.template = Some(Arc::clone(&template));
                template
            }
        };
        let node = match place {
            TaskPlace::Node(node) => Some(node),
            TaskPlace::Slot(_) => None,
        };
        let (desired, not_before) = match start {
            Start::Now => (final_state(service), None),
            Start::AfterPredecessors => (TaskState::Ready, None),
            Start::AfterDelay(at) => (TaskState::Ready, Some(at)),
        };
        let settings = draft.view().cluster().filter(|_| template.logging.is_none());
        let usual_logging = settings.and_then(|cluster| cluster.spec.task_logging.clone()).map(Box::new);
        let now = draft.now();
        let id = draft.new_task_id();
        let made = Task::new(id, service, place, template, now);
        draft.create(Task { node, desired, not_before, usual_logging, ..made })
    }
}

/// The state that a service's tasks shall reach.
pub(super) fn final_state(service: &Service) -> TaskState {
    if service.spec.mode.is_job() { TaskState::Complete } else { TaskState::Running }
}

/// The template of another task of the same spec, or a new one.
fn shared_template(draft: &Draft, service: &Service) -> Arc<TaskTemplate> {
    draft
        .view()
        .tasks_of(service.id)
        .find(|task| task.spec_version == service.spec_version)
        .map_or_else(|| Arc::new(service.spec.template.clone()), |task| Arc::clone(&task.template))
}

/// A task of which nobody will ever hear again.
pub(crate) fn orphaned(task: &Task, now: Timestamp) -> Task {
    Task {
        status: TaskStatus {
            state: TaskState::Orphaned,
            at: now,
            message: NODE_DELETED.to_owned(),
            ..task.status.clone()
        },
        ended: Some(task.ended.unwrap_or(now)),
        ..task.clone()
    }
}
