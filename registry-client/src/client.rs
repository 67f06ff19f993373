//! The public face: a client for all registries, and a handle for one repository of one of them.
//!
//! Start reading at [`Client`], then [`Repository`]. The handle's operations are in the files of their names:
//! `resolve.rs`, `pull.rs`, `push.rs`, `listing.rs`, `login.rs`; here are only the types that they share.

use std::fmt;
use std::sync::{Arc, RwLock};

use shoal_types::image_ref::DEFAULT_TAG;
use shoal_types::{Digest, ImageRef};
use tokio::sync::{OnceCell, Semaphore};

use crate::auth::Access;
use crate::config::RegistryConfig;
use crate::credentials::Credentials;
use crate::endpoint::{Directory, Endpoint};
use crate::error::RegistryError;
use crate::hosts::Purpose;
use crate::manifest::{Descriptor, Manifest, PlatformSpec};

/// Speaks to registries. Cheap to clone; clones share connections, tokens and limits.
#[derive(Clone)]
pub struct Client {
    directory: Arc<RwLock<Arc<Directory>>>,
}

impl Client {
    /// Checks the settings. Opens no connection; certificates are read when a registry is first spoken to.
    pub fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        Ok(Self { directory: Arc::new(RwLock::new(Arc::new(Directory::new(config)?))) })
    }

    /// Replaces the settings for all clones, as on SIGHUP. Handles that exist go on with the old ones; tokens and
    /// connections are forgotten.
    pub fn reload(&self, config: RegistryConfig) -> Result<(), RegistryError> {
        let renewed = Arc::new(Directory::new(config)?);
        // A poisoned lock still holds a whole value: it is only ever replaced.
        *self.directory.write().unwrap_or_else(std::sync::PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// A handle for one pull or push. Tag and digest of `image` are ignored here.
    pub fn repository(&self, image: &ImageRef, credentials: Credentials) -> Repository {
        let directory = self.directory();
        let limits = &directory.config.limits;
        let places = |limit: usize| Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)));
        Repository {
            image: image.repository(),
            credentials,
            downloads: places(limits.downloads_per_pull),
            uploads: places(limits.uploads_per_push),
            pull_endpoints: Arc::default(),
            push_endpoints: Arc::default(),
            directory,
        }
    }

    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("directory", &self.directory()).finish()
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
/// pull share one handle and a second pull has one of its own. Futures of its methods may be dropped at any time.
#[derive(Clone)]
pub struct Repository {
    pub(crate) directory: Arc<Directory>,
    pub(crate) image: ImageRef,
    pub(crate) credentials: Credentials,
    pub(crate) downloads: Arc<Semaphore>,
    pub(crate) uploads: Arc<Semaphore>,
    pull_endpoints: Arc<OnceCell<Vec<Arc<Endpoint>>>>,
    push_endpoints: Arc<OnceCell<Vec<Arc<Endpoint>>>>,
}

impl Repository {
    /// The repository's name.
    pub fn name(&self) -> &ImageRef {
        &self.image
    }

    /// Where the repository is, best place first; the registry itself is the last.
    pub(crate) async fn endpoints(&self, purpose: Purpose) -> Result<&[Arc<Endpoint>], RegistryError> {
        let cell = match purpose {
            Purpose::Pull => &self.pull_endpoints,
            Purpose::Push => &self.push_endpoints,
        };
        let found = cell.get_or_try_init(|| self.directory.endpoints(self.image.domain(), purpose)).await?;
        Ok(found)
    }

    pub(crate) fn pull_access(&self) -> Access {
        self.access("pull")
    }

    pub(crate) fn push_access(&self) -> Access {
        self.access("pull,push")
    }

    fn access(&self, actions: &str) -> Access {
        let scope = format!("repository:{}:{actions}", self.image.path());
        Access { credentials: self.credentials.clone(), scopes: vec![scope] }
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("image", &self.image.to_string())
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}
