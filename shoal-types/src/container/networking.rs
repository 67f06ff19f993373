//! How a container is connected: networks, addresses, published ports, names.
//!
//! Start reading at [`NetworkingSpec`]. Which addresses it really has is in [`super::state::EndpointStatus`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The wishes about networks and names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkingSpec {
    /// Whose network namespace it is.
    pub mode: NetworkMode,
    /// What is wished for at each network, by the name or id that the client used. Holds the network of
    /// [`NetworkMode::Network`] as well.
    pub endpoints: BTreeMap<String, EndpointSpec>,
    /// Whether networking is off altogether (`NetworkDisabled`).
    pub disabled: bool,
    /// Ports that the image or the user declared, published or not.
    pub exposed: Vec<PortSpec>,
    /// What to publish.
    pub published: Vec<PortPublish>,
    /// Whether every exposed port gets a random port of the host.
    pub publish_all: bool,
    /// Name servers instead of the host's.
    pub dns_servers: Vec<IpAddr>,
    /// Options of resolv.conf.
    pub dns_options: Vec<String>,
    /// Search domains of resolv.conf.
    pub dns_search: Vec<String>,
    /// `name:address` pairs for /etc/hosts; the address may be `host-gateway`.
    pub extra_hosts: Vec<String>,
    /// `container[:alias]`.
    pub links: Vec<String>,
}

/// Whose network namespace a container lives in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode", content = "of")]
pub enum NetworkMode {
    /// Its own, connected to the default bridge.
    #[default]
    DefaultBridge,
    /// Its own, with a loopback interface only.
    None,
    /// The host's.
    Host,
    /// Another container's, by name or id as written; by id once the engine has resolved it.
    Container(String),
    /// Its own, connected to this network (name or id).
    Network(String),
}

/// What is wished for at one network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSpec {
    /// A particular IPv4 address.
    pub ipv4_address: Option<std::net::Ipv4Addr>,
    /// A particular IPv6 address.
    pub ipv6_address: Option<std::net::Ipv6Addr>,
    /// Additional link-local addresses.
    pub link_local: Vec<IpAddr>,
    /// A particular hardware address, as `02:42:ac:11:00:02`.
    pub mac_address: Option<String>,
    /// Further names within this network.
    pub aliases: Vec<String>,
    /// `container[:alias]` pairs that hold within this network.
    pub links: Vec<String>,
    /// Options of the network's driver for this endpoint.
    pub driver_options: BTreeMap<String, String>,
    /// Which network gives the default gateway: the highest wins.
    pub gateway_priority: i64,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A port inside the container, shown as `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortSpec {
    /// Port number.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// Why a text is not a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid port specification: {0:?}")]
pub struct ParsePortError(String);

impl FromStr for PortSpec {
    type Err = ParsePortError;

    /// Reads `80`, `80/tcp`, `53/UDP`.
    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        let wrong = || ParsePortError(text.to_owned());
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(wrong()),
        };
        Ok(Self { port: port.parse().map_err(|_| wrong())?, protocol })
    }
}

/// A wish to reach a container's port from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPublish {
    /// The port inside.
    pub container_port: PortSpec,
    /// Address of the host to listen on; `None` is the daemon's default, all of both families.
    pub host_ip: Option<IpAddr>,
    /// Ports of the host, inclusive, the first free of which is taken; `None` draws one at random.
    pub host_ports: Option<(u16, u16)>,
}
