//! Key pairs of this node's end of the encrypted tunnels, and the addresses that follow from public keys.
//!
//! Start reading at [`Keyring`]. Private keys never leave this crate and are never on a disk: the ring is a file beside
//! the pinned namespaces, in a directory that a reboot empties, so that a restarted daemon finds the keys that the data
//! plane goes on with. Nothing here speaks to the kernel.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::net::Ipv6Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use boringtun::x25519;
use rand::TryRngCore as _;
use serde::{Deserialize, Serialize};

/// First byte of addresses inside the tunnels: unique local ones (RFC 4193).
const UNIQUE_LOCAL: u8 = 0xfd;

/// The public half of a node's key pair (RFC 7748, X25519).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The address of whoever has this key, inside the tunnels.
    ///
    /// It follows from the key, so nobody gives addresses out, none is used twice, and a node that changes its key has
    /// both addresses for as long as it has both keys. 120 bits of a digest: nobody finds a key for another's address.
    pub fn address(&self) -> Ipv6Addr {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.0);
        let mut octets = [UNIQUE_LOCAL; 16];
        octets[1..].copy_from_slice(&digest.as_ref()[..15]);
        Ipv6Addr::from(octets)
    }
}

/// Which of the two devices that a node may have at a time. It decides the UDP port, so that both work side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(u8);

impl Slot {
    /// The slot of the key with this number in the row of a node's keys.
    pub const fn of(number: u64) -> Self {
        Self(if number.is_multiple_of(2) { 0 } else { 1 })
    }

    /// The slot's UDP port. `first` is that of the first slot.
    pub const fn port(self, first: u16) -> u16 {
        first.saturating_add(self.0 as u16)
    }

    pub(super) const fn number(self) -> u8 {
        self.0
    }
}

/// A key that a node has, as others are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelKey {
    /// The public key.
    pub public: PublicKey,
    /// Its number in the row of the node's keys; higher is newer.
    pub number: u64,
}

/// The private half. Shows nothing of itself in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PrivateKey([u8; 32]);

impl PrivateKey {
    fn generate() -> io::Result<Self> {
        let mut bytes = [0; 32];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes))
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey(x25519::PublicKey::from(&self.secret()).to_bytes())
    }

    pub(super) fn secret(&self) -> x25519::StaticSecret {
        x25519::StaticSecret::from(self.0)
    }

    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// One of this node's key pairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnKey {
    pub(super) private: PrivateKey,
    pub(super) number: u64,
    made: SystemTime,
}

impl OwnKey {
    pub(super) fn slot(&self) -> Slot {
        Slot::of(self.number)
    }

    pub(super) fn told(&self) -> TunnelKey {
        TunnelKey { public: self.private.public(), number: self.number }
    }
}

/// This node's key pairs, newest first: one, or two while the newer takes over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Keyring {
    keys: Vec<OwnKey>,
}

impl Keyring {
    /// Reads the ring, or makes one with a first key. One that cannot be understood counts as lost.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let found = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice::<Self>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(found) = found.filter(|ring| !ring.keys.is_empty()) {
            return Ok(found);
        }
        let mut ring = Self::default();
        ring.add(SystemTime::now())?;
        ring.save(path)?;
        Ok(ring)
    }

    /// Newest first, never none.
    pub(super) fn keys(&self) -> &[OwnKey] {
        &self.keys
    }

    /// Whether a newer key is about to take over.
    pub(super) fn is_changing(&self) -> bool {
        self.keys.len() > 1
    }

    /// Since when the newest key is there.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        // A clock that was set back makes no key old.
        let since = |key: &OwnKey| now.duration_since(key.made).unwrap_or_default();
        self.keys.first().map(since).unwrap_or_default()
    }

    /// Makes a newer key.
    pub(super) fn add(&mut self, now: SystemTime) -> io::Result<()> {
        // A number that was never used by this node, even when the ring was lost in a reboot: the newest is found by it.
        let clock = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let number = match self.keys.first() {
            Some(newest) => newest.number.saturating_add(1),
            None => clock,
        };
        self.keys.insert(0, OwnKey { private: PrivateKey::generate()?, number, made: now });
        Ok(())
    }

    /// Forgets all keys but the newest.
    pub(super) fn retire(&mut self) {
        self.keys.truncate(1);
    }

    /// Writes the ring where [`Keyring::open`] finds it; readable by root alone, whole or not at all.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let draft = path.with_extension("new");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        drop(file);
        fs::rename(&draft, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_found_again_and_a_broken_one_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let first = Keyring::open(&path).unwrap();
        assert_eq!(Keyring::open(&path).unwrap(), first);
        fs::write(&path, "{").unwrap();
        assert_ne!(Keyring::open(&path).unwrap(), first);
    }

    #[test]
    fn a_newer_key_has_the_other_slot_and_stays_when_the_older_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut ring = Keyring::open(&dir.path().join("keys")).unwrap();
        let older = ring.keys()[0].clone();
        ring.add(SystemTime::now()).unwrap();
        let newer = ring.keys()[0].clone();
        assert!(ring.is_changing() && newer.number > older.number);
        assert_ne!(newer.slot(), older.slot());
        assert_ne!(newer.slot().port(4793), older.slot().port(4793));
        ring.retire();
        assert_eq!(ring.keys(), [newer]);
    }

    #[test]
    fn private_keys_are_not_shown_and_addresses_follow_from_public_ones() {
        let (one, two) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        assert_eq!(format!("{one:?}"), "PrivateKey");
        assert_eq!(one.public().address(), one.public().address());
        assert_ne!(one.public().address(), two.public().address());
        assert!(one.public().address().is_unique_local());
    }
}
