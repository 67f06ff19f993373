//! Ports: nodes.
//!
//! Start reading at [`Nodes`].

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shoal_types::cluster::node::{Node, NodeRole, NodeSpec};

use super::{ClusterError, ObjectFilter};

/// Machines of the cluster.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// Those that pass.
    async fn list(&self, filter: NodeFilter) -> Result<Vec<Node>, ClusterError>;

    /// One node; `self` is this one.
    async fn inspect(&self, name: &str) -> Result<Node, ClusterError>;

    /// Changes role, availability or labels, if `version` is the newest.
    async fn update(&self, name: &str, version: u64, spec: NodeSpec) -> Result<(), ClusterError>;

    /// Forgets a node that is down, or any with force.
    async fn remove(&self, name: &str, force: RemoveForce) -> Result<(), ClusterError>;
}

/// Whether a node that is not down is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoveForce {
    /// It is not.
    No,
    /// It is.
    Yes,
}

/// Which nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeFilter {
    /// By id, name and label of the engine.
    pub object: ObjectFilter,
    /// By label of the node: key, and the value if one was given.
    pub node_labels: Vec<(String, Option<String>)>,
    /// By role.
    pub roles: Vec<NodeRole>,
}
