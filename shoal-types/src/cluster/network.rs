//! Networks of the cluster: what was asked for and what the allocator has given.
//!
//! Start reading at [`ClusterNetwork`]. A node that needs one makes it from this; until then the node does not know it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Meta;
use crate::ids::NetworkId;
use crate::network::NetworkSpec;

/// First VXLAN network identifier that is given out; those below are left to drivers that think in VLANs.
pub const FIRST_VNI: u32 = 4096;

/// A network of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNetwork {
    /// Its id, 25 base-36 characters.
    pub id: NetworkId,
    /// Version and times.
    pub meta: Meta,
    /// What it shall be, as the user has said it.
    pub spec: NetworkSpec,
    /// What the allocator has given it; `None` before that. A network that exists on each node by itself (host, bridge) has
    /// no pools.
    pub allocation: Option<NetworkAllocation>,
    /// Why the allocator could not give it anything; empty if it could.
    #[serde(default)]
    pub error: String,
}

/// What the allocator has given a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkAllocation {
    /// Its subnets.
    pub pools: Vec<AllocatedPool>,
}

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocatedPool {
    /// The subnet.
    pub subnet: IpNet,
    /// The part of it from which addresses are given out, if not all of it.
    pub range: Option<IpNet>,
    /// Its gateway.
    pub gateway: IpAddr,
    /// Its VXLAN network identifier; 0 of drivers that need none.
    pub vni: u32,
}
