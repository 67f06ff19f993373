//! Ports: tasks.
//!
//! Start reading at [`Tasks`].

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;

use super::{ClusterError, ObjectFilter};

/// Tasks of the cluster. They are made and ended by services, not by anybody else.
#[async_trait]
pub trait Tasks: Send + Sync {
    /// Those that pass.
    async fn list(&self, filter: TaskFilter) -> Result<Vec<Task>, ClusterError>;

    /// One task.
    async fn inspect(&self, name: &str) -> Result<Task, ClusterError>;
}

/// Which tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskFilter {
    /// By id, name and label.
    pub object: ObjectFilter,
    /// By names or ids of services.
    pub services: Vec<String>,
    /// By names or ids of nodes.
    pub nodes: Vec<String>,
    /// By desired state.
    pub desired: Vec<TaskState>,
    /// Only those that the newest spec of their service has made.
    pub up_to_date: Option<bool>,
}
