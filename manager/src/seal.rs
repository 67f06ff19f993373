//! Encryption of what a manager keeps on disk.
//!
//! Start reading at [`Sealer`], and at [`Keyring`] for how a key is exchanged while the store is in use. Records are sealed with ChaCha20-Poly1305. So that a nonce is never used twice, however many
//! records one key seals and however often the store is copied, each process draws a salt, derives a key of its own from it,
//! and counts: a sealed record is `salt (16) | counter (8) | ciphertext | tag (16)`. What a record is (table and key) is
//! authenticated with it, so that records cannot change places.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rand::RngCore as _;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};

/// Length of keys in bytes.
pub(crate) const KEY_LEN: usize = 32;
const SALT_LEN: usize = 16;
const COUNTER_LEN: usize = 8;

/// Why a record could not be opened: it was altered, belongs elsewhere, or was sealed with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record does not open with this key")]
pub(crate) struct SealBroken;

/// A secret key. It is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) [u8; KEY_LEN]);

impl Key {
    /// A new random key.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; KEY_LEN];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Seals and opens records with keys derived from one.
pub(crate) struct Sealer {
    key: Key,
    salt: [u8; SALT_LEN],
    counter: AtomicU64,
    derived: Mutex<HashMap<[u8; SALT_LEN], Arc<LessSafeKey>>>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer with a salt of its own.
    pub(crate) fn new(key: Key) -> Self {
        let mut salt = [0; SALT_LEN];
        rand::rng().fill_bytes(&mut salt);
        Self { key, salt, counter: AtomicU64::new(0), derived: Mutex::default() }
    }

    /// Seals `plain`, which is what `name` says.
    pub(crate) fn seal(&self, name: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealBroken> {
        let key = self.derive(self.salt)?;
        let counter = self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut sealed =
            Vec::with_capacity(SALT_LEN + COUNTER_LEN + plain.len() + CHACHA20_POLY1305.tag_len());
        sealed.extend_from_slice(&self.salt);
        sealed.extend_from_slice(&counter);
        let start = sealed.len();
        sealed.extend_from_slice(plain);
        let tag = key
            .seal_in_place_separate_tag(
                nonce(counter),
                Aad::from(name),
                sealed.get_mut(start..).ok_or(SealBroken)?,
            )
            .map_err(|_| SealBroken)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] has made for the same `name`.
    pub(crate) fn open(&self, name: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealBroken> {
        let (salt, rest) = sealed.split_first_chunk::<SALT_LEN>().ok_or(SealBroken)?;
        let (counter, body) = rest.split_first_chunk::<COUNTER_LEN>().ok_or(SealBroken)?;
        let key = self.derive(*salt)?;
        let mut body = body.to_vec();
        let length =
            key.open_in_place(nonce(*counter), Aad::from(name), &mut body).map_err(|_| SealBroken)?.len();
        body.truncate(length);
        Ok(body)
    }

    fn derive(&self, salt: [u8; SALT_LEN]) -> Result<Arc<LessSafeKey>, SealBroken> {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = derived.get(&salt) {
            return Ok(Arc::clone(key));
        }
        let extracted = Salt::new(HKDF_SHA256, &salt).extract(&self.key.0);
        let mut bytes = [0; KEY_LEN];
        extracted
            .expand(&[b"shoal record"], ExpandLength)
            .and_then(|expanded| expanded.fill(&mut bytes))
            .map_err(|_| SealBroken)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| SealBroken)?;
        let key = Arc::new(LessSafeKey::new(key));
        derived.insert(salt, Arc::clone(&key));
        Ok(key)
    }
}

/// The keys of a store. While they are exchanged there are two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreKeys {
    /// What records are sealed with.
    pub(crate) current: Key,
    /// What some records may still be sealed with.
    pub(crate) former: Option<Key>,
}

/// Seals with the current key, and opens with that or the one before.
#[derive(Debug)]
pub(crate) struct Keyring {
    sealers: RwLock<(Arc<Sealer>, Option<Arc<Sealer>>)>,
}

impl Keyring {
    /// A ring of these keys.
    pub(crate) fn new(keys: StoreKeys) -> Self {
        let former = keys.former.map(|key| Arc::new(Sealer::new(key)));
        Self { sealers: RwLock::new((Arc::new(Sealer::new(keys.current)), former)) }
    }

    /// Seals with `key` from now on. What was sealed with the one before still opens for as long as this lives.
    pub(crate) fn adopt(&self, key: Key) {
        let mut sealers = self.sealers.write().unwrap_or_else(PoisonError::into_inner);
        if sealers.0.key != key {
            sealers.1 = Some(std::mem::replace(&mut sealers.0, Arc::new(Sealer::new(key))));
        }
    }

    /// See [`Sealer::seal`].
    pub(crate) fn seal(&self, name: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealBroken> {
        self.sealers().0.seal(name, plain)
    }

    /// See [`Sealer::open`].
    pub(crate) fn open(&self, name: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealBroken> {
        let (current, former) = self.sealers();
        current.open(name, sealed).or_else(|broken| former.ok_or(broken)?.open(name, sealed))
    }

    fn sealers(&self) -> (Arc<Sealer>, Option<Arc<Sealer>>) {
        self.sealers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct ExpandLength;

impl KeyType for ExpandLength {
    fn len(&self) -> usize {
        KEY_LEN
    }
}

fn nonce(counter: [u8; COUNTER_LEN]) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    for (to, from) in bytes.iter_mut().skip(NONCE_LEN - COUNTER_LEN).zip(counter) {
        *to = from;
    }
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_again_in_another_process() {
        let key = Key::random();
        let sealed = Sealer::new(key.clone()).seal(b"log/1", b"entry").unwrap();
        assert_eq!(Sealer::new(key).open(b"log/1", &sealed).unwrap(), b"entry");
    }

    #[test]
    fn a_record_opens_neither_elsewhere_nor_altered_nor_with_another_key() {
        let sealer = Sealer::new(Key::random());
        let sealed = sealer.seal(b"log/1", b"entry").unwrap();
        assert_eq!(sealer.open(b"log/2", &sealed), Err(SealBroken));
        assert_eq!(Sealer::new(Key::random()).open(b"log/1", &sealed), Err(SealBroken));
        for idx in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[idx] ^= 1;
            assert_eq!(sealer.open(b"log/1", &altered), Err(SealBroken), "byte {idx}");
        }
        for length in 0..sealed.len() {
            assert_eq!(sealer.open(b"log/1", &sealed[..length]), Err(SealBroken), "length {length}");
        }
    }

    #[test]
    fn a_ring_opens_what_its_last_two_keys_have_sealed() {
        let (one, two) = (Key::random(), Key::random());
        let ring = Keyring::new(StoreKeys { current: one.clone(), former: None });
        let old = ring.seal(b"a", b"old").unwrap();
        ring.adopt(two.clone());
        ring.adopt(two.clone());
        let new = ring.seal(b"a", b"new").unwrap();
        assert_eq!(
            (ring.open(b"a", &old).unwrap(), ring.open(b"a", &new).unwrap()),
            (b"old".into(), b"new".into())
        );
        assert_eq!(Sealer::new(two.clone()).open(b"a", &new).unwrap(), b"new");
        let both = Keyring::new(StoreKeys { current: two.clone(), former: Some(one) });
        assert_eq!(both.open(b"a", &old).unwrap(), b"old");
        assert_eq!(Keyring::new(StoreKeys { current: two, former: None }).open(b"a", &old), Err(SealBroken));
    }

    #[test]
    fn two_records_never_share_a_nonce() {
        let sealer = Sealer::new(Key::random());
        let (one, two) = (sealer.seal(b"a", b"same").unwrap(), sealer.seal(b"a", b"same").unwrap());
        assert_ne!(one[..24], two[..24]);
        assert_ne!(one[24..], two[24..]);
    }
}
