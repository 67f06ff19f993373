//! Descriptors: the typed, sized, digested references of which manifests consist.
//!
//! Start reading at [`Descriptor`] (OCI image spec, descriptor.md). Numbers and texts in here come from a registry and
//! are claims: sizes and digests are checked against the bytes when those arrive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shoal_types::{Digest, Platform};

use oci_client::manifest::{ImageIndexEntry, OciDescriptor};

use super::{ManifestError, media_type};

/// A blob's media type, digest and size, and what else a manifest says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of content it is.
    #[serde(default)]
    pub media_type: String,
    /// Of the content.
    pub digest: Digest,
    /// Of the content, in bytes.
    pub size: u64,
    /// What an image is built for; only in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformSpec>,
    /// Free notes.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where else the content may be had. Shoal does not fetch from there.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// What an artifact that is no image is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// What an image is built for, in the words of its index.
///
/// Kept as written because the API echoes it; [`PlatformSpec::platform`] is the normalised form for comparisons.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlatformSpec {
    /// Architecture in Go's names, or `unknown` for attestations.
    #[serde(default)]
    pub architecture: String,
    /// Operating system in Go's names.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features that the operating system must have (Windows).
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Variant of the architecture, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl PlatformSpec {
    /// The normalised platform.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref().unwrap_or_default())
    }
}

/// How a layer's tar is packed, as far as its media type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerCompression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// The media type is not one of a layer.
    Unknown,
}

impl Descriptor {
    /// A descriptor with nothing but the three required fields.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            urls: Vec::new(),
            artifact_type: None,
        }
    }

    /// How the layer is packed by its media type. Layers that may not be redistributed count as layers.
    pub fn compression(&self) -> LayerCompression {
        let distributable = self
            .media_type
            .replace(".layer.nondistributable.", ".layer.")
            .replace(".rootfs.foreign.diff.", ".rootfs.diff.");
        match distributable.as_str() {
            media_type::OCI_LAYER | media_type::DOCKER_LAYER => LayerCompression::None,
            media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => LayerCompression::Gzip,
            media_type::OCI_LAYER_ZSTD | "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
                LayerCompression::Zstd
            }
            _ => LayerCompression::Unknown,
        }
    }
}

impl TryFrom<OciDescriptor> for Descriptor {
    type Error = ManifestError;

    /// Refuses a digest of an algorithm that Shoal does not compute, and a negative size.
    fn try_from(claimed: OciDescriptor) -> Result<Self, ManifestError> {
        Ok(Self {
            media_type: claimed.media_type,
            digest: claimed.digest.parse().map_err(|_| ManifestError::Digest)?,
            size: claimed.size.try_into().map_err(|_| ManifestError::Digest)?,
            platform: None,
            annotations: claimed.annotations.unwrap_or_default(),
            urls: claimed.urls.unwrap_or_default(),
            artifact_type: claimed.artifact_type,
        })
    }
}

impl TryFrom<ImageIndexEntry> for Descriptor {
    type Error = ManifestError;

    /// The same for an entry of an index, which may say what it is built for.
    fn try_from(claimed: ImageIndexEntry) -> Result<Self, ManifestError> {
        let platform = claimed.platform.map(|platform| PlatformSpec {
            architecture: platform.architecture.to_string(),
            os: platform.os.to_string(),
            os_version: platform.os_version,
            os_features: platform.os_features.unwrap_or_default(),
            variant: platform.variant,
        });
        Ok(Self {
            media_type: claimed.media_type,
            digest: claimed.digest.parse().map_err(|_| ManifestError::Digest)?,
            size: claimed.size.try_into().map_err(|_| ManifestError::Digest)?,
            platform,
            annotations: claimed.annotations.unwrap_or_default(),
            urls: Vec::new(),
            artifact_type: claimed.artifact_type,
        })
    }
}

/// Go writes empty maps and lists as `null`.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
