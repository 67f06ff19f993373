//! What takes up disk.
//!
//! Start reading at [`DiskUsage`].

use serde::Serialize;

use super::container_summary::ContainerSummary;
use super::image::ImageSummary;
use super::time::Time;
use super::volume::Volume;

/// What takes up disk: the shape before 1.52 and the shape since, either of which may be absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename = "SystemDataUsageResponse")]
pub struct DiskUsage {
    /// Everything, object by object; from 1.52 on only when nothing is said of `verbose`.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub legacy: Option<LegacyUsage>,
    /// Sums by kind.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub sums: Option<UsageSums>,
}

/// Everything, object by object.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct LegacyUsage {
    /// Bytes of all layers, each counted once.
    pub layers_size: u64,
    /// Images.
    pub images: Option<Vec<ImageSummary>>,
    /// Containers.
    pub containers: Option<Vec<ContainerSummary>>,
    /// Volumes.
    pub volumes: Option<Vec<Volume>>,
    /// Records of the build cache.
    pub build_cache: Option<Vec<BuildCache>>,
    /// Always 0. Below 1.42.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builder_size: Option<u64>,
}

/// Sums by kind; a kind that was not asked for is absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct UsageSums {
    /// Images. Since 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_usage: Option<KindUsage<ImageSummary>>,
    /// Containers. Since 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_usage: Option<KindUsage<ContainerSummary>>,
    /// Volumes. Since 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<KindUsage<Volume>>,
    /// Records of the build cache. Since 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache_usage: Option<KindUsage<BuildCache>>,
}

/// What the objects of one kind take up.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct KindUsage<T> {
    /// Objects in use.
    pub active_count: u64,
    /// Objects.
    pub total_count: u64,
    /// Bytes that a prune could free.
    pub reclaimable: u64,
    /// Bytes.
    pub total_size: u64,
    /// The objects, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<T>>,
}

/// One record of the build cache.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct BuildCache {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The record it was made from. Below 1.42.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The records it was made from. Since 1.42.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parents: Option<Vec<String>>,
    /// Its kind.
    pub r#type: String,
    /// What made it.
    pub description: String,
    /// Whether a build uses it now.
    pub in_use: bool,
    /// Whether an image shares it.
    pub shared: bool,
    /// Bytes.
    pub size: u64,
    /// When it was made.
    pub created_at: Time,
    /// When it was last used.
    pub last_used_at: Option<Time>,
    /// How often.
    pub usage_count: u64,
}
