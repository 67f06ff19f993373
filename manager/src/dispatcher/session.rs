//! One open session of a node.
//!
//! Start reading at [`Session::tell`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shoal_types::cluster::node::Node;
use shoal_types::cluster::task::Task;
use shoal_types::protocol::{ManagerPeer, SessionEvent, SessionId, SessionMessage};
use shoal_types::{NetworkId, NodeId};
use tokio::sync::mpsc;

use super::assignments::Told;
use super::drains::Drains;
use crate::ca::exchange::must_renew;
use crate::overlay::tables::Tables;
use crate::rpc::lines::encode_line;
use crate::store::Snapshot;

/// Events that may be under way to one node. A node that does not take them for that long is slower than the cluster and begins
/// anew with the whole.
pub(super) const EVENTS_UNDER_WAY: usize = 256;

/// A session that cannot go on.
#[derive(Debug)]
pub(super) struct Broken;

/// One open session.
#[derive(Debug)]
pub(super) struct Session {
    /// Its name.
    pub(super) id: SessionId,
    node: NodeId,
    events: mpsc::Sender<Bytes>,
    told: Told,
    last: Option<SessionMessage>,
    /// The newest view that the node was told of. Older ones, from a loop that was overtaken, must not be told.
    told_index: u64,
    /// The last message that took somebody out of service.
    drained_by: u64,
    /// The message up to which the node has said to be as told.
    pub(super) acknowledged: u64,
    /// When it counts as gone unless it speaks before.
    pub(super) silent_at: Instant,
}

impl Session {
    /// A session that has said nothing yet, and the stream of what it will say.
    pub(super) fn open(node: NodeId, period: Duration) -> (Self, mpsc::Receiver<Bytes>) {
        let (events, stream) = mpsc::channel(EVENTS_UNDER_WAY);
        let id = SessionId(format!("{:032x}", rand::random::<u128>()));
        let (told, last) = (Told::default(), None);
        let session = Self {
            id,
            node,
            events,
            told,
            last,
            told_index: 0,
            drained_by: 0,
            acknowledged: 0,
            silent_at: Instant::now() + period,
        };
        (session, stream)
    }

    /// Notes that the node has spoken.
    pub(super) fn beat(&mut self, period: Duration) {
        self.silent_at = Instant::now() + period;
    }

    /// Says whatever has changed for the node since it was last told.
    pub(super) fn tell(
        &mut self,
        snapshot: &Snapshot,
        tables: &Tables,
        drains: &Drains,
        peers: &[ManagerPeer],
    ) -> Result<(), Broken> {
        if snapshot.index() < self.told_index {
            return Ok(());
        }
        self.told_index = snapshot.index();
        let node = snapshot.node(self.node).ok_or(Broken)?;
        if snapshot.revocation(self.node).is_some() {
            return Err(Broken);
        }
        let message = self.message(node, snapshot, peers);
        if self.last.as_ref().is_none_or(|last| !is_same_to_node(last, &message)) {
            self.send(&SessionEvent::Session(Box::new(message.clone())))?;
            self.last = Some(message);
        }
        if let Some(assignments) = self.told.catch_up(self.node, snapshot, tables, drains) {
            if assignments.tells_of_draining() {
                self.drained_by = assignments.results_in;
            }
            self.send(&SessionEvent::Assignments(assignments))?;
        }
        Ok(())
    }

    /// Takes in a task of which nothing is new but what the node has reported.
    pub(super) fn take_in(&mut self, task: &Arc<Task>) {
        self.told.take_in(task);
    }

    /// Whether the node was told of one of these networks.
    pub(super) fn knows_any(&self, networks: &BTreeSet<NetworkId>) -> bool {
        self.told.knows_any(networks)
    }

    /// The message that the node must have taken in before nobody is led from it to any task that drains; `None` if it has.
    pub(super) fn awaited(&self) -> Option<u64> {
        (self.acknowledged < self.drained_by).then_some(self.drained_by)
    }

    /// Whether the node reads no more.
    pub(super) fn is_broken(&self) -> bool {
        self.events.is_closed()
    }

    /// Says something without waiting.
    pub(super) fn send(&self, event: &SessionEvent) -> Result<(), Broken> {
        let line = encode_line(event).map_err(|_| Broken)?;
        self.events.try_send(line).map_err(|_| Broken)
    }

    fn message(&self, node: &Node, snapshot: &Snapshot, peers: &[ManagerPeer]) -> SessionMessage {
        let cluster = snapshot.cluster();
        let trust_root = cluster.map(|cluster| cluster.trust_root.clone()).unwrap_or_default();
        SessionMessage {
            id: self.id.clone(),
            node: node.clone(),
            role: node.role,
            managers: peers.to_vec(),
            trust_root,
            renew: cluster.is_some_and(|cluster| must_renew(cluster, node)),
            heartbeat: cluster.map(|cluster| cluster.spec.heartbeat).unwrap_or_default(),
        }
    }
}

/// Whether a node need not be told of the difference: its own status comes from itself.
fn is_same_to_node(told: &SessionMessage, now: &SessionMessage) -> bool {
    let mut as_told = now.clone();
    as_told.node.meta = told.node.meta;
    as_told.node.status = told.node.status.clone();
    as_told == *told
}
