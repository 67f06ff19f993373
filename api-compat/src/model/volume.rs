//! Volumes.
//!
//! Start reading at [`VolumeCreate`] and [`Volume`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Texts;

/// A wish for a volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "VolumeCreateRequest")]
pub struct VolumeCreate {
    /// Name; invented if there is none.
    pub name: String,
    /// Name of the driver; empty is `local`.
    pub driver: String,
    /// The driver's options.
    pub driver_opts: Option<Texts>,
    /// Labels.
    pub labels: Option<Texts>,
    /// What a volume of the cluster shall be. Since 1.42.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_volume_spec: Option<Value>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// When it was made.
    pub created_at: String,
    /// Driver.
    pub driver: String,
    /// Labels.
    pub labels: Option<Texts>,
    /// Where its content is.
    pub mountpoint: String,
    /// Name.
    pub name: String,
    /// The driver's options.
    pub options: Option<Texts>,
    /// `local` or `global`.
    pub scope: String,
    /// What its driver says of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub status: BTreeMap<String, Value>,
    /// What it costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<UsageData>,
}

/// What a volume costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct UsageData {
    /// Containers that refer to it.
    pub ref_count: i64,
    /// Bytes; -1 when its driver cannot tell.
    pub size: i64,
}

/// A list of volumes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct VolumeListResponse {
    /// The volumes.
    pub volumes: Vec<Volume>,
    /// Drivers that did not answer.
    pub warnings: Option<Vec<String>>,
}

/// What a prune of volumes removed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct VolumePruneResponse {
    /// Names.
    pub volumes_deleted: Vec<String>,
    /// Bytes of disk that were freed.
    pub space_reclaimed: u64,
}
