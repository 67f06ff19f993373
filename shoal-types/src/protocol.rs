//! What managers and workers say to each other.
//!
//! Start reading at [`SessionRequest`] and [`SessionEvent`]: a worker opens one session with the leader, and everything that
//! the leader tells it comes as events of that one stream, in order. What the worker tells the leader ([`StatusReport`],
//! [`LogReport`], heartbeats, acknowledgements) are single requests that name the session. The transport is the manager's (`manager::rpc`);
//! messages carry a version so that nodes of neighbouring releases understand each other during an upgrade.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cluster::node::{Node, NodeDescription, NodeRole};
use crate::cluster::overlay::{EntryKey, OverlayEntry, OverlayNetwork, PeerState};
use crate::cluster::secret::{Config, Secret};
use crate::cluster::task::{Task, TaskStatus};
use crate::ids::{ConfigId, ContainerId, NetworkId, NodeId, SecretId, ServiceId, TaskId};
use crate::network::Network;

/// Version of these messages. A manager speaks this one and the one before.
pub const PROTOCOL_VERSION: u32 = 1;

/// What a worker says when it opens a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRequest {
    /// The version it speaks.
    pub version: u32,
    /// What it is. A worker whose description changes opens a new session.
    pub description: NodeDescription,
    /// Address at which it wants to be known; empty takes the one that the leader sees.
    pub address: String,
}

/// Names one session of one node with one leader. Another session of the same node ends the one before.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub String);

/// What the leader tells a worker. The first event of a session is [`Self::Session`], the second the whole of what the node
/// shall have; afterwards they come as things change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEvent {
    /// How the cluster sees the node, and how to reach the cluster; sent again whenever one of these changes.
    Session(Box<SessionMessage>),
    /// What the node shall have.
    Assignments(AssignmentMessage),
    /// Somebody wants to read logs of tasks.
    Logs(LogSubscription),
    /// Nobody reads that subscription any more.
    EndLogs(String),
}

/// How the cluster sees a node, and how to reach the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionMessage {
    /// The session, to be named in every report.
    pub id: SessionId,
    /// The node's own object: labels and availability for templates and for itself.
    pub node: Node,
    /// The role for which the node shall hold a certificate now. When it differs from the certificate's, the node renews it
    /// and starts or stops its manager.
    pub role: NodeRole,
    /// All managers, to be kept for the time when this one is gone.
    pub managers: Vec<ManagerPeer>,
    /// Certificates to be trusted, PEM. When it differs from what the node trusts, it takes this.
    pub trust_root: String,
    /// Whether the node shall renew its certificate now, whatever its age (the authority is being exchanged).
    pub renew: bool,
    /// How long the node may be silent between heartbeats.
    pub heartbeat: Duration,
}

/// A manager and where it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ManagerPeer {
    /// The node.
    pub node: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// When the next one is due; varied a little from one to the next so that nodes do not beat in step.
    pub next: Duration,
}

/// Something that a node is told to have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// A task to bring to its desired state.
    Task(Box<Task>),
    /// A secret that a task of the node needs.
    Secret(Secret),
    /// A config that a task of the node needs.
    Config(Config),
    /// A network that a task of the node is in and that each node has by itself.
    Network(Box<Network>),
    /// A network that spans nodes and that something of the node is in. If the node had it before, its table stays.
    Overlay(Box<OverlayNetwork>),
    /// An entry of the table of such a network, which came before.
    Entry(NetworkId, Box<OverlayEntry>),
}

/// One difference between what a node was told and what it is told now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssignmentChange {
    /// Have this, or this newer form of it. What a task needs comes before the task.
    Update(Assignment),
    /// Forget this task.
    RemoveTask(TaskId),
    /// Forget this secret.
    RemoveSecret(SecretId),
    /// Forget this config.
    RemoveConfig(ConfigId),
    /// Forget this network.
    RemoveNetwork(NetworkId),
    /// Forget this network that spans nodes, and its table.
    RemoveOverlay(NetworkId),
    /// Take this entry out of the network's table.
    RemoveEntry(NetworkId, EntryKey),
}

/// What a node shall have, as a whole or as a difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AssignmentMessage {
    /// State to which the changes apply; `None` when they are the whole. A worker that is in another state opens a new session.
    pub applies_to: Option<u64>,
    /// State to which they lead.
    pub results_in: u64,
    /// The changes.
    pub changes: Vec<AssignmentChange>,
}

impl AssignmentMessage {
    /// Whether it takes somebody out of service. A worker says when it is as such a message tells: until everybody has,
    /// or for a while, the leader lets the task concerned run.
    pub fn tells_of_draining(&self) -> bool {
        self.changes.iter().any(|change| match change {
            AssignmentChange::Update(Assignment::Entry(_, entry)) => {
                matches!(entry.as_ref(), OverlayEntry::Peer(peer) if peer.state == PeerState::Draining)
            }
            _ => false,
        })
    }
}

/// The wish of a plain container of a node to take part in a network of the cluster. Asking again for the same container and
/// network answers what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// Name or id of the network.
    pub network: String,
    /// The container.
    pub container: ContainerId,
    /// Its name.
    pub name: String,
    /// Further names that shall lead to it in the network.
    pub aliases: Vec<String>,
    /// Addresses that it wants; empty takes any.
    pub addresses: Vec<IpAddr>,
}

/// What a container was given in a network of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachReply {
    /// Names the attachment.
    pub attachment: TaskId,
    /// The network. Its table comes by the session.
    pub overlay: OverlayNetwork,
    /// The addresses.
    pub addresses: Vec<IpNet>,
}

/// The end of attachments of a node. Those that are gone are not missed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachRequest {
    /// Names the attachments.
    pub attachments: Vec<TaskId>,
}

/// What a node has observed of its tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Task and status, oldest first.
    pub tasks: Vec<(TaskId, TaskStatus)>,
}

/// A wish to read logs of tasks that run on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSubscription {
    /// Its name, drawn by the leader.
    pub id: String,
    /// The tasks of this node that are meant.
    pub tasks: Vec<TaskId>,
    /// Which lines, and for how long.
    pub options: LogOptions,
}

/// Which lines of logs are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogOptions {
    /// The streams that are wanted.
    pub streams: Vec<LogStream>,
    /// Whether lines that are yet to be written are wanted too.
    pub follow: bool,
    /// How many lines of each task from its end; `None` is all.
    pub tail: Option<u64>,
    /// Only lines from then on.
    pub since: Option<Timestamp>,
}

/// One of a task's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Lines of logs that a node sends for a subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogReport {
    /// The subscription.
    pub subscription: String,
    /// Lines, oldest first.
    pub lines: Vec<LogLine>,
    /// Whether the node has nothing more to say, and what it could not say; sent last.
    pub end: Option<LogEnd>,
}

/// How a node's part of a subscription ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogEnd {
    /// Everything that was wanted has been sent.
    Complete,
    /// Something is missing; what.
    Incomplete(String),
}

/// One line, or piece of a long line, that a task has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The task.
    pub task: TaskId,
    /// Its service.
    pub service: ServiceId,
    /// Its node.
    pub node: NodeId,
    /// Where it was written.
    pub stream: LogStream,
    /// When it was written.
    pub at: Timestamp,
    /// Attributes that the log driver adds, for `details`.
    pub attributes: Vec<(String, String)>,
    /// The bytes, with the newline if there was one.
    #[serde(with = "crate::base64_bytes")]
    pub data: Vec<u8>,
}
