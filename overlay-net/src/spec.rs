//! What the engine asks for: networks, sandboxes, endpoints, published ports; and what it gets back.
//!
//! Start reading at [`SandboxSpec`] (the whole desired network state of one container) and [`Sandbox`] (what came of
//! it). Specs are rebuilt by the engine from its own records whenever it needs them; the results are serialisable and
//! are persisted by the engine, which hands them back after a restart. No IO and no decisions here.

mod names;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use shoal_types::{EndpointId, NetworkId, SandboxId};

pub use self::names::{IfName, MacAddr};
use crate::error::NetError;
use crate::overlay::spec::OverlaySpec;

/// One network, as the engine's record describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its id; also names the bridge when none is given.
    pub id: NetworkId,
    /// Its name; answers `container.name` in the embedded DNS and breaks ties of gateway priority.
    pub name: String,
    /// The mechanism behind it.
    pub driver: DriverSpec,
}

/// The mechanism behind a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverSpec {
    /// A Linux bridge of this node.
    Bridge(BridgeSpec),
    /// Sub-interfaces of a parent interface.
    Macvlan(MacvlanSpec),
    /// A segment that spans nodes, by tunnels. Containers need a second interface to reach anything else.
    Overlay(OverlaySpec),
    /// The node's own namespace.
    Host,
    /// Nothing but the loopback interface.
    None,
}

/// A bridge network with its addresses and its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// Name of the bridge interface; see [`crate::driver::bridge::default_bridge_name`].
    pub bridge: IfName,
    /// Its subnets, at most one of each family carries the gateway of the containers.
    pub subnets: Vec<SubnetSpec>,
    /// Whether containers reach anything but each other.
    pub reach: Reach,
    /// How IPv4 traffic passes between the network and the rest of the world.
    pub gateway_mode_v4: GatewayMode,
    /// How IPv6 traffic passes between the network and the rest of the world.
    pub gateway_mode_v6: GatewayMode,
    /// Whether containers of this network may talk to each other directly.
    pub icc: Icc,
    /// Whether outgoing connections take the node's address.
    pub masquerade: Masquerade,
    /// Source address of outgoing IPv4 connections instead of the outgoing interface's (`host_ipv4`).
    pub host_ipv4: Option<IpAddr>,
    /// Source address of outgoing IPv6 connections instead of the outgoing interface's (`host_ipv6`).
    pub host_ipv6: Option<IpAddr>,
    /// Host addresses that a port is published on when the request names none (`host_binding_ipv4`, daemon `--ip`).
    pub default_binding: Vec<IpAddr>,
    /// MTU of the bridge and of every endpoint; the kernel's default when absent.
    pub mtu: Option<u32>,
    /// First part of interface names in the containers, `eth` by default.
    pub container_iface_prefix: String,
    /// Leaves the bridge without an IPv4 address (`inhibit_ipv4`).
    pub inhibit_ipv4: bool,
    /// Interfaces of the host whose neighbours may reach container addresses directly.
    pub trusted_host_interfaces: Vec<IfName>,
}

/// One subnet of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    /// The subnet in canonical form.
    pub subnet: IpNet,
    /// Address of the bridge (for macvlan: of a router outside).
    pub gateway: Option<IpAddr>,
    /// The containers' next hop, if it is not the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<IpAddr>,
}

/// Whether a network leads outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Containers have a default route.
    External,
    /// `--internal`: no default route, no published ports, nothing in or out.
    Internal,
}

/// How traffic passes between a bridge network and the rest of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Address translation for published ports; nothing else gets in.
    #[default]
    Nat,
    /// Address translation for published ports, which are also open at the container's own address. No option of a network says
    /// this: it is what `--allow-direct-routing` makes of [`GatewayMode::Nat`].
    NatDirect,
    /// Address translation for published ports, and every port is reachable at the container's own address.
    NatUnprotected,
    /// No translation; published ports are open at the container's own address.
    Routed,
    /// The bridge has no address at all; for internal networks only.
    Isolated,
}

/// Whether containers of one network talk to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Icc {
    /// They do.
    Allowed,
    /// Only through published ports and links.
    Denied,
}

/// Whether outgoing connections of a network take the node's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Masquerade {
    /// They do.
    On,
    /// They keep the container's address.
    Off,
}

/// Sub-interfaces of a parent interface of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacvlanSpec {
    /// The parent, which may be `eth0.50`: the VLAN is then created; a dummy interface when absent.
    pub parent: Option<IfName>,
    /// How the sub-interfaces see each other.
    pub mode: MacvlanMode,
    /// Its subnets; gateways are routers outside this node.
    pub subnets: Vec<SubnetSpec>,
    /// Whether containers get a default route.
    pub reach: Reach,
    /// MTU of the endpoints; the parent's when absent.
    pub mtu: Option<u32>,
    /// First part of interface names in the containers.
    pub container_iface_prefix: String,
}

/// How the sub-interfaces of one parent see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MacvlanMode {
    /// Directly.
    #[default]
    Bridge,
    /// Not at all.
    Private,
    /// By way of a switch that reflects.
    Vepa,
    /// There is only one, and it owns the parent.
    Passthru,
}

/// The whole desired network state of one container.
///
/// Give the same spec again, with endpoints added or taken away, to connect or disconnect a running container.
#[derive(Debug, Clone)]
pub struct SandboxSpec {
    /// Names the namespace; stays the same for as long as the container runs.
    pub id: SandboxId,
    /// Own namespace, or the node's.
    pub mode: SandboxMode,
    /// Joins, in the order in which interfaces are numbered. Empty for `--network none`.
    pub endpoints: Vec<EndpointSpec>,
    /// Ports to publish; applied on the endpoint that is the gateway of the address family.
    pub publish: Vec<PublishSpec>,
    /// Sysctls in the container's namespace (`net.*` only), applied before any interface exists.
    pub sysctls: Vec<(String, String)>,
    /// The embedded DNS; absent on the default bridge, in host mode and without networks.
    pub resolver: Option<ResolverSpec>,
}

/// Where a container's network lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxMode {
    /// A namespace of its own.
    Private,
    /// A namespace of its own that belongs to a user namespace ([`crate::host::Config::make_remapped`]): a new one, or
    /// that of the process with this id.
    Remapped(Option<u32>),
    /// The node's namespace; endpoints and ports are ignored.
    Host,
}

/// Joins one sandbox to one network.
#[derive(Debug, Clone)]
pub struct EndpointSpec {
    /// Its id; also names the interface on the node's side.
    pub id: EndpointId,
    /// The network to join.
    pub network: Arc<NetworkSpec>,
    /// Addresses with the prefix length of their subnet, at most one of each family.
    pub addresses: Vec<IpNet>,
    /// Requested hardware address; [`MacAddr::for_addresses`] when absent.
    pub mac: Option<MacAddr>,
    /// Requested name inside the container; the next free `ethN` when absent.
    pub ifname: Option<IfName>,
    /// The highest wins the default gateway (`GwPriority`); ties by network name.
    pub gateway_priority: i64,
    /// Settings of the form `net.ipv4.conf.IFNAME.x=1`, with the literal word IFNAME.
    pub sysctls: Vec<String>,
    /// Every name that resolves to this endpoint on its network: container name, short id, hostname, aliases.
    /// The first one is the answer to reverse look-ups.
    pub names: Vec<String>,
    /// Direct connections that are let through although the network denies them (`--link` with `--icc=false`).
    pub links: Vec<LinkFlow>,
}

/// One direction of a legacy link that `icc=false` would otherwise forbid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkFlow {
    /// The container that was linked to.
    pub server: IpAddr,
    /// The port it exposes.
    pub port: u16,
    /// The protocol of that port.
    pub protocol: Protocol,
}

/// A request to make a port of a container reachable on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishSpec {
    /// Port inside the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Address of the node to publish on; the network's default binding when absent.
    pub host_ip: Option<IpAddr>,
    /// Which port of the node.
    pub host_ports: HostPorts,
}

/// Which port of the node a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPorts {
    /// Any of the kernel's ephemeral range.
    Ephemeral,
    /// The first free one, both ends included; one port when they are equal.
    Range(u16, u16),
}

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Transmission control protocol.
    Tcp,
    /// User datagram protocol.
    Udp,
    /// Stream control transmission protocol.
    Sctp,
}

impl Protocol {
    /// The protocol's number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
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

impl FromStr for Protocol {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(NetError::InvalidOption { option: "protocol".to_owned(), value: text.to_owned() }),
        }
    }
}

/// How names are answered inside one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolverSpec {
    /// Servers for names that are not ours, in order.
    pub upstreams: Vec<Upstream>,
    /// The `ndots` option when the user set one; decides about forwarding of single-label names.
    pub ndots: Option<u8>,
    /// Whether foreign names are forwarded at all.
    pub forwarding: Forwarding,
    /// Extra names that only this sandbox sees: alias and the container name it stands for.
    pub links: Vec<(String, String)>,
}

/// One external name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// From which namespace it is asked.
    pub scope: UpstreamScope,
}

/// From which namespace an upstream server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamScope {
    /// The container's, so that its routes and rules apply.
    Sandbox,
    /// The node's; for servers on the node's loopback addresses.
    Host,
}

/// Whether foreign names are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forwarding {
    /// To the upstream servers.
    #[default]
    Allowed,
    /// Never: the sandbox is joined to internal networks only; foreign names answer SERVFAIL.
    Refused,
}

/// What became of a [`SandboxSpec`]. The engine persists it and hands it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The id of the spec.
    pub id: SandboxId,
    /// Where the namespace is pinned; absent in host mode.
    pub netns: Option<PathBuf>,
    /// One for each endpoint of the spec, in its order.
    pub endpoints: Vec<Endpoint>,
    /// The ports that are reachable now.
    pub published: Vec<PublishedPort>,
}

/// What became of an [`EndpointSpec`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The id of the spec.
    pub id: EndpointId,
    /// Its network.
    pub network: NetworkId,
    /// Name of the interface inside the container.
    pub ifname: IfName,
    /// Name of the interface on the node's side; absent where the driver has none (macvlan).
    pub host_ifname: Option<IfName>,
    /// The hardware address in use.
    pub mac: MacAddr,
    /// Addresses with prefix length.
    pub addresses: Vec<IpNet>,
    /// Next hop of the IPv4 default route, when this endpoint provides it.
    pub gateway_v4: Option<Ipv4Addr>,
    /// Next hop of the IPv6 default route, when this endpoint provides it.
    pub gateway_v6: Option<Ipv6Addr>,
    /// The legacy links that the firewall lets through for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkFlow>,
}

/// One port that is reachable on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Port inside the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Address and port on the node; absent in routed mode, where the container's own address is open.
    pub host: Option<SocketAddr>,
    /// Where the connections go.
    pub target: SocketAddr,
    /// The endpoint whose address that is.
    pub endpoint: EndpointId,
}
