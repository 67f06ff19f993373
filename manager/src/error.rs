//! Why the cluster could not do what was asked.
//!
//! Start reading at [`ClusterError`]. Texts that command line and scripts match are swarm's, each with a test.

use shoal_types::ErrorKind;

use crate::store::Conflict;

/// Why the cluster could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// This node belongs to no cluster.
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
         swarm and try again."
    )]
    NotAMember,
    /// This node is to be a manager, but is not yet, or has lost its way to the others.
    #[error(
        "This node is not a swarm manager. Manager is being prepared or has trouble connecting to the cluster."
    )]
    Preparing,
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
    /// The key does not open this manager's keys.
    #[error("swarm could not be unlocked: invalid key provided")]
    WrongUnlockKey,
    /// The text is no unlock key.
    #[error("swarm could not be unlocked: the key is not of the form SWMKEY-1-...")]
    MalformedUnlockKey,
    /// The token is none of this cluster's, in the words of swarm.
    #[error("rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster")]
    WrongJoinToken,
    /// The text is no join token, or is one of another cluster.
    #[error("invalid join token")]
    InvalidJoinToken,
    /// Too few managers are online.
    #[error(
        "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are \
         online. Make sure more than half of the managers are online."
    )]
    NoLeader,
    /// The cluster has not answered in time; whether it has done what was asked is unknown.
    #[error("rpc error: code = DeadlineExceeded desc = context deadline exceeded")]
    Deadline,
    /// Another manager leads; where it listens, if that is known. Nodes and followers go there, clients never see this.
    #[error("this manager does not lead")]
    NotLeader(Option<std::net::SocketAddr>),
    /// The manager's store on this disk was never taken into a managers' group.
    #[error("the manager's store was never begun")]
    NotBegun,
    /// This node's certificate has expired.
    #[error("Swarm certificates have expired. To replace them, leave the swarm and join again.")]
    CertificatesExpired,
    /// A manager has refused, or this one has on behalf of a rule that has no variant of its own.
    #[error("{message}")]
    Refused {
        /// The kind that it has given.
        kind: ErrorKind,
        /// Its text.
        message: String,
    },
    /// The store has not taken a change.
    #[error("rpc error: code = {} desc = {}", .0.code(), .0)]
    Conflict(Conflict),
    /// No manager could be reached.
    #[error("no manager could be reached: {0}")]
    Unreachable(String),
    /// A file, database or key of this manager failed; says which and why.
    #[error("{context}: {reason}")]
    Local {
        /// What was attempted.
        context: String,
        /// Why it failed.
        reason: String,
    },
    /// Something that this release does not do; says what.
    #[error("{0}")]
    NotImplemented(&'static str),
}

impl From<Conflict> for ClusterError {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

impl ClusterError {
    /// A failure of this manager's own files, database or keys.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "it stands where an error is handed over, as in map_err"
    )]
    pub(crate) fn local(context: impl Into<String>, reason: impl ToString) -> Self {
        Self::Local { context: context.into(), reason: reason.to_string() }
    }

    /// A refusal that has no variant of its own.
    pub(crate) fn refused(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Refused { kind, message: message.into() }
    }

    /// The transport-independent kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAMember
            | Self::Preparing
            | Self::Worker
            | Self::Locked
            | Self::NothingToLeave
            | Self::CertificatesExpired
            | Self::NotLeader(_)
            | Self::Unreachable(_) => ErrorKind::Unavailable,
            Self::NotLocked => ErrorKind::Conflict,
            Self::WrongUnlockKey => ErrorKind::Unauthorized,
            Self::MalformedUnlockKey | Self::WrongJoinToken | Self::InvalidJoinToken => {
                ErrorKind::InvalidArgument
            }
            Self::NoLeader | Self::NotBegun | Self::Deadline | Self::Local { .. } => ErrorKind::Internal,
            Self::Refused { kind, .. } => *kind,
            Self::Conflict(conflict) => conflict.kind(),
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
