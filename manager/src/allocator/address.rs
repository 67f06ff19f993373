//! Addresses within a network: round the ring, so that one that was given back rests as long as possible.
//!
//! Start reading at [`Allocator::choose_address`].

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use shoal_types::cluster::network::{AllocatedPool, ClusterNetwork};

use super::{Allocator, Shortage};
use crate::store::Snapshot;

impl Allocator {
    /// A free address of a network, with the prefix of its subnet. Only IPv4 is given out, as in swarm.
    pub(crate) fn choose_address(
        &mut self,
        view: &Snapshot,
        network: &ClusterNetwork,
    ) -> Result<IpNet, Shortage> {
        let allocation =
            network.allocation.as_ref().ok_or_else(|| Shortage::NotReady(network.spec.name.clone()))?;
        let last = match self.addresses.get(&network.id) {
            Some(IpAddr::V4(last)) => Some(*last),
            _ => None,
        };
        for pool in &allocation.pools {
            let IpNet::V4(subnet) = pool.subnet else { continue };
            let is_free = |address: Ipv4Addr| view.is_free_address(&network.id, address.into());
            if let Some(address) = ring(pool, subnet, last).find(|&address| is_free(address)) {
                self.addresses.insert(network.id.clone(), address.into());
                let net = Ipv4Net::new(address, subnet.prefix_len()).map(IpNet::V4);
                return net.map_err(|_| Shortage::Addresses(network.spec.name.clone()));
            }
        }
        Err(Shortage::Addresses(network.spec.name.clone()))
    }
}

/// The addresses that a pool may give out, beginning after `last` and ending with it.
fn ring(pool: &AllocatedPool, subnet: Ipv4Net, last: Option<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> {
    let (first, end) = match pool.range {
        Some(IpNet::V4(range)) => (range.network().to_bits(), range.broadcast().to_bits()),
        _ => (subnet.network().to_bits(), subnet.broadcast().to_bits()),
    };
    let reserved = [subnet.network(), subnet.broadcast()];
    let gateway = pool.gateway;
    let start = last.map(Ipv4Addr::to_bits).filter(|last| (first..end).contains(last));
    let start = start.map_or(first, |last| last.saturating_add(1));
    (start..=end)
        .chain(first..start)
        .map(Ipv4Addr::from_bits)
        .filter(move |address| !reserved.contains(address) && gateway != IpAddr::V4(*address))
}
