//! Which subnet a network has and which address an endpoint has. PURE: the caller persists and restores.
//!
//! Start reading at [`Space`]: the owner (the engine's networks task) keeps one for the node, asks it before it writes
//! a record, and rebuilds it from the records after a restart by [`Space::restore`]. Reading the host's routes and name
//! servers, which new subnets keep away from, is [`crate::host::Host::occupied`].

mod pool;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};
use shoal_types::NetworkId;

pub use pool::{PoolRecord, PoolUsage};

use self::pool::{Pool, bounds, number, to_address};
use crate::error::{NetError, Result};

/// A range that subnets for networks without a given one are cut from (`default-address-pools`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasePool {
    /// The whole range.
    pub base: IpNet,
    /// Prefix length of each piece.
    pub size: u8,
}

/// Address family of an automatic subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a network asks for; one for each subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRequest {
    /// A given subnet, or the family of one to be chosen.
    pub subnet: SubnetRequest,
    /// The part that dynamic addresses come from.
    pub ip_range: Option<IpNet>,
    /// The first hop.
    pub gateway: GatewayRequest,
    /// Addresses that are never handed out.
    pub aux: BTreeMap<String, IpAddr>,
}

impl PoolRequest {
    /// A subnet of that family from the default pools, with its first address as gateway.
    pub fn automatic(family: Family) -> Self {
        Self {
            subnet: SubnetRequest::Automatic(family),
            ip_range: None,
            gateway: GatewayRequest::First,
            aux: BTreeMap::new(),
        }
    }

    /// This subnet, with its first address as gateway.
    pub fn given(subnet: IpNet) -> Self {
        Self { subnet: SubnetRequest::Given(subnet), ..Self::automatic(Family::V4) }
    }
}

/// Which subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubnetRequest {
    /// Cut from the default pools.
    Automatic(Family),
    /// Cut from the default pools, with this prefix length instead of theirs.
    Sized(Family, u8),
    /// Exactly this one.
    Given(IpNet),
}

/// Which first hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayRequest {
    /// The first free address.
    First,
    /// This one.
    Given(IpAddr),
    /// The network has none (isolated bridges).
    None,
}

/// The address space of this node: subnets of all its networks and the addresses in use.
#[derive(Debug, Clone)]
pub struct Space {
    bases: Vec<BasePool>,
    networks: BTreeMap<NetworkId, Vec<Pool>>,
}

impl Space {
    /// An empty space that cuts automatic subnets from `bases`, in their order.
    pub fn new(bases: Vec<BasePool>) -> Self {
        Self { bases, networks: BTreeMap::new() }
    }

    /// Reserves the subnets of a new network, all or none.
    ///
    /// Automatic subnets also keep away from `occupied` (see [`crate::host::Host::occupied`]); given ones only from
    /// other networks, as the user may know better. Asking again for a network that has pools replaces nothing and is
    /// answered with them.
    pub fn create(
        &mut self,
        network: &NetworkId,
        requests: &[PoolRequest],
        occupied: &[IpNet],
    ) -> Result<Vec<PoolRecord>> {
        if let Some(records) = self.records(network) {
            return Ok(records);
        }
        let mut pools: Vec<Pool> = Vec::with_capacity(requests.len());
        for request in requests {
            let taken: Vec<IpNet> =
                self.networks.values().flatten().chain(&pools).map(|p| p.record().subnet).collect();
            let subnet = match request.subnet {
                SubnetRequest::Given(subnet) => check_given(subnet, &taken)?,
                SubnetRequest::Automatic(family) => {
                    let avoid = [taken.as_slice(), occupied].concat();
                    first_free_subnet(&self.bases, family, &avoid).ok_or(NetError::PoolsExhausted)?
                }
                SubnetRequest::Sized(family, size) => {
                    let avoid = [taken.as_slice(), occupied].concat();
                    let bases: Vec<BasePool> =
                        self.bases.iter().map(|base| BasePool { size, ..*base }).collect();
                    first_free_subnet(&bases, family, &avoid).ok_or(NetError::PoolsExhausted)?
                }
            };
            pools.push(Pool::create(subnet, request)?);
        }
        let records = pools.iter().map(|pool| pool.record().clone()).collect();
        self.networks.insert(network.clone(), pools);
        Ok(records)
    }

    /// Puts a network back as it was recorded, with the addresses that its endpoints hold.
    pub fn restore(&mut self, network: &NetworkId, records: &[PoolRecord], addresses: &[IpAddr]) {
        let pools =
            records.iter().map(|record| Pool::restore(record.clone(), addresses.iter().copied())).collect();
        self.networks.insert(network.clone(), pools);
    }

    /// Gives the subnets of a network back; nothing happens when it has none.
    pub fn remove(&mut self, network: &NetworkId) {
        self.networks.remove(network);
    }

    /// What to persist of a network; absent when it is not known.
    pub fn records(&self, network: &NetworkId) -> Option<Vec<PoolRecord>> {
        self.networks.get(network).map(|pools| pools.iter().map(|pool| pool.record().clone()).collect())
    }

    /// Takes the next free address of one family of a network.
    ///
    /// With several subnets of that family they are filled in order.
    pub fn allocate(&mut self, network: &NetworkId, family: Family) -> Result<IpNet> {
        let mut failure = NetError::NoSuchPool(network.to_string());
        for pool in
            self.pools_mut(network).iter_mut().filter(|pool| family_of(pool.record().subnet) == family)
        {
            match pool.allocate() {
                Ok(address) => return Ok(address),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Takes one particular address of a network.
    pub fn take(&mut self, network: &NetworkId, address: IpAddr) -> Result<IpNet> {
        self.pools_mut(network)
            .iter_mut()
            .find(|pool| pool.record().subnet.contains(&address))
            .ok_or(NetError::AddressOutsideSubnets(address))?
            .take(address)
    }

    /// Gives an address back; one that is not taken, or not ours, is no error.
    pub fn release(&mut self, network: &NetworkId, address: IpAddr) {
        for pool in self.pools_mut(network).iter_mut().filter(|pool| pool.record().subnet.contains(&address))
        {
            pool.release(address);
        }
    }

    /// Whether a subnet of the network holds the address.
    pub fn contains(&self, network: &NetworkId, address: IpAddr) -> bool {
        self.networks
            .get(network)
            .is_some_and(|pools| pools.iter().any(|p| p.record().subnet.contains(&address)))
    }

    /// How full the pools of a network are.
    pub fn usage(&self, network: &NetworkId) -> Vec<PoolUsage> {
        self.networks.get(network).map(|pools| pools.iter().map(Pool::usage).collect()).unwrap_or_default()
    }

    fn pools_mut(&mut self, network: &NetworkId) -> &mut [Pool] {
        self.networks.get_mut(network).map(Vec::as_mut_slice).unwrap_or_default()
    }
}

/// Docker's built-in pools, in its order, and the node's own unique local prefix for IPv6.
pub fn default_bases(ula: BasePool) -> Vec<BasePool> {
    const V4: [([u8; 4], u8, u8); 7] = [
        ([172, 17, 0, 0], 16, 16),
        ([172, 18, 0, 0], 16, 16),
        ([172, 19, 0, 0], 16, 16),
        ([172, 20, 0, 0], 14, 16),
        ([172, 24, 0, 0], 14, 16),
        ([172, 28, 0, 0], 14, 16),
        ([192, 168, 0, 0], 16, 20),
    ];
    let v4 = V4.iter().filter_map(|&(base, prefix, size)| {
        let base = IpNet::new(IpAddr::from(base), prefix).ok()?;
        Some(BasePool { base, size })
    });
    v4.chain([ula]).collect()
}

/// The unique local /48 (RFC 4193) made of a node's 40-bit global id, cut in /64s.
///
/// The engine derives the id from something that survives its state, so that networks keep their prefix.
pub fn ula_base(global_id: [u8; 5]) -> BasePool {
    let mut octets = [0u8; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&global_id);
    let base = Ipv6Net::new_assert(Ipv6Addr::from(octets), 48);
    BasePool { base: IpNet::V6(base), size: 64 }
}

fn family_of(net: IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}

fn check_given(subnet: IpNet, taken: &[IpNet]) -> Result<IpNet> {
    if subnet != subnet.trunc() {
        return Err(NetError::SubnetNotCanonical { given: subnet, canonical: subnet.trunc() });
    }
    if taken.iter().any(|other| overlaps(subnet, *other)) {
        return Err(NetError::PoolOverlaps);
    }
    Ok(subnet)
}

fn overlaps(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The first piece of a base pool that overlaps nothing. Jumps over obstacles, so that a single wide route does not
/// make it walk through 65536 pieces.
fn first_free_subnet(bases: &[BasePool], family: Family, avoid: &[IpNet]) -> Option<IpNet> {
    for base in bases.iter().filter(|base| family_of(base.base) == family) {
        if base.size < base.base.prefix_len() || base.size > base.base.max_prefix_len() {
            continue;
        }
        let (start, end) = bounds(base.base);
        let host_bits = u32::from(base.base.max_prefix_len() - base.size);
        let step = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX);
        let mut candidate = start;
        while candidate <= end {
            let subnet = IpNet::new(to_address(candidate, base.base), base.size).ok()?;
            let Some(obstacle) =
                avoid.iter().filter(|other| overlaps(subnet, **other)).max_by_key(|o| bounds(**o).1)
            else {
                return Some(subnet);
            };
            let (_, obstacle_end) = bounds(*obstacle);
            let past = obstacle_end.max(number(subnet.network()).saturating_add(step - 1)).checked_add(1);
            // Round up to the next piece.
            let Some(next) = past.and_then(|past| (past - start).checked_next_multiple_of(step)) else {
                break;
            };
            candidate = start.checked_add(next)?;
        }
    }
    None
}

#[cfg(test)]
mod tests;
