//! Ports: networks of the cluster.
//!
//! Start reading at [`Networks`]. Networks of one node alone are the node's; the front end shows both kinds together.

use async_trait::async_trait;
use shoal_types::NetworkId;
use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::network::NetworkSpec;

use super::ClusterError;

/// Networks that exist on every node that needs them.
#[async_trait]
pub trait Networks: Send + Sync {
    /// Makes a network. What it is given is decided afterwards, by the allocator.
    async fn create(&self, spec: NetworkSpec) -> Result<NetworkId, ClusterError>;

    /// All of them.
    async fn list(&self) -> Result<Vec<ClusterNetwork>, ClusterError>;

    /// One network.
    async fn inspect(&self, name: &str) -> Result<ClusterNetwork, ClusterError>;

    /// Removes a network that no service and no task uses.
    async fn remove(&self, name: &str) -> Result<(), ClusterError>;
}
