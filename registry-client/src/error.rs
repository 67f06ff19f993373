//! What can go wrong between this node and a registry.
//!
//! Start reading at [`RegistryError`]. Texts that clients and scripts match are dockerd's (the reference is its
//! distribution package); the tests at the end hold them. Whether an error is worth another attempt is `retry.rs`.

use std::io;

use shoal_types::{Digest, ErrorKind};

use crate::config::ConfigError;
use crate::manifest::{ManifestError, NoMatchingManifest};

/// An error code of the distribution API, with the text that belongs to it.
///
/// Shown as Go's errcode does: the code in lower case without underscores, then the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code in capitals, such as `MANIFEST_UNKNOWN`. Registries may send any.
    pub code: String,
    /// What the registry says, or the standard message of the code.
    pub message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.to_ascii_lowercase().replace('_', " "), self.message)
    }
}

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry will not show this repository, or does not have it; registries do not tell which.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': {refusal}"
    )]
    PullAccessDenied {
        /// The repository in its familiar form.
        name: String,
        /// The registry's words.
        refusal: Refusal,
    },
    /// The repository has no such tag or digest.
    #[error("manifest for {reference} not found: {refusal}")]
    ManifestNotFound {
        /// The reference in its familiar form.
        reference: String,
        /// The registry's words.
        refusal: Refusal,
    },
    /// The registry knows no such repository.
    #[error("repository {name} not found: {refusal}")]
    RepositoryNotFound {
        /// The repository in its familiar form.
        name: String,
        /// The registry's words.
        refusal: Refusal,
    },
    /// The index has nothing for the platform.
    #[error(transparent)]
    NoMatchingManifest(#[from] NoMatchingManifest),
    /// The registry does not have a blob that a manifest names.
    #[error("unknown blob")]
    BlobNotFound {
        /// The blob.
        digest: Digest,
    },
    /// A file that is named by its address is not given out.
    #[error("failed to GET {address} with status {status}: {said}")]
    FileStatus {
        /// The address as it was written.
        address: String,
        /// What was answered.
        status: http::StatusCode,
        /// With which words.
        said: String,
    },
    /// Any other answer of a registry that gives reasons.
    #[error("{0}")]
    Refused(Refusal),
    /// A registry's error without reasons that could be read.
    #[error("received unexpected HTTP status: {0}")]
    UnexpectedStatus(http::StatusCode),
    /// The registry or token server wants a name and password, and there are none.
    #[error("{request}no basic auth credentials")]
    NoBasicCredentials {
        /// `Get "https://…": `, or nothing for a push, where dockerd leaves it out.
        request: String,
    },
    /// The credentials are wrong. `docker login` shows this text.
    #[error("{method} \"{url}\": {refusal}")]
    Unauthorized {
        /// Method in Go's capitalisation.
        method: &'static str,
        /// Address without credentials.
        url: String,
        /// The words of the registry or its token server.
        refusal: Refusal,
    },
    /// A login was answered with something else than yes.
    #[error("login attempt to {url} failed with status: {status}")]
    LoginStatus {
        /// The API's root.
        url: String,
        /// What was answered.
        status: http::StatusCode,
    },
    /// Nobody answers where the first version of the API, which searches use, should be.
    #[error("invalid registry endpoint {0}")]
    SearchEndpoint(String),
    /// A search was answered with something else than results.
    #[error("unexpected status code {0}")]
    SearchStatus(u16),
    /// A name and password would go over a line that anybody can read.
    #[error("refusing to send credentials to {0}: its registry is secure, but this address is plain http")]
    PlaintextCredentials(String),
    /// The token server's answer cannot be used.
    #[error("{method} \"{url}\": {problem}")]
    TokenServer {
        /// Method in Go's capitalisation.
        method: &'static str,
        /// Address without credentials.
        url: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// No answer came: name resolution, connection, TLS, or a cut.
    #[error("{method} \"{url}\": {failure}")]
    Transport {
        /// Method in Go's capitalisation.
        method: &'static str,
        /// Address without credentials.
        url: String,
        /// What failed.
        failure: TransportFailure,
    },
    /// The answer is not what the distribution API allows.
    #[error("{method} \"{url}\": {problem}")]
    InvalidResponse {
        /// Method in Go's capitalisation.
        method: &'static str,
        /// Address without credentials.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The manifest's bytes are not those that were asked for.
    #[error("manifest verification failed for digest {expected}")]
    ManifestDigestMismatch {
        /// What was asked for, or promised by the registry.
        expected: Digest,
    },
    /// The blob's bytes are not those that were asked for.
    #[error("filesystem layer verification failed for digest {digest}")]
    BlobDigestMismatch {
        /// What was asked for.
        digest: Digest,
    },
    /// The blob has more or fewer bytes than its descriptor says.
    #[error("blob {digest} does not have the {size} bytes of its descriptor")]
    BlobLength {
        /// The blob.
        digest: Digest,
        /// What its descriptor says.
        size: u64,
    },
    /// The blob is larger than what is read into memory.
    #[error("config {digest} of {size} bytes is larger than the limit of {limit}")]
    ConfigTooLarge {
        /// The blob.
        digest: Digest,
        /// What its descriptor says.
        size: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The manifest is of a kind that is not read, or broken.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest is of a kind from before 2016.
    #[error(
        "{SCHEMA1_TEXT} Suggest the author of {reference} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/"
    )]
    Schema1 {
        /// The complete reference.
        reference: String,
    },
    /// Indexes that name indexes that name indexes.
    #[error("image indexes are nested deeper than {0}")]
    NestedTooDeep(usize),
    /// The sink could not take the blob.
    #[error("cannot store blob {digest}")]
    Sink {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The source could not supply the blob.
    #[error("cannot read blob {digest}")]
    Source {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Certificate(String),
    /// The request itself is wrong.
    #[error("{0}")]
    InvalidRequest(String),
}

/// Schema 1's refusal, up to the name of the image.
pub const SCHEMA1_TEXT: &str =
    "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed.";

/// Why no answer came, in Go's words, because users search the web for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportFailure {
    /// The name has no address.
    #[error("dial tcp: lookup {host}{server}: no such host")]
    NoSuchHost {
        /// The name.
        host: String,
        /// ` on 10.0.0.1:53`, or empty if no server was asked.
        server: String,
    },
    /// No name server gave an answer.
    #[error("dial tcp: lookup {host}{server}: {problem}")]
    Lookup {
        /// The name.
        host: String,
        /// ` on 10.0.0.1:53`, or empty if no server was asked.
        server: String,
        /// What happened.
        problem: String,
    },
    /// The address does not take connections.
    #[error("dial tcp {address}: {problem}")]
    Connect {
        /// Address and port.
        address: String,
        /// Go's words for the error number.
        problem: String,
    },
    /// The token server that the registry names gave no answer.
    #[error("{method} \"{url}\": {failure}")]
    TokenServer {
        /// Method in Go's capitalisation.
        method: &'static str,
        /// Address without its query.
        url: String,
        /// What failed.
        failure: Box<TransportFailure>,
    },
    /// The proxy does not let through.
    #[error("{0}")]
    Proxy(String),
    /// The other side does not speak TLS.
    #[error("http: server gave HTTP response to HTTPS client")]
    NotTls,
    /// The other side's certificate is not trusted.
    #[error("tls: failed to verify certificate: {0}")]
    Certificate(String),
    /// Any other failure of TLS.
    #[error("{0}")]
    Tls(String),
    /// The connection ended in the middle.
    #[error("{0}")]
    Cut(String),
    /// What came is not HTTP.
    #[error("net/http: HTTP/1.x transport connection broken: {0}")]
    Malformed(String),
    /// Nothing came for too long.
    #[error("{0}")]
    Timeout(&'static str),
}

impl RegistryError {
    /// What sort of failure it is, for the API and for whoever decides by it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::PullAccessDenied { .. }
            | Self::ManifestNotFound { .. }
            | Self::RepositoryNotFound { .. }
            | Self::NoMatchingManifest(_)
            | Self::BlobNotFound { .. } => ErrorKind::NotFound,
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::FileStatus { status, .. } => crate::file::kind_of_status(*status),
            Self::Refused(refusal) => match refusal.code.as_str() {
                "UNAUTHORIZED" => ErrorKind::Unauthorized,
                "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "BLOB_UNKNOWN" => ErrorKind::NotFound,
                "DENIED" => ErrorKind::Forbidden,
                "TOOMANYREQUESTS" | "UNAVAILABLE" => ErrorKind::Unavailable,
                "NAME_INVALID" | "TAG_INVALID" | "MANIFEST_INVALID" => ErrorKind::InvalidArgument,
                "UNSUPPORTED" => ErrorKind::NotImplemented,
                _ => ErrorKind::Internal,
            },
            Self::Manifest(_) | Self::Schema1 { .. } | Self::Config(_) | Self::InvalidRequest(_) => {
                ErrorKind::InvalidArgument
            }
            Self::UnexpectedStatus(_)
            | Self::LoginStatus { .. }
            | Self::SearchEndpoint(_)
            | Self::SearchStatus(_)
            | Self::NoBasicCredentials { .. }
            | Self::PlaintextCredentials(_)
            | Self::TokenServer { .. }
            | Self::Transport { .. }
            | Self::InvalidResponse { .. }
            | Self::ManifestDigestMismatch { .. }
            | Self::BlobDigestMismatch { .. }
            | Self::BlobLength { .. }
            | Self::ConfigTooLarge { .. }
            | Self::NestedTooDeep(_)
            | Self::Sink { .. }
            | Self::Source { .. }
            | Self::Certificate(_) => ErrorKind::Internal,
        }
    }
}
