//! Ports of the nodes that lead to services.
//!
//! Start reading at [`Allocator::choose_ports`].

use std::ops::RangeInclusive;

use shoal_types::cluster::service::{PublishMode, PublishedServicePort, Service};
use shoal_types::container::networking::Protocol;

use super::{Allocator, Shortage};
use crate::store::Snapshot;

/// Ports that are given out when none is asked for (swarm's).
const RANGE: RangeInclusive<u16> = 30_000..=32_767;

impl Allocator {
    /// The ports of a service with their numbers. One that it was given stays while the service asks for the same.
    pub(super) fn choose_ports(
        &mut self,
        view: &Snapshot,
        service: &Service,
    ) -> Result<Vec<PublishedServicePort>, Shortage> {
        let mut chosen: Vec<PublishedServicePort> = Vec::new();
        let mut given = service.endpoint.ports.clone();
        for wish in &service.spec.endpoint.ports {
            if wish.mode == PublishMode::Host || wish.published != 0 {
                let owner = view.service_of_port(wish.protocol, wish.published);
                if wish.mode == PublishMode::Ingress && owner.is_some_and(|owner| owner != service.id) {
                    return Err(Shortage::PortTaken(wish.published));
                }
                chosen.push(wish.clone());
                continue;
            }
            let is_same = |port: &PublishedServicePort| {
                port.mode == wish.mode && port.protocol == wish.protocol && port.target == wish.target
            };
            let kept = given.iter().position(is_same).map(|place| given.swap_remove(place).published);
            let kept = kept.filter(|&port| {
                let owner = view.service_of_port(wish.protocol, port);
                port != 0 && owner.is_none_or(|owner| owner == service.id)
            });
            let published = match kept {
                Some(port) => port,
                None => self.next_port(view, wish.protocol, &chosen)?,
            };
            chosen.push(PublishedServicePort { published, ..wish.clone() });
        }
        Ok(chosen)
    }

    fn next_port(
        &mut self,
        view: &Snapshot,
        protocol: Protocol,
        chosen: &[PublishedServicePort],
    ) -> Result<u16, Shortage> {
        let (first, last) = RANGE.into_inner();
        let start = self.ports.get(&protocol).map_or(first, |port| port.saturating_add(1));
        let is_free = |&port: &u16| {
            view.service_of_port(protocol, port).is_none()
                && !chosen.iter().any(|other| other.protocol == protocol && other.published == port)
        };
        let port = (start..=last).chain(first..start).find(is_free).ok_or(Shortage::Ports)?;
        self.ports.insert(protocol, port);
        Ok(port)
    }
}
