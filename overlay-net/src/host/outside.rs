//! The part of a container's network that lives outside its namespace: published ports, rules, names.
//!
//! Start reading at [`connect`] and [`disconnect`]. Everything that concerns netd goes in one message, everything that
//! concerns one table in one transaction.

use std::io;
use std::net::SocketAddr;
use std::sync::PoisonError;

use ipnet::IpNet;
use shoal_types::SandboxId;

use super::{Management, Shared};
use crate::endpoint::published_mode;
use crate::error::{NetError, Result};
use crate::firewall::Family;
use crate::firewall::expr::Element;
use crate::firewall::rules::{link_elements, port_elements};
use crate::netd::protocol::{Change, HoldRequest, Outcome, PortKey, Record, Resolver};
use crate::portmap::changes::PortChanges;
use crate::portmap::{Planned, Registry, Target, Targets, parse_ephemeral_range};
use crate::sandbox::Plan;
use crate::spec::{DriverSpec, Endpoint, GatewayMode, HostPorts, PublishedPort, Sandbox, SandboxSpec};
use crate::sysctl;

/// Publishes ports, writes rules and announces names; answers the ports.
///
/// On failure ports, rules and names are as they were.
pub(super) fn connect(
    shared: &Shared,
    spec: &SandboxSpec,
    plan: &Plan<'_>,
    previous: Option<&Sandbox>,
) -> Result<Vec<PublishedPort>> {
    let before = previous.map(|sandbox| sandbox.published.as_slice()).unwrap_or_default();
    let targets = targets(spec, plan);
    let changes = PortChanges::new(&spec.publish, &targets, shared.config.proxy, before);
    let fresh = hold_and_announce(shared, spec, plan, &changes)?;
    let added: Vec<PublishedPort> = fresh.iter().chain(&changes.routed).copied().collect();
    if let Err(cause) = write_rules(shared, plan, &changes.released, &added, previous) {
        take_back(shared, spec.id, &fresh);
        return Err(cause);
    }
    Ok(changes.kept.iter().chain(&added).copied().collect())
}

/// Undoes [`connect`] for a whole sandbox.
pub(super) fn disconnect(shared: &Shared, sandbox: &Sandbox) -> Vec<NetError> {
    let mut errors = Vec::new();
    {
        let mut registry = shared.ports.lock().unwrap_or_else(PoisonError::into_inner);
        sandbox.published.iter().for_each(|port| registry.release(sandbox.id, port));
    }
    let mut changes: Vec<Change> = sandbox.published.iter().filter_map(release).collect();
    changes.push(Change::RemoveResolver(sandbox.id));
    changes.extend(sandbox.endpoints.iter().map(|endpoint| Change::RemoveRecord(endpoint.id)));
    errors.extend(shared.netd.apply(changes).err());
    for family in Family::ALL {
        let mut elements = port_elements(&sandbox.published, family);
        elements.extend(sandbox.endpoints.iter().flat_map(|endpoint| link_elements(endpoint, family)));
        errors.extend(shared.firewall.remove(family, &elements).err());
    }
    errors.extend(shared.firewall.forget_connections(&sandbox.published).err());
    errors
}

/// How netd serves names in a sandbox.
pub(super) fn resolver(shared: &Shared, spec: &SandboxSpec) -> Option<Resolver> {
    let resolver = spec.resolver.as_ref()?;
    Some(Resolver {
        sandbox: spec.id,
        netns: shared.netns_path(&spec.id),
        networks: spec.endpoints.iter().map(|endpoint| endpoint.network.id.clone()).collect(),
        upstreams: resolver.upstreams.clone(),
        ndots: resolver.ndots,
        forwarding: resolver.forwarding,
        links: resolver.links.clone(),
    })
}

/// The names of a sandbox's endpoints.
pub(super) fn records(spec: &SandboxSpec, endpoints: &[Endpoint]) -> Vec<Record> {
    let named = spec.endpoints.iter().zip(endpoints).filter(|(wanted, _)| !wanted.names.is_empty());
    named
        .map(|(wanted, endpoint)| Record {
            endpoint: endpoint.id,
            network: endpoint.network.clone(),
            network_name: wanted.network.name.clone(),
            names: wanted.names.clone(),
            addresses: endpoint.addresses.iter().map(IpNet::addr).collect(),
        })
        .collect()
}

/// Where netd proxies what reaches a held port; absent when nothing shall be proxied.
pub(super) fn proxy_target(shared: &Shared, target: SocketAddr) -> Option<SocketAddr> {
    (shared.config.proxy == Management::Managed).then_some(target)
}

fn targets(spec: &SandboxSpec, plan: &Plan<'_>) -> Targets {
    let target = |family| {
        let (index, address) = plan.gateway_endpoint(family)?;
        let mode = published_mode(&spec.endpoints[index].network, family)?;
        Some(Target { endpoint: plan.endpoints[index].id, address, mode })
    };
    let gateway = plan.gateway_endpoint(Family::V4).or_else(|| plan.gateway_endpoint(Family::V6));
    let default_binding = gateway.and_then(|(index, _)| match &spec.endpoints[index].network.driver {
        DriverSpec::Bridge(bridge) => Some(bridge.default_binding.clone()),
        DriverSpec::Macvlan(_) | DriverSpec::Overlay(_) | DriverSpec::Host | DriverSpec::None => None,
    });
    Targets {
        v4: target(Family::V4),
        v6: target(Family::V6),
        also_routed: Family::ALL.into_iter().flat_map(|family| routed_besides(spec, plan, family)).collect(),
        default_binding: default_binding.unwrap_or_default(),
    }
}

/// A container's addresses in routed networks that do not have the default route.
fn routed_besides(spec: &SandboxSpec, plan: &Plan<'_>, family: Family) -> Vec<Target> {
    let gateway = plan.gateway_endpoint(family).map(|(index, _)| index);
    let others = spec.endpoints.iter().zip(&plan.endpoints).enumerate();
    let others = others.filter(|(index, _)| Some(*index) != gateway);
    others
        .filter_map(|(_, (wanted, endpoint))| {
            let mode = published_mode(&wanted.network, family)?;
            let address = endpoint.addresses.iter().map(IpNet::addr).find(|a| Family::of(*a) == family)?;
            (mode == GatewayMode::Routed).then_some(Target { endpoint: endpoint.id, address, mode })
        })
        .collect()
}

/// One message to netd: ports that go, ports that are wanted, the resolver, the names.
fn hold_and_announce(
    shared: &Shared,
    spec: &SandboxSpec,
    plan: &Plan<'_>,
    changes: &PortChanges,
) -> Result<Vec<PublishedPort>> {
    let mut registry = shared.ports.lock().unwrap_or_else(PoisonError::into_inner);
    changes.released.iter().for_each(|port| registry.release(spec.id, port));
    let result = ask_netd(shared, spec, plan, changes, &mut registry);
    match &result {
        Ok(held) => held.iter().for_each(|port| registry.take(spec.id, port)),
        Err(_) => changes.released.iter().for_each(|port| registry.take(spec.id, port)),
    }
    result
}

fn ask_netd(
    shared: &Shared,
    spec: &SandboxSpec,
    plan: &Plan<'_>,
    changes: &PortChanges,
    registry: &mut Registry,
) -> Result<Vec<PublishedPort>> {
    let any_ephemeral =
        changes.wanted.iter().any(|planned| planned.request.host_ports == HostPorts::Ephemeral);
    let range = any_ephemeral.then(|| sysctl::read("net.ipv4.ip_local_port_range")).flatten();
    let ephemeral = parse_ephemeral_range(range.as_deref());
    let mut messages = Vec::new();
    for planned in &changes.wanted {
        messages.push(Change::Hold(hold_request(shared, planned, registry, ephemeral)?));
    }
    messages.extend(resolver(shared, spec).map(Change::Resolver));
    messages.extend(records(spec, &plan.endpoints).into_iter().map(Change::Record));
    messages.extend(plan.leaving.iter().map(|endpoint| Change::RemoveRecord(endpoint.id)));
    if spec.resolver.is_none() {
        messages.push(Change::RemoveResolver(spec.id));
    }
    let outcomes = shared.netd.apply(messages)?;
    let mut held = Vec::new();
    let mut failure = None;
    for (index, outcome) in outcomes.into_iter().enumerate() {
        match (changes.wanted.get(index), outcome) {
            (Some(planned), Outcome::Held { port, addresses }) => {
                held.extend(
                    published(planned, port).filter(|p| p.host.is_some_and(|h| addresses.contains(&h.ip()))),
                );
                if planned.request.host_ports == HostPorts::Ephemeral {
                    registry.used_ephemeral(port);
                }
            }
            (planned, Outcome::Failed { errno, text, at }) => {
                failure.get_or_insert_with(|| refusal(planned, errno, text, at));
            }
            (_, Outcome::Done | Outcome::Held { .. }) => {}
        }
    }
    match failure {
        None => {
            release_gone(shared, changes, &held)?;
            Ok(held)
        }
        Some(cause) => {
            let undo = held.iter().filter_map(release).chain(forget_names(spec, plan)).collect();
            if let Err(error) = shared.netd.apply(undo) {
                tracing::warn!(sandbox.id = %spec.id, %error, "could not give back held ports");
            }
            Err(cause)
        }
    }
}

/// Lets go of ports that nobody took over; after the others are held, so that a failure changes nothing.
fn release_gone(shared: &Shared, changes: &PortChanges, held: &[PublishedPort]) -> Result<()> {
    let taken_over = |port: &&PublishedPort| {
        held.iter().any(|other| other.protocol == port.protocol && other.host == port.host)
    };
    let gone = changes.released.iter().filter(|port| !taken_over(port)).filter_map(release).collect();
    shared.netd.apply(gone).map(|_| ())
}

/// The names that a failed call announced; those of endpoints that stay are harmless, as they were there before.
fn forget_names(spec: &SandboxSpec, plan: &Plan<'_>) -> Vec<Change> {
    let joined = plan.joining.iter().map(|&index| Change::RemoveRecord(plan.endpoints[index].id));
    let fresh = plan.joining.len() == plan.endpoints.len();
    joined.chain(fresh.then_some(Change::RemoveResolver(spec.id))).collect()
}

fn hold_request(
    shared: &Shared,
    planned: &Planned,
    registry: &Registry,
    ephemeral: (u16, u16),
) -> Result<HoldRequest> {
    let candidates = registry.candidates(planned, ephemeral)?;
    let port = planned.request.container_port;
    let target = |address| proxy_target(shared, SocketAddr::new(address, port));
    Ok(HoldRequest {
        protocol: planned.request.protocol,
        bindings: planned.bindings.iter().map(|b| (b.address, target(b.target.address))).collect(),
        first: candidates.first,
        last: candidates.last,
        start: candidates.start,
        wildcard: planned.request.host_ip.is_none(),
    })
}

fn published(planned: &Planned, port: u16) -> impl Iterator<Item = PublishedPort> + '_ {
    planned.bindings.iter().map(move |binding| PublishedPort {
        container_port: planned.request.container_port,
        protocol: planned.request.protocol,
        host: Some(SocketAddr::new(binding.address, port)),
        target: SocketAddr::new(binding.target.address, planned.request.container_port),
        endpoint: binding.target.endpoint,
    })
}

fn refusal(planned: Option<&Planned>, errno: i32, text: String, at: Option<SocketAddr>) -> NetError {
    match (planned, at) {
        (Some(planned), Some(address)) => {
            NetError::PortBind { address, protocol: planned.request.protocol, source: bind_error(errno) }
        }
        (Some(_), None) => NetError::PortsExhausted,
        (None, _) => NetError::Netd { what: text, source: io::Error::from_raw_os_error(errno) },
    }
}

/// Docker's words for the common case, in which Go and Rust differ by a capital letter and a number.
fn bind_error(errno: i32) -> io::Error {
    match errno {
        libc::EADDRINUSE => io::Error::new(io::ErrorKind::AddrInUse, "address already in use"),
        libc::EADDRNOTAVAIL => {
            io::Error::new(io::ErrorKind::AddrNotAvailable, "cannot assign requested address")
        }
        other => io::Error::from_raw_os_error(other),
    }
}

fn release(port: &PublishedPort) -> Option<Change> {
    port.host.map(|address| Change::Release(PortKey { protocol: port.protocol, address }))
}

fn write_rules(
    shared: &Shared,
    plan: &Plan<'_>,
    released: &[PublishedPort],
    added: &[PublishedPort],
    previous: Option<&Sandbox>,
) -> Result<()> {
    let links = |endpoints: &[Endpoint], family| -> Vec<Element> {
        endpoints.iter().flat_map(|endpoint| link_elements(endpoint, family)).collect()
    };
    let published = previous.map(|sandbox| sandbox.published.as_slice()).unwrap_or_default();
    let kept: Vec<PublishedPort> =
        published.iter().filter(|port| !released.contains(port)).copied().collect();
    for family in Family::ALL {
        // An endpoint that stays may have other links than before.
        let before = previous.map(|sandbox| links(&sandbox.endpoints, family)).unwrap_or_default();
        let wanted = links(&plan.endpoints, family);
        // Two ports of the node may lead to the same one of the container.
        let stay: Vec<Element> = port_elements(&kept, family);
        let mut gone = port_elements(released, family);
        gone.retain(|element| !stay.contains(element));
        gone.extend(before.iter().filter(|link| !wanted.contains(link)).cloned());
        shared.firewall.remove(family, &gone)?;
        let mut fresh = port_elements(added, family);
        fresh.extend(wanted.into_iter().filter(|link| !before.contains(link)));
        shared.firewall.add(family, fresh)?;
    }
    shared.firewall.forget_connections(released)?;
    shared.firewall.forget_connections(added)
}

fn take_back(shared: &Shared, sandbox: SandboxId, fresh: &[PublishedPort]) {
    let mut registry = shared.ports.lock().unwrap_or_else(PoisonError::into_inner);
    fresh.iter().for_each(|port| registry.release(sandbox, port));
    if let Err(error) = shared.netd.apply(fresh.iter().filter_map(release).collect()) {
        tracing::warn!(sandbox.id = %sandbox, %error, "could not give back held ports");
    }
    for family in Family::ALL {
        if let Err(error) = shared.firewall.remove(family, &port_elements(fresh, family)) {
            tracing::warn!(sandbox.id = %sandbox, %error, "could not take back rules");
        }
    }
}
