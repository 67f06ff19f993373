//! One subnet and the addresses taken from it. PURE: no IO, no clock, no randomness.
//!
//! Start reading at [`Pool::allocate`]. Addresses are handed out one after the other, so that a released address is
//! used again as late as possible: caches of neighbours and clients still point at it. Which network a pool belongs
//! to is `mod.rs`'s business.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{GatewayRequest, PoolRequest};
use crate::error::{NetError, Result};

/// The part of a pool that the owner persists; the addresses in use come from the endpoints' records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// The subnet in canonical form.
    pub subnet: IpNet,
    /// The part of it that dynamic addresses come from.
    pub ip_range: Option<IpNet>,
    /// The first hop, chosen or given.
    pub gateway: Option<IpAddr>,
    /// Addresses that are never handed out, with their names.
    pub aux: BTreeMap<String, IpAddr>,
    /// The address handed out last.
    pub last: Option<IpAddr>,
}

/// How full a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUsage {
    /// The subnet.
    pub subnet: IpNet,
    /// Addresses taken, reserved ones included.
    pub in_use: u128,
    /// Addresses that [`Pool::allocate`] can still hand out without being asked for one.
    pub dynamic_available: u128,
}

/// One subnet and the addresses taken from it.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    record: PoolRecord,
    used: BTreeSet<u128>,
}

impl Pool {
    /// Checks a request whose subnet is already chosen, and takes the reserved addresses.
    pub(crate) fn create(subnet: IpNet, request: &PoolRequest) -> Result<Self> {
        let record = PoolRecord {
            subnet,
            ip_range: request.ip_range.map(|range| range.trunc()),
            gateway: None,
            aux: request.aux.clone(),
            last: None,
        };
        let outside = |what, value: String| NetError::OutsideSubnet { what, value, subnet };
        if let Some(range) = request.ip_range
            && !(subnet.contains(&range.network()) && range.prefix_len() >= subnet.prefix_len())
        {
            return Err(outside("ip-range", range.to_string()));
        }
        if let Some((name, address)) = request.aux.iter().find(|(_, address)| !subnet.contains(*address)) {
            let (name, address) = (name.clone(), *address);
            return Err(NetError::AuxiliaryOutsideSubnet { name, address, subnet });
        }
        let mut pool = Self::restore(record, std::iter::empty());
        match request.gateway {
            GatewayRequest::None => {}
            GatewayRequest::Given(address) if !subnet.contains(&address) => {
                return Err(outside("gateway", address.to_string()));
            }
            GatewayRequest::Given(address) => {
                if !pool.used.insert(number(address)) {
                    return Err(NetError::AddressInUse(address));
                }
                pool.record.gateway = Some(address);
            }
            GatewayRequest::First => {
                let address = pool.first_gateway().ok_or(NetError::AddressesExhausted { subnet })?;
                pool.used.insert(number(address));
                pool.record.gateway = Some(address);
            }
        }
        Ok(pool)
    }

    /// Rebuilds a pool from its record and the addresses that endpoints hold.
    pub(crate) fn restore(record: PoolRecord, addresses: impl Iterator<Item = IpAddr>) -> Self {
        let mut used: BTreeSet<u128> = reserved(record.subnet).into_iter().flatten().collect();
        used.extend(record.aux.values().chain(record.gateway.iter()).copied().map(number));
        used.extend(addresses.filter(|address| record.subnet.contains(address)).map(number));
        Self { record, used }
    }

    pub(crate) fn record(&self) -> &PoolRecord {
        &self.record
    }

    /// The next address after the one handed out last, round the range.
    pub(crate) fn allocate(&mut self) -> Result<IpNet> {
        let (first, last) = self.dynamic_bounds();
        let start = match self.record.last.map(number) {
            Some(used_last) if (first..last).contains(&used_last) => used_last + 1,
            _ => first,
        };
        let free = self
            .first_free(start, last)
            .or_else(|| {
                start.checked_sub(1).filter(|&end| end >= first).and_then(|end| self.first_free(first, end))
            })
            .ok_or(NetError::AddressesExhausted { subnet: self.record.subnet })?;
        self.used.insert(free);
        let address = self.address(free);
        self.record.last = Some(address);
        Ok(self.with_prefix(address))
    }

    /// Exactly this address, which the caller knows to lie in the subnet.
    pub(crate) fn take(&mut self, address: IpAddr) -> Result<IpNet> {
        if self.used.insert(number(address)) {
            Ok(self.with_prefix(address))
        } else {
            Err(NetError::AddressInUse(address))
        }
    }

    /// Gives an address back; reserved ones stay taken.
    pub(crate) fn release(&mut self, address: IpAddr) {
        let value = number(address);
        let kept = reserved(self.record.subnet).contains(&Some(value))
            || self.record.gateway == Some(address)
            || self.record.aux.values().any(|aux| *aux == address);
        if !kept {
            self.used.remove(&value);
        }
    }

    pub(crate) fn usage(&self) -> PoolUsage {
        let (first, last) = self.dynamic_bounds();
        let taken_in_range = self.used.range(first..=last).count() as u128;
        PoolUsage {
            subnet: self.record.subnet,
            in_use: self.used.len() as u128,
            dynamic_available: (last - first).saturating_add(1).saturating_sub(taken_in_range),
        }
    }

    /// Docker takes the first address of the range when one is given, else the first of the subnet.
    fn first_gateway(&self) -> Option<IpAddr> {
        let (first, last) = self.dynamic_bounds();
        self.first_free(first, last).map(|value| self.address(value))
    }

    fn first_free(&self, from: u128, to: u128) -> Option<u128> {
        let mut candidate = from;
        for &taken in self.used.range(from..=to) {
            if taken > candidate {
                break;
            }
            candidate = taken.checked_add(1)?;
        }
        (candidate <= to).then_some(candidate)
    }

    fn dynamic_bounds(&self) -> (u128, u128) {
        bounds(self.record.ip_range.unwrap_or(self.record.subnet))
    }

    fn with_prefix(&self, address: IpAddr) -> IpNet {
        // The prefix length comes from a net of the same family, so it is always valid.
        IpNet::new(address, self.record.subnet.prefix_len()).unwrap_or_else(|_| IpNet::from(address))
    }

    fn address(&self, value: u128) -> IpAddr {
        to_address(value, self.record.subnet)
    }
}

/// First and last address of a net as numbers.
pub(super) fn bounds(net: IpNet) -> (u128, u128) {
    let host_bits = u32::from(net.max_prefix_len() - net.prefix_len());
    let size_minus_one = 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
    let first = number(net.network());
    (first, first.saturating_add(size_minus_one))
}

/// An address as a number within its family.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address with this number, in the family of `like`.
pub(super) fn to_address(value: u128, like: IpNet) -> IpAddr {
    match like {
        // Values of an IPv4 net never exceed 32 bits.
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(value).unwrap_or(u32::MAX))),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(value)),
    }
}

/// Network and broadcast address of an IPv4 subnet (none in /31 and /32: RFC 3021), the subnet-router anycast address
/// of an IPv6 one (RFC 4291, 2.6.1; none in /127 and /128: RFC 6164).
fn reserved(subnet: IpNet) -> [Option<u128>; 2] {
    let (first, last) = bounds(subnet);
    let host_bits = subnet.max_prefix_len() - subnet.prefix_len();
    match (subnet, host_bits) {
        (_, 0 | 1) => [None, None],
        (IpNet::V4(_), _) => [Some(first), Some(last)],
        (IpNet::V6(_), _) => [Some(first), None],
    }
}
