//! What the engine asks for: networks, sandboxes, endpoints, published ports; and what it gets back.
//!
//! Start reading at [`SandboxSpec`] (the whole desired network state of one container) and [`Sandbox`] (what came of
//! it). Specs are rebuilt by the engine from its own records whenever it needs them; the results are serialisable and
//! are persisted by the engine, which hands them back after a restart. No IO and no decisions here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use shoal_types::{EndpointId, NetworkId, SandboxId};

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

/// Name of a network interface, as the kernel accepts it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(Arc<str>);

impl IfName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        // IFNAMSIZ is 16 with the terminating zero; dev_valid_name() refuses the characters below.
        let fits = (1..=15).contains(&text.len()) && text != "." && text != "..";
        let clean = !text.chars().any(|c| c == '/' || c == ':' || c.is_ascii_whitespace() || c == '\0');
        if fits && clean {
            Ok(Self(text.into()))
        } else {
            Err(NetError::InvalidInterfaceName(text.to_owned()))
        }
    }
}

impl TryFrom<String> for IfName {
    type Error = NetError;

    fn try_from(text: String) -> Result<Self, NetError> {
        text.parse()
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hardware address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// What stands before the IPv4 address in a hardware address that was made of one, as Docker has it.
    pub(crate) const DERIVED_PREFIX: [u8; 2] = [0x02, 0x42];

    /// The address of an endpoint that requested none: `02:42` and the IPv4 address, or random without one.
    ///
    /// An address that is used again then has the hardware address that neighbours remember for it, and a new container
    /// need not shout its own at all the others of the network. Docker did so until version 28.
    pub fn for_addresses(addresses: &[IpNet]) -> Self {
        let v4 =
            addresses.iter().find_map(|net| if let IpAddr::V4(v4) = net.addr() { Some(v4) } else { None });
        v4.map_or_else(Self::random, |address| {
            let [a, b, c, d] = address.octets();
            let [e, f] = Self::DERIVED_PREFIX;
            Self([e, f, a, b, c, d])
        })
    }

    /// A random locally administered unicast address.
    pub fn random() -> Self {
        let mut bytes: [u8; 6] = rand::random();
        bytes[0] = (bytes[0] & 0b1111_1100) | 0b0000_0010;
        Self(bytes)
    }
}

impl FromStr for MacAddr {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let wrong = || NetError::InvalidMac(text.to_owned());
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = NetError;

    fn try_from(text: String) -> Result<Self, NetError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_held_to_the_kernels_rules() {
        for good in ["eth0", "br-0123456789ab", "a", "x.y"] {
            assert!(good.parse::<IfName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "0123456789abcdef"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hardware_addresses_parse_and_print() {
        let mac: MacAddr = "02:42:AC:11:00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        for bad in ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "2:42:ac:11:0:2", "zz:42:ac:11:00:02"] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hardware_addresses_follow_the_ipv4_address() {
        let addresses = ["fd00::2/64", "172.17.0.2/16"].map(|net| net.parse().unwrap());
        assert_eq!(MacAddr::for_addresses(&addresses).to_string(), "02:42:ac:11:00:02");
        assert_ne!(MacAddr::for_addresses(&addresses[..1]), MacAddr::for_addresses(&addresses[..1]));
    }

    #[test]
    fn random_hardware_addresses_are_local_and_unicast() {
        for _ in 0..64 {
            assert_eq!(MacAddr::random().0[0] & 0b11, 0b10);
        }
    }
}
