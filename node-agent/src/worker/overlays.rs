//! Port: networks that span nodes, as the worker needs them of the node.
//!
//! Start reading at [`Overlays`]. Managers tell the worker of such networks in the same stream as of tasks; it hands that on in
//! order and understands nothing of it. Implemented by `crate::networks`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use shoal_types::NodeId;
use shoal_types::cluster::node::DataPathKey;
use shoal_types::network::Network;
use shoal_types::protocol::{Assignment, AssignmentChange, AssignmentMessage};
use tokio::sync::watch;

use super::dispatcher::Reports;
use crate::error::NodeError;

/// The way to the leader, while there is a session.
pub type Way = Option<Arc<dyn Reports>>;

/// What a worker says to the node's networks when it begins.
#[derive(Clone)]
pub struct OverlayMember {
    /// The node.
    pub node: NodeId,
    /// Its end of the tunnels.
    pub vtep: IpAddr,
    /// The way to the leader, by which plain containers join and leave.
    pub ways: watch::Receiver<Way>,
}

impl fmt::Debug for OverlayMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverlayMember")
            .field("node", &self.node)
            .field("vtep", &self.vtep)
            .finish_non_exhaustive()
    }
}

/// Networks that span nodes.
#[async_trait]
pub trait Overlays: Send + Sync + fmt::Debug {
    /// The node belongs to a cluster; said before anything else.
    async fn begin(&self, member: OverlayMember);

    /// The keys by which other nodes know this one in encrypted networks, newest first; none before [`Overlays::begin`].
    fn data_path_keys(&self) -> watch::Receiver<Vec<DataPathKey>>;

    /// The cluster's authority is being exchanged: newer keys shall take over. May be said more than once.
    fn renew_keys(&self);

    /// Takes in what managers tell. When it returns the node is as told, or has said in the log why it is not and will try
    /// again; what a task needs of its networks is there before the task is started.
    async fn take(&self, news: OverlayNews);

    /// Makes a network of the cluster that does not span nodes and that each node makes for itself, unless it is there. Such a
    /// network goes when [`Overlays::take`] is told that no task needs it.
    async fn make(&self, network: &Network) -> Result<(), NodeError>;

    /// The node leaves its cluster: every network of the cluster goes.
    async fn leave(&self);
}

/// What managers tell of networks, mostly of those that span nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct OverlayNews {
    /// Whether these are all networks and entries that there are, or what has changed.
    pub extent: Extent,
    /// The changes; only those that concern networks.
    pub changes: Vec<AssignmentChange>,
}

/// Whether a message says everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// It does.
    Whole,
    /// It says what has changed.
    Changes,
}

impl OverlayNews {
    /// What a message says of such networks.
    pub fn of(message: &AssignmentMessage) -> Self {
        let concerns = |change: &&AssignmentChange| {
            matches!(
                change,
                AssignmentChange::Update(
                    Assignment::Overlay(_) | Assignment::Entry(..) | Assignment::Network(_)
                ) | AssignmentChange::RemoveNetwork(_)
                    | AssignmentChange::RemoveOverlay(_)
                    | AssignmentChange::RemoveEntry(..)
            )
        };
        Self {
            extent: if message.applies_to.is_none() { Extent::Whole } else { Extent::Changes },
            changes: message.changes.iter().filter(concerns).cloned().collect(),
        }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.extent == Extent::Changes && self.changes.is_empty()
    }
}
