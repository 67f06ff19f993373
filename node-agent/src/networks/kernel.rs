//! From a network's record to what overlay-net is given. PURE.
//!
//! Start reading at [`network_spec`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use overlay_net::driver::bridge::{BridgeOptions, default_bridge_name};
use overlay_net::ipam::PoolRecord;
use overlay_net::{
    BridgeSpec, DriverSpec, GatewayMode, Icc, IfName, MacvlanMode, MacvlanSpec, Masquerade, NetError, Reach,
    SubnetSpec,
};
use shoal_types::cluster::overlay::OverlayNetwork;
use shoal_types::network::Network;

use super::overlay::form::overlay_spec;
use super::predefined::DEFAULT_GATEWAYS;
use super::{DirectRouting, NetworkConfig};
use crate::error::NodeError;

/// First part of interface names in containers.
const DEFAULT_IFACE_PREFIX: &str = "eth";

/// What the mechanism needs to know of a network.
pub(super) fn network_spec(
    network: &Network,
    pools: &[PoolRecord],
    config: &NetworkConfig,
) -> Result<overlay_net::NetworkSpec, NodeError> {
    let driver = match network.spec.driver.as_str() {
        "host" => DriverSpec::Host,
        "null" => DriverSpec::None,
        "macvlan" => DriverSpec::Macvlan(macvlan(network, pools)?),
        _ => DriverSpec::Bridge(bridge(network, pools, config)?),
    };
    Ok(overlay_net::NetworkSpec { id: network.id.clone(), name: network.spec.name.clone(), driver })
}

/// Likewise of a network that spans nodes. `vtep` is this node's end of the tunnels.
pub(super) fn overlay_network_spec(
    told: &OverlayNetwork,
    vtep: IpAddr,
) -> Result<overlay_net::NetworkSpec, NodeError> {
    let driver = DriverSpec::Overlay(overlay_spec(told, vtep)?);
    let network = &told.network;
    Ok(overlay_net::NetworkSpec { id: network.id.clone(), name: network.spec.name.clone(), driver })
}

fn bridge(network: &Network, pools: &[PoolRecord], config: &NetworkConfig) -> Result<BridgeSpec, NetError> {
    let options = BridgeOptions::parse(&network.spec.options)?;
    let open = |mode: GatewayMode| match (mode, config.direct_routing) {
        (GatewayMode::Nat, DirectRouting::Allowed) => GatewayMode::NatDirect,
        (mode, _) => mode,
    };
    Ok(BridgeSpec {
        bridge: match options.bridge {
            Some(name) => name,
            None => default_bridge_name(&network.id)?,
        },
        subnets: subnets(pools),
        reach: reach(network),
        gateway_mode_v4: open(options.gateway_mode_v4),
        gateway_mode_v6: open(options.gateway_mode_v6),
        icc: options.icc.unwrap_or(Icc::Allowed),
        masquerade: options.masquerade.unwrap_or(Masquerade::On),
        host_ipv4: options.host_ipv4,
        host_ipv6: options.host_ipv6,
        default_binding: default_binding(options.host_binding_ipv4, config.publish_ip),
        mtu: options.mtu,
        container_iface_prefix: options
            .container_iface_prefix
            .unwrap_or_else(|| DEFAULT_IFACE_PREFIX.to_owned()),
        inhibit_ipv4: options.inhibit_ipv4,
        trusted_host_interfaces: options.trusted_host_interfaces,
    })
}

/// The network's own binding, else the daemon's; an unspecified one means all addresses of both families.
fn default_binding(of_network: Option<IpAddr>, of_daemon: Option<IpAddr>) -> Vec<IpAddr> {
    match of_network.filter(|address| !address.is_unspecified()).or(of_daemon) {
        Some(address) => vec![address],
        None => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
    }
}

fn macvlan(network: &Network, pools: &[PoolRecord]) -> Result<MacvlanSpec, NetError> {
    let option =
        |name: &str| network.spec.options.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let invalid = |name: &str, value: &str| NetError::InvalidOption {
        option: name.to_owned(),
        value: value.to_owned(),
    };
    let mode = match option("macvlan_mode") {
        None | Some("bridge") => MacvlanMode::Bridge,
        Some("private") => MacvlanMode::Private,
        Some("vepa") => MacvlanMode::Vepa,
        Some("passthru") => MacvlanMode::Passthru,
        Some(other) => return Err(invalid("macvlan_mode", other)),
    };
    let parent = option("parent").map(str::parse::<IfName>).transpose()?;
    let mtu = option("com.docker.network.driver.mtu")
        .map(|value| value.parse().map_err(|_| invalid("com.docker.network.driver.mtu", value)))
        .transpose()?;
    // Without a parent there is only a dummy, which leads nowhere.
    let reach = if parent.is_none() { Reach::Internal } else { reach(network) };
    Ok(MacvlanSpec {
        parent,
        mode,
        subnets: subnets(pools),
        reach,
        mtu,
        container_iface_prefix: option("com.docker.network.container_iface_prefix")
            .unwrap_or(DEFAULT_IFACE_PREFIX)
            .to_owned(),
    })
}

fn reach(network: &Network) -> Reach {
    if network.spec.internal { Reach::Internal } else { Reach::External }
}

fn subnets(pools: &[PoolRecord]) -> Vec<SubnetSpec> {
    let next_hop = |pool: &PoolRecord| DEFAULT_GATEWAYS.iter().find_map(|name| pool.aux.get(*name).copied());
    let spec = |pool: &PoolRecord| SubnetSpec {
        subnet: pool.subnet,
        gateway: pool.gateway,
        next_hop: next_hop(pool),
    };
    pools.iter().map(spec).collect()
}

/// Whether a network is a bridge whose interface has this name.
pub(super) fn has_bridge(spec: &overlay_net::NetworkSpec, name: &IfName) -> bool {
    matches!(&spec.driver, DriverSpec::Bridge(bridge) if bridge.bridge == *name)
}

/// The gateway of each family that a network gives a container with these addresses: that of the subnet of each.
pub(super) fn next_hops(
    spec: &overlay_net::NetworkSpec,
    addresses: &[IpNet],
) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let is_of = |subnet: &SubnetSpec| addresses.iter().any(|net| subnet.subnet.contains(&net.addr()));
    first_of_each(spec, |subnet| subnet.next_hop.or(subnet.gateway).filter(|_| is_of(subnet)))
}

/// The first address of each family at which a network itself is reached.
pub(super) fn gateways(spec: &overlay_net::NetworkSpec) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    first_of_each(spec, |subnet| subnet.gateway)
}

fn first_of_each(
    spec: &overlay_net::NetworkSpec,
    address: impl Fn(&SubnetSpec) -> Option<IpAddr>,
) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let subnets: &[SubnetSpec] = match &spec.driver {
        DriverSpec::Bridge(bridge) if bridge.reach == Reach::External => &bridge.subnets,
        DriverSpec::Macvlan(macvlan) if macvlan.reach == Reach::External => &macvlan.subnets,
        DriverSpec::Bridge(_)
        | DriverSpec::Macvlan(_)
        | DriverSpec::Overlay(_)
        | DriverSpec::Host
        | DriverSpec::None => &[],
    };
    let v4 = subnets.iter().find_map(|subnet| match address(subnet) {
        Some(IpAddr::V4(gateway)) => Some(gateway),
        _ => None,
    });
    let v6 = subnets.iter().find_map(|subnet| match address(subnet) {
        Some(IpAddr::V6(gateway)) => Some(gateway),
        _ => None,
    });
    (v4, v6)
}

/// Which families of addresses endpoints of a network get.
pub(super) fn families(spec: &overlay_net::NetworkSpec) -> (bool, bool) {
    let subnets: &[SubnetSpec] = match &spec.driver {
        DriverSpec::Bridge(bridge) => &bridge.subnets,
        DriverSpec::Macvlan(macvlan) => &macvlan.subnets,
        DriverSpec::Overlay(overlay) => {
            let has = |v4| overlay.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv4() == v4);
            return (has(true), has(false));
        }
        DriverSpec::Host | DriverSpec::None => &[],
    };
    let has = |is_family: fn(&IpNet) -> bool| subnets.iter().any(|subnet| is_family(&subnet.subnet));
    (has(|net| matches!(net, IpNet::V4(_))), has(|net| matches!(net, IpNet::V6(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_shown_the_gateways_of_the_subnets_it_is_in() {
        let subnet = |subnet: &str, gateway: Option<&str>| SubnetSpec {
            subnet: subnet.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            next_hop: None,
        };
        let lan = overlay_net::NetworkSpec {
            id: shoal_types::NetworkId::random_local(),
            name: "lan".to_owned(),
            driver: DriverSpec::Macvlan(MacvlanSpec {
                parent: Some("eth0".parse().unwrap()),
                mode: MacvlanMode::Bridge,
                subnets: vec![
                    subnet("192.0.2.0/24", None),
                    subnet("198.51.100.0/24", Some("198.51.100.254")),
                    subnet("2001:db8:1::/64", Some("2001:db8:1::1")),
                    subnet("2001:db8:2::/64", Some("2001:db8:2::1")),
                ],
                reach: Reach::External,
                mtu: None,
                container_iface_prefix: "eth".to_owned(),
            }),
        };
        let hops = |addresses: &[&str]| {
            let addresses: Vec<IpNet> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            let (v4, v6) = next_hops(&lan, &addresses);
            (v4.map(|hop| hop.to_string()), v6.map(|hop| hop.to_string()))
        };
        let some = |hop: &str| Some(hop.to_owned());
        assert_eq!(hops(&["192.0.2.20/24"]), (None, None));
        assert_eq!(hops(&["192.0.2.20/24", "2001:db8:2::20/64"]), (None, some("2001:db8:2::1")));
        assert_eq!(
            hops(&["198.51.100.20/24", "2001:db8:1::20/64"]),
            (some("198.51.100.254"), some("2001:db8:1::1"))
        );
    }
}
