//! Networks.
//!
//! Start reading at [`NetworkCreate`] and [`Network`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::network_settings::EndpointSettings;
use super::time::Time;
use super::{Texts, is_empty_map, is_zero};

/// A wish for a network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "NetworkCreateRequest")]
pub struct NetworkCreate {
    /// Name.
    pub name: String,
    /// Whether another of the same name is refused; it always is. Below 1.46.
    pub check_duplicate: bool,
    /// Name of the driver; empty is `bridge`.
    pub driver: String,
    /// `local` or `swarm`.
    pub scope: String,
    /// Whether endpoints get IPv4 addresses; they do unless this is false. Since 1.47.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: Option<bool>,
    /// Whether endpoints get IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: Option<bool>,
    /// Address management.
    #[serde(rename = "IPAM")]
    pub ipam: Option<Ipam>,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Whether plain containers may join a network of the cluster.
    pub attachable: bool,
    /// Whether it is the cluster's ingress.
    pub ingress: bool,
    /// Whether it only lends its configuration.
    pub config_only: bool,
    /// Whose configuration it takes.
    pub config_from: Option<ConfigReference>,
    /// The driver's options.
    pub options: Option<Texts>,
    /// Labels.
    pub labels: Option<Texts>,
}

/// A network that lends its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ConfigReference {
    /// Its name; empty is none.
    pub network: String,
}

/// Address management.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "IPAM")]
pub struct Ipam {
    /// Name of the driver.
    pub driver: String,
    /// Its options.
    pub options: Option<Texts>,
    /// Subnets.
    pub config: Option<Vec<IpamConfig>>,
}

/// One subnet.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "IPAMConfig")]
pub struct IpamConfig {
    /// The subnet.
    #[serde(skip_serializing_if = "is_zero")]
    pub subnet: String,
    /// The part of it from which addresses are given out.
    #[serde(rename = "IPRange", skip_serializing_if = "is_zero")]
    pub ip_range: String,
    /// Address of the gateway.
    #[serde(skip_serializing_if = "is_zero")]
    pub gateway: String,
    /// Addresses in use elsewhere, by name.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub auxiliary_addresses: Option<Texts>,
}

/// A network that was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct NetworkCreateResponse {
    /// Its id.
    pub id: String,
    /// What the user should know.
    pub warning: String,
}

/// A network; in lists without what is connected to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// Name.
    pub name: String,
    /// Id.
    pub id: String,
    /// When it was made.
    pub created: Time,
    /// `local` or `swarm`.
    pub scope: String,
    /// Driver.
    pub driver: String,
    /// Whether endpoints get IPv4 addresses. Since 1.47.
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Whether endpoints get IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Address management.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Whether plain containers may join it.
    pub attachable: bool,
    /// Whether it is the cluster's ingress.
    pub ingress: bool,
    /// Whose configuration it takes.
    pub config_from: ConfigReference,
    /// Whether it only lends its configuration.
    pub config_only: bool,
    /// Running containers in it; left out of lists from 1.52 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<BTreeMap<String, EndpointResource>>,
    /// The driver's options.
    pub options: Texts,
    /// Labels.
    pub labels: Texts,
    /// How full it is. Since 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<NetworkStatus>,
    /// The nodes that take part in a network of the cluster; left out of lists and of other networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<PeerInfo>>,
    /// Services in a network of the cluster by name, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<BTreeMap<String, ServiceInfo>>,
}

/// A node that takes part in a network of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct PeerInfo {
    /// Its id.
    pub name: String,
    /// Its end of the tunnels.
    #[serde(rename = "IP")]
    pub ip: String,
}

/// A service in a network of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceInfo {
    /// Its address; empty when its name leads to the tasks themselves.
    #[serde(rename = "VIP")]
    pub vip: String,
    /// Ports that it publishes there.
    #[serde(rename = "Ports")]
    pub ports: Vec<String>,
    /// Place in the load balancer of the node; there are none here.
    #[serde(rename = "LocalLBIndex")]
    pub local_lb_index: i64,
    /// Its tasks.
    #[serde(rename = "Tasks")]
    pub tasks: Vec<NetworkTask>,
}

/// A task in a network of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkTask {
    /// Its name.
    #[serde(rename = "Name")]
    pub name: String,
    /// Id of its endpoint, which only its node knows.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Its address.
    #[serde(rename = "EndpointIP")]
    pub endpoint_ip: String,
    /// `Host IP`: its node's end of the tunnels.
    #[serde(rename = "Info")]
    pub info: Texts,
}

/// A container in a network.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct EndpointResource {
    /// Its name.
    pub name: String,
    /// Id of the endpoint.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Hardware address.
    pub mac_address: String,
    /// IPv4 address with the length of its prefix.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// IPv6 address with the length of its prefix.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// How full a network is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkStatus {
    /// Of addresses.
    #[serde(rename = "IPAM")]
    pub ipam: IpamStatus,
}

/// How full the subnets are.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase", rename = "IPAMStatus")]
pub struct IpamStatus {
    /// Each.
    pub subnets: BTreeMap<String, SubnetStatus>,
}

/// How full a subnet is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct SubnetStatus {
    /// Addresses in use.
    #[serde(rename = "IPsInUse")]
    pub ips_in_use: u64,
    /// Addresses that can still be given out.
    #[serde(rename = "DynamicIPsAvailable")]
    pub dynamic_ips_available: u64,
}

/// A wish to connect a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "NetworkConnectRequest")]
pub struct NetworkConnect {
    /// Name or id of the container.
    pub container: String,
    /// What is wished for at this network.
    pub endpoint_config: Option<EndpointSettings>,
}

/// A wish to disconnect a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "NetworkDisconnectRequest")]
pub struct NetworkDisconnect {
    /// Name or id of the container.
    pub container: String,
    /// Whether an endpoint goes even if its container is gone.
    pub force: bool,
}

/// What a prune of networks removed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct NetworkPruneResponse {
    /// Names.
    pub networks_deleted: Option<Vec<String>>,
}
