//! Images.
//!
//! Start reading at [`ImageSummary`] and [`ImageInspect`].

use serde::Serialize;
use serde_json::value::RawValue;

use super::container_config::ContainerConfig;
use super::container_inspect::DriverData;
use super::time::Time;
use super::{OciDescriptor, OciPlatform, Texts};

/// An image as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ImageSummary {
    /// Containers that use it; -1 when they were not counted.
    pub containers: i64,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Its id.
    pub id: String,
    /// Labels of its config.
    pub labels: Option<Texts>,
    /// Always empty.
    pub parent_id: String,
    /// What its names resolve to. Since 1.48.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<OciDescriptor>,
    /// The parts of its index. Since 1.47.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<ImageManifestSummary>>,
    /// Names with a digest.
    pub repo_digests: Vec<String>,
    /// Names with a tag.
    pub repo_tags: Vec<String>,
    /// Bytes shared with other images; -1 when they were not counted.
    pub shared_size: i64,
    /// Bytes of its content and unpacked layers.
    pub size: i64,
    /// The same as `Size`. Below 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
}

/// One part of an index, or the only manifest of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ImageManifestSummary {
    /// Its digest.
    #[serde(rename = "ID")]
    pub id: String,
    /// What it is.
    pub descriptor: OciDescriptor,
    /// Whether all of its content is here.
    pub available: bool,
    /// Its size.
    pub size: ManifestSize,
    /// `image`, `attestation` or `unknown`.
    pub kind: String,
    /// If it can be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ManifestImageData>,
    /// If it says something about another part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<AttestationData>,
}

/// The size of a part in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ManifestSize {
    /// Of its content that is here and its unpacked layers.
    pub total: i64,
    /// Of its content that is here.
    pub content: i64,
}

/// What is known of a part that can be run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ManifestImageData {
    /// On what.
    pub platform: OciPlatform,
    /// Containers that use it.
    pub containers: Vec<String>,
    /// Its size.
    pub size: UnpackedSize,
    /// Where it comes from, if that is known and asked for. Since 1.54.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// What is known of where an image comes from. Its name says nothing of that: anybody may give it one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Identity {
    /// The repositories that it was pulled from or pushed to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pull: Vec<PullIdentity>,
}

/// A repository that has an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct PullIdentity {
    /// Its complete name; that of the registry also if a mirror was asked.
    pub repository: String,
}

/// An in-toto statement about an image.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct AttestationStatement {
    /// The blob that it is in.
    pub descriptor: OciDescriptor,
    /// What kind of statement it is, a URI.
    pub predicate_type: String,
    /// What it says, byte for byte, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Map<String, serde_json::Value>>"))]
    pub statement: Option<Box<RawValue>>,
}

/// The size of unpacked layers in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct UnpackedSize {
    /// Of all layers.
    pub unpacked: i64,
}

/// What is known of a part that says something about another.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct AttestationData {
    /// The other part.
    pub r#for: String,
}

/// An image in detail.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ImageInspect {
    /// Its id.
    pub id: String,
    /// Names with a tag.
    pub repo_tags: Vec<String>,
    /// Names with a digest.
    pub repo_digests: Vec<String>,
    /// Always empty. Below 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Comment of its newest layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// Always empty. Below 1.45.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Always empty. Docker leaves it out since 1.45; docker-compose 1.29 speaks the newest version and fails without.
    pub container_config: Box<ContainerConfig>,
    /// The engine that made it. Below 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// How it is run.
    pub config: ShownImageConfig,
    /// Architecture.
    pub architecture: String,
    /// Variant of the architecture.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Operating system.
    pub os: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Bytes of its content and unpacked layers.
    pub size: i64,
    /// The same as `Size`. Below 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
    /// Where its layers are unpacked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// What is not in the image itself.
    pub metadata: ImageMetadata,
    /// What its names resolve to. Since 1.48.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<OciDescriptor>,
    /// The parts of its index. Since 1.48.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<ImageManifestSummary>>,
    /// Where it comes from, if that is known. Since 1.53.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// How an image is run: what its config says, or, for versions below 1.50, that with every field a container has.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum ShownImageConfig {
    /// What its config says.
    Image(Box<ImageConfig>),
    /// With every field a container has. Below 1.50.
    Legacy(Box<ContainerConfig>),
}

/// How an image is run.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `user[:group]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports that it listens on.
    #[serde(skip_serializing_if = "super::is_empty_map")]
    pub exposed_ports: Option<super::Set>,
    /// Environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// Program that always runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Program, or arguments of the entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that are volumes.
    #[serde(skip_serializing_if = "super::is_empty_map")]
    pub volumes: Option<super::Set>,
    /// Working directory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(skip_serializing_if = "super::is_empty_map")]
    pub labels: Option<Texts>,
    /// Signal that stops it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Whether the command is escaped already (Windows).
    #[serde(skip_serializing_if = "super::is_zero")]
    pub args_escaped: bool,
    /// How to find out whether it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<super::container_config::HealthConfig>,
    /// Instructions for builds on top of it.
    #[serde(skip_serializing_if = "super::is_empty_list")]
    pub on_build: Option<Vec<String>>,
    /// Shell of string commands.
    #[serde(skip_serializing_if = "super::is_empty_list")]
    pub shell: Option<Vec<String>>,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct RootFs {
    /// Always `layers`.
    pub r#type: String,
    /// Digests of the unpacked layers, bottom first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// What is not in an image itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ImageMetadata {
    /// When a name was last put on it.
    pub last_tag_time: Time,
}

/// One step of how an image was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ImageHistoryResponseItem {
    /// Why.
    pub comment: String,
    /// When, in seconds since 1970.
    pub created: i64,
    /// By which command.
    pub created_by: String,
    /// The image that this step made, or `<missing>`.
    pub id: String,
    /// Bytes it added.
    pub size: u64,
    /// Names of that image.
    pub tags: Option<Vec<String>>,
}

/// One thing that a removal did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ImageDeleteResponseItem {
    /// A name that was taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untagged: Option<String>,
    /// Content that was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<String>,
}

/// What a prune of images removed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ImagePruneResponse {
    /// One by one.
    pub images_deleted: Option<Vec<ImageDeleteResponseItem>>,
    /// Bytes of disk that were freed.
    pub space_reclaimed: u64,
}

/// An image that a registry has found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ImageSearchResponseItem {
    /// Stars.
    pub star_count: u64,
    /// Whether it is an official image.
    pub is_official: bool,
    /// Name.
    pub name: String,
    /// Whether it is built by the registry; always false.
    pub is_automated: bool,
    /// Description.
    pub description: String,
}

/// What a registry says of a reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct DistributionInspect {
    /// The manifest or index.
    pub descriptor: OciDescriptor,
    /// What it is for.
    pub platforms: Vec<OciPlatform>,
}

/// What a prune of the build cache removed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct BuildPruneResponse {
    /// Ids of records.
    pub caches_deleted: Option<Vec<String>>,
    /// Bytes of disk that were freed.
    pub space_reclaimed: u64,
}
