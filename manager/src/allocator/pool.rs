//! Subnets and VXLAN network identifiers of networks.
//!
//! Start reading at [`allocate_networks`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use shoal_types::cluster::network::{AllocatedPool, ClusterNetwork, FIRST_VNI, NetworkAllocation};
use shoal_types::network::PoolSpec;

use super::Shortage;
use super::address::Family;
use crate::store::{Conflict, Draft, Snapshot};

/// The driver whose networks get subnets and identifiers; networks of others exist on each node by itself.
const OVERLAY: &str = "overlay";
/// Largest VXLAN network identifier.
const LAST_VNI: u32 = (1 << 24) - 1;
/// Option by which a user chooses identifiers, one for each subnet.
const VNI_OPTION: &str = "com.docker.network.driver.overlay.vxlanid_list";
/// What subnets are cut from if the cluster does not say.
const USUAL_POOL: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8));
/// Prefix length of a subnet if the cluster does not say.
const USUAL_SIZE: u8 = 24;
/// Prefix length of every IPv6 subnet that was not asked for (RFC 4291, section 2.5.4).
const SIZE_V6: u8 = 64;

/// Gives every network that has nothing what it needs, or says in it why not. Ingress comes first, so that it has the first subnet.
pub(super) fn allocate_networks(draft: &mut Draft) -> Result<(), Conflict> {
    let mut waiting: Vec<Arc<ClusterNetwork>> =
        draft.view().networks().filter(|network| network.allocation.is_none()).cloned().collect();
    waiting.sort_by_key(|network| (!network.spec.ingress, network.meta.created));
    for network in waiting {
        match allocation(draft.view(), &network) {
            Ok(allocation) => draft.update(ClusterNetwork {
                allocation: Some(allocation),
                error: String::new(),
                ..ClusterNetwork::clone(&network)
            })?,
            Err(shortage) if shortage.to_string() == network.error => {}
            Err(shortage) => draft
                .update(ClusterNetwork { error: shortage.to_string(), ..ClusterNetwork::clone(&network) })?,
        }
    }
    Ok(())
}

fn allocation(view: &Snapshot, network: &ClusterNetwork) -> Result<NetworkAllocation, Shortage> {
    if network.spec.driver != OVERLAY {
        return Ok(NetworkAllocation::default());
    }
    let mut wanted_vnis = network
        .spec
        .options
        .get(VNI_OPTION)
        .into_iter()
        .flat_map(|list| list.split(','))
        .filter_map(|number| number.trim().parse::<u32>().ok());
    let mut taken = subnets(view);
    let mut pools: Vec<AllocatedPool> = Vec::new();
    for (family, wish) in wishes(network) {
        let subnet = match wish.subnet {
            Some(subnet) if taken.iter().any(|other| overlap(other, &subnet)) => {
                return Err(Shortage::Overlap);
            }
            Some(subnet) => subnet.trunc(),
            None => free_subnet(view, family, &taken)?,
        };
        taken.push(subnet);
        let is_free = |vni: u32| view.is_free_vni(vni) && pools.iter().all(|pool| pool.vni != vni);
        let vni = match wanted_vnis.next() {
            Some(vni) if is_free(vni) => vni,
            Some(vni) => return Err(Shortage::Vni(vni)),
            None => usual_vnis(network.meta.version).find(|&vni| is_free(vni)).ok_or(Shortage::Subnets)?,
        };
        let gateway = wish.gateway.or_else(|| first_address(&subnet)).ok_or(Shortage::Subnets)?;
        pools.push(AllocatedPool { subnet, range: wish.range, gateway, vni });
    }
    // Identifiers go by the order in which subnets were asked for, everything else looks at IPv4 first.
    pools.sort_by_key(|pool| Family::of(pool.subnet.addr()));
    Ok(NetworkAllocation { pools })
}

/// Identifiers in the order in which they are tried for a network that was made at this index of the store. Nodes may still have
/// tunnels of networks that were removed a moment ago, so no identifier is given again soon.
fn usual_vnis(made: u64) -> impl Iterator<Item = u32> {
    let n_before = made % u64::from(LAST_VNI - FIRST_VNI + 1);
    let first = FIRST_VNI.saturating_add(u32::try_from(n_before).unwrap_or(0));
    (first..=LAST_VNI).chain(FIRST_VNI..first)
}

/// The subnets that a network shall have: those asked for, and one of each family that it has and of which none was.
fn wishes(network: &ClusterNetwork) -> Vec<(Family, PoolSpec)> {
    let family = |pool: &PoolSpec| pool.subnet.map_or(Family::V4, |subnet| Family::of(subnet.addr()));
    let asked = network.spec.ipam.pools.iter().map(|pool| (family(pool), pool.clone()));
    let mut wishes: Vec<(Family, PoolSpec)> = asked.collect();
    let is_dual = network.spec.ipv6 == Some(true);
    for family in [Family::V4, Family::V6].into_iter().filter(|family| *family == Family::V4 || is_dual) {
        if wishes.iter().all(|(other, _)| *other != family) {
            let any = PoolSpec { subnet: None, range: None, gateway: None, auxiliary: Default::default() };
            wishes.push((family, any));
        }
    }
    wishes
}

/// The subnets of all networks.
fn subnets(view: &Snapshot) -> Vec<IpNet> {
    view.networks()
        .filter_map(|network| network.allocation.as_ref())
        .flat_map(|allocation| allocation.pools.iter().map(|pool| pool.subnet))
        .collect()
}

/// The first piece of the cluster's pools that no network has.
fn free_subnet(view: &Snapshot, family: Family, taken: &[IpNet]) -> Result<IpNet, Shortage> {
    let cluster = view.cluster();
    let is_meant = |pool: &IpNet| Family::of(pool.addr()) == family;
    let given = cluster.into_iter().flat_map(|cluster| cluster.address_pools.iter().copied());
    let mut pools: Vec<IpNet> = given.filter(is_meant).collect();
    if pools.is_empty() {
        pools.push(match family {
            Family::V4 => USUAL_POOL,
            Family::V6 => local_pool(cluster.map_or(0, |cluster| cluster.id.as_u128())),
        });
    }
    let size = match family {
        Family::V4 => {
            cluster.map(|cluster| cluster.subnet_size).filter(|&size| size != 0).unwrap_or(USUAL_SIZE)
        }
        Family::V6 => SIZE_V6,
    };
    for pool in pools {
        let Ok(mut pieces) = pool.subnets(size) else { continue };
        let is_free = |piece: &IpNet| !taken.iter().any(|other| overlap(other, piece));
        if let Some(piece) = pieces.find(is_free) {
            return Ok(piece);
        }
    }
    Err(match family {
        Family::V4 => Shortage::Subnets,
        Family::V6 => Shortage::SubnetsV6,
    })
}

/// What IPv6 subnets are cut from if the cluster does not say: a prefix for local use (RFC 4193) whose number is the
/// cluster's, so that every leader cuts from the same and no two clusters are likely to meet.
fn local_pool(cluster: u128) -> IpNet {
    let [.., a, b, c, d, e] = cluster.to_be_bytes();
    let segments = [[0xfd, a], [b, c], [d, e]].map(u16::from_be_bytes);
    let [first, second, third] = segments;
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0), 48))
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The first address that may be a gateway's. That of all zeros is every router's in an IPv6 subnet.
fn first_address(subnet: &IpNet) -> Option<IpAddr> {
    subnet
        .hosts()
        .find(|address| subnet.prefix_len() == subnet.max_prefix_len() || *address != subnet.network())
}
