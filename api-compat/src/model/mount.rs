//! Mounts: as they are asked for, and as they are.
//!
//! Start reading at [`Mount`] and [`MountPoint`].

use serde::{Deserialize, Serialize};

use super::{Texts, is_empty_map, is_zero};

/// A wish for a mount.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image` or `cluster`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#type: String,
    /// Path on the host, name of the volume, or reference of the image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Path inside.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Whether it cannot be written to.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only: bool,
    /// Ignored on Linux.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consistency: String,
    /// For binds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// For volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// For images. Since 1.48.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    /// For memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

/// Options of a bind.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct BindOptions {
    /// How mounts travel: `rprivate` and its like.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub propagation: String,
    /// Whether mounts below the source stay out.
    #[serde(skip_serializing_if = "is_zero")]
    pub non_recursive: bool,
    /// Whether the source is made if it is missing. Since 1.42.
    #[serde(skip_serializing_if = "is_zero")]
    pub create_mountpoint: bool,
    /// Whether read-only does not reach mounts below. Since 1.44.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only_non_recursive: bool,
    /// Whether the container fails if read-only cannot reach mounts below. Since 1.44.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only_force_recursive: bool,
}

/// Options of a volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeOptions {
    /// Whether an empty volume stays empty.
    #[serde(skip_serializing_if = "is_zero")]
    pub no_copy: bool,
    /// Labels of a volume that has to be made.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub labels: Option<Texts>,
    /// Directory within the volume. Since 1.45.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    /// Driver of a volume that has to be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<DriverConfig>,
}

/// A driver and its options.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct DriverConfig {
    /// Name of the driver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its options.
    #[serde(skip_serializing_if = "is_empty_map")]
    pub options: Option<Texts>,
}

/// Options of an image that is mounted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageOptions {
    /// Directory within the image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
}

/// Options of memory that is mounted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct TmpfsOptions {
    /// Limit in bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: i64,
    /// Permission bits of the root.
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: u32,
    /// Options of the file system: a flag, or a name and a value. Since 1.46.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Vec<Vec<String>>>,
}

/// A mount that a container has.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs` or `image`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#type: String,
    /// Name of the volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Path on the host.
    pub source: String,
    /// Path inside.
    pub destination: String,
    /// Driver of the volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Mode as it was written.
    pub mode: String,
    /// Whether it can be written to.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// How mounts travel.
    pub propagation: String,
}
