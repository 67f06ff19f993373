//! What a node still knows of its tasks after a crash.
//!
//! Start reading at [`TaskRecord`] and [`TaskStateRecord`]: what is wanted, written by the worker's owner task before it acts; and
//! what was observed, written by the task's actor before it is reported. One table for each, so that each row has one writer. The
//! content of secrets is in neither.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shoal_types::cluster::task::{Task, TaskStatus};

use crate::store::Record;

/// A task as managers have last told it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TaskRecord {
    /// The task.
    pub(super) task: Task,
}

impl Record for TaskRecord {
    const TABLE: &'static str = "tasks";
}

/// How far a task has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TaskStateRecord {
    /// What was observed last.
    pub(super) status: TaskStatus,
    /// When it was started again in place while there were no managers.
    #[serde(default)]
    pub(super) restarts: Vec<Timestamp>,
}

impl Record for TaskStateRecord {
    const TABLE: &'static str = "task_states";
}
