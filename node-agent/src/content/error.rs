//! What can go wrong with content.
//!
//! Start reading at [`ContentError`].

use std::io;
use std::path::{Path, PathBuf};

use shoal_types::{Digest, ErrorKind};

/// Any failure of this module.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The blob is not here.
    #[error("content {0} is not here")]
    Missing(Digest),
    /// The bytes have another digest than they should.
    #[error("unexpected digest of content: expected {expected}, got {found}")]
    WrongDigest {
        /// What was promised.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A blob that is read into memory is larger than any honest one.
    #[error("content {digest} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// What is allowed.
        limit: usize,
    },
    /// The file system did not do what it was asked to.
    #[error("{doing} {path}")]
    Io {
        /// What was being done, as a verb phrase.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

impl ContentError {
    /// The transport-independent kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::WrongDigest { .. } | Self::TooLarge { .. } => ErrorKind::InvalidArgument,
            // Content is asked for because a record refers to it.
            Self::Missing(_) | Self::Io { .. } => ErrorKind::Internal,
        }
    }

    /// An adapter for `map_err`: what was being done to which path.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}
