//! Networks.
//!
//! Start reading at [`spec`] and [`shown`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use node_agent::api::networks::{AddressUse, NetworkView, OverlayServiceView, OverlayTaskView, OverlayView};
use shoal_types::NodeId;
use shoal_types::cluster::network::{AllocatedPool, ClusterNetwork};
use shoal_types::cluster::service::PublishedServicePort;
use shoal_types::container::state::EndpointStatus;
use shoal_types::network::{IpamSpec, Network as Observed, NetworkScope, NetworkSpec, PoolSpec};

use crate::error::ApiError;
use crate::model::Texts;
use crate::model::network::{
    ConfigReference, EndpointResource, Ipam, IpamConfig, IpamStatus, Network, NetworkCreate, NetworkStatus,
    NetworkTask, PeerInfo, ServiceInfo, SubnetStatus,
};

/// The network that a request describes.
pub(crate) fn spec(create: NetworkCreate) -> Result<NetworkSpec, ApiError> {
    let scope = match create.scope.as_str() {
        "" | "local" => NetworkScope::Local,
        "swarm" => NetworkScope::Swarm,
        other => return Err(ApiError::invalid(format!("invalid network scope: {other}"))),
    };
    let ipam = create.ipam.unwrap_or_default();
    let mut faults = Vec::new();
    let pools = ipam.config.iter().flatten().map(|pool| pool_spec(pool, &mut faults)).collect();
    if !faults.is_empty() {
        return Err(ApiError::invalid(format!("invalid network config:\n{}", faults.join("\n"))));
    }
    Ok(NetworkSpec {
        name: create.name,
        driver: create.driver,
        options: create.options.unwrap_or_default(),
        labels: create.labels.unwrap_or_default(),
        ipam: IpamSpec { driver: ipam.driver, options: ipam.options, pools },
        ipv4: create.enable_ipv4,
        ipv6: create.enable_ipv6,
        internal: create.internal,
        attachable: create.attachable,
        ingress: create.ingress,
        config_only: create.config_only,
        config_from: create.config_from.unwrap_or_default().network,
        scope,
    })
}

fn pool_spec(pool: &IpamConfig, faults: &mut Vec<String>) -> PoolSpec {
    let auxiliary = pool.auxiliary_addresses.iter().flatten();
    let auxiliary = auxiliary
        .filter_map(|(name, text)| read("auxiliary address", text, faults).map(|a| (name.clone(), a)));
    PoolSpec {
        auxiliary: auxiliary.collect(),
        subnet: read("subnet", &pool.subnet, faults),
        range: read("ip-range", &pool.ip_range, faults),
        gateway: read("gateway", &pool.gateway, faults),
    }
}

/// Reads an address or a subnet; what is none becomes a fault, an empty text is no wish.
fn read<T: FromStr>(what: &str, text: &str, faults: &mut Vec<String>) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    let value = text.parse().ok();
    if value.is_none() {
        faults.push(format!("invalid {what} {text}: parse error"));
    }
    value
}

/// A network as Docker shows it, without what is connected to it.
pub(crate) fn shown(network: &Observed) -> Network {
    let spec = &network.spec;
    Network {
        name: spec.name.clone(),
        id: network.id.as_str().to_owned(),
        created: network.created.into(),
        scope: match spec.scope {
            NetworkScope::Local => "local".to_owned(),
            NetworkScope::Swarm => "swarm".to_owned(),
        },
        // A network that is only a configuration has none, as in Docker.
        driver: if spec.config_only { "null".to_owned() } else { spec.driver.clone() },
        enable_ipv4: Some(spec.ipv4.unwrap_or(true)),
        enable_ipv6: spec.ipv6.unwrap_or(false),
        ipam: Ipam {
            driver: if spec.ipam.driver.is_empty() { "default".to_owned() } else { spec.ipam.driver.clone() },
            options: spec.ipam.options.clone(),
            config: Some(spec.ipam.pools.iter().map(shown_pool).collect()),
        },
        internal: spec.internal,
        attachable: spec.attachable,
        ingress: spec.ingress,
        config_from: ConfigReference { network: spec.config_from.clone() },
        config_only: spec.config_only,
        containers: None,
        options: spec.options.clone(),
        labels: spec.labels.clone(),
        status: None,
        peers: None,
        services: None,
    }
}

/// A network of the cluster as Docker shows it, with the subnets that it was given.
pub(crate) fn shown_of_cluster(network: &ClusterNetwork) -> Network {
    let mut spec = network.spec.clone();
    spec.scope = NetworkScope::Swarm;
    if let Some(given) = &network.allocation {
        let pool = |pool: &AllocatedPool| PoolSpec {
            subnet: Some(pool.subnet),
            range: pool.range,
            gateway: Some(pool.gateway),
            auxiliary: BTreeMap::new(),
        };
        spec.ipam.pools = given.pools.iter().map(pool).collect();
    }
    let shown = shown(&Observed { id: network.id.clone(), spec, created: network.meta.created });
    Network { options: super::task::driver_options(network), ..shown }
}

fn shown_pool(pool: &PoolSpec) -> IpamConfig {
    let auxiliary: Texts = pool.auxiliary.iter().map(|(name, a)| (name.clone(), a.to_string())).collect();
    IpamConfig {
        subnet: pool.subnet.map(|net| net.to_string()).unwrap_or_default(),
        ip_range: pool.range.map(|net| net.to_string()).unwrap_or_default(),
        gateway: pool.gateway.map(|address| address.to_string()).unwrap_or_default(),
        auxiliary_addresses: Some(auxiliary).filter(|map| !map.is_empty()),
    }
}

/// A network with what is connected to it.
pub(crate) fn shown_view(view: &NetworkView) -> Network {
    let containers = view.containers.iter();
    let containers = containers
        .map(|(id, (name, endpoint))| (id.to_string(), endpoint_resource(name, endpoint)))
        .collect();
    Network {
        containers: Some(containers),
        status: Some(NetworkStatus { ipam: IpamStatus { subnets: subnets(&view.address_use) } }),
        ..shown(&view.network)
    }
}

/// Adds who takes part in a network of the cluster, with its services if they were asked for.
pub(crate) fn add_overlay(shown: &mut Network, view: &OverlayView, detail: Detail) {
    let peer = |(id, address): (&NodeId, &IpAddr)| PeerInfo { name: id.to_string(), ip: address.to_string() };
    shown.peers = Some(view.nodes.iter().map(peer).collect());
    if detail == Detail::Verbose {
        let services = view.services.iter();
        shown.services =
            Some(services.map(|(name, service)| (name.clone(), service_info(service))).collect());
    }
}

/// Whether services are shown too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// They are not.
    Usual,
    /// They are.
    Verbose,
}

fn service_info(service: &OverlayServiceView) -> ServiceInfo {
    let port = |port: &PublishedServicePort| format!("Target: {}, Publish: {}", port.target, port.published);
    let task = |task: &OverlayTaskView| NetworkTask {
        name: task.name.clone(),
        endpoint_id: String::new(),
        endpoint_ip: task.address.to_string(),
        info: Texts::from([("Host IP".to_owned(), task.vtep.to_string())]),
    };
    ServiceInfo {
        vip: service.vip.map(|vip| vip.to_string()).unwrap_or_default(),
        ports: service.ports.iter().map(port).collect(),
        local_lb_index: 0,
        tasks: service.tasks.iter().map(task).collect(),
    }
}

fn subnets(address_use: &BTreeMap<String, AddressUse>) -> BTreeMap<String, SubnetStatus> {
    let status = |usage: &AddressUse| SubnetStatus {
        ips_in_use: usage.in_use,
        dynamic_ips_available: usage.available,
    };
    address_use.iter().map(|(subnet, usage)| (subnet.clone(), status(usage))).collect()
}

fn endpoint_resource(name: &str, endpoint: &EndpointStatus) -> EndpointResource {
    EndpointResource {
        name: name.to_owned(),
        endpoint_id: endpoint.endpoint_id.map(|id| id.to_string()).unwrap_or_default(),
        mac_address: endpoint.mac_address.clone().unwrap_or_default(),
        ipv4_address: endpoint.ipv4.map(|net| net.to_string()).unwrap_or_default(),
        ipv6_address: endpoint.ipv6.map(|net| net.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subnets_that_are_none_are_all_told_at_once() {
        let create: NetworkCreate = crate::json::decode_value(
            &json!({"Name": "n", "IPAM": {"Config": [{"Subnet": "x", "Gateway": "y"}]}}),
        )
        .unwrap();
        assert_eq!(
            spec(create).unwrap_err().message(),
            "invalid network config:\ninvalid subnet x: parse error\ninvalid gateway y: parse error"
        );
    }
}
