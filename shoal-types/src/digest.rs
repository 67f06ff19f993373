//! Content digests and what is derived from them.
//!
//! Start reading at [`Digest`]. Computing a digest is IO and lives with whoever reads the bytes; this module only
//! names the result. Terms as in docs/glossary.md: a *diff id* is the digest of an uncompressed layer, a *chain
//! id* names a stack of layers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// Not of the form `algorithm:hex`.
    #[error("invalid checksum digest format")]
    Format,
    /// Well formed, but not an algorithm that Shoal computes.
    #[error("unsupported digest algorithm")]
    Algorithm,
    /// Too few or too many digits for the algorithm.
    #[error("invalid checksum digest length")]
    Length,
}

/// A SHA-256 digest, shown as `sha256:` and 64 lower-case hex digits (OCI image spec, descriptor.md).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest whose 32 bytes somebody has computed.
    pub const fn from_sha256(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits without the algorithm; the name of the blob's file.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The first twelve hex digits, as progress lines and the command line show them.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let (algorithm, digits) = text.split_once(':').ok_or(ParseDigestError::Format)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
        if algorithm.is_empty() || digits.is_empty() || !is_hex {
            return Err(ParseDigestError::Format);
        }
        if algorithm != "sha256" {
            return Err(ParseDigestError::Algorithm);
        }
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| ParseDigestError::Length)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Defines a digest with a meaning of its own, so that one cannot be taken for another.
macro_rules! digest_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

digest_newtype!(
    /// An image as this node knows it: the digest of its target (manifest or index). See
    /// docs/decisions/2026-11-21-image-identity.md.
    ImageId
);
digest_newtype!(
    /// A layer's uncompressed content (`rootfs.diff_ids` of the image config).
    DiffId
);
digest_newtype!(
    /// A stack of layers, bottom first: the first diff id, then `sha256(parent + " " + diff id)` (OCI image
    /// spec, config.md, "Layer ChainID").
    ChainId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_parse_back_from_their_text() {
        let digest = Digest::from_sha256([0xa5; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.to_string(), format!("sha256:{}", "a5".repeat(32)));
    }

    #[test]
    fn wrong_digests_say_what_is_wrong() {
        let cases = [
            ("", ParseDigestError::Format),
            ("sha256:", ParseDigestError::Format),
            ("sha256:ABCD", ParseDigestError::Format),
            ("sha256:../../etc/passwd", ParseDigestError::Format),
            ("md5:00", ParseDigestError::Algorithm),
            ("sha256:00", ParseDigestError::Length),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
    }
}
