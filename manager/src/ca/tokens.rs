//! Join tokens and the unlock key, in swarm's forms.
//!
//! Start reading at [`JoinToken`]: `SWMTKN-1-<digest>-<secret>`, where the digest is the SHA-256 of the trust root's PEM text in
//! base 36, padded to 50 characters, and the secret 16 random bytes, padded to 25. [`UnlockKey`]: `SWMKEY-1-` and 32 bytes in
//! base 64 without padding.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rand::RngCore as _;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::error::ClusterError;
use crate::seal::{KEY_LEN, Key};

const TOKEN_PREFIX: &str = "SWMTKN-1-";
const KEY_PREFIX: &str = "SWMKEY-1-";
const DIGEST_CHARS: usize = 50;
const SECRET_CHARS: usize = 25;

/// SHA-256 of a trust root's PEM text.
pub(crate) type RootDigest = [u8; 32];

/// The digest by which a join token names an authority.
pub(crate) fn root_digest(trust_root: &str) -> RootDigest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, trust_root.as_bytes()).as_ref());
    bytes
}

/// The part of a join token that is known to the cluster only. Not shown by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenSecret([u8; 16]);

impl TokenSecret {
    /// A new random one.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 16];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Whether both are the same, in a time that does not tell where they differ.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |difference, (one, two)| difference | (one ^ two)) == 0
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(..)")
    }
}

/// What lets a machine join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JoinToken {
    /// The authority that the machine shall accept.
    pub(crate) root: RootDigest,
    /// What the machine shows it.
    pub(crate) secret: TokenSecret,
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = to_base36(&self.root, DIGEST_CHARS);
        let secret = to_base36(&self.secret.0, SECRET_CHARS);
        write!(f, "{TOKEN_PREFIX}{digest}-{secret}")
    }
}

impl FromStr for JoinToken {
    type Err = ClusterError;

    fn from_str(text: &str) -> Result<Self, ClusterError> {
        let parts = text.strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.split_once('-'));
        let (digest, secret) = parts.ok_or(ClusterError::InvalidJoinToken)?;
        let root = from_base36::<32>(digest, DIGEST_CHARS).ok_or(ClusterError::InvalidJoinToken)?;
        let secret = from_base36::<16>(secret, SECRET_CHARS).ok_or(ClusterError::InvalidJoinToken)?;
        Ok(Self { root, secret: TokenSecret(secret) })
    }
}

/// What opens a manager's locked keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnlockKey(pub(crate) Key);

impl UnlockKey {
    /// A new random one.
    pub(crate) fn random() -> Self {
        Self(Key::random())
    }
}

impl fmt::Display for UnlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_PREFIX}{}", STANDARD_NO_PAD.encode(self.0.0))
    }
}

impl FromStr for UnlockKey {
    type Err = ClusterError;

    fn from_str(text: &str) -> Result<Self, ClusterError> {
        let body = text.strip_prefix(KEY_PREFIX).ok_or(ClusterError::MalformedUnlockKey)?;
        let bytes = STANDARD_NO_PAD.decode(body).map_err(|_| ClusterError::MalformedUnlockKey)?;
        let bytes: [u8; KEY_LEN] = bytes.try_into().map_err(|_| ClusterError::MalformedUnlockKey)?;
        Ok(Self(Key(bytes)))
    }
}

/// `bytes` as one big-endian number in base 36, padded with zeros to `length` characters.
fn to_base36(bytes: &[u8], length: usize) -> String {
    let mut number = bytes.to_vec();
    let mut digits = vec![b'0'; length];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = remainder * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 36).unwrap_or(0);
            remainder = value % 36;
        }
        *digit = char::from_digit(remainder, 36).map_or(b'0', |c| c as u8);
    }
    digits.into_iter().map(char::from).collect()
}

/// The number that [`to_base36`] has written; `None` if the text is not of that length and form or the number does not fit.
fn from_base36<const N: usize>(text: &str, length: usize) -> Option<[u8; N]> {
    if text.len() != length || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut number = [0u8; N];
    for digit in text.chars() {
        let mut carry = digit.to_digit(36)?;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 36 + carry;
            *byte = u8::try_from(value & 0xff).ok()?;
            carry = value >> 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tokens_have_swarms_form_and_parse_back(root: [u8; 32], secret: [u8; 16]) {
            let token = JoinToken { root, secret: TokenSecret(secret) };
            let text = token.to_string();
            prop_assert_eq!(text.len(), 85);
            prop_assert!(text.starts_with("SWMTKN-1-"));
            prop_assert_eq!(text.parse::<JoinToken>().unwrap(), token);
        }
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let good = JoinToken { root: [7; 32], secret: TokenSecret([9; 16]) }.to_string();
        let too_large = format!("SWMTKN-1-{}-{}", "z".repeat(50), "0".repeat(25));
        for text in
            ["", "SWMTKN-1-", "SWMTKN-1-a-b", &good[1..], &good[..84], &good.to_uppercase(), &too_large]
        {
            assert!(matches!(text.parse::<JoinToken>(), Err(ClusterError::InvalidJoinToken)), "{text}");
        }
    }

    #[test]
    fn the_unlock_key_has_swarms_form_and_parses_back() {
        let key = UnlockKey::random();
        let text = key.to_string();
        assert_eq!(text.len(), "SWMKEY-1-".len() + 43);
        assert_eq!(text.parse::<UnlockKey>().unwrap(), key);
        for text in ["", "SWMKEY-1-", "SWMKEY-1-AAAA", &text[..51], "SWMKEY-2-x"] {
            assert!(matches!(text.parse::<UnlockKey>(), Err(ClusterError::MalformedUnlockKey)), "{text}");
        }
    }

    #[test]
    fn secrets_and_keys_are_not_shown() {
        let token = JoinToken { root: [0; 32], secret: TokenSecret([0xab; 16]) };
        assert!(format!("{token:?}").contains("TokenSecret(..)"));
        assert!(format!("{:?}", UnlockKey::random()).contains("Key(..)"));
    }
}
