//! Addresses within a network: round the ring, so that one that was given back rests as long as possible.
//!
//! Start reading at [`Allocator::choose_addresses`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use shoal_types::cluster::network::{AllocatedPool, ClusterNetwork};

use super::{Allocator, Shortage};
use crate::store::Snapshot;

/// Which kind of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// The families of which everybody in a network has an address. In ingress that is IPv4 alone: nodes are reached there by clients
/// of published ports, and their gateway bridges have nothing else.
pub(crate) fn families(network: &ClusterNetwork) -> impl Iterator<Item = Family> + '_ {
    let pools = network.allocation.iter().flat_map(|allocation| &allocation.pools);
    let has = move |family| pools.clone().any(|pool| Family::of(pool.subnet.addr()) == family);
    let is_meant = move |family: &Family| *family == Family::V4 || !network.spec.ingress;
    [Family::V4, Family::V6].into_iter().filter(is_meant).filter(move |family| has(*family))
}

impl Allocator {
    /// Free addresses of a network, one of each of its families, IPv4 first.
    pub(crate) fn choose_addresses(
        &mut self,
        view: &Snapshot,
        network: &ClusterNetwork,
    ) -> Result<Vec<IpNet>, Shortage> {
        if network.allocation.is_none() {
            return Err(Shortage::NotReady(network.spec.name.clone()));
        }
        families(network).map(|family| self.choose_address(view, network, family)).collect()
    }

    /// A free address of a network, with the prefix of its subnet.
    pub(crate) fn choose_address(
        &mut self,
        view: &Snapshot,
        network: &ClusterNetwork,
        family: Family,
    ) -> Result<IpNet, Shortage> {
        let allocation =
            network.allocation.as_ref().ok_or_else(|| Shortage::NotReady(network.spec.name.clone()))?;
        let exhausted = || Shortage::Addresses(network.spec.name.clone());
        let last = self.addresses.get(&(network.id.clone(), family)).copied();
        let kept: Vec<IpAddr> =
            network.spec.ipam.pools.iter().flat_map(|pool| pool.auxiliary.values().copied()).collect();
        for pool in allocation.pools.iter().filter(|pool| Family::of(pool.subnet.addr()) == family) {
            let is_free =
                |address: &IpAddr| !kept.contains(address) && view.is_free_address(&network.id, *address);
            if let Some(address) = ring(pool, last).find(is_free) {
                self.addresses.insert((network.id.clone(), family), address);
                return IpNet::new(address, pool.subnet.prefix_len()).map_err(|_| exhausted());
            }
        }
        Err(exhausted())
    }
}

/// The addresses that a pool may give out, beginning after `last` and ending with it.
fn ring(pool: &AllocatedPool, last: Option<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let (subnet, gateway) = (pool.subnet, pool.gateway);
    let part = pool.range.unwrap_or(subnet);
    let (first, end) = (bits(part.network()), bits(part.broadcast()));
    let start = last.filter(|last| part.contains(last)).map(bits).filter(|last| *last < end);
    let start = start.map_or(first, |last| last.saturating_add(1));
    let family = Family::of(subnet.addr());
    (start..=end).chain(first..start).map(move |bits| address(family, bits)).filter(move |address| {
        // The first address of an IPv6 subnet is every router's (RFC 4291, section 2.6.1); there is no broadcast.
        let is_last = family == Family::V4 && *address == subnet.broadcast();
        !is_last && *address != subnet.network() && *address != gateway
    })
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => {
            let [.., a, b, c, d] = bits.to_be_bytes();
            Ipv4Addr::new(a, b, c, d).into()
        }
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}
