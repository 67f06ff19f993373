//! Secrets and configs: small files that the cluster keeps and hands to tasks.
//!
//! Start reading at [`SecretSpec`]. A secret's content is never shown again; a config's is.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Meta;
use crate::ids::{ConfigId, SecretId};

/// Largest secret in bytes, exclusive.
pub const MAX_SECRET_SIZE: usize = 512_000;
/// Largest config in bytes, exclusive.
pub const MAX_CONFIG_SIZE: usize = 1_024_000;

/// What somebody asked a secret to be.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretSpec {
    /// Name, unique in the cluster.
    pub name: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// The content.
    #[serde(with = "crate::base64_bytes")]
    pub data: Vec<u8>,
    /// Whether the content is a template that is filled in for each task.
    pub templated: bool,
}

impl fmt::Debug for SecretSpec {
    /// Leaves the content out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A secret that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Its id.
    pub id: SecretId,
    /// Version and times.
    pub meta: Meta,
    /// Name, labels, content.
    pub spec: SecretSpec,
}

/// What somebody asked a config to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigSpec {
    /// Name, unique in the cluster.
    pub name: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// The content.
    #[serde(with = "crate::base64_bytes")]
    pub data: Vec<u8>,
    /// Whether the content is a template that is filled in for each task.
    pub templated: bool,
}

/// A config that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Its id.
    pub id: ConfigId,
    /// Version and times.
    pub meta: Meta,
    /// Name, labels, content.
    pub spec: ConfigSpec,
}

/// Where a file appears in a task's container, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTarget {
    /// Path; a secret's is relative to /run/secrets.
    pub path: String,
    /// Owner, as a number.
    pub uid: String,
    /// Group, as a number.
    pub gid: String,
    /// Permission bits.
    pub mode: u32,
}

/// A service's wish for a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretReference {
    /// The secret.
    pub id: SecretId,
    /// Its name when the client looked it up.
    pub name: String,
    /// Where it appears.
    pub target: FileTarget,
}

/// A service's wish for a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigReference {
    /// The config.
    pub id: ConfigId,
    /// Its name when the client looked it up.
    pub name: String,
    /// Where it appears; `None` is for the runtime only (credential specs).
    pub target: Option<FileTarget>,
}
