//! Bridge networks: one Linux bridge for each network, one veth pair for each endpoint.
//!
//! Start reading at [`setup`] and [`join`]. A bridge that the user made beforehand is used and never removed; ours
//! carry the device group of `netlink/link.rs`. What may pass between bridges is the firewall's business; what may
//! pass inside one (icc) is the firewall's where bridged packets can be sent through it (br_netfilter), and otherwise
//! a property of the bridge's ports.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::OnceLock;

use ipnet::IpNet;
use shoal_types::NetworkId;

use super::{LoopbackPublishing, link_index, route_socket};
use crate::error::{NetError, Result};
use crate::firewall::Family;
use crate::firewall::rules::gateway_mode;
use crate::netlink::codec::Batch;
use crate::netlink::link::{BridgeFilter, GROUP, Ipv6, Link, PortMode, Veth};
use crate::netlink::{Socket, addr, existing_is_fine, link, missing_is_fine, neigh};
use crate::spec::{BridgeSpec, Endpoint, GatewayMode, Icc, IfName, Masquerade, Reach};
use crate::sysctl;

/// The kernel has no IPv6 on interfaces with a smaller MTU, nor settings of it (RFC 8200, section 5).
const IPV6_MIN_MTU: u32 = 1280;

/// Creates the bridge with its addresses and settings, or completes it.
pub(super) fn setup(spec: &BridgeSpec, loopback: LoopbackPublishing) -> Result<()> {
    let mut socket = route_socket()?;
    let bridge = ensure_bridge(&mut socket, spec)?;
    set_sysctls(spec, loopback)?;
    ensure_addresses(&mut socket, spec, &bridge)
}

/// Removes the bridge if it is ours.
pub(super) fn teardown(spec: &BridgeSpec) -> Result<()> {
    let mut socket = route_socket()?;
    let failed = || NetError::kernel(format!("delete bridge {}", spec.bridge));
    match link::find(&mut socket, &spec.bridge).map_err(failed())? {
        Some(found) if found.kind == "bridge" && found.group == GROUP => {
            link::delete(&mut socket, &spec.bridge).map_err(failed())
        }
        _ => Ok(()),
    }
}

/// What joining needs to know of the node's namespace, read before the calling thread leaves it.
#[derive(Debug)]
pub(super) struct Port {
    bridge: u32,
    mode: Option<PortMode>,
    ipv6: Ipv6,
}

/// Looks at the bridge; on a thread of the node's namespace.
///
/// Few files under /proc/sys are read: each look-up there gets dearer with every namespace of the machine.
pub(super) fn prepare(host: &mut Socket, spec: &BridgeSpec) -> Result<Port> {
    let mode = match (spec.icc, bridge_filter()) {
        (Icc::Denied, BridgeFiltering::Unavailable) => Some(PortMode::Isolated),
        (Icc::Denied, BridgeFiltering::Off) | (_, BridgeFiltering::On) => Some(PortMode::Open),
        (Icc::Allowed, BridgeFiltering::Off | BridgeFiltering::Unavailable) => None,
    };
    Ok(Port { bridge: link_index(host, &spec.bridge)?, mode, ipv6: node_ipv6() })
}

/// Creates the veth pair: one end on the bridge, the other in the container's namespace.
pub(super) fn join(
    host: &mut Socket,
    spec: &BridgeSpec,
    port: &Port,
    endpoint: &Endpoint,
    netns: BorrowedFd<'_>,
) -> Result<()> {
    let name = endpoint
        .host_ifname
        .as_ref()
        .ok_or(NetError::NotSupported("a bridge endpoint without a host end"))?;
    let veth = Veth {
        host: name,
        peer: &endpoint.ifname,
        peer_mac: endpoint.mac,
        netns,
        master: port.bridge,
        mtu: spec.mtu,
        ipv6: if spec.mtu.is_some_and(|mtu| mtu < IPV6_MIN_MTU) { Ipv6::Absent } else { port.ipv6 },
    };
    let mut batch = Batch::default();
    link::add_veth(&mut batch, &veth, port.mode);
    for address in endpoint.addresses.iter().map(IpNet::addr).filter(|address| has_address(spec, *address)) {
        neigh::set(&mut batch, port.bridge, address, endpoint.mac);
    }
    let mut outcome = host.run_all(&batch);
    if outcome.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EEXIST)) {
        // The endpoint's former interface: its namespace is still being taken apart, or a crash left it.
        let _ = link::delete(host, name);
        outcome = host.run_all(&batch);
    }
    if outcome.is_err() {
        let _ = link::delete(host, name);
    }
    outcome.map_err(NetError::kernel(format!("create veth pair {name} on bridge {}", spec.bridge)))
}

/// The addresses that the bridge itself has.
pub(crate) fn bridge_addresses(spec: &BridgeSpec) -> Vec<IpNet> {
    let wanted = |address: IpAddr| {
        let inhibited = address.is_ipv4() && spec.inhibit_ipv4;
        !inhibited && gateway_mode(spec, Family::of(address)) != GatewayMode::Isolated
    };
    spec.subnets
        .iter()
        .filter_map(|subnet| subnet.gateway.map(|gateway| (gateway, subnet.subnet.prefix_len())))
        .filter(|(gateway, _)| wanted(*gateway))
        .filter_map(|(gateway, prefix)| IpNet::new(gateway, prefix).ok())
        .collect()
}

/// Name of an endpoint's end on the node: `veth` and eleven digits of the endpoint's id.
pub(crate) fn host_interface(endpoint: &shoal_types::EndpointId) -> Result<IfName> {
    format!("veth{}", &endpoint.short()[..11]).parse()
}

/// A neighbour entry needs IPv6 on the bridge, or an address in the subnet.
fn has_address(spec: &BridgeSpec, address: IpAddr) -> bool {
    bridge_addresses(spec).iter().any(|net| net.contains(&address))
}

fn ensure_bridge(socket: &mut Socket, spec: &BridgeSpec) -> Result<Link> {
    let name = &spec.bridge;
    let failed = || NetError::kernel(format!("create bridge {name}"));
    let filter = if spec.icc == Icc::Denied && bridge_filter_available() {
        BridgeFilter::IpTables
    } else {
        BridgeFilter::Default
    };
    if spec.icc == Icc::Denied && filter == BridgeFilter::Default {
        tracing::debug!(bridge = %name, "br_netfilter is not loaded, containers are isolated by bridge ports");
    }
    let mut batch = Batch::default();
    match link::find(socket, name).map_err(failed())? {
        Some(found) if found.kind != "bridge" => {
            return Err(NetError::WrongInterfaceKind { name: name.to_string(), expected: "bridge" });
        }
        Some(found) => link::set_bridge(&mut batch, found.index, spec.mtu, filter),
        None => link::add_bridge(&mut batch, name, spec.mtu, filter),
    }
    existing_is_fine(socket.run_all(&batch)).map_err(failed())?;
    link::find(socket, name)
        .map_err(failed())?
        .ok_or_else(|| NetError::WrongInterfaceKind { name: name.to_string(), expected: "bridge" })
}

fn set_sysctls(spec: &BridgeSpec, loopback: LoopbackPublishing) -> Result<()> {
    let name = spec.bridge.as_str();
    let v4 = |setting| sysctl::interface_key("net.ipv4.conf", name, setting);
    let v6 = |setting| sysctl::interface_key("net.ipv6.conf", name, setting);
    if loopback == LoopbackPublishing::Translated && spec.reach == Reach::External {
        sysctl::ensure(&v4("route_localnet"), "1")?;
    }
    if spec.icc == Icc::Denied && !bridge_filter_available() {
        // Linked containers on isolated ports reach each other through the node, which answers for all of them.
        sysctl::ensure(&v4("proxy_arp_pvlan"), "1")?;
        sysctl::ensure(&v4("send_redirects"), "0")?;
    }
    let has_v6 = spec.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv6());
    // A machine that was booted without IPv6 has no such settings, and nothing to switch off.
    if sysctl::read(&v6("disable_ipv6")).is_some() {
        sysctl::ensure(&v6("disable_ipv6"), if has_v6 { "0" } else { "1" })?;
        sysctl::ensure(&v6("accept_ra"), "0")?;
    }
    Ok(())
}

fn ensure_addresses(socket: &mut Socket, spec: &BridgeSpec, bridge: &Link) -> Result<()> {
    let failed = || NetError::kernel(format!("set addresses of bridge {}", spec.bridge));
    let wanted = bridge_addresses(spec);
    let present = addr::list(socket).map_err(failed())?;
    let present = present.into_iter().filter(|(index, _)| *index == bridge.index).map(|(_, net)| net);
    let mut batch = Batch::default();
    for surplus in present.filter(|net| !wanted.contains(net) && !addr::is_link_local(net.addr())) {
        // A bridge that the user made may have addresses of its own.
        if bridge.group == GROUP {
            addr::remove(&mut batch, bridge.index, surplus);
        }
    }
    for net in wanted {
        addr::add(&mut batch, bridge.index, net);
    }
    socket.run(&batch).map_err(failed())?.into_iter().try_for_each(missing_is_fine).map_err(failed())
}

/// Whether bridged packets pass the IP firewall on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BridgeFiltering {
    /// br_netfilter is not loaded.
    Unavailable,
    /// Only on bridges that ask for it.
    Off,
    /// On every bridge.
    On,
}

fn bridge_filter() -> BridgeFiltering {
    let value = |family: &str| sysctl::read(&format!("net.bridge.bridge-nf-call-{family}"));
    match value("iptables").as_deref() {
        None => BridgeFiltering::Unavailable,
        Some("0") if value("ip6tables").is_none_or(|value| value == "0") => BridgeFiltering::Off,
        Some(_) => BridgeFiltering::On,
    }
}

fn bridge_filter_available() -> bool {
    bridge_filter() != BridgeFiltering::Unavailable
}

/// A machine has IPv6 from boot or never.
fn node_ipv6() -> Ipv6 {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    if *PRESENT.get_or_init(|| Path::new("/proc/sys/net/ipv6").exists()) {
        Ipv6::Present
    } else {
        Ipv6::Absent
    }
}

/// Name of a network's bridge when the user gave none: `br-` and the first twelve characters of the id.
pub fn default_bridge_name(network: &NetworkId) -> Result<IfName> {
    format!("br-{}", network.short()).parse()
}

/// The driver options of a bridge network, parsed from Docker's option names.
///
/// Options that are not the bridge driver's are left for others to judge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BridgeOptions {
    /// `com.docker.network.bridge.name`
    pub bridge: Option<IfName>,
    /// `com.docker.network.bridge.enable_icc`
    pub icc: Option<Icc>,
    /// `com.docker.network.bridge.enable_ip_masquerade`
    pub masquerade: Option<Masquerade>,
    /// `com.docker.network.bridge.host_binding_ipv4`
    pub host_binding_ipv4: Option<IpAddr>,
    /// `com.docker.network.bridge.gateway_mode_ipv4`
    pub gateway_mode_v4: GatewayMode,
    /// `com.docker.network.bridge.gateway_mode_ipv6`
    pub gateway_mode_v6: GatewayMode,
    /// `com.docker.network.bridge.inhibit_ipv4`
    pub inhibit_ipv4: bool,
    /// `com.docker.network.bridge.trusted_host_interfaces`, separated by colons
    pub trusted_host_interfaces: Vec<IfName>,
    /// `com.docker.network.driver.mtu`
    pub mtu: Option<u32>,
    /// `com.docker.network.container_iface_prefix`
    pub container_iface_prefix: Option<String>,
    /// `com.docker.network.host_ipv4`
    pub host_ipv4: Option<IpAddr>,
    /// `com.docker.network.host_ipv6`
    pub host_ipv6: Option<IpAddr>,
}

impl BridgeOptions {
    /// Parses Docker's option map; an unknown value of a known option is an error.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self> {
        let mut parsed = Self::default();
        for (name, value) in options {
            parsed.set(name, value)?;
        }
        Ok(parsed)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let wrong = || NetError::InvalidOption { option: name.to_owned(), value: value.to_owned() };
        match name {
            "com.docker.network.bridge.name" => self.bridge = Some(value.parse()?),
            "com.docker.network.bridge.enable_icc" => {
                self.icc =
                    Some(if parse_switch(value).ok_or_else(wrong)? { Icc::Allowed } else { Icc::Denied });
            }
            "com.docker.network.bridge.enable_ip_masquerade" => {
                let on = parse_switch(value).ok_or_else(wrong)?;
                self.masquerade = Some(if on { Masquerade::On } else { Masquerade::Off });
            }
            "com.docker.network.bridge.host_binding_ipv4" => {
                self.host_binding_ipv4 = Some(value.parse().map_err(|_| wrong())?);
            }
            "com.docker.network.bridge.gateway_mode_ipv4" => {
                self.gateway_mode_v4 = parse_mode(value).ok_or_else(wrong)?;
            }
            "com.docker.network.bridge.gateway_mode_ipv6" => {
                self.gateway_mode_v6 = parse_mode(value).ok_or_else(wrong)?;
            }
            "com.docker.network.bridge.inhibit_ipv4" => {
                self.inhibit_ipv4 = parse_switch(value).ok_or_else(wrong)?;
            }
            "com.docker.network.bridge.trusted_host_interfaces" => {
                self.trusted_host_interfaces = value
                    .split(':')
                    .filter(|part| !part.is_empty())
                    .map(str::parse)
                    .collect::<Result<_>>()?;
            }
            "com.docker.network.driver.mtu" => {
                self.mtu = match value.parse().map_err(|_| wrong())? {
                    0 => None,
                    mtu => Some(mtu),
                };
            }
            "com.docker.network.container_iface_prefix" => {
                self.container_iface_prefix = Some(value.to_owned());
            }
            "com.docker.network.host_ipv4" => self.host_ipv4 = Some(value.parse().map_err(|_| wrong())?),
            "com.docker.network.host_ipv6" => self.host_ipv6 = Some(value.parse().map_err(|_| wrong())?),
            _ => {}
        }
        Ok(())
    }
}

/// Reads a boolean as Go's `strconv.ParseBool` does, which is what Docker uses for option values.
fn parse_switch(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn parse_mode(value: &str) -> Option<GatewayMode> {
    match value {
        "" | "nat" => Some(GatewayMode::Nat),
        "nat-unprotected" => Some(GatewayMode::NatUnprotected),
        "routed" => Some(GatewayMode::Routed),
        "isolated" => Some(GatewayMode::Isolated),
        _ => None,
    }
}
