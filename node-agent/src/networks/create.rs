//! From a wish to a network: checks, subnets, record, interface.
//!
//! Start reading at [`NetworkStore::create_network`]. The checks are PURE functions below it; their texts are dockerd's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use overlay_net::DriverSpec;
use overlay_net::ipam::{Family, GatewayRequest, PoolRecord, PoolRequest, SubnetRequest};
use shoal_types::network::{Network, NetworkScope, NetworkSpec, PoolSpec};
use shoal_types::{ErrorKind, NetworkId};

use super::{Entry, NetworkConfig, NetworkRecord, NetworkStore, State, kernel, predefined, run_blocking};
use crate::api::events::EventKind;
use crate::crash_point::crash_point;
use crate::error::NodeError;
use crate::store::Batch;

/// What a node that is in no swarm says to whoever asks for something of a swarm.
pub(super) const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm \
     join\" to connect this node to swarm and try again.";

/// The option that says whether a network has IPv4.
const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
/// The option that says whether a network has IPv6.
const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";

impl NetworkStore {
    /// Makes a network of this node.
    pub(super) async fn create_network(&self, spec: NetworkSpec) -> Result<NetworkId, NodeError> {
        if spec.scope == NetworkScope::Swarm || spec.driver == "overlay" || spec.ingress {
            return Err(NodeError::Refused {
                kind: ErrorKind::Unavailable,
                message: NOT_A_MANAGER.to_owned(),
            });
        }
        self.create_as(spec, NetworkId::random_local()).await
    }

    /// Makes a network with this id. The record is written before the interface; a crash in between is completed at boot.
    pub(super) async fn create_as(
        &self,
        mut spec: NetworkSpec,
        id: NetworkId,
    ) -> Result<NetworkId, NodeError> {
        if spec.driver.is_empty() {
            "bridge".clone_into(&mut spec.driver);
        }
        if spec.config_from.is_empty() {
            take_defaults(&self.shared.config, &mut spec)?;
        }
        check(&spec)?;
        let _changes = self.shared.changes.lock().await;
        let host = self.shared.host.clone();
        let occupied = run_blocking(move || host.occupied()).await??;
        let record = self.with_state(|state| reserve(state, &self.shared.config, (id, spec), &occupied))?;
        let network = record.network.clone();
        let made = self.record_and_make(&record).await;
        if let Err(error) = made {
            self.with_state(|state| {
                state.networks.remove(&network.id);
                state.space.remove(&network.id);
            });
            return Err(error);
        }
        let attributes = [("name", &network.spec.name), ("type", &network.spec.driver)];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.clone()));
        self.shared.events.publish(EventKind::Network, "create", network.id.as_str(), attributes.into());
        Ok(network.id)
    }

    async fn record_and_make(&self, record: &NetworkRecord) -> Result<(), NodeError> {
        let id = record.network.id.clone();
        self.shared.store.commit(Batch::new().put(id.as_str(), record)?).await?;
        if record.network.spec.config_only {
            return Ok(());
        }
        let kernel = self.with_state(|state| state.networks.get(&id).map(|entry| Arc::clone(&entry.kernel)));
        let Some(kernel) = kernel else { return Ok(()) };
        let host = self.shared.host.clone();
        let made = run_blocking(move || host.ensure_network(&kernel)).await?;
        crash_point("network made");
        if let Err(error) = made {
            self.shared.store.commit(Batch::new().delete::<NetworkRecord>(id.as_str())).await?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Makes the predefined networks' records, with subnets that keep away from all others. For boot.
    pub(super) async fn ensure_predefined(&self) -> Result<(), NodeError> {
        let stored: Vec<(String, NetworkRecord)> = self.shared.store.load()?;
        let known: BTreeMap<_, _> = stored
            .into_iter()
            .filter(|(_, record)| predefined::is_name(&record.network.spec.name))
            .map(|(_, record)| {
                let pools = record.pools;
                (record.network.spec.name, (record.network.id, record.network.created, pools))
            })
            .collect();
        let identities = known.iter().map(|(name, (id, at, _))| (name.clone(), (id.clone(), *at))).collect();
        let host = self.shared.host.clone();
        let occupied = run_blocking(move || host.occupied()).await??;
        let mut batch = Batch::new();
        for wanted in predefined::wanted(&self.shared.config, &identities) {
            let name = wanted.network.spec.name.clone();
            let remembered = known.get(&name).map(|(_, _, pools)| pools.as_slice()).unwrap_or_default();
            let adopted = self.with_state(|state| {
                adopt_predefined(state, &self.shared.config, wanted, remembered, &occupied)
            });
            let record = adopted.map_err(|error| predefined::failed(&name, &error))?;
            batch = batch.put(record.network.id.as_str(), &record)?;
        }
        Ok(self.shared.store.commit(batch).await?)
    }
}

/// Puts a predefined network into the state. A subnet that was chosen automatically before stays.
fn adopt_predefined(
    state: &mut State,
    config: &NetworkConfig,
    mut wanted: predefined::Predefined,
    remembered: &[PoolRecord],
    occupied: &[IpNet],
) -> Result<NetworkRecord, NodeError> {
    let id = wanted.network.id.clone();
    for request in &mut wanted.pools {
        let SubnetRequest::Automatic(family) = request.subnet else { continue };
        if let Some(pool) = remembered.iter().find(|pool| family_of(pool.subnet) == family) {
            request.subnet = SubnetRequest::Given(pool.subnet);
            if let Some(gateway) = pool.gateway {
                request.gateway = GatewayRequest::Given(gateway);
            }
        }
    }
    let pools = state.space.create(&id, &wanted.pools, occupied)?;
    let mut network = wanted.network;
    fill_in_pools(&mut network.spec, &pools);
    let kernel = Arc::new(kernel::network_spec(&network, &pools, config)?);
    let entry = Entry { network: network.clone(), kernel, members: BTreeMap::new() };
    state.networks.insert(id, entry);
    Ok(NetworkRecord { network, pools })
}

/// Reserves name, subnets and bridge name of a new network, all or nothing.
fn reserve(
    state: &mut State,
    config: &NetworkConfig,
    (id, spec): (NetworkId, NetworkSpec),
    occupied: &[IpNet],
) -> Result<NetworkRecord, NodeError> {
    if state.by_name(&spec.name).is_some() {
        return Err(NodeError::conflict(format!("network with name {} already exists", spec.name)));
    }
    let is_inherited = !spec.config_from.is_empty();
    let mut spec = inherit(state, spec)?;
    if is_inherited {
        take_defaults(config, &mut spec)?;
    }
    let requests = pool_requests(&mut spec)?;
    let pools = if spec.config_only { Vec::new() } else { state.space.create(&id, &requests, occupied)? };
    let made = complete(state, config, &id, spec, pools);
    if made.is_err() {
        state.space.remove(&id);
    }
    made
}

fn complete(
    state: &mut State,
    config: &NetworkConfig,
    id: &NetworkId,
    mut spec: NetworkSpec,
    pools: Vec<PoolRecord>,
) -> Result<NetworkRecord, NodeError> {
    if !spec.config_only {
        fill_in_pools(&mut spec, &pools);
    }
    let network = Network { id: id.clone(), spec, created: Timestamp::now() };
    let kernel = kernel::network_spec(&network, &pools, config)?;
    if let DriverSpec::Bridge(bridge) = &kernel.driver
        && !network.spec.config_only
        && let Some(other) =
            state.networks.values().find(|other| kernel::has_bridge(&other.kernel, &bridge.bridge))
    {
        return Err(NodeError::forbidden(format!(
            "cannot create network {} ({}): conflicts with network {} ({}): networks have same bridge name",
            network.id, bridge.bridge, other.network.id, bridge.bridge
        )));
    }
    let entry = Entry { network: network.clone(), kernel: Arc::new(kernel), members: BTreeMap::new() };
    state.networks.insert(id.clone(), entry);
    Ok(NetworkRecord { network, pools })
}

/// Completes options by the daemon's defaults for the driver. Two options say which families there are; a default of
/// theirs is not taken over, and so not shown, where the request says it itself.
fn take_defaults(config: &NetworkConfig, spec: &mut NetworkSpec) -> Result<(), NodeError> {
    for (name, value) in config.default_options.get(&spec.driver).into_iter().flatten() {
        let is_said = match name.as_str() {
            ENABLE_IPV4 => spec.ipv4.is_some(),
            ENABLE_IPV6 => spec.ipv6.is_some(),
            _ => false,
        };
        if !is_said {
            spec.options.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    spec.ipv4 = spec.ipv4.map_or_else(|| option_switch(spec, ENABLE_IPV4), |said| Ok(Some(said)))?;
    spec.ipv6 = spec.ipv6.map_or_else(|| option_switch(spec, ENABLE_IPV6), |said| Ok(Some(said)))?;
    Ok(())
}

/// An option that is true or false, as Go reads it.
fn option_switch(spec: &NetworkSpec, name: &str) -> Result<Option<bool>, NodeError> {
    match spec.options.get(name).map(String::as_str) {
        None => Ok(None),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
        Some(other) => Err(NodeError::invalid(format!("driver-opt {name:?} is not a valid bool: {other}"))),
    }
}

/// Takes over the configuration of the network that `config_from` names.
fn inherit(state: &State, spec: NetworkSpec) -> Result<NetworkSpec, NodeError> {
    if spec.config_from.is_empty() {
        return Ok(spec);
    }
    let source = state.by_name(&spec.config_from).map(|entry| &entry.network.spec).ok_or_else(|| {
        NodeError::Refused {
            kind: ErrorKind::NotFound,
            message: format!("failed to find the configuration network {}", spec.config_from),
        }
    })?;
    if !source.config_only {
        return Err(NodeError::forbidden(format!("{} is not a configuration network", spec.config_from)));
    }
    if !spec.ipam.pools.is_empty() || !spec.options.is_empty() || spec.ipv6 == Some(true) || spec.internal {
        return Err(NodeError::forbidden(
            "user-specified configurations are not supported if the network depends on a configuration network",
        ));
    }
    Ok(NetworkSpec {
        ipam: source.ipam.clone(),
        options: source.options.clone(),
        ipv4: source.ipv4,
        ipv6: source.ipv6,
        internal: source.internal,
        ..spec
    })
}

/// What can be said of a wish without knowing other networks.
fn check(spec: &NetworkSpec) -> Result<(), NodeError> {
    if spec.name.trim().is_empty() {
        return Err(NodeError::invalid("invalid network name: name is empty"));
    }
    if predefined::is_name(&spec.name) {
        let name = &spec.name;
        return Err(NodeError::forbidden(format!(
            "operation is not permitted on predefined {name} network "
        )));
    }
    if spec.config_only && (!spec.config_from.is_empty() || spec.attachable || spec.ingress) {
        return Err(NodeError::forbidden("configuration network can only contain network specific fields"));
    }
    match spec.driver.as_str() {
        "bridge" | "macvlan" => {}
        "host" | "null" => {
            return Err(NodeError::forbidden(format!(
                "only one instance of \"{}\" network is allowed",
                spec.driver
            )));
        }
        "ipvlan" => {
            return Err(NodeError::not_implemented("network driver ipvlan is not supported yet; macvlan is"));
        }
        other => {
            return Err(NodeError::Refused {
                kind: ErrorKind::NotFound,
                message: format!("could not find plugin {other} in v1 plugin registry: plugin not found"),
            });
        }
    }
    match spec.ipam.driver.as_str() {
        "" | "default" => check_pools(&spec.ipam.pools, spec.ipv6 == Some(true)),
        "null" => Ok(()),
        other => Err(NodeError::Refused {
            kind: ErrorKind::NotFound,
            message: format!("could not find plugin {other} in v1 plugin registry: plugin not found"),
        }),
    }
}

/// All that is wrong with the subnets, one line each.
fn check_pools(pools: &[PoolSpec], ipv6: bool) -> Result<(), NodeError> {
    let mut wrong = Vec::new();
    for pool in pools {
        let Some(subnet) = pool.subnet else {
            if pool.gateway.is_some() || pool.range.is_some() || !pool.auxiliary.is_empty() {
                wrong.push("invalid subnet : invalid CIDR block notation".to_owned());
            }
            continue;
        };
        if subnet != subnet.trunc() {
            wrong.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
        }
        if matches!(subnet, IpNet::V6(_)) && !ipv6 {
            wrong.push(format!("invalid subnet {subnet}: IPv6 has not been enabled for this network"));
        }
        if let Some(range) = pool.range {
            if range != range.trunc() {
                wrong.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
            } else if !subnet.contains(&range) {
                wrong.push(format!("invalid ip-range {range}: CIDR block must be part of subnet {subnet}"));
            }
        }
        let mut outside = |what: &str, address: IpAddr| {
            if !subnet.contains(&address) {
                wrong.push(format!(
                    "invalid {what} {address}: parent subnet is an {} block",
                    family_name(subnet)
                ));
            }
        };
        pool.gateway.into_iter().for_each(|gateway| outside("gateway", gateway));
        pool.auxiliary.values().for_each(|address| outside("auxiliary address", *address));
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(NodeError::invalid(format!("invalid network config:\n{}", wrong.join("\n")))),
    }
}

fn family_name(subnet: IpNet) -> &'static str {
    match subnet {
        IpNet::V4(_) => "IPv4",
        IpNet::V6(_) => "IPv6",
    }
}

fn family_of(subnet: IpNet) -> Family {
    match subnet {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}

/// The subnets to reserve: those given, and an automatic one for each wanted family that has none.
fn pool_requests(spec: &mut NetworkSpec) -> Result<Vec<PoolRequest>, NodeError> {
    let (ipv4, ipv6) = (spec.ipv4.unwrap_or(true), spec.ipv6.unwrap_or(false));
    if !ipv4 && !ipv6 && !spec.config_only {
        return Err(NodeError::invalid("IPv4 or IPv6 must be enabled"));
    }
    spec.ipv4 = Some(ipv4);
    spec.ipv6 = Some(ipv6);
    if spec.ipam.driver == "null" {
        return Ok(Vec::new());
    }
    let given = |pool: &PoolSpec| {
        let subnet = pool.subnet?;
        let is_size_only = subnet.addr().is_unspecified() && subnet.prefix_len() > 0;
        Some(PoolRequest {
            // An address of zeros asks for any subnet of that size.
            subnet: if is_size_only {
                SubnetRequest::Sized(family_of(subnet), subnet.prefix_len())
            } else {
                SubnetRequest::Given(subnet)
            },
            ip_range: pool.range,
            gateway: pool.gateway.map_or(GatewayRequest::First, GatewayRequest::Given),
            aux: pool.auxiliary.clone(),
        })
    };
    let mut requests: Vec<PoolRequest> = spec.ipam.pools.iter().filter_map(given).collect();
    for (is_wanted, family) in [(ipv4, Family::V4), (ipv6, Family::V6)] {
        let is_given =
            spec.ipam.pools.iter().filter_map(|pool| pool.subnet).any(|net| family_of(net) == family);
        if is_wanted && !is_given {
            requests.push(PoolRequest::automatic(family));
        }
    }
    requests.retain(|request| match request.subnet {
        SubnetRequest::Given(subnet) => ipv4 || family_of(subnet) == Family::V6,
        SubnetRequest::Sized(family, _) => ipv4 || family == Family::V6,
        SubnetRequest::Automatic(_) => true,
    });
    drop_needless_gateways(spec, &mut requests)?;
    Ok(requests)
}

/// Keeps no address for the bridge of an internal network that will not have one: all are the containers'. Nor for the
/// router of a macvlan network, which is outside: only who made the network knows whether there is one and where.
fn drop_needless_gateways(spec: &NetworkSpec, requests: &mut [PoolRequest]) -> Result<(), NodeError> {
    let is_isolated = |family: &str| {
        let mode = spec.options.get(&format!("com.docker.network.bridge.gateway_mode_{family}"));
        mode.is_some_and(|mode| mode == "isolated")
    };
    let (v4, v6) = (is_isolated("ipv4"), is_isolated("ipv6"));
    if (v4 || v6) && !spec.internal {
        return Err(NodeError::invalid("gateway mode 'isolated' can only be used for an internal network"));
    }
    let is_outside = spec.driver == "macvlan";
    let is_inhibited = option_switch(spec, "com.docker.network.bridge.inhibit_ipv4")? == Some(true);
    for request in requests {
        let family = match request.subnet {
            SubnetRequest::Given(subnet) => family_of(subnet),
            SubnetRequest::Sized(family, _) | SubnetRequest::Automatic(family) => family,
        };
        let has_none = match family {
            Family::V4 => v4 || (is_inhibited && spec.internal),
            Family::V6 => v6,
        };
        if (has_none || is_outside) && request.gateway == GatewayRequest::First {
            request.gateway = GatewayRequest::None;
        }
    }
    Ok(())
}

/// Writes what was reserved into the spec, so that inspect shows it.
fn fill_in_pools(spec: &mut NetworkSpec, pools: &[PoolRecord]) {
    spec.ipam.pools = pools
        .iter()
        .map(|pool| PoolSpec {
            subnet: Some(pool.subnet),
            range: pool.ip_range,
            gateway: pool.gateway,
            auxiliary: pool.aux.clone(),
        })
        .collect();
    if spec.ipam.driver.is_empty() {
        "default".clone_into(&mut spec.ipam.driver);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, driver: &str) -> NetworkSpec {
        NetworkSpec { name: name.to_owned(), driver: driver.to_owned(), ..NetworkSpec::default() }
    }

    #[test]
    fn wishes_that_cannot_be_are_refused_with_dockers_texts() {
        let cases = [
            (
                spec("bridge", "bridge"),
                "operation is not permitted on predefined bridge network ",
                ErrorKind::Forbidden,
            ),
            (spec("x", "host"), "only one instance of \"host\" network is allowed", ErrorKind::Forbidden),
            (
                spec("x", "nope"),
                "could not find plugin nope in v1 plugin registry: plugin not found",
                ErrorKind::NotFound,
            ),
        ];
        for (wish, text, kind) in cases {
            let error = check(&wish).unwrap_err();
            assert_eq!((error.message().as_str(), error.kind()), (text, kind));
        }
    }

    #[test]
    fn every_mistake_in_the_subnets_is_named() {
        let pool = |subnet: &str, gateway: &str| PoolSpec {
            subnet: Some(subnet.parse().unwrap()),
            range: None,
            gateway: Some(gateway.parse().unwrap()),
            auxiliary: BTreeMap::new(),
        };
        let error =
            check_pools(&[pool("10.1.2.3/16", "10.1.0.1"), pool("fd00::/64", "fd00::1")], false).unwrap_err();
        assert_eq!(
            error.message(),
            "invalid network config:\ninvalid subnet 10.1.2.3/16: it should be 10.1.0.0/16\ninvalid subnet \
             fd00::/64: IPv6 has not been enabled for this network"
        );
    }

    #[test]
    fn a_family_without_a_given_subnet_gets_one_of_its_own() {
        let mut wish = NetworkSpec { ipv6: Some(true), ..spec("x", "bridge") };
        let requests = pool_requests(&mut wish).unwrap();
        let automatic = |family| SubnetRequest::Automatic(family);
        let subnets: Vec<_> = requests.iter().map(|request| request.subnet).collect();
        assert_eq!(subnets, [automatic(Family::V4), automatic(Family::V6)]);
    }

    #[test]
    fn the_router_of_a_macvlan_network_is_never_guessed() {
        let given: IpAddr = "192.0.2.9".parse().unwrap();
        let pool = |subnet: &str, gateway| PoolSpec {
            subnet: Some(subnet.parse().unwrap()),
            range: None,
            gateway,
            auxiliary: BTreeMap::new(),
        };
        let gateways = |driver: &str| {
            let mut wish = spec("lan", driver);
            wish.ipam.pools = vec![pool("192.0.2.0/24", Some(given)), pool("198.51.100.0/24", None)];
            let requests = pool_requests(&mut wish).unwrap();
            requests.into_iter().map(|request| request.gateway).collect::<Vec<_>>()
        };
        assert_eq!(gateways("macvlan"), [GatewayRequest::Given(given), GatewayRequest::None]);
        assert_eq!(gateways("bridge"), [GatewayRequest::Given(given), GatewayRequest::First]);
    }
}
