//! What can go wrong with layers and snapshots.
//!
//! Start reading at [`LayerError`].

use std::io;
use std::path::{Path, PathBuf};

use shoal_types::{DiffId, ErrorKind};

use super::archive::ArchiveError;
use crate::store::StoreError;

/// Any failure of this module.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// No snapshot has this name.
    #[error("snapshot {0} does not exist")]
    NoSuchSnapshot(String),
    /// The name is taken.
    #[error("snapshot {0} exists already")]
    Exists(String),
    /// Another snapshot stands on it.
    #[error("snapshot {0} is the parent of another snapshot")]
    InUse(String),
    /// More layers than the kernel can stack.
    #[error("max depth exceeded")]
    TooDeep,
    /// The file system does not limit directories. The text is Docker's.
    #[error("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")]
    NoQuotas,
    /// The archive cannot be read, or is refused.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// What was unpacked is not the layer that it should be.
    #[error("wrong diff id calculated on extraction: expected {expected}, got {found}")]
    WrongDiffId {
        /// What the image's configuration says.
        expected: DiffId,
        /// What it is.
        found: DiffId,
    },
    /// The record could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
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

impl LayerError {
    /// The transport-independent kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists(_) | Self::InUse(_) => ErrorKind::Conflict,
            Self::TooDeep | Self::NoQuotas | Self::Archive(_) | Self::WrongDiffId { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Store(error) => error.kind(),
            // A snapshot is named by the engine, never by the user: a missing one is the engine's failure.
            Self::NoSuchSnapshot(_) | Self::Io { .. } => ErrorKind::Internal,
        }
    }

    /// An adapter for `map_err`: what was being done to which path.
    pub(crate) fn io<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source: source.into() }
    }
}
