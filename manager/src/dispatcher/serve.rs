//! What workers ask of the leader.
//!
//! Start reading at [`Dispatcher::open_session`]. Who asks follows from the certificate, never from the message.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use shoal_types::cluster::node::{NodeState, NodeStatus};
use shoal_types::cluster::overlay::OverlayNetwork;
use shoal_types::protocol::{
    AttachReply, AttachRequest, DetachRequest, HeartbeatReply, LogReport, PROTOCOL_VERSION, SessionId,
    SessionRequest, StatusReport,
};
use shoal_types::{ErrorKind, NodeId};
use tokio::sync::mpsc;

use super::{BEATS, Dispatcher, REGISTRATION_WINDOW, REGISTRATIONS, Session};
use crate::error::ClusterError;
use crate::overlay::attachments::{attach, awaits_allocation, detach, look_up};
use crate::overlay::entries::keys_of_its_own;
use crate::store::{Change, Draft};

/// How often a container is given another address before it is told that there is none.
const ATTACH_ATTEMPTS: u32 = 8;

/// How long a container waits for the subnets of a network that has just been made.
const ALLOCATION_WINDOW: Duration = Duration::from_secs(5);

/// A sign of life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// In which session.
    pub(crate) session: SessionId,
}

/// A report within a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReportOfSession {
    /// Which session.
    pub(crate) session: SessionId,
    /// What was observed.
    pub(crate) report: StatusReport,
}

/// A node is as it was told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Acknowledgement {
    /// In which session.
    pub(crate) session: SessionId,
    /// Up to which message.
    pub(crate) sequence: u64,
}

/// Lines of logs within a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LogsOfSession {
    /// Which session.
    pub(crate) session: SessionId,
    /// The lines.
    pub(crate) report: LogReport,
}

impl Dispatcher {
    /// Opens a session of a node that calls from `address`; one that it had before is closed.
    pub(crate) async fn open_session(
        &self,
        node: NodeId,
        address: std::net::IpAddr,
        request: SessionRequest,
    ) -> Result<mpsc::Receiver<Bytes>, ClusterError> {
        if request.version > PROTOCOL_VERSION || request.version.saturating_add(1) < PROTOCOL_VERSION {
            return Err(ClusterError::refused(
                ErrorKind::InvalidArgument,
                format!(
                    "the node speaks version {} of the protocol, this manager {PROTOCOL_VERSION}",
                    request.version
                ),
            ));
        }
        if self.store.snapshot().node(node).is_none() {
            return Err(not_registered());
        }
        self.limit_registrations(node)?;
        let address = if request.address.is_empty() { address.to_string() } else { request.address };
        let status = NodeStatus { state: NodeState::Ready, message: String::new(), address, since: None };
        let mut description = request.description;
        let said = std::mem::take(&mut description.data_path_keys);
        description.data_path_keys = keys_of_its_own(&self.store.snapshot(), node, said);
        let description = Some(description);
        let at = self.clock.now();
        self.batch.commit(vec![Change::ReportNode { node, status, description, at }]).await?;
        let (mut session, stream) = Session::open(node, self.period());
        let (snapshot, peers) = (self.store.snapshot(), self.managers.managers());
        let mut sessions = self.lock();
        sessions.tables.advance(&snapshot);
        session.tell(&snapshot, &sessions.tables, &sessions.drains, &peers).map_err(|_| not_registered())?;
        // What has changed in between is found by the next look at the store only if it comes after this.
        sessions.awaited.remove(&node);
        for subscription in self.logs.subscriptions_of(node) {
            let _ = session.send(&subscription);
        }
        sessions.open.insert(node, session);
        sessions.tell(node, &self.store.snapshot(), &peers);
        tracing::info!(node.id = %node, "session is open");
        Ok(stream)
    }

    /// Notes a sign of life.
    pub(crate) fn heartbeat(&self, node: NodeId, beat: &Beat) -> Result<HeartbeatReply, ClusterError> {
        let period = self.period();
        self.beat(node, &beat.session)?;
        let jitter = rand::rng().random_range(0.9..1.0);
        Ok(HeartbeatReply { next: (period / BEATS).mul_f64(jitter) })
    }

    /// Commits what a node has observed of its tasks.
    pub(crate) async fn report(&self, node: NodeId, report: ReportOfSession) -> Result<(), ClusterError> {
        self.beat(node, &report.session)?;
        let (snapshot, at) = (self.store.snapshot(), self.clock.now());
        let mut changes = Vec::new();
        for (task, status) in report.report.tasks {
            // A task that is forgotten needs no status.
            let Some(known) = snapshot.task(task) else { continue };
            if known.node != Some(node) {
                return Err(ClusterError::refused(
                    ErrorKind::Forbidden,
                    "rpc error: code = PermissionDenied desc = cannot update a task not assigned this node",
                ));
            }
            if status != known.status {
                changes.push(Change::ReportTask { task, status, at });
            }
        }
        self.batch.commit(changes).await
    }

    /// Takes in that a node is as it was told, and lets tasks stop that have waited for that.
    pub(crate) fn acknowledge(&self, node: NodeId, told: &Acknowledgement) -> Result<(), ClusterError> {
        self.beat(node, &told.session)?;
        let (snapshot, peers) = (self.store.snapshot(), self.managers.managers());
        let mut sessions = self.lock();
        if let Some(session) = sessions.session(node, &told.session) {
            session.acknowledged = session.acknowledged.max(told.sequence);
        }
        let free = sessions.drains.note(node, told.sequence);
        sessions.tell_of_tasks(&free, &snapshot, &peers);
        Ok(())
    }

    /// Hands on lines of logs.
    pub(crate) async fn publish_logs(&self, node: NodeId, logs: LogsOfSession) -> Result<(), ClusterError> {
        self.beat(node, &logs.session)?;
        self.logs.publish(node, logs.report).await
    }

    /// Looks up a network that plain containers may join, for a node.
    pub(crate) async fn look_up(&self, node: NodeId, network: &str) -> Result<OverlayNetwork, ClusterError> {
        self.wait_for_allocation(network).await;
        look_up(&self.store.snapshot(), node, network).map(|(_, overlay)| overlay)
    }

    /// Lets a container of a node join a network of the cluster.
    pub(crate) async fn attach(
        &self,
        node: NodeId,
        request: AttachRequest,
    ) -> Result<AttachReply, ClusterError> {
        self.wait_for_allocation(&request.network).await;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut draft = Draft::new(&self.store.snapshot(), self.clock.now());
            let reply = {
                let mut allocator = self.attachments.lock().unwrap_or_else(PoisonError::into_inner);
                attach(&mut draft, &mut allocator, node, &request)?
            };
            let changes = draft.into_changes();
            if changes.is_empty() {
                return Ok(reply);
            }
            match self.store.commit(changes).await {
                Ok(_) => return Ok(reply),
                // Somebody else was given the address, or has changed the same attachment, meanwhile.
                Err(ClusterError::Conflict(_)) if attempts < ATTACH_ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until a network that has just been made has its subnets, for a while.
    async fn wait_for_allocation(&self, network: &str) {
        let mut changed = self.store.changed();
        let mut patience = self.clock.sleep(ALLOCATION_WINDOW);
        while awaits_allocation(&self.store.snapshot(), network) {
            tokio::select! {
                () = &mut patience => return,
                result = changed.changed() => if result.is_err() { return },
            }
        }
    }

    /// Ends attachments of a node.
    pub(crate) async fn detach(&self, node: NodeId, request: DetachRequest) -> Result<(), ClusterError> {
        let mut draft = Draft::new(&self.store.snapshot(), self.clock.now());
        detach(&mut draft, node, &request.attachments)?;
        let changes = draft.into_changes();
        if changes.is_empty() {
            return Ok(());
        }
        self.store.commit(changes).await.map(|_| ())
    }

    /// Notes that a node leaves the cluster: it is down at once.
    pub(crate) async fn goodbye(&self, node: NodeId) -> Result<(), ClusterError> {
        {
            let mut sessions = self.lock();
            sessions.open.remove(&node);
            sessions.awaited.remove(&node);
        }
        if self.store.snapshot().node(node).is_none() {
            return Ok(());
        }
        self.batch.commit(vec![self.node_change(node, NodeState::Down, "node has left the swarm")]).await
    }

    fn beat(&self, node: NodeId, session: &SessionId) -> Result<Duration, ClusterError> {
        let period = self.period();
        let mut sessions = self.lock();
        let known = sessions.open.contains_key(&node);
        match sessions.session(node, session) {
            Some(session) => session.beat(period),
            None if known => {
                return Err(ClusterError::refused(
                    ErrorKind::InvalidArgument,
                    "rpc error: code = InvalidArgument desc = session invalid",
                ));
            }
            None => return Err(not_registered()),
        }
        Ok(period)
    }

    fn limit_registrations(&self, node: NodeId) -> Result<(), ClusterError> {
        let now = Instant::now();
        let mut sessions = self.lock();
        let times = sessions.registrations.entry(node).or_default();
        times.retain(|time| now.duration_since(*time) < REGISTRATION_WINDOW);
        if times.len() >= REGISTRATIONS {
            return Err(ClusterError::refused(
                ErrorKind::Unavailable,
                "rpc error: code = Unavailable desc = exceeded rate limit count of registrations",
            ));
        }
        times.push(now);
        Ok(())
    }
}

fn not_registered() -> ClusterError {
    ClusterError::refused(ErrorKind::NotFound, "rpc error: code = NotFound desc = node not registered")
}
