//! How a container is connected.
//!
//! Start reading at [`NetworkSettings`]; [`EndpointSettings`] is also part of requests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::host_config::PortMap;
use super::{Texts, is_empty_list, is_zero};

/// How a container is connected.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSettings {
    /// Always empty. Below 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Id of its network namespace.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Path of its network namespace.
    pub sandbox_key: String,
    /// Ports that lead to it.
    pub ports: PortMap,
    /// Always false. Below 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hairpin_mode: Option<bool>,
    /// Always empty. Below 1.52.
    #[serde(rename = "LinkLocalIPv6Address", skip_serializing_if = "Option::is_none")]
    pub link_local_ipv6_address: Option<String>,
    /// Always 0. Below 1.52.
    #[serde(rename = "LinkLocalIPv6PrefixLen", skip_serializing_if = "Option::is_none")]
    pub link_local_ipv6_prefix_len: Option<i32>,
    /// Always null. Below 1.52.
    #[serde(rename = "SecondaryIPAddresses", skip_serializing_if = "Option::is_none")]
    pub secondary_ip_addresses: Option<Option<Vec<String>>>,
    /// Always null. Below 1.52.
    #[serde(rename = "SecondaryIPv6Addresses", skip_serializing_if = "Option::is_none")]
    pub secondary_ipv6_addresses: Option<Option<Vec<String>>>,
    /// Its endpoint on the default bridge.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub default_bridge: Option<DefaultBridge>,
    /// Its networks by name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// The endpoint on the default bridge, told once more beside the networks.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct DefaultBridge {
    /// Id of the endpoint. Below 1.52.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// IPv4 gateway. Below 1.52.
    pub gateway: String,
    /// IPv6 address. Below 1.52.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Length of its prefix. Below 1.52.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// IPv4 address. Below 1.52.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Length of its prefix. Below 1.52.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// IPv6 gateway. Below 1.52.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Hardware address. Below 1.52.
    pub mac_address: String,
}

/// What joins a container to one network: wishes, and what became of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct EndpointSettings {
    /// Particular addresses.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpamConfig>,
    /// `container[:alias]` within this network.
    pub links: Option<Vec<String>>,
    /// Further names within this network.
    pub aliases: Option<Vec<String>>,
    /// Hardware address.
    pub mac_address: String,
    /// Options of the network's driver.
    pub driver_opts: Option<Texts>,
    /// Which network gives the default gateway: the highest wins. Since 1.48.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gw_priority: Option<i64>,
    /// Id of the network.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// Id of the endpoint, while there is one.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// IPv4 gateway.
    pub gateway: String,
    /// IPv4 address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Length of its prefix.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// IPv6 gateway.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Length of its prefix.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// Names under which the network's other members find it. Since 1.44.
    #[serde(rename = "DNSNames", skip_serializing_if = "Option::is_none")]
    pub dns_names: Option<Option<Vec<String>>>,
}

/// Particular addresses of an endpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct EndpointIpamConfig {
    /// IPv4 address.
    #[serde(rename = "IPv4Address", skip_serializing_if = "is_zero")]
    pub ipv4_address: String,
    /// IPv6 address.
    #[serde(rename = "IPv6Address", skip_serializing_if = "is_zero")]
    pub ipv6_address: String,
    /// Further link-local addresses.
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "is_empty_list")]
    pub link_local_ips: Option<Vec<String>>,
}
