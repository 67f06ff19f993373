//! Networks, ports and names of a container: what is asked for, and how it is shown.
//!
//! Start reading at [`spec`]; [`shown_endpoint`], [`ports`] and [`port_summaries`] are the way back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use node_agent::api::containers::ContainerView;
use shoal_types::container::networking::{EndpointSpec, NetworkMode, NetworkingSpec, PortPublish, PortSpec};
use shoal_types::container::state::EndpointStatus;

use crate::error::ApiError;
use crate::model::container_config::ContainerConfig;
use crate::model::container_create::NetworkingConfig;
use crate::model::container_summary::PortSummary;
use crate::model::host_config::{HostOptions, PortBinding, PortMap};
use crate::model::network_settings::{EndpointIpamConfig, EndpointSettings};

/// The name of the default bridge, and of the network mode that means it.
pub(crate) const BRIDGE: &str = "bridge";

/// The networks, ports and names that a request describes.
pub(crate) fn spec(
    config: &ContainerConfig,
    options: &HostOptions,
    networking: &NetworkingConfig,
) -> Result<NetworkingSpec, ApiError> {
    let mode = network_mode(&options.network_mode)?;
    let mut endpoints = BTreeMap::new();
    for (name, settings) in networking.endpoints_config.iter().flatten() {
        let name = if name == "default" { BRIDGE } else { name };
        let Some(settings) = settings else {
            return Err(ApiError::invalid(format!(
                "invalid config for network {name}: EndpointsConfig is nil"
            )));
        };
        endpoints.insert(name.to_owned(), endpoint(name, settings)?);
    }
    if let NetworkMode::Network(name) = &mode {
        endpoints.entry(name.clone()).or_default();
    }
    let published = published(options.port_bindings.as_ref())?;
    let mut exposed = BTreeSet::new();
    for written in config.exposed_ports.iter().flatten().map(|(port, _)| port) {
        exposed.extend(port_range(written)?);
    }
    exposed.extend(published.iter().map(|publish| publish.container_port));
    let addresses = options.dns.iter().flatten().map(|text| {
        text.parse::<IpAddr>().map_err(|_| ApiError::invalid(format!("invalid DNS server address: {text:?}")))
    });
    Ok(NetworkingSpec {
        mode,
        endpoints,
        disabled: config.network_disabled,
        exposed: exposed.into_iter().collect(),
        published,
        publish_all: options.publish_all_ports,
        dns_servers: addresses.collect::<Result<_, _>>()?,
        dns_options: options.dns_options.clone().unwrap_or_default(),
        dns_search: options.dns_search.clone().unwrap_or_default(),
        extra_hosts: options.extra_hosts.clone().unwrap_or_default(),
        links: options.links.clone().unwrap_or_default(),
    })
}

/// Reads a network mode.
pub(crate) fn network_mode(written: &str) -> Result<NetworkMode, ApiError> {
    Ok(match written {
        "" | "default" | BRIDGE => NetworkMode::DefaultBridge,
        "none" => NetworkMode::None,
        "host" => NetworkMode::Host,
        other => match other.split_once(':') {
            Some(("container", "")) => {
                return Err(ApiError::invalid(
                    "invalid network mode: invalid container format container:<name|id>",
                ));
            }
            Some(("container", name)) => NetworkMode::Container(name.to_owned()),
            _ if other == "container" => {
                return Err(ApiError::invalid(
                    "invalid network mode: invalid container format container:<name|id>",
                ));
            }
            _ => NetworkMode::Network(other.to_owned()),
        },
    })
}

/// A network mode as Docker writes it.
pub(crate) fn shown_network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::DefaultBridge => BRIDGE.to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Network(name) => name.clone(),
    }
}

/// Whether a network is one that users make.
fn is_user_defined(name: &str) -> bool {
    !matches!(name, BRIDGE | "default" | "host" | "none")
}

/// What is wished for at the network `name`. Addresses that a client echoes from inspect are not wishes.
pub(crate) fn endpoint(name: &str, settings: &EndpointSettings) -> Result<EndpointSpec, ApiError> {
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let mut faults = Vec::new();
    if !is_user_defined(name) {
        if !ipam.ipv4_address.is_empty() || !ipam.ipv6_address.is_empty() {
            faults.push("user-specified IP address is supported on user-defined networks only".to_owned());
        }
        if settings.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
            faults.push("network-scoped aliases are only supported for user-defined networks".to_owned());
        }
    }
    let ipv4_address = address(&ipam.ipv4_address, "IPv4", &mut faults);
    let ipv6_address = address(&ipam.ipv6_address, "IPv6", &mut faults);
    let link_local = ipam.link_local_ips.iter().flatten();
    let link_local = link_local.filter_map(|text| address(text, "link-local IP", &mut faults)).collect();
    if !settings.mac_address.is_empty() && !is_mac(&settings.mac_address) {
        faults.push(format!("invalid MAC address: {}", settings.mac_address));
    }
    if !faults.is_empty() {
        return Err(ApiError::invalid(format!(
            "invalid config for network {name}: invalid endpoint settings:\n{}",
            faults.join("\n")
        )));
    }
    Ok(EndpointSpec {
        ipv4_address,
        ipv6_address,
        link_local,
        mac_address: Some(settings.mac_address.clone()).filter(|mac| !mac.is_empty()),
        aliases: settings.aliases.clone().unwrap_or_default(),
        links: settings.links.clone().unwrap_or_default(),
        driver_options: settings.driver_opts.clone().unwrap_or_default(),
        gateway_priority: settings.gw_priority.unwrap_or_default(),
    })
}

fn address<A: std::str::FromStr>(text: &str, kind: &str, faults: &mut Vec<String>) -> Option<A> {
    if text.is_empty() {
        return None;
    }
    let parsed = text.parse().ok();
    if parsed.is_none() {
        faults.push(format!("invalid {kind} address: {text}"));
    }
    parsed
}

/// Whether a text is a hardware address in one of the notations that Go reads: six bytes, by colons or hyphens.
fn is_mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    parts.len() == 6
        && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Reads a port or a range of ports inside: `80`, `80/tcp`, `8000-8010/udp`.
pub(crate) fn port_range(written: &str) -> Result<Vec<PortSpec>, ApiError> {
    let (numbers, protocol) = written.split_once('/').unwrap_or((written, "tcp"));
    // Docker reads ports while it decodes the body, so its text says that the JSON is invalid.
    let invalid = || ApiError::invalid(format!("invalid JSON: invalid port '{numbers}': invalid syntax"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let first: PortSpec = format!("{first}/{protocol}").parse().map_err(|_| invalid())?;
    let last: u16 = last.parse().map_err(|_| invalid())?;
    if last < first.port {
        return Err(invalid());
    }
    Ok((first.port..=last).map(|port| PortSpec { port, ..first }).collect())
}

/// Reads what is to be published. No binding at all, and an empty one, draw a port at random.
fn published(map: Option<&PortMap>) -> Result<Vec<PortPublish>, ApiError> {
    let mut published = Vec::new();
    for (written, bindings) in map.into_iter().flatten() {
        let drawn = [PortBinding::default()];
        let bindings = bindings.as_deref().filter(|list| !list.is_empty()).unwrap_or(&drawn);
        for container_port in port_range(written)? {
            for binding in bindings {
                published.push(PortPublish {
                    container_port,
                    host_ip: host_ip(&binding.host_ip)?,
                    host_ports: host_ports(&binding.host_port)?,
                });
            }
        }
    }
    Ok(published)
}

fn host_ip(written: &str) -> Result<Option<IpAddr>, ApiError> {
    if written.is_empty() {
        return Ok(None);
    }
    let bare = written.trim_start_matches('[').trim_end_matches(']');
    bare.parse()
        .map(Some)
        .map_err(|_| ApiError::invalid(format!("invalid IP address in port binding: {written:?}")))
}

/// Reads `8080`, `8000-8010`, or nothing, which draws a port; so does 0.
fn host_ports(written: &str) -> Result<Option<(u16, u16)>, ApiError> {
    let invalid = || ApiError::invalid(format!("invalid port specification: {written:?}"));
    if written.is_empty() {
        return Ok(None);
    }
    let (first, last) = written.split_once('-').unwrap_or((written, written));
    let (first, last): (u16, u16) =
        (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
    if last < first {
        return Err(invalid());
    }
    Ok((last != 0).then_some((first, last)))
}

/// The hardware address that was asked for on the network of the container's mode; empty if none was.
pub(crate) fn wished_mac_address(networking: &NetworkingSpec) -> String {
    let name = match &networking.mode {
        NetworkMode::DefaultBridge => "bridge",
        NetworkMode::Network(name) => name,
        NetworkMode::None | NetworkMode::Host | NetworkMode::Container(_) => return String::new(),
    };
    let wish = networking.endpoints.get(name).and_then(|wish| wish.mac_address.clone());
    wish.unwrap_or_default()
}

/// Every endpoint of a container as Docker shows it: wishes from the spec, the rest as observed.
pub(crate) fn shown_endpoints(view: &ContainerView) -> BTreeMap<String, EndpointSettings> {
    if view.spec.networking.disabled {
        return BTreeMap::new();
    }
    let wishes = &view.spec.networking.endpoints;
    let none = EndpointSpec::default();
    let shown = |(name, status): (&String, &EndpointStatus)| {
        let id = status.network_id.as_str();
        // The client may have named the network by its id, or by a prefix of it.
        let wish = wishes.get(name).or_else(|| wishes.get(id)).or_else(|| {
            wishes.iter().find(|(key, _)| key.len() >= 12 && id.starts_with(key.as_str())).map(|(_, w)| w)
        });
        (name.clone(), shown_endpoint(wish.unwrap_or(&none), status))
    };
    view.endpoints.iter().map(shown).collect()
}

/// One endpoint as Docker shows it.
pub(crate) fn shown_endpoint(wish: &EndpointSpec, status: &EndpointStatus) -> EndpointSettings {
    let text = |value: Option<String>| value.unwrap_or_default();
    let list = |values: &[String]| Some(values.to_vec()).filter(|values| !values.is_empty());
    EndpointSettings {
        ipam_config: shown_ipam(wish),
        links: list(&wish.links),
        aliases: list(&wish.aliases),
        // What it has, or will have.
        mac_address: text(status.mac_address.clone().or_else(|| wish.mac_address.clone())),
        driver_opts: Some(wish.driver_options.clone()).filter(|options| !options.is_empty()),
        gw_priority: Some(wish.gateway_priority),
        network_id: status.network_id.as_str().to_owned(),
        endpoint_id: text(status.endpoint_id.map(|id| id.to_string())),
        gateway: text(status.ipv4_gateway.map(|address| address.to_string())),
        ip_address: text(status.ipv4.map(|net| net.addr().to_string())),
        ip_prefix_len: status.ipv4.map_or(0, |net| net.prefix_len()),
        ipv6_gateway: text(status.ipv6_gateway.map(|address| address.to_string())),
        global_ipv6_address: text(status.ipv6.map(|net| net.addr().to_string())),
        global_ipv6_prefix_len: status.ipv6.map_or(0, |net| net.prefix_len()),
        dns_names: Some(list(&status.dns_names)),
    }
}

fn shown_ipam(wish: &EndpointSpec) -> Option<EndpointIpamConfig> {
    let link_local: Vec<String> = wish.link_local.iter().map(ToString::to_string).collect();
    let shown = EndpointIpamConfig {
        ipv4_address: wish.ipv4_address.map(|address| address.to_string()).unwrap_or_default(),
        ipv6_address: wish.ipv6_address.map(|address| address.to_string()).unwrap_or_default(),
        link_local_ips: Some(link_local).filter(|list| !list.is_empty()),
    };
    (shown != EndpointIpamConfig::default()).then_some(shown)
}

/// Whether a container has a network of its own now, so that its ports are shown.
fn is_connected(view: &ContainerView) -> bool {
    view.sandbox.is_some() && view.state.run().is_some()
}

/// The ports of a container by port inside: where they lead from, or null when they are exposed only.
pub(crate) fn ports(view: &ContainerView) -> PortMap {
    let mut map = PortMap::new();
    if !is_connected(view) {
        return map;
    }
    for port in &view.spec.networking.exposed {
        map.insert(port.to_string(), None);
    }
    for published in &view.published {
        let binding = PortBinding {
            host_ip: published.host_ip.to_string(),
            host_port: published.host_port.map(|port| port.to_string()).unwrap_or_default(),
        };
        map.entry(published.container_port.to_string()).or_default().get_or_insert_default().push(binding);
    }
    map
}

/// The ports of a container as lists show them.
pub(crate) fn port_summaries(view: &ContainerView) -> Vec<PortSummary> {
    if !is_connected(view) {
        return Vec::new();
    }
    let summary = |port: PortSpec, ip: Option<String>, public: Option<u16>| PortSummary {
        ip,
        private_port: port.port,
        public_port: public,
        r#type: port.protocol.to_string(),
    };
    // A port that is open without translation has no number on the host, and is listed like one that is exposed only.
    let translated = view.published.iter().filter(|published| published.host_port.is_some());
    let mut found: Vec<(PortSpec, PortSummary)> = Vec::new();
    for published in translated.clone() {
        let port = published.container_port;
        let shown = summary(port, Some(published.host_ip.to_string()), published.host_port);
        found.push((port, shown));
    }
    for &port in &view.spec.networking.exposed {
        if !translated.clone().any(|published| published.container_port == port) {
            found.push((port, summary(port, None, None)));
        }
    }
    found.sort_by_key(|(port, _)| *port);
    found.into_iter().map(|(_, shown)| shown).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use shoal_types::container::networking::Protocol;

    use super::*;

    fn read(body: &Value) -> Result<NetworkingSpec, ApiError> {
        let config: ContainerConfig = crate::json::decode_value(body).unwrap();
        let options: HostOptions = crate::json::decode_value(&body["HostConfig"]).unwrap();
        let networking: NetworkingConfig = crate::json::decode_value(&body["NetworkingConfig"]).unwrap();
        spec(&config, &options, &networking)
    }

    #[test]
    fn published_ports_are_also_exposed() {
        let found = read(&json!({
            "ExposedPorts": {"53/udp": {}},
            "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "81": [], "82/tcp": null, "83/tcp": [{"HostPort": "9000-9010"}]}},
        }))
        .unwrap();
        let tcp = |port| PortSpec { port, protocol: Protocol::Tcp };
        let udp = PortSpec { port: 53, protocol: Protocol::Udp };
        assert_eq!(found.exposed, [udp, tcp(80), tcp(81), tcp(82), tcp(83)]);
        let hosts: Vec<_> =
            found.published.iter().map(|p| (p.container_port.port, p.host_ip, p.host_ports)).collect();
        let loopback = Some("127.0.0.1".parse().unwrap());
        assert_eq!(
            hosts,
            [
                (80, loopback, Some((8080, 8080))),
                (81, None, None),
                (82, None, None),
                (83, None, Some((9000, 9010)))
            ]
        );
    }

    #[test]
    fn the_network_of_the_mode_has_an_endpoint() {
        let found = read(&json!({"HostConfig": {"NetworkMode": "n"}})).unwrap();
        assert_eq!(found.mode, NetworkMode::Network("n".into()));
        assert_eq!(found.endpoints.keys().collect::<Vec<_>>(), ["n"]);
        let found = read(&json!({"NetworkingConfig": {"EndpointsConfig": {"default": {}}}})).unwrap();
        assert_eq!(found.endpoints.keys().collect::<Vec<_>>(), ["bridge"]);
    }

    #[test]
    fn wrong_networks_are_refused_with_dockers_texts() {
        let endpoint =
            |name: &str, settings: Value| json!({"NetworkingConfig": {"EndpointsConfig": {name: settings}}});
        let cases = [
            (json!({"ExposedPorts": {"x/tcp": {}}}), "invalid JSON: invalid port 'x': invalid syntax"),
            (json!({"ExposedPorts": {"80/foo": {}}}), "invalid JSON: invalid port '80': invalid syntax"),
            (
                json!({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "x"}]}}}),
                "invalid port specification: \"x\"",
            ),
            (
                json!({"HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "x"}]}}}),
                "invalid IP address in port binding: \"x\"",
            ),
            (endpoint("bridge", Value::Null), "invalid config for network bridge: EndpointsConfig is nil"),
            (
                endpoint("bridge", json!({"IPAMConfig": {"IPv4Address": "172.17.0.9"}})),
                "invalid config for network bridge: invalid endpoint settings:\nuser-specified IP address is supported on user-defined networks only",
            ),
            (
                endpoint("bridge", json!({"Aliases": ["a"]})),
                "invalid config for network bridge: invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks",
            ),
            (
                endpoint("n", json!({"IPAMConfig": {"IPv4Address": "x"}})),
                "invalid config for network n: invalid endpoint settings:\ninvalid IPv4 address: x",
            ),
            (
                endpoint("n", json!({"MacAddress": "x"})),
                "invalid config for network n: invalid endpoint settings:\ninvalid MAC address: x",
            ),
        ];
        for (body, message) in cases {
            assert_eq!(read(&body).unwrap_err().message(), message, "{body}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_grammar_panic(text in ".{0,40}") {
            let _ = port_range(&text);
            let _ = host_ports(&text);
            let _ = network_mode(&text);
            let _ = is_mac(&text);
        }
    }
}
