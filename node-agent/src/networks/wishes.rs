//! What a container may wish for at its networks. PURE.
//!
//! Start reading at [`prepare`]. Whether a network exists is looked up in the state as it is; one that does not exist
//! (yet) is kept as written, because Docker refuses it at start, not at creation.

use std::collections::BTreeMap;
use std::net::IpAddr;

use shoal_types::container::networking::{EndpointSpec, NetworkMode};
use shoal_types::container::state::EndpointStatus;
use shoal_types::network::Network;
use shoal_types::{ContainerId, NetworkId};

use super::{DEFAULT_BRIDGE, HOST, NONE, State, files, predefined};
use crate::containers::ports::{NetworkRequest, PreparedNetworks};
use crate::error::NodeError;

/// Names under which the members of a network find a container: its name, its aliases, the short id, the host name.
pub(super) fn dns_names(request: &NetworkRequest, endpoint: &EndpointSpec) -> Vec<String> {
    let short_id = request.container.short();
    let all = std::iter::once(&request.name)
        .chain(&endpoint.aliases)
        .chain([&short_id, &request.hostname])
        .filter(|name| !name.is_empty());
    let mut names: Vec<String> = Vec::new();
    for name in all {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The network of a mode; `None` when the container lives in another's namespace.
pub(super) fn primary(mode: &NetworkMode, has_default_bridge: bool) -> Option<&str> {
    match mode {
        NetworkMode::DefaultBridge if has_default_bridge => Some(DEFAULT_BRIDGE),
        NetworkMode::DefaultBridge | NetworkMode::None => Some(NONE),
        NetworkMode::Host => Some(HOST),
        NetworkMode::Network(name) => Some(name),
        NetworkMode::Container(_) => None,
    }
}

/// Checks and completes wishes: keys become names, the mode's network is always there.
pub(super) fn prepare(
    state: &State,
    request: &NetworkRequest,
    has_default_bridge: bool,
) -> Result<PreparedNetworks, NodeError> {
    let Some(primary) = primary(&request.networking.mode, has_default_bridge) else {
        return Ok(PreparedNetworks::default());
    };
    files::check_extra_hosts(&request.networking.extra_hosts)?;
    let mut endpoints = BTreeMap::new();
    for (key, endpoint) in &request.networking.endpoints {
        endpoints.insert(canonical(state, key), endpoint.clone());
    }
    let primary = canonical(state, primary);
    // Whoever names networks and no mode does not want the default one beside them.
    if endpoints.is_empty() || primary != DEFAULT_BRIDGE {
        endpoints.entry(primary).or_default();
    }
    if endpoints.len() > 1
        && let Some(exclusive) = endpoints.keys().find(|name| matches!(name.as_str(), NONE | HOST))
    {
        return Err(exclusive_network(exclusive));
    }
    let mut prepared = PreparedNetworks::default();
    for (name, endpoint) in endpoints {
        let network = state.by_name(&name).map(|entry| &entry.network);
        check_endpoint(&name, &endpoint, network)?;
        let id = network.map_or_else(|| NetworkId::new(""), |network| network.id.clone());
        prepared.statuses.insert(name.clone(), idle_status(id));
        prepared.endpoints.insert(name, endpoint);
    }
    Ok(prepared)
}

fn exclusive_network(name: &str) -> NodeError {
    if name == HOST {
        NodeError::invalid(
            "cannot connect container to host network - container must be created in host network mode",
        )
    } else {
        NodeError::invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        )
    }
}

/// The kernel parameters that a client wants for one interface.
pub(super) fn endpoint_sysctls(endpoint: &EndpointSpec) -> impl Iterator<Item = &str> {
    let list = endpoint.driver_options.get("com.docker.network.endpoint.sysctls");
    list.into_iter().flat_map(|list| list.split(','))
}

/// Whether a container does without IPv6 at this endpoint: then it gets no such address, and no name leads to one.
pub(super) fn switches_ipv6_off(request: &NetworkRequest, endpoint: &EndpointSpec) -> bool {
    const OFF: &str = "net.ipv6.conf.ifname.disable_ipv6=1";
    is_ipv6_off(request) || endpoint_sysctls(endpoint).any(|setting| setting.eq_ignore_ascii_case(OFF))
}

/// Whether a container does without IPv6 altogether.
pub(super) fn is_ipv6_off(request: &NetworkRequest) -> bool {
    let mut of_container = request.sysctls.iter();
    of_container.any(|(key, value)| key == "net.ipv6.conf.all.disable_ipv6" && value == "1")
}

/// What is known of an endpoint while its container does not run.
pub(super) fn idle_status(network_id: NetworkId) -> EndpointStatus {
    EndpointStatus {
        network_id,
        endpoint_id: None,
        ipv4: None,
        ipv4_gateway: None,
        ipv6: None,
        ipv6_gateway: None,
        mac_address: None,
        dns_names: Vec::new(),
    }
}

/// The name by which a network is kept: its own, whatever part of its id the client wrote.
pub(super) fn canonical(state: &State, key: &str) -> String {
    let key = if key == "default" { DEFAULT_BRIDGE } else { key };
    state.find(key).map_or_else(|_| key.to_owned(), |entry| entry.network.spec.name.clone())
}

/// Refuses what an endpoint cannot have at this network.
pub(super) fn check_endpoint(
    name: &str,
    endpoint: &EndpointSpec,
    network: Option<&Network>,
) -> Result<(), NodeError> {
    let addresses =
        endpoint.ipv4_address.map(IpAddr::V4).into_iter().chain(endpoint.ipv6_address.map(IpAddr::V6));
    let addresses: Vec<IpAddr> = addresses.collect();
    let wrong = |lines: String| {
        NodeError::invalid(format!("invalid config for network {name}: invalid endpoint settings:\n{lines}"))
    };
    if predefined::is_name(name) {
        if !addresses.is_empty() {
            return Err(wrong(
                "user-specified IP address is supported on user-defined networks only".to_owned(),
            ));
        }
        if !endpoint.aliases.is_empty() {
            return Err(wrong(
                "network-scoped aliases are only supported for user-defined networks".to_owned(),
            ));
        }
    }
    if let Some(mac) = &endpoint.mac_address {
        mac.parse::<overlay_net::MacAddr>().map_err(|error| wrong(error.to_string()))?;
    }
    let Some(network) = network else { return Ok(()) };
    let is_inside = |address: &IpAddr| {
        network.spec.ipam.pools.iter().any(|pool| pool.subnet.is_some_and(|subnet| subnet.contains(address)))
    };
    let outside: Vec<String> = addresses
        .iter()
        .filter(|address| !is_inside(address))
        .map(|address| format!("no configured subnet contains IP address {address}"))
        .collect();
    if outside.is_empty() { Ok(()) } else { Err(wrong(outside.join("\n"))) }
}

/// `network X has active endpoints (name:"c" id:"…")`: why a network cannot be removed.
pub(super) fn active_endpoints<'a>(
    name: &str,
    members: impl Iterator<Item = (&'a ContainerId, &'a str)>,
) -> String {
    let members: Vec<String> =
        members.map(|(id, member)| format!("name:\"{member}\" id:\"{}\"", id.short())).collect();
    format!("error while removing network: network {name} has active endpoints ({})", members.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str) -> EndpointSpec {
        EndpointSpec { ipv4_address: Some(address.parse().unwrap()), ..EndpointSpec::default() }
    }

    #[test]
    fn addresses_and_aliases_are_for_user_defined_networks() {
        let text = |endpoint: &EndpointSpec| check_endpoint("bridge", endpoint, None).unwrap_err().message();
        assert!(text(&endpoint("10.0.0.1")).contains("supported on user-defined networks only"));
        let alias = EndpointSpec { aliases: vec!["db".into()], ..EndpointSpec::default() };
        assert!(text(&alias).contains("network-scoped aliases are only supported"));
        assert!(check_endpoint("mine", &alias, None).is_ok());
    }

    #[test]
    fn an_address_must_lie_in_a_subnet_of_the_network() {
        let mut network = Network {
            id: NetworkId::new("x"),
            spec: shoal_types::network::NetworkSpec::default(),
            created: jiff::Timestamp::UNIX_EPOCH,
        };
        let pool = |subnet: &str| shoal_types::network::PoolSpec {
            subnet: Some(subnet.parse().unwrap()),
            range: None,
            gateway: None,
            auxiliary: BTreeMap::new(),
        };
        network.spec.ipam.pools = vec![pool("10.1.0.0/16")];
        assert!(check_endpoint("mine", &endpoint("10.1.2.3"), Some(&network)).is_ok());
        assert_eq!(
            check_endpoint("mine", &endpoint("10.2.2.3"), Some(&network)).unwrap_err().message(),
            "invalid config for network mine: invalid endpoint settings:\nno configured subnet contains IP address \
             10.2.2.3"
        );
    }

    #[test]
    fn a_name_stands_once_however_often_it_was_given() {
        let request = NetworkRequest {
            container: ContainerId::from_bytes([0xab; 32]),
            name: "web".into(),
            hostname: "abababababab".into(),
            domainname: String::new(),
            networking: shoal_types::container::networking::NetworkingSpec::default(),
            sysctls: Vec::new(),
            owner: crate::containers::ports::NamespaceOwner::Host,
            links: Vec::new(),
        };
        let endpoint = EndpointSpec { aliases: vec!["www".into(), "web".into()], ..EndpointSpec::default() };
        assert_eq!(dns_names(&request, &endpoint), ["web", "www", "abababababab"]);
    }
}
