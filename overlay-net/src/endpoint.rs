//! Joins a sandbox to a network: which interface name, which gateway, and the settings inside the namespace.
//!
//! Start reading at [`choose_gateway`] and [`assign_names`] (PURE) and at [`configure`] (inside the namespace). Making
//! the interface itself is the driver's business.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::{NetError, Result};
use crate::firewall::Family;
use crate::firewall::rules::gateway_mode;
use crate::netlink::codec::Batch;
use crate::netlink::{Socket, addr, link, route};
use crate::overlay::spec::OverlaySubnet;
use crate::spec::{
    DriverSpec, Endpoint, EndpointSpec, GatewayMode, IfName, MacAddr, NetworkSpec, Reach, SubnetSpec,
};
use crate::sysctl;

/// Which endpoint provides the default route of one family, and its next hop.
///
/// The highest priority wins, then the network's name in lexical order (moby, `endpoint.go` Less). Internal networks
/// and isolated bridges never do.
pub(crate) fn choose_gateway(endpoints: &[EndpointSpec], family: Family) -> Option<(usize, IpAddr)> {
    endpoints
        .iter()
        .enumerate()
        .filter_map(|(index, endpoint)| next_hop(endpoint, family).map(|gateway| (index, endpoint, gateway)))
        .min_by(|(_, a, _), (_, b, _)| {
            b.gateway_priority.cmp(&a.gateway_priority).then_with(|| a.network.name.cmp(&b.network.name))
        })
        .map(|(index, _, gateway)| (index, gateway))
}

fn next_hop(endpoint: &EndpointSpec, family: Family) -> Option<IpAddr> {
    let own = endpoint.addresses.iter().map(IpNet::addr).find(|address| Family::of(*address) == family)?;
    let in_subnet = |subnets: &[SubnetSpec]| {
        subnets.iter().find(|s| s.subnet.contains(&own)).and_then(|s| s.next_hop.or(s.gateway))
    };
    match &endpoint.network.driver {
        DriverSpec::Bridge(bridge) if bridge.reach == Reach::External => {
            let mode = gateway_mode(bridge, family);
            in_subnet(&bridge.subnets).filter(|_| mode != GatewayMode::Isolated)
        }
        DriverSpec::Macvlan(macvlan) if macvlan.reach == Reach::External => in_subnet(&macvlan.subnets),
        DriverSpec::Bridge(_)
        | DriverSpec::Macvlan(_)
        | DriverSpec::Overlay(_)
        | DriverSpec::Host
        | DriverSpec::None => None,
    }
}

/// How ports of a container on that network are published; absent where the node cannot publish any.
pub(crate) fn published_mode(network: &NetworkSpec, family: Family) -> Option<GatewayMode> {
    match &network.driver {
        DriverSpec::Bridge(bridge) if bridge.reach == Reach::External => Some(gateway_mode(bridge, family)),
        DriverSpec::Bridge(_)
        | DriverSpec::Macvlan(_)
        | DriverSpec::Overlay(_)
        | DriverSpec::Host
        | DriverSpec::None => None,
    }
}

/// The name of each endpoint's interface: kept, requested, or the first free number behind the network's prefix.
pub(crate) fn assign_names(endpoints: &[EndpointSpec], previous: &[Endpoint]) -> Result<Vec<IfName>> {
    let kept = |spec: &EndpointSpec| {
        previous.iter().find(|endpoint| endpoint.id == spec.id).map(|e| e.ifname.clone())
    };
    let fixed: Vec<Option<IfName>> =
        endpoints.iter().map(|spec| kept(spec).or_else(|| spec.ifname.clone())).collect();
    let mut taken = BTreeSet::new();
    for name in fixed.iter().flatten() {
        if !taken.insert(name.clone()) {
            return Err(NetError::InterfaceNameTaken(name.to_string()));
        }
    }
    fixed
        .into_iter()
        .zip(endpoints)
        .map(|(fixed, spec)| match fixed {
            Some(name) => Ok(name),
            None => {
                let name = first_free(prefix(spec), &taken)?;
                taken.insert(name.clone());
                Ok(name)
            }
        })
        .collect()
}

fn prefix(spec: &EndpointSpec) -> &str {
    match &spec.network.driver {
        DriverSpec::Bridge(bridge) => &bridge.container_iface_prefix,
        DriverSpec::Macvlan(macvlan) => &macvlan.container_iface_prefix,
        DriverSpec::Overlay(overlay) => &overlay.container_iface_prefix,
        DriverSpec::Host | DriverSpec::None => "eth",
    }
}

fn first_free(prefix: &str, taken: &BTreeSet<IfName>) -> Result<IfName> {
    (0u32..)
        .map(|number| format!("{prefix}{number}").parse::<IfName>())
        .find(|name| name.as_ref().map_or(true, |name| !taken.contains(name)))
        .unwrap_or_else(|| Err(NetError::InvalidInterfaceName(prefix.to_owned())))
}

/// The settings of an endpoint with the interface's name put in, checked to concern that interface only.
pub(crate) fn endpoint_sysctls(spec: &EndpointSpec, ifname: &IfName) -> Result<Vec<(String, String)>> {
    spec.sysctls.iter().map(|setting| endpoint_sysctl(setting, ifname)).collect()
}

fn endpoint_sysctl(setting: &str, ifname: &IfName) -> Result<(String, String)> {
    let wrong = || NetError::InvalidEndpointSysctl(setting.to_owned());
    let (key, value) = setting.split_once('=').ok_or_else(wrong)?;
    let parts: Vec<&str> = key.split('.').collect();
    match parts.as_slice() {
        ["net", family, table, "IFNAME" | "ifname", name] if !name.is_empty() => {
            let key = sysctl::interface_key(&format!("net.{family}.{table}"), ifname.as_str(), name);
            Ok((key, value.to_owned()))
        }
        _ => Err(wrong()),
    }
}

/// The way from an endpoint of an overlay network to the network's other subnets: their next hop is the bridge.
pub(crate) fn segment_routes(spec: &EndpointSpec) -> Vec<(IpNet, IpAddr)> {
    let DriverSpec::Overlay(overlay) = &spec.network.driver else { return Vec::new() };
    let own = |subnet: &OverlaySubnet| spec.addresses.iter().any(|net| subnet.subnet.contains(&net.addr()));
    let next_hop = |v4: bool| {
        let here = overlay.subnets.iter().find(|subnet| own(subnet) && subnet.subnet.addr().is_ipv4() == v4);
        here.and_then(|subnet| subnet.gateway)
    };
    let others = overlay.subnets.iter().filter(|subnet| !own(subnet)).map(|subnet| subnet.subnet);
    others.filter_map(|subnet| Some((subnet, next_hop(subnet.addr().is_ipv4())?))).collect()
}

/// Gives a fresh interface its addresses and settings and sets it up; inside the container's namespace.
pub(crate) fn configure(
    socket: &mut Socket,
    endpoint: &Endpoint,
    sysctls: &[(String, String)],
    routes: &[(IpNet, IpAddr)],
) -> Result<()> {
    let name = &endpoint.ifname;
    let index = crate::driver::link_index(socket, name)?;
    let has = |family| endpoint.addresses.iter().any(|net| Family::of(net.addr()) == family);
    // Neighbours may remember another hardware address for an address that was in use before; they are told when the
    // interface comes up. A hardware address made of the IPv4 address needs no telling.
    if has(Family::V4) && endpoint.mac != MacAddr::for_addresses(&endpoint.addresses) {
        sysctl::write(&sysctl::interface_key("net.ipv4.conf", name.as_str(), "arp_notify"), "1")?;
    }
    if has(Family::V6) {
        sysctl::write(&sysctl::interface_key("net.ipv6.conf", name.as_str(), "disable_ipv6"), "0")?;
        sysctl::write(&sysctl::interface_key("net.ipv6.conf", name.as_str(), "ndisc_notify"), "1")?;
    }
    for (key, value) in sysctls {
        sysctl::write(key, value)?;
    }
    let mut batch = Batch::default();
    for &net in &endpoint.addresses {
        addr::add(&mut batch, index, net);
    }
    link::set_up(&mut batch, index);
    for &(destination, next_hop) in routes {
        route::add(&mut batch, index, destination, next_hop);
    }
    socket.run_all(&batch).map_err(NetError::kernel(format!("configure interface {name}")))
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
