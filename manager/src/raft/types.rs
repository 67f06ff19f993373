//! What raft carries here: proposals, outcomes, members.
//!
//! Start reading at [`Proposal`]. No type of openraft leaves `manager::raft`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::value::RawValue;
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
///
/// Raft hands it from part to part by cloning, and each manager writes it down several times: to its log, to the others. So it is
/// shared, and its text is made once, or kept as it has come.
#[derive(Debug, Clone)]
pub(crate) struct Proposal(Arc<Written>);

#[derive(Debug)]
struct Written {
    changes: Vec<Change>,
    text: OnceLock<Box<RawValue>>,
}

/// The form in which it travels and is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Proposal")]
struct Form<T> {
    changes: T,
}

impl Proposal {
    /// The changes.
    pub(crate) fn changes(&self) -> &[Change] {
        &self.0.changes
    }
}

impl From<Vec<Change>> for Proposal {
    fn from(changes: Vec<Change>) -> Self {
        Self(Arc::new(Written { changes, text: OnceLock::new() }))
    }
}

impl PartialEq for Proposal {
    fn eq(&self, other: &Self) -> bool {
        self.changes() == other.changes()
    }
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = match self.0.text.get() {
            Some(text) => text,
            None => {
                let text = serde_json::value::to_raw_value(self.changes()).map_err(ser::Error::custom)?;
                self.0.text.get_or_init(|| text)
            }
        };
        Form { changes: text }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Form { changes: text } = Form::<Box<RawValue>>::deserialize(deserializer)?;
        let changes = serde_json::from_str(text.get()).map_err(de::Error::custom)?;
        Ok(Self(Arc::new(Written { changes, text: text.into() })))
    }
}

impl std::fmt::Display for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} changes", self.changes().len())
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
