//! Nodes: machines that have joined.
//!
//! Start reading at [`Node`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Meta;
use super::service::GenericResource;
use super::task::TaskAttachment;
use crate::ids::NodeId;
use crate::platform::Platform;

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its id, the common name of its certificate.
    pub id: NodeId,
    /// Version and times.
    pub meta: Meta,
    /// What the administrator wants of it.
    pub spec: NodeSpec,
    /// What it says of itself; `None` before its first session.
    pub description: Option<NodeDescription>,
    /// What was observed of it.
    pub status: NodeStatus,
    /// The role that it has now; follows `spec.role` when the managers' group has taken it in or let it go.
    pub role: NodeRole,
    /// Its part in the managers' group; `None` of a worker.
    pub manager: Option<ManagerStatus>,
    /// Addresses of the node itself: in the ingress network, once a service publishes ports there.
    #[serde(default)]
    pub attachments: Vec<TaskAttachment>,
}

impl Node {
    /// Address of its end of the tunnels between nodes; `None` before it was first seen.
    pub fn vtep(&self) -> Option<IpAddr> {
        let described = self.description.as_ref().and_then(|description| description.data_path);
        described.or_else(|| self.status.address.parse().ok())
    }
}

/// What the administrator wants of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Name, mostly empty.
    pub name: String,
    /// Labels for placement.
    pub labels: BTreeMap<String, String>,
    /// Its role.
    pub role: NodeRole,
    /// Whether it takes tasks.
    pub availability: Availability,
}

/// Roles of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Runs tasks.
    Worker,
    /// Takes part in decisions, and runs tasks.
    Manager,
}

/// Whether a node takes tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// It does.
    #[default]
    Active,
    /// It keeps those it has.
    Pause,
    /// Those it has go elsewhere.
    Drain,
}

/// What a node says of itself at the beginning of a session, and when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDescription {
    /// Host name.
    pub hostname: String,
    /// What it runs.
    pub platform: Platform,
    /// Billionths of a processor.
    pub nano_cpus: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Named resources: kind, and how many or which.
    pub generic: Vec<(String, GenericResource)>,
    /// Version of the engine.
    pub engine_version: String,
    /// Labels of the engine.
    pub engine_labels: BTreeMap<String, String>,
    /// Drivers: kind (`Network`, `Volume`, `Log`) and name.
    pub plugins: Vec<(String, String)>,
    /// Whom it trusts and who has issued its certificate: shows how far an exchange of the authority has come.
    #[serde(default)]
    pub tls: TlsInfo,
    /// Address of its end of the tunnels between nodes, if it is another than the one at which the node is known.
    #[serde(default)]
    pub data_path: Option<IpAddr>,
    /// Its public keys for encrypted tunnels, newest first: more than one while a newer one takes over.
    #[serde(default)]
    pub data_path_keys: Vec<DataPathKey>,
}

/// A public key by which a node is known at its end of encrypted tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DataPathKey {
    /// The key (X25519).
    pub public: [u8; 32],
    /// Its number in the row of the node's keys; higher is newer. Decides the port that the node has for it.
    pub number: u64,
}

/// Whom a node trusts, and who has issued its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsInfo {
    /// The certificates that it trusts, PEM.
    pub trust_root: String,
    /// Subject of the issuer, DER.
    #[serde(with = "crate::base64_bytes")]
    pub issuer_subject: Vec<u8>,
    /// Public key of the issuer, DER (SubjectPublicKeyInfo).
    #[serde(with = "crate::base64_bytes")]
    pub issuer_public_key: Vec<u8>,
}

/// What was observed of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Whether it is there.
    pub state: NodeState,
    /// Why it is not.
    pub message: String,
    /// Where it was last seen.
    pub address: String,
    /// Since when it is in this state, by the leader's clock; `None` before its first session.
    #[serde(default)]
    pub since: Option<Timestamp>,
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It never came, or the leader is new and has not heard of it.
    Unknown,
    /// It has missed its heartbeats.
    Down,
    /// It has a session.
    Ready,
    /// It has said that it moves to another manager.
    Disconnected,
}

/// A node's part in the managers' group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerStatus {
    /// Whether it leads.
    pub leader: bool,
    /// Whether the leader reaches it.
    pub reachable: bool,
    /// Where it listens.
    pub address: SocketAddr,
}
