//! The registry protocol: from an image reference to verified manifests and blobs, and back.
//!
//! Start reading at [`Client`], then [`Repository`]. A pull is [`Repository::resolve`], then one
//! [`Repository::fetch_blob`] per layer into a [`BlobSink`]; a push is one [`Repository::push_blob`] per layer, then
//! [`Repository::push_manifest`]. Everything that comes from a registry is a claim until its digest is verified, and
//! everything that is read into memory is bounded.
//!
//! This crate keeps nothing on disk, does not unpack, does not know Docker's HTTP API and does not decide what is
//! pulled at the same time as what: sharing one download between two pulls is the engine's business.

mod auth;
mod blob;
mod client;
mod config;
mod credentials;
mod endpoint;
mod error;
mod failure;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod hosts;
mod listing;
mod login;
mod manifest;
mod net;
mod progress;
mod pull;
mod push;
mod resolve;
mod retry;
mod sink;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trust;
mod upload;
mod verify;

pub use client::{
    Client, DistributionInfo, Login, ManifestTarget, PushedBlob, Repository, ResolvedImage, SearchQuery,
    SearchResult,
};
pub use config::{
    ConfigError, DOCKER_HUB, DockerHub, InsecureRegistry, Limits, Mirror, NameService, Proxies,
    RegistryConfig, Timeouts,
};
pub use credentials::{AuthConfig, Credentials, ParseCredentialsError, Secret};
pub use error::{Refusal, RegistryError, SCHEMA1_TEXT, TransportFailure};
pub use file::Download;
pub use manifest::{
    Descriptor, ImageIndex, ImageManifest, LayerCompression, MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, Manifest,
    ManifestContent, ManifestError, ManifestKind, NoMatchingManifest, PlatformSpec, digest_of, media_type,
};
pub use progress::{Progress, ProgressSink};
pub use sink::{BlobReader, BlobSink, BlobSource, Leftover, MemorySink};
