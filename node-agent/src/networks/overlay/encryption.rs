//! The node's part in encrypted networks: what the encrypted data path shall be, and the change from one key to the next.
//!
//! Start reading at [`State::encryption_wish`] (pure), then [`NetworkStore::watch_encryption`]. Keys are told to the managers with
//! the node's description, and those of other nodes come with the tables of encrypted networks. Private keys stay in
//! overlay-net.
//!
//! A key takes over in steps that may each be repeated: the newer one is made and answered, both are told, and when every
//! peer has answered to the newer one the older is forgotten. Until then each peer is sent to by the key that it knows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use overlay_net::wireguard::PORT_DISTANCE;
use overlay_net::{Changeover, DriverSpec, Host, PublicKey, TunnelKey, TunnelPeer, WireguardSpec};
use shoal_types::cluster::node::DataPathKey;
use shoal_types::cluster::overlay::{OverlayEntry, OverlayKeys};
use tokio::time::Instant;

use crate::error::ErrorChain;
use crate::networks::{NetworkStore, State, run_blocking};

/// Life of a key, as swarm has it.
const KEY_LIFE: Duration = Duration::from_secs(12 * 3600);
/// A key that is younger is not replaced for a new authority: it was made for it.
const FRESH: Duration = Duration::from_secs(30);
/// How often the age of the key is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often peers are asked about while a newer key takes over.
const SETTLE_EVERY: Duration = Duration::from_secs(1);
/// How long peers may take that cannot be reached. They learn the newer key when they come back to their managers.
const SETTLE_LIMIT: Duration = Duration::from_secs(3600);

/// What is to be done to the encrypted data path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EncryptionStep {
    /// It shall be this.
    Apply(WireguardSpec),
    /// Nothing needs it.
    Remove,
}

impl EncryptionStep {
    /// Makes the data path ready for networks that are about to be given.
    pub(super) fn prepare(&self, host: &Host) -> Result<(), overlay_net::NetError> {
        match self {
            Self::Apply(spec) => host.apply_wireguard(spec).map(drop),
            Self::Remove => Ok(()),
        }
    }

    /// Takes away what no network needs any more.
    pub(super) fn finish(&self, host: &Host) {
        if *self != Self::Remove {
            return;
        }
        for error in host.remove_wireguard() {
            tracing::warn!(error = %ErrorChain(&error), "part of the encrypted data path could not be removed");
        }
    }
}

impl State {
    /// What the encrypted data path shall be; `None` without an encrypted network.
    pub(super) fn encryption_wish(&self) -> Option<WireguardSpec> {
        let mut wish = None;
        let mut peers: BTreeMap<IpAddr, TunnelPeer> = BTreeMap::new();
        for (id, overlay) in self.board.networks.iter().filter(|(_, overlay)| overlay.told.is_encrypted()) {
            let Some(DriverSpec::Overlay(spec)) = self.networks.get(id).map(|entry| &entry.kernel.driver)
            else {
                continue;
            };
            wish = Some((spec.vtep, spec.port));
            let others = overlay.entries.values().filter_map(|entry| match entry {
                OverlayEntry::Keys(keys) if keys.vtep != spec.vtep => Some((keys.vtep, tunnel_peer(keys))),
                _ => None,
            });
            peers.extend(others);
        }
        let (vtep, port) = wish?;
        let peers = peers.into_values().collect();
        Some(WireguardSpec { vtep, port: port.saturating_add(PORT_DISTANCE), peers })
    }

    /// What follows for the encrypted data path, if it is other than what was done last.
    pub(super) fn encryption_step(&mut self) -> Option<EncryptionStep> {
        let wish = self.encryption_wish();
        if wish == self.board.encryption {
            return None;
        }
        self.board.encryption.clone_from(&wish);
        Some(wish.map_or(EncryptionStep::Remove, EncryptionStep::Apply))
    }
}

impl NetworkStore {
    /// Tells the keys of this node to those who describe it.
    pub(super) async fn publish_keys(&self) {
        let host = self.shared.host.clone();
        let keys = match run_blocking(move || host.tunnel_keys()).await {
            Ok(Ok(keys)) => keys.into_iter().map(told).collect(),
            Ok(Err(error)) => {
                tracing::error!(error = %ErrorChain(&error), "this node has no key for encrypted networks");
                return;
            }
            Err(error) => {
                tracing::error!(error = error.message(), "this node has no key for encrypted networks");
                return;
            }
        };
        self.shared.overlay.keys.send_if_modified(|known| {
            let is_new = *known != keys;
            *known = keys;
            is_new
        });
    }

    /// Makes a newer key when the one in use is old, or when the cluster's authority is exchanged, and leads it to its
    /// place. Never returns.
    pub(super) async fn watch_encryption(&self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let life = tokio::select! {
                _ = look.tick() => KEY_LIFE,
                () = self.shared.overlay.rotation.notified() => FRESH,
                () = self.shared.host.wireguard_closed() => {
                    self.bring_back().await;
                    continue;
                }
            };
            if self.shared.overlay.member().is_none() {
                continue;
            }
            if self.shared.overlay.keys.borrow().len() > 1 {
                // A daemon before this one has begun it.
                self.settle_key().await;
            } else if self.with_state(|state| state.board.encryption.is_some()) && self.is_older(life).await {
                self.rotate_key().await;
            }
        }
    }

    /// Forgets the keys; for a node that leaves its cluster.
    pub(super) async fn forget_keys(&self) {
        let host = self.shared.host.clone();
        let errors = run_blocking(move || host.forget_tunnel_keys()).await.unwrap_or_default();
        for error in errors {
            tracing::warn!(error = %ErrorChain(&error), "keys for encrypted networks are not forgotten");
        }
    }

    /// Starts a process that encrypts again. One that ends as part of a change is found to be no more needed.
    async fn bring_back(&self) {
        // A process that cannot live shall not keep the machine busy.
        tokio::time::sleep(SETTLE_EVERY).await;
        let _turn = self.shared.overlay.turn.lock().await;
        self.reapply_encryption().await;
    }

    async fn is_older(&self, life: Duration) -> bool {
        let host = self.shared.host.clone();
        matches!(run_blocking(move || host.tunnel_key_age()).await, Ok(Ok(age)) if age >= life)
    }

    async fn rotate_key(&self) {
        let turn = self.shared.overlay.turn.lock().await;
        if !self.change_key(Host::rotate_tunnel_key).await {
            return;
        }
        // The newer key is answered before anybody hears of it.
        self.reapply_encryption().await;
        drop(turn);
        self.publish_keys().await;
        tracing::info!("a newer key for encrypted networks is about to take over");
        self.settle_key().await;
    }

    /// Waits until every peer has answered to the newer key, then forgets the older one.
    async fn settle_key(&self) {
        let deadline = Instant::now() + SETTLE_LIMIT;
        loop {
            let turn = self.shared.overlay.turn.lock().await;
            let waiting = self.reapply_encryption().await.map(|changeover| changeover.waiting);
            if waiting == Some(0) || Instant::now() > deadline {
                if self.change_key(Host::retire_tunnel_key).await {
                    self.reapply_encryption().await;
                    tracing::info!("the newer key for encrypted networks has taken over");
                }
                drop(turn);
                self.publish_keys().await;
                return;
            }
            drop(turn);
            // Devices do not tell when a peer has answered.
            tokio::time::sleep(SETTLE_EVERY).await;
        }
    }

    async fn change_key(&self, change: fn(&Host) -> Result<(), overlay_net::NetError>) -> bool {
        let host = self.shared.host.clone();
        match run_blocking(move || change(&host)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(error = %ErrorChain(&error), "key for encrypted networks cannot be changed");
                false
            }
            Err(error) => {
                tracing::error!(error = error.message(), "key for encrypted networks cannot be changed");
                false
            }
        }
    }

    /// Makes the encrypted data path once more what it shall be, which also repairs it. To be called in turn. Without an
    /// encrypted network nobody waits.
    pub(super) async fn reapply_encryption(&self) -> Option<Changeover> {
        let wish = self.with_state(|state| {
            let wish = state.encryption_wish();
            state.board.encryption.clone_from(&wish);
            wish
        });
        let Some(wish) = wish else { return Some(Changeover::default()) };
        let host = self.shared.host.clone();
        match run_blocking(move || host.apply_wireguard(&wish)).await {
            Ok(Ok(changeover)) => Some(changeover),
            Ok(Err(error)) => {
                tracing::error!(error = %ErrorChain(&error), "encrypted data path is not as told");
                None
            }
            Err(error) => {
                tracing::error!(error = error.message(), "encrypted data path is not as told");
                None
            }
        }
    }
}

fn tunnel_peer(keys: &OverlayKeys) -> TunnelPeer {
    let key = |key: &DataPathKey| TunnelKey { public: PublicKey(key.public), number: key.number };
    TunnelPeer { vtep: keys.vtep, keys: keys.keys.iter().map(key).collect() }
}

fn told(key: TunnelKey) -> DataPathKey {
    DataPathKey { public: key.public.0, number: key.number }
}
