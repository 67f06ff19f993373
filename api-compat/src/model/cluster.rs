//! The cluster: its settings, how it is joined, and what all of its objects have.
//!
//! Start reading at [`ClusterInfo`]. The same types serve both ways: clients show an object, change it and send it back.

use serde::{Deserialize, Serialize};

use super::bytes::Base64;
use super::time::Time;
use super::{Texts, is_zero};

/// Version of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ObjectVersion {
    /// Counts changes of the whole cluster; an update names the one that it has seen.
    #[serde(skip_serializing_if = "is_zero")]
    pub index: u64,
}

/// A driver and its options.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Driver {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its options.
    #[serde(skip_serializing_if = "Texts::is_empty")]
    pub options: Texts,
}

/// Whom somebody trusts, and who has issued their certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase", rename = "TLSInfo")]
pub struct TlsInfo {
    /// Certificates that are trusted, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trust_root: String,
    /// Subject of the issuer, DER in base64.
    #[serde(skip_serializing_if = "Base64::is_empty")]
    pub cert_issuer_subject: Base64,
    /// Public key of the issuer, DER in base64.
    #[serde(skip_serializing_if = "Base64::is_empty")]
    pub cert_issuer_public_key: Base64,
}

/// The cluster as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ClusterInfo {
    /// Id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Version.
    pub version: ObjectVersion,
    /// When it was begun.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// Settings.
    pub spec: SwarmSpec,
    /// Its authority.
    #[serde(rename = "TLSInfo")]
    pub tls_info: TlsInfo,
    /// Whether its authority is being exchanged.
    pub root_rotation_in_progress: bool,
    /// Pools from which networks are cut.
    pub default_addr_pool: Vec<String>,
    /// Prefix length of each piece.
    pub subnet_size: u8,
    /// UDP port of the overlay's data path.
    pub data_path_port: u16,
}

/// The cluster, for managers, with what lets machines join it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Swarm {
    /// The cluster.
    #[serde(flatten)]
    pub info: ClusterInfo,
    /// What lets machines join it.
    pub join_tokens: JoinTokens,
}

/// What lets machines join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct JoinTokens {
    /// As workers.
    pub worker: String,
    /// As managers.
    pub manager: String,
}

/// Settings of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct SwarmSpec {
    /// Always `default`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Labels.
    pub labels: Texts,
    /// Of tasks.
    pub orchestration: OrchestrationConfig,
    /// Of the managers' log.
    pub raft: RaftConfig,
    /// Of nodes.
    pub dispatcher: DispatcherConfig,
    /// Of certificates.
    #[serde(rename = "CAConfig")]
    pub ca_config: CaConfig,
    /// Of tasks that say nothing else.
    pub task_defaults: TaskDefaults,
    /// Of managers' keys.
    pub encryption_config: EncryptionConfig,
}

/// Settings of tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct OrchestrationConfig {
    /// How many ended tasks of a slot are kept; negative keeps all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_history_retention_limit: Option<i64>,
}

/// Settings of the managers' log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct RaftConfig {
    /// Entries between snapshots.
    #[serde(skip_serializing_if = "is_zero")]
    pub snapshot_interval: u64,
    /// Snapshots kept beside the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_old_snapshots: Option<u64>,
    /// Entries kept for managers that lag.
    #[serde(skip_serializing_if = "is_zero")]
    pub log_entries_for_slow_followers: u64,
    /// Ticks without a leader before an election.
    pub election_tick: u32,
    /// Ticks between heartbeats of the leader.
    pub heartbeat_tick: u32,
}

/// Settings of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct DispatcherConfig {
    /// How often a node must be heard of, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub heartbeat_period: i64,
}

/// Settings of certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "CAConfig")]
pub struct CaConfig {
    /// Life of node certificates, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub node_cert_expiry: i64,
    /// Authorities outside the cluster.
    #[serde(rename = "ExternalCAs", skip_serializing_if = "Vec::is_empty")]
    pub external_cas: Vec<ExternalCa>,
    /// Certificate that the cluster shall sign with, PEM.
    #[serde(rename = "SigningCACert", skip_serializing_if = "String::is_empty")]
    pub signing_ca_cert: String,
    /// Its key, PEM; never shown.
    #[serde(rename = "SigningCAKey", skip_serializing_if = "String::is_empty")]
    pub signing_ca_key: String,
    /// Raised to make the authority anew.
    #[serde(skip_serializing_if = "is_zero")]
    pub force_rotate: u64,
}

/// An authority outside the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "ExternalCA")]
pub struct ExternalCa {
    /// `cfssl`.
    pub protocol: String,
    /// Where it is.
    #[serde(rename = "URL")]
    pub url: String,
    /// Options of the protocol.
    #[serde(skip_serializing_if = "Texts::is_empty")]
    pub options: Texts,
    /// Its certificate, PEM.
    #[serde(rename = "CACert")]
    pub ca_cert: String,
}

/// Settings of tasks that say nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskDefaults {
    /// Log driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<Driver>,
}

/// Settings of managers' keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct EncryptionConfig {
    /// Whether they are locked by a key that the administrator keeps.
    pub auto_lock_managers: bool,
}

/// A wish for a new cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "SwarmInitRequest")]
pub struct SwarmInit {
    /// Where to listen.
    pub listen_addr: String,
    /// Where others reach this machine.
    pub advertise_addr: String,
    /// Where the overlay's data path is. Since 1.31.
    pub data_path_addr: String,
    /// UDP port of the data path. Since 1.40.
    pub data_path_port: u32,
    /// Whether to go on alone with the state of a cluster that has lost its quorum.
    pub force_new_cluster: bool,
    /// Settings.
    pub spec: SwarmSpec,
    /// Whether managers' keys are locked.
    pub auto_lock_managers: bool,
    /// Whether this machine takes tasks: `active`, `pause` or `drain`.
    pub availability: String,
    /// Pools for networks. Since 1.39.
    pub default_addr_pool: Option<Vec<String>>,
    /// Prefix length of each piece. Since 1.39.
    pub subnet_size: u32,
}

/// A wish to join a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "SwarmJoinRequest")]
pub struct SwarmJoin {
    /// Where to listen.
    pub listen_addr: String,
    /// Where others reach this machine.
    pub advertise_addr: String,
    /// Where the overlay's data path is.
    pub data_path_addr: String,
    /// Managers.
    pub remote_addrs: Vec<String>,
    /// What lets this machine in.
    pub join_token: String,
    /// Whether this machine takes tasks: `active`, `pause` or `drain`.
    pub availability: String,
}

/// The key that unlocks a manager.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "SwarmUnlockRequest")]
pub struct SwarmUnlock {
    /// The key.
    pub unlock_key: String,
}

/// The key that unlocks managers; empty when they are not locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct UnlockKeyResponse {
    /// The key.
    pub unlock_key: String,
}
