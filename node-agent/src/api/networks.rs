//! Ports: networks.
//!
//! Start reading at [`Networks`]. Networks of the cluster are the manager's; the front end merges both.

use std::collections::BTreeMap;
use std::net::IpAddr;

use async_trait::async_trait;
use jiff::Timestamp;
use shoal_types::cluster::service::PublishedServicePort;
use shoal_types::container::networking::EndpointSpec;
use shoal_types::container::state::EndpointStatus;
use shoal_types::network::{Network, NetworkScope, NetworkSpec};
use shoal_types::{ContainerId, NetworkId, NodeId};

use super::{LabelFilter, Pruned};
use crate::error::NodeError;

/// Networks of this node, by full id, exact name or unique id prefix, in that order.
#[async_trait]
pub trait Networks: Send + Sync {
    /// Makes a network. Returns a warning for the user, mostly empty.
    async fn create(&self, spec: NetworkSpec) -> Result<(NetworkId, String), NodeError>;

    /// Those that pass.
    async fn list(&self, filter: NetworkFilter) -> Result<Vec<Network>, NodeError>;

    /// One network with the running containers in it.
    async fn inspect(&self, name: &str) -> Result<NetworkView, NodeError>;

    /// Removes one without endpoints.
    async fn remove(&self, name: &str) -> Result<(), NodeError>;

    /// Connects a container, at once if it runs, else at its next start.
    async fn connect(&self, network: &str, container: &str, endpoint: EndpointSpec) -> Result<(), NodeError>;

    /// Disconnects a container.
    async fn disconnect(
        &self,
        network: &str,
        container: &str,
        force: DisconnectForce,
    ) -> Result<(), NodeError>;

    /// Removes those that no container is connected to.
    async fn prune(&self, filter: NetworkPruneFilter) -> Result<Pruned, NodeError>;
}

/// Whether a disconnect also removes an endpoint whose container is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectForce {
    /// It does not.
    No,
    /// It does, by the endpoint's name.
    Yes,
}

/// Which networks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkFilter {
    /// Whether any container is connected.
    pub dangling: Option<bool>,
    /// Names of drivers.
    pub drivers: Vec<String>,
    /// Id prefixes.
    pub ids: Vec<String>,
    /// Labels.
    pub labels: LabelFilter,
    /// Patterns of names.
    pub names: Vec<String>,
    /// Scopes.
    pub scopes: Vec<NetworkScope>,
    /// Predefined ones, or those that users made.
    pub origin: Option<NetworkOrigin>,
}

impl NetworkFilter {
    /// Tells by its name whether a network is meant. Refuses what is no pattern.
    pub fn by_name(&self) -> Result<impl Fn(&str) -> bool + use<>, NodeError> {
        let compile = |pattern: &String| {
            regex_lite::Regex::new(pattern)
                .map_err(|_| NodeError::invalid(format!("invalid filter 'name=[{pattern}]'")))
        };
        let patterns = self.names.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
        Ok(move |name: &str| patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_match(name)))
    }
}

/// Who made a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkOrigin {
    /// The engine.
    Builtin,
    /// A user.
    Custom,
}

/// Which unused networks to prune.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkPruneFilter {
    /// Labels.
    pub labels: LabelFilter,
    /// Only those made before.
    pub until: Option<Timestamp>,
}

/// A network with what is connected to it.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkView {
    /// The network.
    pub network: Network,
    /// Running containers: name and endpoint.
    pub containers: BTreeMap<ContainerId, (String, EndpointStatus)>,
    /// How many addresses are in use and free, by subnet.
    pub address_use: BTreeMap<String, AddressUse>,
    /// Who else is in it, if it spans nodes.
    pub overlay: Option<OverlayView>,
}

/// Who is in a network that spans nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OverlayView {
    /// The nodes and their ends of the tunnels.
    pub nodes: BTreeMap<NodeId, IpAddr>,
    /// Services by name.
    pub services: BTreeMap<String, OverlayServiceView>,
}

/// A service in a network that spans nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OverlayServiceView {
    /// Its address; `None` when its name leads to the tasks themselves.
    pub vip: Option<IpAddr>,
    /// Ports that it publishes there.
    pub ports: Vec<PublishedServicePort>,
    /// Its tasks.
    pub tasks: Vec<OverlayTaskView>,
}

/// A task in a network that spans nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayTaskView {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its node's end of the tunnels.
    pub vtep: IpAddr,
}

/// How full a subnet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddressUse {
    /// Addresses in use, those of the subnet and gateway included.
    pub in_use: u64,
    /// Addresses that can still be given out, at most `u64::MAX`.
    pub available: u64,
}
