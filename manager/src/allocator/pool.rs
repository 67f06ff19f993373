//! Subnets and VXLAN network identifiers of networks.
//!
//! Start reading at [`allocate_networks`].

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use shoal_types::cluster::network::{AllocatedPool, ClusterNetwork, FIRST_VNI, NetworkAllocation};
use shoal_types::network::PoolSpec;

use super::Shortage;
use crate::store::{Conflict, Draft, Snapshot};

/// The driver whose networks get subnets and identifiers; networks of others exist on each node by itself.
const OVERLAY: &str = "overlay";
/// Largest VXLAN network identifier.
const LAST_VNI: u32 = (1 << 24) - 1;
/// Option by which a user chooses identifiers, one for each subnet.
const VNI_OPTION: &str = "com.docker.network.driver.overlay.vxlanid_list";
/// What subnets are cut from if the cluster does not say.
const USUAL_POOL: IpNet = IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 0, 0, 0), 8));
/// Prefix length of a subnet if the cluster does not say.
const USUAL_SIZE: u8 = 24;

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
    let wishes = match network.spec.ipam.pools.as_slice() {
        [] => vec![PoolSpec { subnet: None, range: None, gateway: None, auxiliary: Default::default() }],
        wishes => wishes.to_vec(),
    };
    let mut wanted_vnis = network
        .spec
        .options
        .get(VNI_OPTION)
        .into_iter()
        .flat_map(|list| list.split(','))
        .filter_map(|number| number.trim().parse::<u32>().ok());
    let mut taken = subnets(view);
    let mut pools: Vec<AllocatedPool> = Vec::new();
    for wish in wishes {
        let subnet = match wish.subnet {
            Some(subnet) if taken.iter().any(|other| overlap(other, &subnet)) => {
                return Err(Shortage::Overlap);
            }
            Some(subnet) => subnet.trunc(),
            None => free_subnet(view, &taken)?,
        };
        taken.push(subnet);
        let is_free = |vni: u32| view.is_free_vni(vni) && pools.iter().all(|pool| pool.vni != vni);
        let vni = match wanted_vnis.next() {
            Some(vni) if is_free(vni) => vni,
            Some(vni) => return Err(Shortage::Vni(vni)),
            None => (FIRST_VNI..=LAST_VNI).find(|&vni| is_free(vni)).ok_or(Shortage::Subnets)?,
        };
        let gateway = wish.gateway.or_else(|| first_address(&subnet)).ok_or(Shortage::Subnets)?;
        pools.push(AllocatedPool { subnet, range: wish.range, gateway, vni });
    }
    Ok(NetworkAllocation { pools })
}

/// The subnets of all networks.
fn subnets(view: &Snapshot) -> Vec<IpNet> {
    view.networks()
        .filter_map(|network| network.allocation.as_ref())
        .flat_map(|allocation| allocation.pools.iter().map(|pool| pool.subnet))
        .collect()
}

/// The first piece of the cluster's pools that no network has.
fn free_subnet(view: &Snapshot, taken: &[IpNet]) -> Result<IpNet, Shortage> {
    let cluster = view.cluster();
    let pools = match cluster.map(|cluster| cluster.address_pools.as_slice()) {
        None | Some([]) => &[USUAL_POOL],
        Some(pools) => pools,
    };
    let size = cluster.map(|cluster| cluster.subnet_size).filter(|&size| size != 0).unwrap_or(USUAL_SIZE);
    for pool in pools {
        let Ok(mut pieces) = pool.subnets(size) else { continue };
        let is_free = |piece: &IpNet| !taken.iter().any(|other| overlap(other, piece));
        if let Some(piece) = pieces.find(is_free) {
            return Ok(piece);
        }
    }
    Err(Shortage::Subnets)
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn first_address(subnet: &IpNet) -> Option<IpAddr> {
    subnet.hosts().next()
}
