//! The networks that are always there: `bridge`, `host` and `none`.
//!
//! Start reading at [`wanted`]. Their ids are kept in the table so that they survive a restart; everything else is
//! made anew from the daemon's settings, because those may have changed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use overlay_net::ipam::{Family, GatewayRequest, PoolRequest, SubnetRequest};
use shoal_types::NetworkId;
use shoal_types::network::{Network, NetworkSpec};

use super::{DEFAULT_BRIDGE, DefaultBridge, HOST, NONE, NetworkConfig};
use crate::error::NodeError;

/// Names under which Docker keeps the addresses that containers on the default bridge get as gateways, IPv4 and IPv6.
pub(super) const DEFAULT_GATEWAYS: [&str; 2] = ["DefaultGatewayIPv4", "DefaultGatewayIPv6"];

/// Whether a name belongs to a network that users can neither make nor remove.
pub(super) fn is_name(name: &str) -> bool {
    matches!(name, DEFAULT_BRIDGE | HOST | NONE)
}

/// A predefined network that has no subnets yet.
#[derive(Debug)]
pub(super) struct Predefined {
    /// The network.
    pub(super) network: Network,
    /// The subnets to reserve for it.
    pub(super) pools: Vec<PoolRequest>,
}

/// What the settings want, with the identities that the table remembers.
pub(super) fn wanted(
    config: &NetworkConfig,
    known: &BTreeMap<String, (NetworkId, Timestamp)>,
) -> Vec<Predefined> {
    let make = |name: &str, driver: &str, options: BTreeMap<String, String>| {
        let (id, created) =
            known.get(name).cloned().unwrap_or_else(|| (NetworkId::random_local(), Timestamp::now()));
        let spec = NetworkSpec {
            name: name.to_owned(),
            driver: driver.to_owned(),
            options,
            ipv4: Some(true),
            ipv6: Some(false),
            ..NetworkSpec::default()
        };
        Network { id, spec, created }
    };
    let mut all = vec![
        Predefined { network: make(NONE, "null", BTreeMap::new()), pools: Vec::new() },
        Predefined { network: make(HOST, "host", BTreeMap::new()), pools: Vec::new() },
    ];
    if let Some(bridge) = &config.default_bridge {
        let mut network = make(DEFAULT_BRIDGE, "bridge", bridge_options(bridge));
        network.spec.ipv6 = Some(bridge.ipv6);
        all.push(Predefined { network, pools: bridge_pools(bridge) });
    }
    all
}

/// Why the daemon cannot start, in dockerd's words.
pub(super) fn failed(name: &str, error: &NodeError) -> NodeError {
    NodeError::Refused {
        kind: error.kind(),
        message: format!(
            "Error initializing network controller: error creating default {name:?} network: {}",
            error.message()
        ),
    }
}

/// The options that inspect shows for the default bridge, which are also those that the driver reads.
fn bridge_options(bridge: &DefaultBridge) -> BTreeMap<String, String> {
    let options = [
        ("com.docker.network.bridge.default_bridge", "true".to_owned()),
        ("com.docker.network.bridge.enable_icc", bridge.icc.to_string()),
        ("com.docker.network.bridge.enable_ip_masquerade", bridge.masquerade.to_string()),
        ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
        ("com.docker.network.bridge.name", bridge.interface.clone()),
        ("com.docker.network.driver.mtu", bridge.mtu.unwrap_or(1500).to_string()),
    ];
    options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn bridge_pools(bridge: &DefaultBridge) -> Vec<PoolRequest> {
    let mut v4 = PoolRequest::automatic(Family::V4);
    if let Some(subnet) = bridge.address.or(bridge.range) {
        v4.subnet = SubnetRequest::Given(subnet.trunc());
    }
    if let Some(address) = bridge.address {
        v4.gateway = GatewayRequest::Given(address.addr());
    }
    v4.ip_range = bridge.range.map(|range| range.trunc());
    let [name_v4, name_v6] = DEFAULT_GATEWAYS;
    v4.aux.extend(bridge.gateway.map(|gateway| (name_v4.to_owned(), gateway)));
    let mut pools = vec![v4];
    if bridge.ipv6 {
        let mut v6 = PoolRequest::automatic(Family::V6);
        if let Some(subnet) = bridge.address_v6.or(bridge.subnet_v6) {
            v6.subnet = SubnetRequest::Given(subnet.trunc());
        }
        if let Some(address) = bridge.address_v6 {
            v6.gateway = GatewayRequest::Given(address.addr());
        }
        v6.ip_range = bridge.subnet_v6.map(|range| range.trunc());
        v6.aux.extend(bridge.gateway_v6.map(|gateway| (name_v6.to_owned(), gateway)));
        pools.push(v6);
    }
    pools
}
