//! Settings of the cluster as a whole.
//!
//! Start reading at [`ClusterSpec`]. Defaults are swarm's where clients show them; where Shoal is quicker by default, the
//! field says so.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Meta;
use crate::container::spec::LoggingSpec;
use crate::ids::ClusterId;

/// What the administrator wants of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterSpec {
    /// Always `default`.
    pub name: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// How many ended tasks of a slot are kept.
    pub task_history: i64,
    /// Settings of raft, in the terms that clients show. Ticks are accepted and shown; elections follow Shoal's own.
    pub raft: RaftSettings,
    /// How often a node must be heard of.
    pub heartbeat: Duration,
    /// Life of node certificates; at least an hour.
    pub certificate_life: Duration,
    /// Certificate authorities outside the cluster.
    pub external_authorities: Vec<ExternalAuthority>,
    /// Raised to make the cluster's own authority anew.
    pub rotate_authority: u64,
    /// Whether a manager's keys are locked by a key that the administrator keeps.
    pub autolock: bool,
    /// Log driver of tasks that name none.
    pub task_logging: Option<LoggingSpec>,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            labels: BTreeMap::new(),
            task_history: 5,
            raft: RaftSettings::default(),
            heartbeat: Duration::from_secs(5),
            certificate_life: Duration::from_secs(90 * 24 * 3600),
            external_authorities: Vec::new(),
            rotate_authority: 0,
            autolock: false,
            task_logging: None,
        }
    }
}

/// Settings of raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RaftSettings {
    /// Log entries between RaftSnapshots.
    pub snapshot_interval: u64,
    /// RaftSnapshots kept beside the newest.
    pub keep_old_snapshots: u64,
    /// Log entries kept for followers that lag.
    pub entries_for_slow_followers: u64,
    /// Ticks without a leader before an election.
    pub election_tick: u32,
    /// Ticks between heartbeats of the leader.
    pub heartbeat_tick: u32,
}

impl Default for RaftSettings {
    fn default() -> Self {
        Self {
            snapshot_interval: 10_000,
            keep_old_snapshots: 0,
            entries_for_slow_followers: 500,
            election_tick: 10,
            heartbeat_tick: 1,
        }
    }
}

/// A certificate authority outside the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalAuthority {
    /// Protocol, `cfssl`.
    pub protocol: String,
    /// Where it is; https only.
    pub url: String,
    /// Its certificate, PEM; empty is the cluster's.
    pub certificate: String,
    /// Options of the protocol.
    pub options: BTreeMap<String, String>,
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Version and times.
    pub meta: Meta,
    /// What it shall be.
    pub spec: ClusterSpec,
    /// Certificate of its authority, PEM.
    pub trust_root: String,
    /// Subject of that certificate, DER.
    #[serde(default, with = "crate::base64_bytes")]
    pub issuer_subject: Vec<u8>,
    /// Public key in that certificate, DER (SubjectPublicKeyInfo).
    #[serde(default, with = "crate::base64_bytes")]
    pub issuer_public_key: Vec<u8>,
    /// Whether its authority is being exchanged.
    pub is_rotating: bool,
    /// Pools from which networks of the cluster are cut.
    pub address_pools: Vec<IpNet>,
    /// Prefix length of each piece.
    pub subnet_size: u8,
    /// UDP port of the overlay's data path.
    pub data_path_port: u16,
}

/// What lets a machine join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokens {
    /// As a worker.
    pub worker: String,
    /// As a manager.
    pub manager: String,
}
