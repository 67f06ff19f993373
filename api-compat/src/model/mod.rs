//! Docker's JSON: one struct for each object, one file for each noun. Docker's names live here only.
//!
//! Start reading at [`container_create`]. Every struct is the newest shape; fields of older versions are marked in their
//! documentation (`Below 1.52.`), those that came later likewise (`Since 1.48.`), and are filled or left out by `compat`.
//! The description in `swagger/` is generated from these types and reads those two marks. Fields are in Docker's order.
//!
//! How a field is written says what clients see when there is nothing: `Option<T>` alone is `null`; with
//! `skip_serializing_if` it is absent; a plain type is its zero. Names of kinds are texts, not enums, so that a value
//! that is not known is refused in words of our own, or passed on.

pub mod bytes;
pub mod checkpoint;
pub mod cluster;
pub mod container_config;
pub mod container_create;
pub mod container_inspect;
pub mod container_stats;
pub mod container_summary;
pub mod disk_usage;
pub mod events;
pub mod exec;
pub mod host_config;
pub mod image;
pub mod mount;
pub mod network;
pub mod network_settings;
pub mod node;
pub mod progress;
pub mod secret;
pub mod service;
pub mod service_container;
pub mod system;
pub mod task;
pub mod task_spec;
pub mod time;
pub mod volume;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `{}`: the value of a set's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Empty {}

/// A set, as an object whose keys are the members.
pub type Set = BTreeMap<String, Empty>;

/// Texts by name.
pub type Texts = BTreeMap<String, String>;

/// An id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct IdResponse {
    /// The id of what was made.
    pub id: String,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorResponse {
    /// What went wrong, in words for the user.
    pub message: String,
}

/// A name and a value that an image or a platform goes by (OCI image spec).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct OciPlatform {
    /// Architecture in Go's names.
    pub architecture: String,
    /// Operating system.
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Features of the operating system that are needed.
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the architecture.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// What a piece of content is (OCI image spec).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase")]
pub struct OciDescriptor {
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: String,
    /// Bytes.
    pub size: i64,
    /// Where it can be had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Texts>,
    /// The content itself, in base64, when it is small.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<OciPlatform>,
    /// Kind of the artifact.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
}

/// Whether a value is the zero of its type, for fields that are left out then.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whether a map is absent or empty, for fields that are left out then.
pub(crate) fn is_empty_map<K, V>(value: &Option<BTreeMap<K, V>>) -> bool {
    value.as_ref().is_none_or(BTreeMap::is_empty)
}

/// Whether a list is absent or empty, for fields that are left out then.
pub(crate) fn is_empty_list<T>(value: &Option<Vec<T>>) -> bool {
    value.as_ref().is_none_or(Vec::is_empty)
}
