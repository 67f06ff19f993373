//! The public face: a client for all registries, and a handle for one repository of one of them.
//!
//! Start reading at [`Client`].

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use shoal_types::image_ref::DEFAULT_TAG;
use shoal_types::{Digest, ImageRef, Platform};

use crate::config::RegistryConfig;
use crate::credentials::Credentials;
use crate::error::RegistryError;
use crate::manifest::{Descriptor, Manifest, PlatformSpec};
use crate::progress::ProgressSink;
use crate::sink::{BlobSink, BlobSource};

/// Speaks to registries. Cheap to clone; clones share connections, tokens and limits.
#[derive(Clone)]
pub struct Client {
    config: Arc<RegistryConfig>,
}

impl Client {
    /// Checks the settings. Opens no connection; certificates are read when a registry is first spoken to.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        Ok(Self { config: Arc::new(config) })
    }

    /// Replaces the settings for all clones, as on SIGHUP. Transfers under way finish with the old ones.
    pub fn reload(&self, _config: RegistryConfig) -> Result<(), RegistryError> {
        Err(unfinished())
    }

    /// A handle for one pull or push. Tag and digest of `image` are ignored here.
    pub fn repository(&self, image: &ImageRef, credentials: Credentials) -> Repository {
        Repository { client: self.clone(), image: image.repository(), credentials }
    }

    /// Checks credentials as POST /auth does. `server_address` as in `AuthConfig`, empty for Docker Hub.
    pub async fn login(
        &self,
        _server_address: &str,
        _credentials: &Credentials,
    ) -> Result<Login, RegistryError> {
        Err(unfinished())
    }

    /// Searches Docker Hub, or another registry if the term begins with its name.
    pub async fn search(
        &self,
        _query: &SearchQuery,
        _credentials: &Credentials,
    ) -> Result<Vec<SearchResult>, RegistryError> {
        Err(unfinished())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish()
    }
}

/// What a successful login gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// `Login Succeeded`.
    pub status: &'static str,
    /// A refresh token to present from now on instead of the password; empty if the registry hands out none.
    pub identity_token: crate::credentials::Secret,
}

/// What to search for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    /// Words, or `registry.example/words`.
    pub term: String,
    /// At most how many results, 1 to 100; zero is 25.
    pub limit: u32,
}

/// One repository that was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// Its name as users write it.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// How many users like it.
    pub star_count: i64,
    /// Whether Docker vouches for it.
    pub is_official: bool,
    /// Whether it is built automatically; always false nowadays.
    pub is_automated: bool,
}

/// What names a manifest within a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ManifestTarget {
    /// A name that may move.
    Tag(String),
    /// The content itself.
    Digest(Digest),
}

impl ManifestTarget {
    /// What a reference names: its digest, else its tag, else `latest`. A tag beside a digest is ignored, as in dockerd.
    pub fn of(image: &ImageRef) -> Self {
        match (image.digest(), image.tag()) {
            (Some(digest), _) => Self::Digest(digest),
            (None, Some(tag)) => Self::Tag(tag.to_owned()),
            (None, None) => Self::Tag(DEFAULT_TAG.to_owned()),
        }
    }
}

impl fmt::Display for ManifestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A reference followed to one image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The indexes that were passed on the way, outermost first; empty if the reference names an image manifest.
    pub indexes: Vec<Manifest>,
    /// The image manifest, with layers and config.
    pub manifest: Manifest,
    /// What the innermost index says the image is built for. An image without an index says so in its config only.
    pub platform: Option<PlatformSpec>,
}

impl ResolvedImage {
    /// What the reference names: the outermost index or else the image manifest. Its digest is the image's id.
    pub fn target(&self) -> &Manifest {
        self.indexes.first().unwrap_or(&self.manifest)
    }
}

/// What GET /distribution/{name}/json tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistributionInfo {
    /// Of the manifest or index that the reference names.
    pub descriptor: Descriptor,
    /// For which platforms there is an image, as written by its author.
    pub platforms: Vec<PlatformSpec>,
}

/// How a blob came to be in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushedBlob {
    /// It was there already.
    Existed,
    /// It was linked from another repository.
    Mounted {
        /// Which one.
        from: String,
    },
    /// Its bytes were sent.
    Uploaded,
}

/// One repository of one registry with one set of credentials; the handle of one pull or push.
///
/// Clones share the handle's limit of concurrent transfers (`Limits::downloads_per_pull`), so that the tasks of one
/// pull share one handle and a second pull has one of its own.
#[derive(Clone)]
pub struct Repository {
    client: Client,
    image: ImageRef,
    credentials: Credentials,
}

impl Repository {
    /// The client whose handle this is.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The repository's name.
    pub fn name(&self) -> &ImageRef {
        &self.image
    }

    /// Fetches a manifest or an index, verified: against the digest if that is the target, else against the digest
    /// that the registry announces.
    pub async fn fetch_manifest(&self, _target: &ManifestTarget) -> Result<Manifest, RegistryError> {
        Err(unfinished())
    }

    /// Asks only for the descriptor of a tag, which costs no pull at registries that count them.
    pub async fn head_manifest(&self, _target: &ManifestTarget) -> Result<Descriptor, RegistryError> {
        Err(unfinished())
    }

    /// Follows a reference to the image manifest that runs best on `machine`.
    ///
    /// An image without an index is returned whatever it is built for; that is in its config.
    pub async fn resolve(
        &self,
        _target: &ManifestTarget,
        _machine: &Platform,
    ) -> Result<ResolvedImage, RegistryError> {
        Err(unfinished())
    }

    /// Fetches an image config into memory, verified.
    pub async fn fetch_config(&self, _config: &Descriptor) -> Result<Bytes, RegistryError> {
        Err(unfinished())
    }

    /// Downloads a blob into `sink`, resuming what it has, and commits or aborts it. See [`BlobSink`].
    ///
    /// Returns after the sink's `commit`. Dropping the future stops the download and leaves a valid prefix.
    pub async fn fetch_blob(
        &self,
        _blob: &Descriptor,
        _sink: &mut dyn BlobSink,
        _progress: &dyn ProgressSink,
    ) -> Result<(), RegistryError> {
        Err(unfinished())
    }

    /// Makes sure that the repository has a blob: asks for it, tries to link it from the repositories `mount_from` of
    /// the same registry (paths such as `library/busybox`), else uploads it from `source`.
    pub async fn push_blob(
        &self,
        _blob: &Descriptor,
        _source: &dyn BlobSource,
        _mount_from: &[String],
        _progress: &dyn ProgressSink,
    ) -> Result<PushedBlob, RegistryError> {
        Err(unfinished())
    }

    /// Stores a manifest, byte for byte, under a tag or under its digest. Its blobs (or manifests) must be there.
    ///
    /// Returns its descriptor; `digest` and `size` are what `docker push` prints.
    pub async fn push_manifest(
        &self,
        _manifest: &Manifest,
        _target: &ManifestTarget,
    ) -> Result<Descriptor, RegistryError> {
        Err(unfinished())
    }

    /// Lists all tags, following the registry's pages.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        Err(unfinished())
    }

    /// Lists the manifests that are about `subject`, such as signatures; all of them, or of one artifact type.
    pub async fn referrers(
        &self,
        _subject: Digest,
        _artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        Err(unfinished())
    }

    /// Tells what GET /distribution/{name}/json tells, without pulling.
    pub async fn inspect(&self, _target: &ManifestTarget) -> Result<DistributionInfo, RegistryError> {
        Err(unfinished())
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("image", &self.image.to_string())
            .field("credentials", &self.credentials)
            .finish()
    }
}

fn unfinished() -> RegistryError {
    RegistryError::InvalidRequest("the registry client is being built: this call is not there yet".to_owned())
}
