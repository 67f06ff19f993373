//! How the store changes: whole objects by version, and the few fields that several parts write, by merging.
//!
//! Start reading at [`Change`]. A list of changes is applied wholly or not at all (`super::apply`). Whole objects are replaced
//! only by whoever has seen the newest version. What a node reports and what an orchestrator wishes of a task are merged
//! instead, because these two write to the same tasks all the time and neither may make the other begin again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shoal_types::cluster::node::{NodeDescription, NodeStatus};
use shoal_types::cluster::task::TaskStatus;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::{ErrorKind, NodeId, ServiceId, TaskId};

use super::object::{Key, Object, ObjectKind};

/// One change of the store.
#[expect(
    clippy::large_enum_variant,
    reason = "lists of reports are short-lived, and a box each would cost more than it saves"
)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A new object. Its id, and its name where names are unique, must be free.
    Create(Object),
    /// A newer form of an object; `meta.version` in it is the version that was seen and must be the stored one.
    Update(Object),
    /// The end of an object. One that is gone already is no conflict.
    Remove(Key),
    /// A task's desired state, raised to this one; one that is there or beyond stays as it is, one that is gone is ignored.
    Desire {
        /// The task.
        task: TaskId,
        /// The state.
        state: TaskState,
        /// The leader's time.
        at: Timestamp,
    },
    /// What a node has observed of a task. States go forward only: an older state is ignored, and so is a task that is gone.
    ReportTask {
        /// The task.
        task: TaskId,
        /// What was observed.
        status: TaskStatus,
        /// The leader's time.
        at: Timestamp,
    },
    /// What was observed of a node, and what it says of itself if it has said something. A node that is gone is ignored.
    ReportNode {
        /// The node.
        node: NodeId,
        /// What was observed; `since` is set by the store when the state changes.
        status: NodeStatus,
        /// What it says of itself.
        description: Option<NodeDescription>,
        /// The leader's time.
        at: Timestamp,
    },
}

impl Change {
    /// Names the object that it concerns.
    pub fn key(&self) -> Key {
        match self {
            Self::Create(object) | Self::Update(object) => object.key(),
            Self::Remove(key) => key.clone(),
            Self::Desire { task, .. } | Self::ReportTask { task, .. } => Key::Task(*task),
            Self::ReportNode { node, .. } => Key::Node(*node),
        }
    }
}

/// Why a list of changes was not applied. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Conflict {
    /// Somebody has changed the object since it was read.
    #[error("update out of sequence")]
    OutOfSequence(Key),
    /// The object to be updated is gone.
    #[error("{0} does not exist")]
    Missing(Key),
    /// An object of this id exists.
    #[error("{0} already exists")]
    Exists(Key),
    /// An object of this kind and name exists.
    #[error("name conflicts with an existing object: {kind} {name} already exists")]
    NameTaken {
        /// The kind.
        kind: ObjectKind,
        /// The name.
        name: String,
    },
    /// Another service publishes this port.
    #[error("port '{port}' is already in use by service '{name}' ({service}) as an ingress port")]
    PortTaken {
        /// The port.
        port: u16,
        /// The other service's name.
        name: String,
        /// The other service.
        service: ServiceId,
    },
    /// Another object has this address of a network, or this network's subnet or identifier.
    #[error("{what} is already in use")]
    AddressTaken {
        /// What is taken.
        what: String,
    },
}

impl Conflict {
    /// The code of gRPC under which swarm reports it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OutOfSequence(_) => "Unknown",
            Self::Missing(_) => "NotFound",
            Self::Exists(_) | Self::NameTaken { .. } => "AlreadyExists",
            Self::PortTaken { .. } => "InvalidArgument",
            Self::AddressTaken { .. } => "FailedPrecondition",
        }
    }

    /// The transport-independent kind. Out of sequence is swarm's unknown failure, which clients see as internal.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::OutOfSequence(_) => ErrorKind::Internal,
            Self::Missing(_) => ErrorKind::NotFound,
            Self::Exists(_) | Self::NameTaken { .. } => ErrorKind::Conflict,
            Self::PortTaken { .. } | Self::AddressTaken { .. } => ErrorKind::InvalidArgument,
        }
    }
}
