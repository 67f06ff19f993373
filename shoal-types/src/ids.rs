//! Newtype identifiers. The compiler keeps a task id out of a container id's place.
//!
//! Start reading at `hex_id!`: engine objects are named by 64 lower-case hex digits, cluster objects by 25
//! base-36 characters. Network ids may be either, because a swarm network is also a network of the node.
//! Look-up by prefix or name is the owner's business, not this module's.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand::RngCore as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not an id of the kind that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ParseIdError {
    text: String,
    expected: &'static str,
}

/// Defines an id of 256 random bits, shown as 64 lower-case hex digits.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            /// A new random id. Never all-numeric in its short form, so that it cannot be taken for a number
            /// (a host name of digits only is not a valid one).
            pub fn random() -> Self {
                let mut bytes = [0u8; 32];
                loop {
                    rand::rng().fill_bytes(&mut bytes);
                    let id = Self(bytes);
                    if !id.short().bytes().all(|digit| digit.is_ascii_digit()) {
                        return id;
                    }
                }
            }

            /// The id made of these bytes; for ids that are derived rather than drawn.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The raw bytes, in the order of the hex digits.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first twelve hex digits, the form that the command line shows.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..6])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0u8; 64];
                // The buffer is exactly twice the input, so encoding cannot fail.
                hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
                f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let wrong = || ParseIdError { text: text.to_owned(), expected: "an id of 64 lower-case hex digits" };
                if text.bytes().any(|digit| digit.is_ascii_uppercase()) {
                    return Err(wrong());
                }
                let mut bytes = [0u8; 32];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| wrong())?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// A container of this node.
    ContainerId
);
hex_id!(
    /// One command run inside a container beside its init process.
    ExecId
);
hex_id!(
    /// A container's network namespace.
    SandboxId
);
hex_id!(
    /// What joins one sandbox to one network.
    EndpointId
);

/// Length of a cluster object's id: 128 bits in base 36.
const CLUSTER_ID_LEN: usize = 25;

/// Defines an id of 128 random bits, shown as 25 base-36 characters (swarmkit's form).
macro_rules! cluster_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                let mut bytes = [0u8; 16];
                rand::rng().fill_bytes(&mut bytes);
                Self(u128::from_le_bytes(bytes))
            }

            /// The id with this value; for tests and derived ids.
            pub const fn from_u128(value: u128) -> Self {
                Self(value)
            }

            /// The value behind the 25 characters.
            pub const fn as_u128(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&base36(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_base36(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

cluster_id!(
    /// The cluster as a whole.
    ClusterId
);
cluster_id!(
    /// A machine that has joined the cluster.
    NodeId
);
cluster_id!(
    /// A service of the cluster.
    ServiceId
);
cluster_id!(
    /// One task of a service.
    TaskId
);
cluster_id!(
    /// A secret of the cluster.
    SecretId
);
cluster_id!(
    /// A config of the cluster.
    ConfigId
);

fn base36(mut value: u128) -> String {
    let mut text = [b'0'; CLUSTER_ID_LEN];
    for place in text.iter_mut().rev() {
        let digit = u32::try_from(value % 36).unwrap_or(0);
        *place = char::from_digit(digit, 36).map_or(b'0', |c| c as u8);
        value /= 36;
    }
    text.iter().map(|&byte| char::from(byte)).collect()
}

fn parse_base36(text: &str) -> Result<u128, ParseIdError> {
    let wrong = || ParseIdError { text: text.to_owned(), expected: "an id of 25 base-36 characters" };
    if text.len() != CLUSTER_ID_LEN || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(wrong());
    }
    text.chars().try_fold(0u128, |value, digit| {
        let digit = digit.to_digit(36).ok_or_else(wrong)?;
        value.checked_mul(36).and_then(|value| value.checked_add(u128::from(digit))).ok_or_else(wrong)
    })
}

/// A network: 64 hex digits when this node made it, 25 base-36 characters when the cluster did.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(Arc<str>);

impl NetworkId {
    /// A new random id of a network that belongs to this node.
    pub fn random_local() -> Self {
        Self(SandboxId::random().to_string().into())
    }

    /// A new random id of a network that belongs to the cluster.
    pub fn random_cluster() -> Self {
        Self(ServiceId::random().to_string().into())
    }

    /// Takes over an id as it was stored or received.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve characters, as the command line and the names of bridges (`br-…`) use them.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hex_ids_show_64_digits_and_parse_back() {
        let id = ContainerId::random();
        let text = id.to_string();
        assert_eq!(text.len(), 64);
        assert_eq!(text.parse::<ContainerId>(), Ok(id));
        assert!(text.starts_with(&id.short()));
    }

    #[test]
    fn hex_ids_refuse_other_forms() {
        for text in ["", "abc", &"g".repeat(64), &"A".repeat(64), &"a".repeat(63), &"a".repeat(65)] {
            assert!(text.parse::<ContainerId>().is_err(), "{text}");
        }
    }

    #[test]
    fn cluster_ids_refuse_other_forms() {
        for text in ["", "abc", &"A".repeat(25), &"-".repeat(25), &"z".repeat(25), &"0".repeat(24)] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn cluster_ids_show_25_characters_and_parse_back(value: u128) {
            let id = TaskId::from_u128(value);
            prop_assert_eq!(id.to_string().len(), 25);
            prop_assert_eq!(id.to_string().parse::<TaskId>(), Ok(id));
        }
    }
}
