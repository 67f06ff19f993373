//! What a network's tables mean for the kernel: neighbours and forwarding entries, and what a change changes. PURE.
//!
//! Start reading at [`Tables::program`] (everything that should be in the kernel) and at [`Tables::change`] (one
//! change as the operations it takes). Executing them is `segment.rs`'s business.
//!
//! An address has one neighbour entry, on the tunnel of its subnet. A hardware address has one forwarding entry, though
//! it may stand behind an address of each family: on the tunnel of the first of their subnets, for a bridge can send it
//! to one port only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::spec::{OverlaySpec, Peer, TableChange};
use crate::spec::MacAddr;

/// Number of a subnet in the spec, which is that of its tunnel.
pub(super) type TunnelNumber = usize;

/// What the kernel should have, or has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) neighbours: BTreeMap<(TunnelNumber, IpAddr), MacAddr>,
    pub(super) forwards: BTreeMap<(TunnelNumber, MacAddr), IpAddr>,
}

/// One operation on the kernel's tables; each can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    SetNeighbour(TunnelNumber, IpAddr, MacAddr),
    RemoveNeighbour(TunnelNumber, IpAddr),
    SetForward(TunnelNumber, MacAddr, IpAddr),
    RemoveForward(TunnelNumber, MacAddr),
}

impl Program {
    /// The same inside encrypted tunnels. Who has no end there yet is reached by nobody.
    pub(super) fn through(mut self, ends: &BTreeMap<IpAddr, Ipv6Addr>) -> Self {
        self.forwards.retain(|_, vtep| match ends.get(vtep) {
            Some(&end) => {
                *vtep = IpAddr::V6(end);
                true
            }
            None => false,
        });
        self
    }
}

impl Op {
    /// The same inside encrypted tunnels.
    pub(super) fn through(self, ends: &BTreeMap<IpAddr, Ipv6Addr>) -> Self {
        match self {
            Self::SetForward(tunnel, mac, vtep) => match ends.get(&vtep) {
                Some(&end) => Self::SetForward(tunnel, mac, IpAddr::V6(end)),
                None => Self::RemoveForward(tunnel, mac),
            },
            other => other,
        }
    }

    /// Whether it takes something away.
    pub(super) const fn removes(self) -> bool {
        matches!(self, Self::RemoveNeighbour(..) | Self::RemoveForward(..))
    }
}

/// The tables of one network as this node knows them.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    subnets: Vec<IpNet>,
    own: IpAddr,
    peers: BTreeMap<IpAddr, Peer>,
    by_mac: BTreeMap<MacAddr, BTreeSet<IpAddr>>,
}

impl Tables {
    /// The whole tables; of peers with the same address the last one counts, those outside every subnet do not.
    pub(super) fn new(spec: &OverlaySpec, peers: &[Peer]) -> Self {
        let subnets = spec.subnets.iter().map(|subnet| subnet.subnet).collect();
        let mut tables = Self { subnets, own: spec.vtep, peers: BTreeMap::new(), by_mac: BTreeMap::new() };
        for &peer in peers {
            tables.remove(peer.address);
            tables.insert(peer);
        }
        tables
    }

    /// Everything that should be in the kernel.
    pub(super) fn program(&self) -> Program {
        let neighbours = self.peers.values().filter_map(|peer| {
            let tunnel = self.remote_tunnel(peer)?;
            Some(((tunnel, peer.address), peer.mac))
        });
        let forwards = self.by_mac.keys().filter_map(|&mac| {
            let (tunnel, vtep) = self.forward(mac)?;
            Some(((tunnel, mac), vtep))
        });
        Program { neighbours: neighbours.collect(), forwards: forwards.collect() }
    }

    /// Takes a change over; answers what it means for the kernel, additions first.
    pub(super) fn change(&mut self, change: &TableChange) -> Vec<Op> {
        let address = match change {
            TableChange::Set(peer) => peer.address,
            TableChange::Remove(address) => *address,
        };
        let before = self.peers.get(&address).copied();
        let mut macs: BTreeSet<MacAddr> = before.iter().map(|peer| peer.mac).collect();
        if let TableChange::Set(peer) = change {
            macs.insert(peer.mac);
        }
        let forwards = |tables: &Self| macs.iter().map(|&mac| (mac, tables.forward(mac))).collect::<Vec<_>>();
        let neighbour = |tables: &Self| {
            let peer = tables.peers.get(&address)?;
            Some((tables.remote_tunnel(peer)?, peer.mac))
        };
        let (old_neighbour, old_forwards) = (neighbour(self), forwards(self));
        self.remove(address);
        if let TableChange::Set(peer) = change {
            self.insert(*peer);
        }
        let mut ops = Vec::new();
        for ((mac, old), (_, new)) in old_forwards.into_iter().zip(forwards(self)) {
            if let Some((tunnel, vtep)) = new.filter(|_| new != old) {
                ops.push(Op::SetForward(tunnel, mac, vtep));
            }
            if let Some((tunnel, _)) = old.filter(|(tunnel, _)| new.is_none_or(|(now, _)| now != *tunnel)) {
                ops.push(Op::RemoveForward(tunnel, mac));
            }
        }
        match (old_neighbour, neighbour(self)) {
            (old, Some((tunnel, mac))) if old != Some((tunnel, mac)) => {
                ops.push(Op::SetNeighbour(tunnel, address, mac));
            }
            (Some((tunnel, _)), None) => ops.push(Op::RemoveNeighbour(tunnel, address)),
            _ => {}
        }
        ops
    }

    fn insert(&mut self, peer: Peer) {
        self.by_mac.entry(peer.mac).or_default().insert(peer.address);
        self.peers.insert(peer.address, peer);
    }

    fn remove(&mut self, address: IpAddr) {
        let Some(peer) = self.peers.remove(&address) else { return };
        if let Some(addresses) = self.by_mac.get_mut(&peer.mac) {
            addresses.remove(&address);
            if addresses.is_empty() {
                self.by_mac.remove(&peer.mac);
            }
        }
    }

    /// The tunnel of a peer on another node.
    fn remote_tunnel(&self, peer: &Peer) -> Option<TunnelNumber> {
        let tunnel = self.subnets.iter().position(|subnet| subnet.contains(&peer.address));
        tunnel.filter(|_| peer.vtep != self.own)
    }

    fn forward(&self, mac: MacAddr) -> Option<(TunnelNumber, IpAddr)> {
        let peers = self.by_mac.get(&mac)?.iter().filter_map(|address| self.peers.get(address));
        peers.filter_map(|peer| Some((self.remote_tunnel(peer)?, peer.vtep))).min()
    }
}

/// What turns one program into another, additions first.
pub(super) fn difference(present: &Program, wanted: &Program) -> Vec<Op> {
    let mut ops = Vec::new();
    for (&(tunnel, mac), &vtep) in &wanted.forwards {
        if present.forwards.get(&(tunnel, mac)) != Some(&vtep) {
            ops.push(Op::SetForward(tunnel, mac, vtep));
        }
    }
    for (&(tunnel, address), &mac) in &wanted.neighbours {
        if present.neighbours.get(&(tunnel, address)) != Some(&mac) {
            ops.push(Op::SetNeighbour(tunnel, address, mac));
        }
    }
    let surplus = present.forwards.keys().filter(|key| !wanted.forwards.contains_key(key));
    ops.extend(surplus.map(|&(tunnel, mac)| Op::RemoveForward(tunnel, mac)));
    let surplus = present.neighbours.keys().filter(|key| !wanted.neighbours.contains_key(key));
    ops.extend(surplus.map(|&(tunnel, address)| Op::RemoveNeighbour(tunnel, address)));
    ops
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
