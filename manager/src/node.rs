//! A manager of the cluster: its life from the first start to the last.
//!
//! Start reading at [`ManagerNode`]. A manager is begun by [`ManagerNode::init`] (a new cluster), [`ManagerNode::join`] (a
//! node that was enrolled with the managers' token, or promoted) or [`ManagerNode::start`] (from disk), and ended by
//! [`ManagerNode::stop`]. It serves other nodes on its own listener and yields the ports that the front end uses; it knows nothing of the worker
//! that runs on the same machine, which comes by network like every other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use shoal_types::NodeId;
use shoal_types::cluster::node::Availability;
use shoal_types::cluster::settings::{Cluster, ClusterSpec, JoinTokens};
use shoal_types::protocol::ManagerPeer;
use tokio::sync::watch;

use crate::api;
use crate::api::membership::{Membership, Rotation};
use crate::ca::Credentials;
use crate::error::ClusterError;

/// Where a manager lives.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// `<data-root>/swarm`: certificates in `certificates/`, the store in `manager/`.
    pub directory: PathBuf,
    /// Where to listen for other nodes.
    pub listen: SocketAddr,
    /// Where other nodes reach this one; port 0 takes the listener's.
    pub advertise: SocketAddr,
}

/// What a new cluster shall be.
#[derive(Debug, Clone)]
pub struct NewCluster {
    /// Settings.
    pub spec: ClusterSpec,
    /// Pools for networks of the cluster.
    pub address_pools: Vec<IpNet>,
    /// Prefix length of each piece.
    pub subnet_size: u8,
    /// UDP port of the overlay's data path.
    pub data_path_port: u16,
    /// Whether the first node takes tasks.
    pub availability: Availability,
}

/// What has become of a manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManagerFate {
    /// It serves.
    Serving,
    /// It was removed from the managers' group (demoted, or forgotten); whoever holds it stops it and clears its store.
    Removed,
    /// It cannot go on; why.
    Failed(String),
}

/// A running manager.
#[derive(Debug)]
pub struct ManagerNode {
    credentials: Arc<Credentials>,
    fate: watch::Receiver<ManagerFate>,
}

impl ManagerNode {
    /// Begins a cluster: makes its authority, this node's certificate and the first objects. Returns when this node leads.
    pub async fn init(_config: ManagerConfig, _cluster: NewCluster) -> Result<Arc<Self>, ClusterError> {
        Err(ClusterError::NotImplemented("managers are not supported yet"))
    }

    /// Joins the managers' group through one of `remotes`, with a certificate for that role. Returns when this node votes.
    pub async fn join(
        _config: ManagerConfig,
        _credentials: Arc<Credentials>,
        _remotes: Vec<SocketAddr>,
    ) -> Result<Arc<Self>, ClusterError> {
        Err(ClusterError::NotImplemented("managers are not supported yet"))
    }

    /// Goes on with the store on disk. Returns when it serves, whether or not there is a leader yet.
    /// [`ClusterError::Locked`] if the keys are locked and `credentials` were not opened with the key.
    pub async fn start(
        _config: ManagerConfig,
        _credentials: Arc<Credentials>,
    ) -> Result<Arc<Self>, ClusterError> {
        Err(ClusterError::NotImplemented("managers are not supported yet"))
    }

    /// Goes on alone with the store on disk: every other manager is forgotten, objects, authority and tokens stay. Repeatable.
    pub async fn force_new_cluster(
        _config: ManagerConfig,
        _credentials: Arc<Credentials>,
    ) -> Result<Arc<Self>, ClusterError> {
        Err(ClusterError::NotImplemented("managers are not supported yet"))
    }

    /// Hands leadership over if it has it, stops serving and closes the store. The node stays a member. Repeatable.
    pub async fn stop(&self) {}

    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.credentials.node_id()
    }

    /// This node's certificate and key.
    pub fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials)
    }

    /// What becomes of it.
    pub fn fate(&self) -> watch::Receiver<ManagerFate> {
        self.fate.clone()
    }

    /// The ports for the front end: answered here while this node leads, by the leader otherwise. `membership` is the
    /// caller's, because joining and leaving concern the worker too.
    pub fn ports(&self, _membership: Arc<dyn Membership>) -> Option<api::Cluster> {
        None
    }

    /// All managers, as far as this one knows.
    pub fn managers(&self) -> Vec<ManagerPeer> {
        Vec::new()
    }

    /// Where it listens, as others reach it.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 0))
    }

    /// The cluster and what lets machines join it.
    pub async fn inspect(&self) -> Result<(Cluster, JoinTokens), ClusterError> {
        Err(ClusterError::NotImplemented("managers are not supported yet"))
    }

    /// Changes settings, if `version` is the newest, and makes anew what `rotation` says.
    pub async fn update(
        &self,
        _version: u64,
        _spec: ClusterSpec,
        _rotation: Rotation,
    ) -> Result<(), ClusterError> {
        Err(ClusterError::NotImplemented("managers are not supported yet"))
    }

    /// The key that opens managers' keys; empty when they are not locked.
    pub async fn unlock_key(&self) -> Result<String, ClusterError> {
        Err(ClusterError::NotImplemented("managers are not supported yet"))
    }

    /// Why leaving would hurt the cluster; `Ok` if it would not. To be asked before a leave without force.
    pub fn check_leave(&self) -> Result<(), ClusterError> {
        Ok(())
    }

    /// Writes everything that another machine needs to go on as this cluster into one file: keys, certificate, and the store
    /// as of one moment. Works while serving.
    pub async fn backup(&self, _path: PathBuf) -> Result<(), ClusterError> {
        Err(ClusterError::NotImplemented("backups are not supported yet"))
    }
}
