//! Ports: whether this machine belongs to a cluster, and the cluster's settings.
//!
//! Start reading at [`Membership`].

use std::fmt;

use async_trait::async_trait;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use shoal_types::NodeId;
use shoal_types::cluster::node::Availability;
use shoal_types::cluster::settings::{Cluster, ClusterSpec, JoinTokens};
use shoal_types::protocol::ManagerPeer;

use super::ClusterError;

/// Joining, leaving and settings. Implemented where manager and worker meet, because both begin and end here.
#[async_trait]
pub trait Membership: Send + Sync {
    /// What this machine is in a cluster; never waits.
    fn standing(&self) -> Standing;

    /// Where this machine and the managers are, as far as this machine knows; never waits.
    fn surroundings(&self) -> Surroundings;

    /// Begins a cluster with this machine as its manager.
    async fn init(&self, request: InitRequest) -> Result<NodeId, ClusterError>;

    /// Joins a cluster, as what the token says.
    async fn join(&self, request: JoinRequest) -> Result<(), ClusterError>;

    /// Leaves; a manager whose leaving would hurt only if forced.
    async fn leave(&self, force: LeaveForce) -> Result<(), ClusterError>;

    /// Opens a manager's keys.
    async fn unlock(&self, key: &str) -> Result<(), ClusterError>;

    /// The key that opens them; empty when they are not locked.
    async fn unlock_key(&self) -> Result<String, ClusterError>;

    /// The whole cluster as text, for [`crate::backup::restore`].
    async fn backup(&self) -> Result<String, ClusterError>;

    /// The cluster and what lets machines join it.
    async fn inspect(&self) -> Result<(Cluster, JoinTokens), ClusterError>;

    /// Changes settings, if `version` is the newest.
    async fn update(&self, version: u64, spec: ClusterSpec, rotate: Rotation) -> Result<(), ClusterError>;
}

/// What a machine is in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// Not in one.
    #[default]
    Inactive,
    /// On its way in.
    Pending,
    /// In one, but broken; why.
    Error(String),
    /// A manager whose keys are locked.
    Locked,
    /// A worker.
    Worker(NodeId),
    /// A manager.
    Manager(NodeId),
}

/// Where a machine and the managers of its cluster are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Address at which this machine is known in the cluster, without a port; empty outside of one.
    pub address: String,
    /// All managers.
    pub managers: Vec<ManagerPeer>,
}

/// A key and certificate that an administrator gives a cluster to sign with.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SigningAuthority {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PEM; empty when only authorities outside the cluster have it.
    pub key: String,
}

impl fmt::Debug for SigningAuthority {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningAuthority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A wish for a new cluster.
#[derive(Debug, Clone, Default)]
pub struct InitRequest {
    /// Where to listen, `address:port`.
    pub listen: String,
    /// Where others reach this machine: an address, an interface, or empty to find out.
    pub advertise: String,
    /// Where the overlay's data path is; empty is the same.
    pub data_path: String,
    /// UDP port of the data path; 0 is the default.
    pub data_path_port: u16,
    /// Pools for networks of the cluster; empty is the default.
    pub address_pools: Vec<IpNet>,
    /// Prefix length of each piece; 0 is the default.
    pub subnet_size: u8,
    /// Whether to go on alone with the state of a cluster that has lost its quorum.
    pub force_new_cluster: bool,
    /// Settings.
    pub spec: ClusterSpec,
    /// What the cluster shall sign with; `None` makes a new authority.
    pub signing: Option<SigningAuthority>,
    /// Whether this machine takes tasks.
    pub availability: Availability,
}

/// A wish to join.
#[derive(Debug, Clone, Default)]
pub struct JoinRequest {
    /// Where to listen.
    pub listen: String,
    /// Where others reach this machine.
    pub advertise: String,
    /// Where the overlay's data path is.
    pub data_path: String,
    /// Managers.
    pub remotes: Vec<String>,
    /// What lets us in.
    pub token: String,
    /// Whether this machine takes tasks.
    pub availability: Availability,
}

/// Whether a manager leaves even if that hurts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveForce {
    /// It does not.
    No,
    /// It does.
    Yes,
}

/// What an update of the cluster makes anew.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rotation {
    /// The workers' token.
    pub worker_token: bool,
    /// The managers' token.
    pub manager_token: bool,
    /// The key that locks managers' keys.
    pub unlock_key: bool,
    /// What the cluster shall sign with from now on, if that is given.
    pub signing: Option<SigningAuthority>,
}
