//! What the engine can do with the encrypted data path: keys, peers, the change from one key to the next.
//!
//! Start reading at [`Host::apply_wireguard`]. How a key is changed without losing anything: [`Host::rotate_tunnel_key`],
//! `apply` (both keys are answered), tell the others of both ([`Host::tunnel_keys`]), `apply` until nobody waits,
//! [`Host::retire_tunnel_key`], `apply`, tell the others of the one. Each step can be repeated after a crash.

use std::time::Duration;

use super::Host;
use crate::error::{NetError, Result};
use crate::wireguard::{Changeover, TunnelKey, WireguardSpec};

impl Host {
    /// This node's public keys for the encrypted data path, newest first; made when first asked for.
    ///
    /// Private keys stay with the data plane, in a directory that a reboot empties.
    pub fn tunnel_keys(&self) -> Result<Vec<TunnelKey>> {
        self.shared.overlays.wireguard().keys()
    }

    /// Since when the newest key is there.
    pub fn tunnel_key_age(&self) -> Result<Duration> {
        self.shared.overlays.wireguard().age()
    }

    /// Makes a newer key pair, unless one is about to take over already.
    pub fn rotate_tunnel_key(&self) -> Result<()> {
        self.shared.overlays.wireguard().rotate()
    }

    /// Forgets the older of two key pairs.
    pub fn retire_tunnel_key(&self) -> Result<()> {
        self.shared.overlays.wireguard().retire()
    }

    /// Makes the encrypted data path exactly what is given, and leads the frames of encrypted networks accordingly.
    ///
    /// To be called before [`Host::apply_overlay`] with the networks that need it: addresses behind nodes whose keys
    /// are not known are reached by nobody. Open sessions, and streams in them, go on.
    pub fn apply_wireguard(&self, spec: &WireguardSpec) -> Result<Changeover> {
        self.shared.overlays.apply_wireguard(spec)
    }

    /// Resolves when a process that encrypts has ended; [`Host::apply_wireguard`] starts another. Never resolves where
    /// the kernel encrypts, or nothing does.
    pub async fn wireguard_closed(&self) {
        self.shared.overlays.wireguard().closed().await;
    }

    /// Removes devices, processes and namespace of the encrypted data path; fine when there is none. To be called when
    /// no encrypted network is left. The keys stay: others have been told of them.
    pub fn remove_wireguard(&self) -> Vec<NetError> {
        self.shared.overlays.wireguard().remove()
    }

    /// Forgets the keys; for a node that leaves its cluster, after [`Host::remove_wireguard`].
    pub fn forget_tunnel_keys(&self) -> Vec<NetError> {
        self.shared.overlays.wireguard().forget()
    }
}
