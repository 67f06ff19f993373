//! What managers and workers say to each other.
//!
//! Start reading at [`AssignmentMessage`]. The transport is the dispatcher's and the worker's; messages carry a version so
//! that nodes of neighbouring releases understand each other during an upgrade.

use serde::{Deserialize, Serialize};

use crate::cluster::node::NodeDescription;
use crate::cluster::secret::{Config, Secret};
use crate::cluster::task::{Task, TaskStatus};
use crate::ids::{ConfigId, SecretId, TaskId};
use crate::network::Network;

/// Version of these messages. A manager speaks this one and the one before.
pub const PROTOCOL_VERSION: u32 = 1;

/// What a worker says when it opens a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRequest {
    /// The version it speaks.
    pub version: u32,
    /// What it is.
    pub description: NodeDescription,
}

/// Something that a node is told to have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// A task to bring to its desired state.
    Task(Box<Task>),
    /// A secret that a task of the node needs.
    Secret(Secret),
    /// A config that a task of the node needs.
    Config(Config),
    /// A network that a task of the node is in.
    Network(Box<Network>),
}

/// One difference between what a node was told and what it is told now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssignmentChange {
    /// Have this, or this newer form of it.
    Update(Assignment),
    /// Forget this task.
    RemoveTask(TaskId),
    /// Forget this secret.
    RemoveSecret(SecretId),
    /// Forget this config.
    RemoveConfig(ConfigId),
}

/// What a node shall have, as a whole or as a difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssignmentMessage {
    /// State to which the changes apply; `None` when they are the whole.
    pub applies_to: Option<u64>,
    /// State to which they lead.
    pub results_in: u64,
    /// The changes.
    pub changes: Vec<AssignmentChange>,
}

/// What a node has observed of its tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Task and status, oldest first.
    pub tasks: Vec<(TaskId, TaskStatus)>,
}
