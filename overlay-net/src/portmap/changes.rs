//! What has to change when the published ports of a container are compared with what it has. PURE.
//!
//! Start reading at [`PortChanges::new`]. A port that still leads to the same place is left alone; one whose container
//! got another address keeps its number.

use std::net::SocketAddr;

use super::{Planned, Targets, plan};
use crate::host::Management;
use crate::spec::{HostPorts, PublishSpec, PublishedPort};

/// The difference between the wanted and the present ports.
#[derive(Debug, Default)]
pub(crate) struct PortChanges {
    /// Stay as they are.
    pub(crate) kept: Vec<PublishedPort>,
    /// Go.
    pub(crate) released: Vec<PublishedPort>,
    /// Have to be found and held.
    pub(crate) wanted: Vec<Planned>,
    /// Are open at the container's own address.
    pub(crate) routed: Vec<PublishedPort>,
}

impl PortChanges {
    /// Compares requests with the ports of an earlier call.
    pub(crate) fn new(
        requests: &[PublishSpec],
        targets: &Targets,
        proxy: Management,
        previous: &[PublishedPort],
    ) -> Self {
        let mut changes = Self::default();
        let mut present = previous.to_vec();
        for request in requests {
            let mut planned = plan(*request, targets, proxy);
            changes.take_routed(&planned, &mut present);
            if planned.bindings.is_empty() {
                continue;
            }
            match unchanged(&planned, &present) {
                Some(kept) => {
                    present.retain(|port| !kept.contains(port));
                    changes.kept.extend(kept);
                }
                None => {
                    if let Some(number) = same_number(&planned, &present) {
                        planned.request.host_ports = HostPorts::Range(number, number);
                    }
                    changes.wanted.push(planned);
                }
            }
        }
        changes.released = present;
        changes
    }

    fn take_routed(&mut self, planned: &Planned, present: &mut Vec<PublishedPort>) {
        for port in &planned.routed {
            match present.iter().position(|other| other == port) {
                Some(index) => self.kept.push(present.swap_remove(index)),
                None => self.routed.push(*port),
            }
        }
    }
}

/// The present ports that fulfil the whole request, when there are such.
fn unchanged(planned: &Planned, present: &[PublishedPort]) -> Option<Vec<PublishedPort>> {
    let request = planned.request;
    let number = same_number(planned, present)?;
    let fits = match request.host_ports {
        HostPorts::Ephemeral => true,
        HostPorts::Range(first, last) => (first..=last).contains(&number),
    };
    let found: Vec<PublishedPort> = planned
        .bindings
        .iter()
        .filter_map(|binding| {
            let wanted = PublishedPort {
                container_port: request.container_port,
                protocol: request.protocol,
                host: Some(SocketAddr::new(binding.address, number)),
                target: SocketAddr::new(binding.target.address, request.container_port),
                endpoint: binding.target.endpoint,
            };
            present.contains(&wanted).then_some(wanted)
        })
        .collect();
    // A family that the node lacks was left out before and is left out again.
    (fits && !found.is_empty()).then_some(found)
}

/// The number that the request's first address has now.
fn same_number(planned: &Planned, present: &[PublishedPort]) -> Option<u16> {
    let request = planned.request;
    let first = planned.bindings.first()?;
    present
        .iter()
        .filter(|port| port.container_port == request.container_port && port.protocol == request.protocol)
        .filter_map(|port| port.host)
        .filter(|host| host.ip() == first.address)
        .map(|host| host.port())
        .find(|port| match request.host_ports {
            HostPorts::Ephemeral => true,
            HostPorts::Range(low, high) => (low..=high).contains(port),
        })
}
