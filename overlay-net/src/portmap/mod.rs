//! Published ports: which host addresses and ports, leading where.
//!
//! Start reading at [`plan`] (PURE: what a request means for this container) and [`Registry`] (PURE: which ports of the
//! node our containers have). The sockets that hold the ports are netd's, the translation is the firewall's, and
//! [`proxy`] is for connections that the kernel cannot translate.

pub(crate) mod changes;
pub(crate) mod proxy;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shoal_types::{EndpointId, SandboxId};

use crate::error::{NetError, Result};
use crate::firewall::Family;
use crate::host::Management;
use crate::spec::{GatewayMode, HostPorts, Protocol, PublishSpec, PublishedPort};

/// Where the connections of one address family go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) endpoint: EndpointId,
    pub(crate) address: IpAddr,
    pub(crate) mode: GatewayMode,
}

/// The container as published ports see it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Targets {
    pub(crate) v4: Option<Target>,
    pub(crate) v6: Option<Target>,
    /// Addresses in routed networks that do not have the default route: ports are open there too.
    pub(crate) also_routed: Vec<Target>,
    /// Addresses for requests that name none.
    pub(crate) default_binding: Vec<IpAddr>,
}

/// One address to hold a port on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) address: IpAddr,
    pub(crate) target: Target,
}

/// What one request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) request: PublishSpec,
    /// Addresses that must get the same port.
    pub(crate) bindings: Vec<Binding>,
    /// Ports that are open at the container's own address and need none on the node.
    pub(crate) routed: Vec<PublishedPort>,
}

/// Decides which addresses of the node a request concerns and where each leads.
pub(crate) fn plan(request: PublishSpec, targets: &Targets, proxy: Management) -> Planned {
    let wildcard = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let addresses: Vec<IpAddr> = match request.host_ip {
        Some(address) => vec![address],
        None if targets.default_binding.is_empty() => wildcard.to_vec(),
        None => targets.default_binding.clone(),
    };
    let mut planned = Planned { request, bindings: Vec::new(), routed: Vec::new() };
    let is_asked = |family| addresses.iter().any(|address| Family::of(*address) == family);
    let besides = targets.also_routed.iter().filter(|target| is_asked(Family::of(target.address)));
    planned.routed.extend(besides.map(|target| open(request, target)));
    for address in addresses {
        let own = match Family::of(address) {
            Family::V4 => targets.v4,
            // A container without IPv6 is still reachable through the node's IPv6 addresses, by proxy.
            Family::V6 => targets.v6.or_else(|| targets.v4.filter(|_| proxy == Management::Managed)),
        };
        let Some(target) = own else { continue };
        match target.mode {
            GatewayMode::Nat | GatewayMode::NatDirect | GatewayMode::NatUnprotected => {
                planned.bindings.push(Binding { address, target });
            }
            GatewayMode::Routed if Family::of(address) == Family::of(target.address) => {
                planned.routed.push(open(request, &target));
            }
            GatewayMode::Routed | GatewayMode::Isolated => {}
        }
    }
    planned
}

/// A port that is open at the container's own address.
fn open(request: PublishSpec, target: &Target) -> PublishedPort {
    PublishedPort {
        container_port: request.container_port,
        protocol: request.protocol,
        host: None,
        target: SocketAddr::new(target.address, request.container_port),
        endpoint: target.endpoint,
    }
}

/// Which ports of the node our containers have.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    taken: BTreeMap<(Protocol, u16), Vec<(IpAddr, SandboxId)>>,
    /// Where the search for an ephemeral port goes on, so that a freed port is not reused at once.
    next_ephemeral: u16,
}

/// Ports to try, in order: from `start` to `last`, then from `first` to `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidates {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) start: u16,
}

impl Registry {
    /// Which ports to try for a request; fails when another container has all of them.
    pub(crate) fn candidates(&self, planned: &Planned, ephemeral: (u16, u16)) -> Result<Candidates> {
        let (first, last, start) = match planned.request.host_ports {
            HostPorts::Range(first, last) => (first, last, first),
            HostPorts::Ephemeral => {
                let (first, last) = ephemeral;
                (first, last, self.next_ephemeral.clamp(first, last))
            }
        };
        let free = (first..=last).any(|port| self.holder(planned, port).is_none());
        if free {
            return Ok(Candidates { first, last, start });
        }
        let taken =
            planned.bindings.iter().find(|binding| self.conflict(binding, planned.request.protocol, first));
        match taken {
            Some(binding) if first == last => {
                Err(NetError::PortAllocated { address: SocketAddr::new(binding.address, first) })
            }
            _ => Err(NetError::PortsExhausted),
        }
    }

    /// Records that a sandbox has a port.
    pub(crate) fn take(&mut self, sandbox: SandboxId, port: &PublishedPort) {
        if let Some(host) = port.host {
            let holders = self.taken.entry((port.protocol, host.port())).or_default();
            if !holders.contains(&(host.ip(), sandbox)) {
                holders.push((host.ip(), sandbox));
            }
        }
    }

    /// Moves the search for ephemeral ports behind this one.
    pub(crate) fn used_ephemeral(&mut self, port: u16) {
        self.next_ephemeral = port.saturating_add(1);
    }

    /// Forgets that a sandbox has a port.
    pub(crate) fn release(&mut self, sandbox: SandboxId, port: &PublishedPort) {
        let Some(host) = port.host else { return };
        let key = (port.protocol, host.port());
        if let Some(holders) = self.taken.get_mut(&key) {
            holders.retain(|holder| *holder != (host.ip(), sandbox));
            if holders.is_empty() {
                self.taken.remove(&key);
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.taken.clear();
    }

    fn holder(&self, planned: &Planned, port: u16) -> Option<IpAddr> {
        let protocol = planned.request.protocol;
        planned
            .bindings
            .iter()
            .find(|binding| self.conflict(binding, protocol, port))
            .map(|binding| binding.address)
    }

    fn conflict(&self, binding: &Binding, protocol: Protocol, port: u16) -> bool {
        let holders = self.taken.get(&(protocol, port)).map(Vec::as_slice).unwrap_or_default();
        holders.iter().any(|(held, _)| overlap(*held, binding.address))
    }
}

/// Whether two addresses cannot have the same port: equal, or one of them is every address of its family.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    Family::of(a) == Family::of(b) && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// Reads the kernel's ephemeral range as it stands in `ip_local_port_range`; Docker's default when unreadable.
pub(crate) fn parse_ephemeral_range(text: Option<&str>) -> (u16, u16) {
    const DEFAULT: (u16, u16) = (49153, 65535);
    let mut numbers = text.unwrap_or_default().split_whitespace().map(str::parse::<u16>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first > 0 && first <= last => (first, last),
        _ => DEFAULT,
    }
}

#[cfg(test)]
mod tests;
