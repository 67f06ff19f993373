//! Why the cluster could not do what was asked.
//!
//! Start reading at [`ClusterError`]. Texts that command line and scripts match are swarm's, each with a test.

use shoal_types::ErrorKind;

/// Why the cluster could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// This node belongs to no cluster.
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
         swarm and try again."
    )]
    NotAMember,
    /// This node is a worker.
    #[error(
        "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this \
         command on a manager node or promote the current node to a manager."
    )]
    Worker,
    /// The manager's keys are locked.
    #[error(
        "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" to \
         unlock it."
    )]
    Locked,
    /// This node cannot leave, because it is in no cluster.
    #[error("This node is not part of a swarm")]
    NothingToLeave,
    /// There is nothing to unlock.
    #[error("swarm is not locked")]
    NotLocked,
    /// Something that this release does not do; says what.
    #[error("{0}")]
    NotImplemented(&'static str),
}

impl ClusterError {
    /// The transport-independent kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAMember | Self::Worker | Self::Locked | Self::NothingToLeave => ErrorKind::Unavailable,
            Self::NotLocked => ErrorKind::Conflict,
            Self::NotImplemented(_) => ErrorKind::NotImplemented,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_outside_a_cluster_says_so_in_swarms_words() {
        assert_eq!(
            ClusterError::NotAMember.to_string(),
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."
        );
        assert_eq!(ClusterError::NotAMember.kind(), ErrorKind::Unavailable);
    }
}
