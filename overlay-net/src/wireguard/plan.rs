//! Which peers a device should have, and by which device each of them is reached. PURE.
//!
//! Start reading at [`wanted`], then [`changes`] and [`way_to`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::key::{PublicKey, Slot, TunnelKey};

/// Another node of the cluster, as this one is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelPeer {
    /// Its data path address.
    pub vtep: IpAddr,
    /// Its keys, in any order; more than one while a newer one takes over.
    pub keys: Vec<TunnelKey>,
}

/// A peer as a device has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Present {
    pub(super) public: PublicKey,
    /// Whether both sides have ever agreed on session keys.
    pub(super) is_met: bool,
    /// Whether the device keeps knocking at it.
    pub(super) is_called: bool,
}

/// What is to be done to the peers of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PeerChange {
    /// Add it and call it, so that whichever side comes last opens the session.
    Add(PublicKey, SocketAddr),
    /// It is at another address now.
    Move(PublicKey, SocketAddr),
    /// It has answered.
    StopCalling(PublicKey),
    /// It is no peer any more.
    Remove(PublicKey),
}

/// Every key that this node answers to, and where its owner is. Keys that two nodes claim belong to neither.
pub(super) fn wanted(peers: &[TunnelPeer], first_port: u16) -> BTreeMap<PublicKey, SocketAddr> {
    let mut wanted = BTreeMap::new();
    let mut disputed = BTreeSet::new();
    for peer in peers {
        for key in &peer.keys {
            let endpoint = SocketAddr::new(peer.vtep, Slot::of(key.number).port(first_port));
            if wanted.insert(key.public, endpoint).is_some_and(|other| other.ip() != peer.vtep) {
                disputed.insert(key.public);
            }
        }
    }
    wanted.retain(|key, _| !disputed.contains(key));
    wanted
}

/// Where frames for a data path address go inside the tunnels: the address of its owner's newest key.
pub(super) fn ends(peers: &[TunnelPeer], first_port: u16) -> BTreeMap<IpAddr, Ipv6Addr> {
    let usable = wanted(peers, first_port);
    let newest = |peer: &TunnelPeer| {
        let keys = peer.keys.iter().filter(|key| usable.contains_key(&key.public));
        Some((peer.vtep, keys.max_by_key(|key| key.number)?.public.address()))
    };
    peers.iter().filter_map(newest).collect()
}

/// What turns the peers of a device into those that are wanted. `before` is what was wanted last, if that is known: an
/// endpoint is set anew only when it was told anew, for peers may be heard from elsewhere.
pub(super) fn changes(
    present: &[Present],
    wanted: &BTreeMap<PublicKey, SocketAddr>,
    before: &BTreeMap<PublicKey, SocketAddr>,
) -> Vec<PeerChange> {
    let mut changes = Vec::new();
    for peer in present {
        match wanted.get(&peer.public) {
            None => changes.push(PeerChange::Remove(peer.public)),
            Some(endpoint) => {
                if before.get(&peer.public).is_some_and(|told| told != endpoint) {
                    changes.push(PeerChange::Move(peer.public, *endpoint));
                }
                if peer.is_met && peer.is_called {
                    changes.push(PeerChange::StopCalling(peer.public));
                }
            }
        }
    }
    let known: BTreeSet<PublicKey> = present.iter().map(|peer| peer.public).collect();
    let new = wanted.iter().filter(|(public, _)| !known.contains(public));
    changes.extend(new.map(|(public, endpoint)| PeerChange::Add(*public, *endpoint)));
    changes
}

/// Which of this node's devices (newest key first, each with the peers that it has met) a peer is reached by: the newest
/// one that the peer has answered, for only then does it know that key; the oldest before that.
pub(super) fn way_to(public: &PublicKey, met: &[BTreeSet<PublicKey>]) -> usize {
    met.iter().position(|met| met.contains(public)).unwrap_or_else(|| met.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8, number: u64) -> TunnelKey {
        TunnelKey { public: PublicKey([byte; 32]), number }
    }

    fn peer(vtep: &str, keys: &[TunnelKey]) -> TunnelPeer {
        TunnelPeer { vtep: vtep.parse().unwrap(), keys: keys.to_vec() }
    }

    #[test]
    fn every_key_is_answered_and_the_newest_is_sent_to() {
        let peers = [peer("192.0.2.1", &[key(1, 6), key(2, 7)]), peer("192.0.2.2", &[key(3, 4)])];
        let wanted = wanted(&peers, 4793);
        assert_eq!(wanted[&PublicKey([1; 32])], "192.0.2.1:4793".parse().unwrap());
        assert_eq!(wanted[&PublicKey([2; 32])], "192.0.2.1:4794".parse().unwrap());
        let ends = ends(&peers, 4793);
        assert_eq!(ends[&"192.0.2.1".parse::<IpAddr>().unwrap()], PublicKey([2; 32]).address());
        assert_eq!(ends.len(), 2);
    }

    #[test]
    fn a_key_that_two_nodes_claim_is_nobodys() {
        let peers = [peer("192.0.2.1", &[key(1, 1)]), peer("192.0.2.2", &[key(1, 1), key(2, 2)])];
        assert_eq!(wanted(&peers, 1).into_keys().collect::<Vec<_>>(), [PublicKey([2; 32])]);
        assert_eq!(ends(&peers, 1).len(), 1);
    }

    #[test]
    fn only_what_was_told_anew_is_changed() {
        let [one, two, three] = [1, 2, 3].map(|byte| PublicKey([byte; 32]));
        let at = |port| SocketAddr::new([192, 0, 2, 1].into(), port);
        let seen = |public, is_met, is_called| Present { public, is_met, is_called };
        let present = [seen(one, true, true), seen(two, false, true)];
        let wanted: BTreeMap<_, _> = [(one, at(1)), (three, at(3))].into();
        assert_eq!(
            changes(&present, &wanted, &BTreeMap::new()),
            [PeerChange::StopCalling(one), PeerChange::Remove(two), PeerChange::Add(three, at(3))]
        );
        let moved: BTreeMap<_, _> = [(one, at(7))].into();
        assert_eq!(changes(&[seen(one, true, false)], &moved, &wanted), [PeerChange::Move(one, at(7))]);
        assert!(changes(&[seen(one, true, false)], &moved, &moved).is_empty());
    }

    #[test]
    fn a_peer_is_reached_by_the_newest_device_that_it_has_answered() {
        let [one, two] = [1, 2].map(|byte| PublicKey([byte; 32]));
        let met = |keys: &[PublicKey]| keys.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(way_to(&one, &[met(&[one])]), 0);
        assert_eq!(way_to(&two, &[met(&[one])]), 0, "there is no other");
        assert_eq!(way_to(&one, &[met(&[one]), met(&[one, two])]), 0);
        assert_eq!(way_to(&two, &[met(&[one]), met(&[one, two])]), 1);
        assert_eq!(way_to(&two, &[met(&[]), met(&[])]), 1);
    }
}
