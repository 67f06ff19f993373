//! Ports: images, and how they come and go.
//!
//! Start reading at [`Images`] for what is here, and at [`ImageTransfers`] for what moves. An image is named by a
//! reference, a digest or an id prefix. Its identity is the digest of its target, a manifest or an index
//! (docs/decisions/2026-11-21-image-identity.md).

mod run_config;

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
pub use registry_client::Credentials;
use serde::{Deserialize, Serialize};
use shoal_types::{ChainId, DiffId, Digest, ImageId, ImageRef, Platform};

pub use self::run_config::{EmptyObject, ImageHealthcheck, ImageRunConfig};
use super::{ByteSource, ByteStream, LabelFilter};
use crate::error::NodeError;

/// The images of this node.
#[async_trait]
pub trait Images: Send + Sync {
    /// Those that pass, newest first.
    async fn list(&self, query: ImageQuery) -> Result<Vec<ImageSummary>, NodeError>;

    /// One image, for the platform asked for or what suits the machine best.
    async fn inspect(&self, name: &str, platform: Option<&Platform>) -> Result<ImageView, NodeError>;

    /// How it was made, newest first.
    async fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<HistoryEntry>, NodeError>;

    /// What is stated about an image for one platform; empty if nothing is.
    async fn attestations(&self, query: AttestationQuery) -> Result<Vec<AttestationStatement>, NodeError>;

    /// Gives an image a (further) name, taking it from another image if necessary.
    async fn tag(&self, name: &str, reference: &ImageRef) -> Result<(), NodeError>;

    /// Takes away a name, and the content that nothing refers to any more.
    async fn remove(&self, name: &str, options: RemoveImage) -> Result<Vec<Removal>, NodeError>;

    /// Bytes of all content and unpacked layers, each counted once.
    async fn layers_size(&self) -> Result<u64, NodeError>;

    /// Removes images that nothing uses.
    async fn prune(&self, filter: ImagePruneFilter) -> Result<(Vec<Removal>, u64), NodeError>;
}

/// Images that come and go. Progress and outcome share one stream: an error before the first item is a failure of the
/// whole request, a later one is told in the stream. Dropping a stream cancels the work unless another client shares it.
#[async_trait]
pub trait ImageTransfers: Send + Sync {
    /// Fetches an image from a registry.
    async fn pull(&self, request: PullRequest) -> Result<ProgressStream, NodeError>;

    /// Sends an image to its registry.
    async fn push(&self, request: PushRequest) -> Result<ProgressStream, NodeError>;

    /// Takes in an archive made by `save`, by another engine, or in the OCI layout; plain or compressed.
    async fn load(&self, request: LoadRequest, archive: ByteSource) -> Result<ProgressStream, NodeError>;

    /// Packs images as an archive that is both an OCI layout and Docker's own format.
    async fn save(&self, names: &[String], platforms: &[Platform]) -> Result<ByteStream, NodeError>;

    /// Makes an image of one layer from a file tree in an archive.
    async fn import(&self, request: ImportRequest, archive: ByteSource) -> Result<ProgressStream, NodeError>;

    /// Asks a registry what a reference means there.
    async fn distribution(
        &self,
        reference: &ImageRef,
        credentials: Option<Credentials>,
    ) -> Result<Distribution, NodeError>;

    /// Asks the default registry for images whose names match.
    async fn search(&self, request: SearchRequest) -> Result<Vec<SearchResult>, NodeError>;
}

/// Progress of a transfer.
pub type ProgressStream = BoxStream<'static, Result<Progress, NodeError>>;

/// Which images to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageQuery {
    /// Whether parents of images that nothing names are listed too.
    pub all: bool,
    /// Whether the bytes shared with other images are counted.
    pub with_shared_size: bool,
    /// Whether containers are counted.
    pub with_containers: bool,
    /// Whether the parts of an index are described.
    pub with_manifests: bool,
    /// Restrictions.
    pub filter: ImageFilter,
}

/// Restrictions on images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageFilter {
    /// Whether it has no name.
    pub dangling: Option<bool>,
    /// Labels.
    pub labels: LabelFilter,
    /// Made before this image.
    pub before: Vec<String>,
    /// Made after this image.
    pub since: Vec<String>,
    /// Made before this time.
    pub until: Option<Timestamp>,
    /// Patterns of references.
    pub references: Vec<String>,
}

/// An image as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSummary {
    /// Its identity.
    pub id: ImageId,
    /// Names with a tag.
    pub tags: Vec<ImageRef>,
    /// Names with a digest.
    pub digests: Vec<ImageRef>,
    /// When it was made, as its config says; `None` when it does not say.
    pub created: Option<Timestamp>,
    /// Bytes of content and unpacked layers.
    pub size: u64,
    /// Bytes shared with other images; `None` when not asked for.
    pub shared_size: Option<u64>,
    /// Containers that use it; `None` when not asked for.
    pub containers: Option<usize>,
    /// Labels of its config.
    pub labels: BTreeMap<String, String>,
    /// What names resolve to.
    pub target: Descriptor,
    /// Complete names of the repositories that it was pulled from or pushed to.
    pub repositories: Vec<String>,
    /// The parts of the index; empty unless asked for.
    pub manifests: Vec<ManifestSummary>,
}

/// One part of an index, or the only manifest of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestSummary {
    /// What it is.
    pub descriptor: Descriptor,
    /// Whether all of its content is here.
    pub available: bool,
    /// Bytes of its content that are here.
    pub content_size: u64,
    /// What it is for.
    pub kind: ManifestKind,
}

/// What a part of an index is for.
#[derive(Debug, Clone, PartialEq)]
pub enum ManifestKind {
    /// It can be run.
    Image {
        /// On what.
        platform: Platform,
        /// Containers that use it.
        containers: Vec<shoal_types::ContainerId>,
        /// Bytes of its unpacked layers.
        unpacked_size: u64,
    },
    /// It says something about another part.
    Attestation {
        /// The part it is about.
        of: Digest,
    },
    /// Something else.
    Unknown,
}

/// Which statements about an image to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationQuery {
    /// The image.
    pub name: String,
    /// About the part for this platform; `None` is this machine.
    pub platform: Option<Platform>,
    /// Only of these types; empty is all.
    pub predicate_types: Vec<String>,
    /// Whether the statements themselves are read.
    pub body: StatementBody,
}

/// Whether a statement comes with what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementBody {
    /// It does not.
    Omitted,
    /// It does.
    Included,
}

/// An in-toto statement about an image.
#[derive(Debug, Clone)]
pub struct AttestationStatement {
    /// The blob that it is in.
    pub descriptor: Descriptor,
    /// What kind of statement it is, a URI.
    pub predicate_type: String,
    /// What it says, byte for byte; `None` if not asked for.
    pub statement: Option<Box<serde_json::value::RawValue>>,
}

/// What a piece of content is (OCI image spec, descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Media type.
    pub media_type: String,
    /// Digest.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// An image in detail, for one platform.
#[derive(Debug, Clone)]
pub struct ImageView {
    /// The summary, with its manifests.
    pub summary: ImageSummary,
    /// The manifest that was chosen.
    pub manifest: Descriptor,
    /// Digest of its config.
    pub config_digest: Digest,
    /// What it runs on.
    pub platform: Platform,
    /// Version of the operating system, for those that need it.
    pub os_version: String,
    /// How it is run.
    pub config: ImageRunConfig,
    /// The config's own `config` object, byte for byte.
    pub config_json: Box<str>,
    /// Who made it.
    pub author: String,
    /// Comment of the newest layer.
    pub comment: String,
    /// The engine that made it, as its config says.
    pub docker_version: String,
    /// Its layers, bottom first.
    pub diff_ids: Vec<DiffId>,
    /// Names of its stack of layers; `None` for an image without layers.
    pub chain_id: Option<ChainId>,
    /// Where its layers are unpacked, topmost first; empty if they are not.
    pub layer_dirs: Vec<String>,
    /// When a name was last put on it.
    pub last_tagged: Option<Timestamp>,
}

/// One step of how an image was made.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// The image that this step made, when it is the image itself.
    pub id: Option<ImageId>,
    /// When.
    pub created: Option<Timestamp>,
    /// By which command.
    pub created_by: String,
    /// Names of that image.
    pub tags: Vec<String>,
    /// Bytes it added.
    pub size: u64,
    /// Comment.
    pub comment: String,
}

/// How to remove an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemoveImage {
    /// Whether names of several repositories and stopped containers do not stand in the way.
    pub force: bool,
    /// Whether parents without a name stay.
    pub keep_parents: bool,
    /// Only these parts of an index.
    pub platforms: Vec<Platform>,
}

/// One thing that a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A name was taken away.
    Untagged(String),
    /// Content was deleted.
    Deleted(String),
}

/// Which unused images to prune.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImagePruneFilter {
    /// Whether those with a name go too.
    pub named: PruneNamed,
    /// Labels.
    pub labels: LabelFilter,
    /// Only those made before.
    pub until: Option<Timestamp>,
}

/// Whether a prune of images takes those with names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PruneNamed {
    /// It does not.
    #[default]
    Keep,
    /// It does, unless a container uses them.
    Remove,
}

/// A wish to pull.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// What; without tag and digest, all tags.
    pub reference: ImageRef,
    /// For which platform; `None` is what suits the machine best.
    pub platform: Option<Platform>,
    /// Credentials for the registry.
    pub credentials: Option<Credentials>,
}

/// A wish to push.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// What; without tag, all tags of the repository.
    pub reference: ImageRef,
    /// Only this platform of an index.
    pub platform: Option<Platform>,
    /// Credentials for the registry.
    pub credentials: Option<Credentials>,
}

/// A wish to load.
#[derive(Debug, Clone, Default)]
pub struct LoadRequest {
    /// Only these platforms; empty is all.
    pub platforms: Vec<Platform>,
    /// Whether progress is left out.
    pub quiet: bool,
}

/// A wish to import.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// Where the archive comes from: `-` is the request itself, anything else an address that it is fetched from.
    pub source: String,
    /// Name of the new image.
    pub reference: Option<ImageRef>,
    /// Its comment; empty is `Imported from` the source.
    pub message: String,
    /// Dockerfile instructions that make its configuration.
    pub changes: Vec<String>,
    /// What it is for; `None` is this machine.
    pub platform: Option<Platform>,
}

/// One step of a transfer.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// A pull of this tag (or digest) of this repository begins.
    PullingFrom {
        /// Path within the registry.
        repository: String,
        /// Tag or digest.
        tag: String,
    },
    /// A push to this repository begins.
    PushingTo {
        /// Full name.
        repository: String,
    },
    /// Something about one layer, named by twelve digits.
    Layer {
        /// Twelve digits.
        id: String,
        /// What.
        phase: LayerPhase,
    },
    /// The digest that the pulled reference resolved to.
    Digest(Digest),
    /// The pull is over.
    Pulled {
        /// As users write it.
        reference: String,
        /// Whether anything was new.
        newer: bool,
    },
    /// A tag was pushed.
    Pushed {
        /// The tag.
        tag: String,
        /// Digest of the manifest.
        digest: Digest,
        /// Bytes of the manifest.
        size: u64,
    },
    /// An image was loaded; its reference as users write it, or its id when it has no name.
    Loaded(LoadedImage),
    /// The archive of an import arrives from its address: so many bytes of so many, zero if nobody knows.
    Importing(u64, u64),
    /// An image was imported.
    Imported(ImageId),
    /// Something the user should know.
    Note(String),
}

/// What a load took in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadedImage {
    /// An image with this name.
    Named(String),
    /// An image without a name.
    Unnamed(ImageId),
}

/// What happens to a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerPhase {
    /// It is known that it is needed.
    PullingFsLayer,
    /// Its turn has not come.
    Waiting,
    /// Bytes arrive: so many of so many.
    Downloading(u64, u64),
    /// Its digest is checked.
    VerifyingChecksum,
    /// It is here.
    DownloadComplete,
    /// It is unpacked: so many bytes of so many.
    Extracting(u64, u64),
    /// It is unpacked.
    PullComplete,
    /// It was here before.
    AlreadyExists,
    /// Its push is prepared.
    Preparing,
    /// Bytes leave: so many of so many.
    Pushing(u64, u64),
    /// It is at the registry.
    Pushed,
    /// It was at the registry before.
    LayerAlreadyExists,
    /// The registry took it from another repository.
    MountedFrom(String),
    /// It is read from an archive: so many bytes of so many.
    Loading(u64, u64),
}

/// What a registry says of a reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// What it is for.
    pub platforms: Vec<Platform>,
}

/// A wish to search.
#[derive(Debug, Clone, Default)]
pub struct SearchRequest {
    /// Part of a name.
    pub term: String,
    /// How many results; 0 is the registry's default.
    pub limit: u32,
    /// Fewest stars.
    pub stars: u32,
    /// Whether it is an official image.
    pub is_official: Option<bool>,
    /// Whether it is built by the registry.
    pub is_automated: Option<bool>,
    /// Credentials.
    pub credentials: Option<Credentials>,
}

/// One image that a registry found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchResult {
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// Stars.
    pub stars: u64,
    /// Whether it is an official image.
    pub is_official: bool,
    /// Whether it is built by the registry.
    pub is_automated: bool,
}
