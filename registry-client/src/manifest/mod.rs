//! Manifests and indexes: which kinds there are, and reading one from a registry's bytes.
//!
//! Start reading at [`Manifest::parse`]. The bytes are kept verbatim, because the digest is theirs: nothing here is
//! ever serialised again. The documents are modelled by the crate oci-client; descriptors are in `descriptor.rs`, the choice of a platform in `select.rs`. Fetching is
//! `resolve.rs`; image configs are read by the engine.

mod descriptor;
mod select;

use std::collections::BTreeMap;

use bytes::Bytes;
use oci_client::manifest::{ImageIndexEntry, OciImageManifest};
use serde::Deserialize;
use serde_json::Value;
use shoal_types::Digest;

pub use descriptor::{Descriptor, LayerCompression, PlatformSpec};
pub use select::NoMatchingManifest;

/// Media types of manifests, configs and layers: those of the crate oci-client, and what it has no name for.
pub mod media_type {
    pub use oci_client::manifest::{
        IMAGE_CONFIG_MEDIA_TYPE as OCI_CONFIG, IMAGE_DOCKER_CONFIG_MEDIA_TYPE as DOCKER_CONFIG,
        IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE as DOCKER_LAYER_GZIP,
        IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE as DOCKER_LAYER, IMAGE_LAYER_GZIP_MEDIA_TYPE as OCI_LAYER_GZIP,
        IMAGE_LAYER_MEDIA_TYPE as OCI_LAYER, IMAGE_MANIFEST_LIST_MEDIA_TYPE as DOCKER_LIST,
        IMAGE_MANIFEST_MEDIA_TYPE as DOCKER_MANIFEST, OCI_IMAGE_INDEX_MEDIA_TYPE as OCI_INDEX,
        OCI_IMAGE_MEDIA_TYPE as OCI_MANIFEST,
    };

    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker image manifest, schema 1, refused.
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    /// Docker image manifest, schema 1 with signatures, refused.
    pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
}

/// The largest manifest or index that is read (as dockerd and containerd).
pub const MAX_MANIFEST_SIZE: usize = 4 << 20;
/// The largest image config that is read into memory.
pub const MAX_CONFIG_SIZE: usize = 8 << 20;
/// The most layers or index entries that a manifest may name; a 4 MiB one could name 40,000.
const MAX_DESCRIPTORS: usize = 4096;

/// The kinds of manifests that Shoal reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ManifestKind {
    /// OCI image index.
    OciIndex,
    /// Docker manifest list.
    DockerList,
    /// OCI image manifest.
    OciManifest,
    /// Docker image manifest, schema 2.
    DockerManifest,
}

impl ManifestKind {
    /// The media type that names this kind.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OciIndex => media_type::OCI_INDEX,
            Self::DockerList => media_type::DOCKER_LIST,
            Self::OciManifest => media_type::OCI_MANIFEST,
            Self::DockerManifest => media_type::DOCKER_MANIFEST,
        }
    }

    /// The kind that a media type names, if Shoal reads it.
    pub fn from_media_type(media_type: &str) -> Option<Self> {
        [Self::OciIndex, Self::DockerList, Self::OciManifest, Self::DockerManifest]
            .into_iter()
            .find(|kind| kind.media_type() == media_type)
    }

    /// Whether this kind names other manifests instead of layers.
    pub fn is_index(self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerList)
    }
}

/// A manifest or an index, read and with its verbatim bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Media type, digest and size of `bytes`.
    pub descriptor: Descriptor,
    /// Exactly what the registry sent; store these, the digest is theirs.
    pub bytes: Bytes,
    /// What they say.
    pub content: ManifestContent,
}

/// What a manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestContent {
    /// One image for one platform.
    Image(Box<ImageManifest>),
    /// Several manifests to choose from.
    Index(ImageIndex),
}

/// An OCI image manifest or a Docker one of schema 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// The image config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about (signatures, attestations).
    pub subject: Option<Descriptor>,
    /// What an artifact that is no image is.
    pub artifact_type: Option<String>,
    /// Free notes.
    pub annotations: BTreeMap<String, String>,
}

/// An OCI image index or a Docker manifest list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageIndex {
    /// The manifests to choose from, in the order of the index. Entries whose digest is of an algorithm that Shoal
    /// does not compute are left out.
    pub manifests: Vec<Descriptor>,
    /// Free notes.
    pub annotations: BTreeMap<String, String>,
}

/// Why bytes are not a manifest that Shoal reads.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A format of before 2016. The text is dockerd's, completed with the reference by [`crate::RegistryError`].
    #[error("Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed.")]
    Schema1,
    /// Another kind of document.
    #[error("unsupported media type {0}")]
    UnsupportedMediaType(String),
    /// Not JSON, or not with the fields of a manifest.
    #[error("unsupported manifest format")]
    Malformed(#[source] serde_json::Error),
    /// A digest of an algorithm that Shoal does not compute, or a size below zero.
    #[error("unsupported manifest format")]
    Digest,
    /// Neither the media type nor the content tells which kind it is, or they contradict each other.
    #[error("unsupported manifest format")]
    Ambiguous,
    /// Larger than any honest manifest.
    #[error("manifest of {0} bytes is larger than the limit of {MAX_MANIFEST_SIZE}")]
    TooLarge(usize),
    /// Names more layers or manifests than any honest one.
    #[error("manifest names {0} blobs, more than the limit of {MAX_DESCRIPTORS}")]
    TooManyBlobs(usize),
}

/// The fields that tell the kinds apart. `layers` and `manifests` only by their presence.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    #[serde(default)]
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Reads a manifest and computes its digest. `declared` is the media type that came with it (the Content-Type of a
    /// registry, the descriptor in an archive), if any; the document's own `mediaType` must not contradict it.
    pub fn parse(declared: Option<&str>, bytes: Bytes) -> Result<Self, ManifestError> {
        let size = bytes.len();
        if size > MAX_MANIFEST_SIZE {
            return Err(ManifestError::TooLarge(size));
        }
        let kind = recognise(declared, &bytes)?;
        let content = if kind.is_index() { parse_index(&bytes)? } else { parse_image(&bytes)? };
        let digest = digest_of(&bytes);
        let descriptor = Descriptor::new(kind.media_type(), digest, size as u64);
        Ok(Self { descriptor, bytes, content })
    }

    /// Which kind it is.
    pub fn kind(&self) -> ManifestKind {
        ManifestKind::from_media_type(&self.descriptor.media_type).unwrap_or(match self.content {
            ManifestContent::Image(_) => ManifestKind::OciManifest,
            ManifestContent::Index(_) => ManifestKind::OciIndex,
        })
    }

    /// The digest of the verbatim bytes.
    pub fn digest(&self) -> Digest {
        self.descriptor.digest
    }

    /// The image manifest, if it is one.
    pub fn as_image(&self) -> Option<&ImageManifest> {
        match &self.content {
            ManifestContent::Image(image) => Some(image),
            ManifestContent::Index(_) => None,
        }
    }

    /// The index, if it is one.
    pub fn as_index(&self) -> Option<&ImageIndex> {
        match &self.content {
            ManifestContent::Index(index) => Some(index),
            ManifestContent::Image(_) => None,
        }
    }
}

/// The SHA-256 digest of bytes that are in memory.
pub fn digest_of(bytes: &[u8]) -> Digest {
    let computed = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut sha256 = [0u8; 32];
    sha256.copy_from_slice(computed.as_ref());
    Digest::from_sha256(sha256)
}

/// Decides the kind. The document's own media type wins over the declared one when only one of them is known, as
/// registries are known to answer `text/plain`; a document that could be read as two kinds is refused (OCI advisory
/// GHSA-mc8v-mgrf-8f4m).
fn recognise(declared: Option<&str>, bytes: &[u8]) -> Result<ManifestKind, ManifestError> {
    let outline: Outline = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
    let declared =
        declared.and_then(|text| text.split(';').next()).map(str::trim).filter(|text| !text.is_empty());
    let own = outline.media_type.as_deref().filter(|text| !text.is_empty());
    let is_schema1 =
        |name: &str| matches!(name, media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_SIGNED);
    if outline.schema_version == 1 || outline.fs_layers.is_some() || own.or(declared).is_some_and(is_schema1)
    {
        return Err(ManifestError::Schema1);
    }
    let known = |name: Option<&str>| name.and_then(ManifestKind::from_media_type);
    let kind = match (known(own), known(declared)) {
        (Some(own), Some(declared)) if own != declared => return Err(ManifestError::Ambiguous),
        (Some(kind), _) => kind,
        // An own media type that is not a manifest's is the truth about the document, whatever was declared.
        (None, _) if own.is_some() => return Err(unsupported(own)),
        (None, Some(kind)) => kind,
        (None, None) => kind_by_content(&outline).ok_or_else(|| unsupported(declared))?,
    };
    let contradicts = if kind.is_index() {
        outline.layers.is_some() || outline.config.is_some()
    } else {
        outline.manifests.is_some()
    };
    if contradicts { Err(ManifestError::Ambiguous) } else { Ok(kind) }
}

/// OCI documents may leave `mediaType` out; a generic Content-Type then says nothing.
fn kind_by_content(outline: &Outline) -> Option<ManifestKind> {
    let is_image = outline.config.is_some() && outline.layers.is_some();
    match (is_image, outline.manifests.is_some()) {
        (true, false) => Some(ManifestKind::OciManifest),
        (false, true) => Some(ManifestKind::OciIndex),
        (true, true) | (false, false) => None,
    }
}

fn unsupported(name: Option<&str>) -> ManifestError {
    // A registry chooses this text: enough of it to tell what it was, no more.
    name.map_or(ManifestError::Ambiguous, |name| {
        ManifestError::UnsupportedMediaType(name.chars().filter(|c| !c.is_control()).take(128).collect())
    })
}

fn parse_image(bytes: &[u8]) -> Result<ManifestContent, ManifestError> {
    let mut document = without_nulls(bytes)?;
    if let Some(fields) = document.as_object_mut() {
        fields.entry("layers").or_insert_with(|| Value::Array(Vec::new()));
    }
    let image: OciImageManifest = serde_json::from_value(document).map_err(ManifestError::Malformed)?;
    check_count(image.layers.len())?;
    let layers = image.layers.into_iter().map(Descriptor::try_from);
    Ok(ManifestContent::Image(Box::new(ImageManifest {
        config: image.config.try_into()?,
        layers: layers.collect::<Result<_, _>>()?,
        subject: image.subject.map(Descriptor::try_from).transpose()?,
        artifact_type: image.artifact_type,
        annotations: image.annotations.unwrap_or_default(),
    })))
}

fn parse_index(bytes: &[u8]) -> Result<ManifestContent, ManifestError> {
    let document = without_nulls(bytes)?;
    let entries = document.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default();
    check_count(entries.len())?;
    // One by one, so that an entry that Shoal cannot read does not spoil the others.
    let readable = entries.into_iter().filter_map(|entry| {
        let entry: ImageIndexEntry = serde_json::from_value(entry).ok()?;
        Descriptor::try_from(entry).ok()
    });
    let annotations = document.get("annotations").cloned().unwrap_or_default();
    let annotations: Option<BTreeMap<String, String>> =
        serde_json::from_value(annotations).map_err(ManifestError::Malformed)?;
    Ok(ManifestContent::Index(ImageIndex {
        manifests: readable.collect(),
        annotations: annotations.unwrap_or_default(),
    }))
}

/// Reads a document and takes out members that are null: Go writes empty maps and lists so, and to the model they are
/// mistakes.
fn without_nulls(bytes: &[u8]) -> Result<Value, ManifestError> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.retain(|_, member| !member.is_null());
                members.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut document = serde_json::from_slice(bytes).map_err(ManifestError::Malformed)?;
    strip(&mut document);
    Ok(document)
}

fn check_count(count: usize) -> Result<(), ManifestError> {
    if count > MAX_DESCRIPTORS { Err(ManifestError::TooManyBlobs(count)) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
