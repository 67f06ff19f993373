//! What raft carries here: proposals, outcomes, members.
//!
//! Start reading at [`Proposal`]. No type of openraft leaves `manager::raft`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shoal_types::NodeId;

use crate::store::{Change, Conflict, Snapshot};

openraft::declare_raft_types!(
    /// What openraft is made for here.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Outcome,
        NodeId = MemberId,
        Node = Member,
        SnapshotData = StateView,
);

/// A member of the managers' group. Drawn anew each time a node becomes a manager, because a member that has forgotten its
/// votes must not vote again under the same name.
pub(crate) type MemberId = u64;

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<MemberId>;
pub(crate) type Vote = openraft::Vote<MemberId>;
pub(crate) type Membership = openraft::StoredMembership<MemberId, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<MemberId, Member>;
pub(crate) type StorageError = openraft::StorageError<MemberId>;

/// A list of changes, which is applied wholly or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// The changes.
    pub(crate) changes: Vec<Change>,
}

impl std::fmt::Display for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} changes", self.changes.len())
    }
}

/// What has become of a proposal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Why it was not applied; `None` if it was, and for entries of raft's own.
    pub(crate) conflict: Option<Conflict>,
}

/// Who a member is and where it listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// The node.
    pub(crate) node: NodeId,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Default for Member {
    /// Nobody; openraft asks for it where it knows a member by its id only.
    fn default() -> Self {
        Self { node: NodeId::from_u128(0), address: (Ipv4Addr::UNSPECIFIED, 0).into() }
    }
}

/// A RaftSnapshot: a view of the store, which costs nothing to take and is written out only when it is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct StateView(pub(crate) Arc<Snapshot>);
