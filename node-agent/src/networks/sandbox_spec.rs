//! What a container's plan is for the mechanism. PURE.
//!
//! Start reading at `State::sandbox_spec`. The questions that the texts of a container's files ask of the state are here as
//! well (`State::linked`).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use overlay_net::{
    DriverSpec, EndpointSpec as NetEndpoint, Forwarding, HostPorts, LinkFlow, Protocol as NetProtocol,
    PublishSpec, Reach, Sandbox, SandboxMode, SandboxSpec,
};
use shoal_types::container::networking::{NetworkMode, PortPublish, PortSpec, Protocol};
use shoal_types::{ContainerId, NetworkId};

use super::files::Resolver;
use super::plans::{Assignment, Plan, Purpose};
use super::{DEFAULT_BRIDGE, Entry, State, kernel, predefined, wishes};
use crate::containers::ports::{NamespaceOwner, NetworkRequest};

impl State {
    /// What a container's plan is for the mechanism, and what is there already.
    pub(super) fn sandbox_spec(
        &self,
        container: ContainerId,
        resolver: impl FnOnce(&NetworkRequest) -> Resolver,
    ) -> Option<(SandboxSpec, Option<Sandbox>)> {
        let plan = self.plans.get(&container)?;
        let endpoints: Vec<NetEndpoint> =
            plan.assignments.iter().filter_map(|given| self.endpoint_spec(plan, given)).collect();
        let is_internal = plan.assignments.iter().all(|given| self.is_internal(&given.network));
        let forwarding = if is_internal { Forwarding::Refused } else { Forwarding::Allowed };
        let resolver_spec = self
            .has_resolver(container)
            .then(|| resolver(&plan.request).spec(forwarding, scoped_links(&plan.request)));
        let spec = SandboxSpec {
            id: plan.id,
            mode: sandbox_mode(&plan.request),
            endpoints,
            publish: publish(&plan.request),
            sysctls: plan.request.sysctls.clone(),
            resolver: resolver_spec,
        };
        Some((spec, plan.sandbox.clone()))
    }

    fn endpoint_spec(&self, plan: &Plan, given: &Assignment) -> Option<NetEndpoint> {
        let entry = self.networks.get(&given.network)?;
        if matches!(entry.kernel.driver, DriverSpec::Host | DriverSpec::None) {
            return None;
        }
        let wish = plan.request.networking.endpoints.get(&given.name).cloned().unwrap_or_default();
        let option = |name: &str| wish.driver_options.get(name);
        let sysctls = wishes::endpoint_sysctls(&wish).map(str::to_owned).collect();
        Some(NetEndpoint {
            id: given.endpoint,
            network: Arc::clone(&entry.kernel),
            addresses: given.addresses.clone(),
            mac: wish.mac_address.as_deref().and_then(|mac| mac.parse().ok()),
            ifname: option("com.docker.network.endpoint.ifname").and_then(|name| name.parse().ok()),
            gateway_priority: wish.gateway_priority,
            sysctls,
            // Names in networks that span nodes are the managers' to tell.
            names: if is_user_defined(entry) && given.purpose == Purpose::Asked && !is_overlay(entry) {
                wishes::dns_names(&plan.request, &wish)
            } else {
                Vec::new()
            },
            links: self.link_flows(plan, given),
        })
    }

    /// What a container may reach at those it links to although `icc=false` keeps others away: the ports they expose.
    fn link_flows(&self, plan: &Plan, given: &Assignment) -> Vec<LinkFlow> {
        if given.name != DEFAULT_BRIDGE {
            return Vec::new();
        }
        let linked = plan.request.links.iter().filter_map(|link| self.plans.get(&link.container));
        let flows = linked.flat_map(|server| {
            let here = server.assignments.iter().filter(|other| other.network == given.network);
            let addresses = here.flat_map(|other| &other.addresses).map(IpNet::addr);
            addresses.flat_map(|address| {
                server.request.networking.exposed.iter().map(move |port| LinkFlow {
                    server: address,
                    port: port.port,
                    protocol: to_net(port.protocol),
                })
            })
        });
        flows.collect()
    }

    /// Whether the embedded server answers in a container: one of its networks is user-defined.
    pub(super) fn has_resolver(&self, container: ContainerId) -> bool {
        let Some(plan) = self.plans.get(&container) else { return false };
        plan.assignments.iter().any(|given| self.networks.get(&given.network).is_some_and(is_user_defined))
    }

    fn is_internal(&self, network: &NetworkId) -> bool {
        self.networks.get(network).is_some_and(|entry| match &entry.kernel.driver {
            DriverSpec::Bridge(bridge) => bridge.reach == Reach::Internal,
            DriverSpec::Macvlan(macvlan) => macvlan.reach == Reach::Internal,
            DriverSpec::Overlay(overlay) => overlay.reach == Reach::Internal,
            DriverSpec::Host | DriverSpec::None => false,
        })
    }

    /// Lines of the hosts file for containers that are linked in the old way, on the default bridge.
    pub(super) fn linked(&self, request: &NetworkRequest) -> Vec<(IpAddr, Vec<String>)> {
        let Some(bridge) = self.by_name(DEFAULT_BRIDGE) else { return Vec::new() };
        let line = |link: &crate::containers::ports::LinkTarget| {
            let status = &bridge.members.get(&link.container)?.status;
            let address = status.ipv4.map(|net| IpAddr::V4(net.addr()))?;
            let mut names = vec![link.alias.clone(), link.hostname.clone()];
            if link.alias != link.name {
                names.push(link.name.clone());
            }
            Some((address, names))
        };
        request.links.iter().filter_map(line).collect()
    }

    /// The addresses that the default bridge is reached at.
    pub(super) fn default_gateways(&self) -> Vec<IpAddr> {
        let Some(bridge) = self.by_name(DEFAULT_BRIDGE) else { return Vec::new() };
        let (v4, v6) = kernel::gateways(&bridge.kernel);
        v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6)).collect()
    }
}

/// Whose namespace a container gets.
pub(super) fn sandbox_mode(request: &NetworkRequest) -> SandboxMode {
    match request.networking.mode {
        NetworkMode::Host => SandboxMode::Host,
        NetworkMode::DefaultBridge
        | NetworkMode::None
        | NetworkMode::Container(_)
        | NetworkMode::Network(_) => match request.owner {
            NamespaceOwner::Host => SandboxMode::Private,
            NamespaceOwner::Container => SandboxMode::Remapped(None),
            NamespaceOwner::Peer(process) => SandboxMode::Remapped(Some(process)),
        },
    }
}

/// Whether the embedded server knows the names of a network's members.
pub(super) fn is_user_defined(entry: &Entry) -> bool {
    !predefined::is_name(&entry.network.spec.name)
}

/// Whether a network spans nodes.
fn is_overlay(entry: &Entry) -> bool {
    matches!(entry.kernel.driver, DriverSpec::Overlay(_))
}

/// Names that only this container knows: `container[:alias]` of its endpoints.
fn scoped_links(request: &NetworkRequest) -> Vec<(String, String)> {
    let links = request.networking.endpoints.values().flat_map(|endpoint| &endpoint.links);
    let pair = |link: &String| {
        let (container, alias) = link.split_once(':').unwrap_or((link, link));
        (alias.to_owned(), container.to_owned())
    };
    links.map(pair).collect()
}

/// What to publish: what was asked for, and with `--publish-all` every other exposed port.
fn publish(request: &NetworkRequest) -> Vec<PublishSpec> {
    let networking = &request.networking;
    let from_wish = |wish: &PortPublish| PublishSpec {
        container_port: wish.container_port.port,
        protocol: to_net(wish.container_port.protocol),
        host_ip: wish.host_ip,
        host_ports: wish
            .host_ports
            .map_or(HostPorts::Ephemeral, |(first, last)| HostPorts::Range(first, last)),
    };
    let mut all: Vec<PublishSpec> = networking.published.iter().map(from_wish).collect();
    if networking.publish_all {
        let is_published =
            |port: &PortSpec| networking.published.iter().any(|wish| wish.container_port == *port);
        all.extend(networking.exposed.iter().filter(|port| !is_published(port)).map(|port| PublishSpec {
            container_port: port.port,
            protocol: to_net(port.protocol),
            host_ip: None,
            host_ports: HostPorts::Ephemeral,
        }));
    }
    all
}

/// A protocol as the mechanism names it.
pub(super) fn to_net(protocol: Protocol) -> NetProtocol {
    match protocol {
        Protocol::Tcp => NetProtocol::Tcp,
        Protocol::Udp => NetProtocol::Udp,
        Protocol::Sctp => NetProtocol::Sctp,
    }
}

/// The way back of [`to_net`].
pub(super) fn from_net(protocol: NetProtocol) -> Protocol {
    match protocol {
        NetProtocol::Tcp => Protocol::Tcp,
        NetProtocol::Udp => Protocol::Udp,
        NetProtocol::Sctp => Protocol::Sctp,
    }
}
