//! How nodes talk: HTTP/2 over mutually authenticated TLS, bodies in JSON.
//!
//! Start reading at [`paths`], everything that can be asked, then [`server::Listener`] and [`client::RpcClient`]. A call is a POST; its reply is one
//! JSON value, or a stream of them, one a line. Failures travel as [`WireError`]. What a call means is decided by the
//! [`server::Service`] behind the listener; here is only how it travels.

pub(crate) mod client;
pub(crate) mod lines;
pub(crate) mod server;
pub(crate) mod tls;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use shoal_types::ErrorKind;

use crate::error::ClusterError;

/// Everything that can be asked of a manager. The version in the paths rises with incompatible changes.
pub(crate) mod paths {
    /// The trust root, for machines that compare it with their token.
    pub(crate) const TRUST_ROOT: &str = "/v1/ca/root";
    /// A certificate for a join token.
    pub(crate) const ENROL: &str = "/v1/ca/enrol";
    /// A new certificate for a node that shows its present one.
    pub(crate) const RENEW: &str = "/v1/ca/renew";
    /// A new certificate for a node whose present one has expired, by proof of its key.
    pub(crate) const RENEW_EXPIRED: &str = "/v1/ca/renew-expired";
    /// Raft: entries.
    pub(crate) const RAFT_APPEND: &str = "/v1/raft/append";
    /// Raft: a vote.
    pub(crate) const RAFT_VOTE: &str = "/v1/raft/vote";
    /// Raft: whether a vote would be granted.
    pub(crate) const RAFT_CANVASS: &str = "/v1/raft/canvass";
    /// Raft: a snapshot.
    pub(crate) const RAFT_SNAPSHOT: &str = "/v1/raft/snapshot";
    /// Raft: the leader asks its successor to stand for election now.
    pub(crate) const RAFT_SUCCEED: &str = "/v1/raft/succeed";
    /// Membership of the managers' group.
    pub(crate) const RAFT_JOIN: &str = "/v1/raft/join";
    /// Whether somebody is there, and who.
    pub(crate) const HEALTH: &str = "/v1/health";
    /// A request of the front end, from a follower.
    pub(crate) const CONTROL: &str = "/v1/control";
    /// Logs of tasks for a follower's client.
    pub(crate) const CONTROL_LOGS: &str = "/v1/control/logs";
    /// A worker's session.
    pub(crate) const SESSION: &str = "/v1/dispatcher/session";
    /// A worker's heartbeat.
    pub(crate) const HEARTBEAT: &str = "/v1/dispatcher/heartbeat";
    /// What a worker has observed.
    pub(crate) const REPORT: &str = "/v1/dispatcher/report";
    /// A worker is as it was told.
    pub(crate) const ACKNOWLEDGE: &str = "/v1/dispatcher/acknowledge";
    /// Lines of logs.
    pub(crate) const LOGS: &str = "/v1/dispatcher/logs";
    /// A node leaves.
    pub(crate) const GOODBYE: &str = "/v1/dispatcher/goodbye";
    /// A node looks up a network that plain containers may join.
    pub(crate) const NETWORK: &str = "/v1/dispatcher/network";
    /// A plain container joins a network.
    pub(crate) const ATTACH: &str = "/v1/dispatcher/attach";
    /// Plain containers leave their networks.
    pub(crate) const DETACH: &str = "/v1/dispatcher/detach";
}

/// A failure on its way between nodes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WireError {
    /// Ask somebody else; whom, if that is known.
    NotLeader(Option<SocketAddr>),
    /// Nobody leads.
    NoLeader,
    /// It has taken too long.
    Deadline,
    /// The token is none of this cluster's.
    WrongJoinToken,
    /// Everything else.
    Refused {
        /// What sort of failure.
        kind: ErrorKind,
        /// Its text.
        message: String,
    },
}

impl From<&ClusterError> for WireError {
    fn from(error: &ClusterError) -> Self {
        match error {
            ClusterError::NotLeader(leader) => Self::NotLeader(*leader),
            ClusterError::NoLeader => Self::NoLeader,
            ClusterError::Deadline => Self::Deadline,
            ClusterError::WrongJoinToken => Self::WrongJoinToken,
            other => Self::Refused { kind: other.kind(), message: other.to_string() },
        }
    }
}

impl From<WireError> for ClusterError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::NotLeader(leader) => Self::NotLeader(leader),
            WireError::NoLeader => Self::NoLeader,
            WireError::Deadline => Self::Deadline,
            WireError::WrongJoinToken => Self::WrongJoinToken,
            WireError::Refused { kind, message } => Self::Refused { kind, message },
        }
    }
}

#[cfg(test)]
mod tests;
