//! Why an archive is not read.
//!
//! Start reading at [`ArchiveError`].

use std::io;

/// Why an archive could not be read, or is refused. Everything but [`Read`](ArchiveError::Read) is the archive's fault.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes could not be read or unpacked.
    #[error("read archive")]
    Read(#[source] io::Error),
    /// It ends in the middle.
    #[error("unexpected EOF")]
    Truncated,
    /// A header has a wrong checksum or a field that is no number.
    #[error("invalid tar header")]
    Header,
    /// An entry is of a kind that no layer has.
    #[error("unhandled tar header type {0}")]
    UnknownKind(u8),
    /// An extended header is larger than any honest one.
    #[error("extended header of {size} bytes is larger than the limit of {limit}")]
    LongHeader {
        /// What the archive announces.
        size: u64,
        /// What is read.
        limit: u64,
    },
    /// A path leads out of the archive, or is not a path.
    #[error("invalid path {path:?}: {problem}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An entry contradicts others.
    #[error("invalid entry {path:?}: {problem}")]
    Entry {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Larger than any honest layer.
    #[error("archive exceeds the limit of {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Read(error) }
    }
}
