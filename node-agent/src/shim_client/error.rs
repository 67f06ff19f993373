//! What can go wrong between the engine and a shim.
//!
//! Start reading at [`ShimError`]. A shim's own typed failure is carried unchanged in [`ShimError::Refused`]: the
//! engine derives exit codes from its kind and shows its text. Nothing here knows about containers' states.

use std::io;
use std::path::PathBuf;

use node_shim::protocol::{Failure, FailureKind, PROTOCOL_VERSION};
use shoal_types::ErrorKind;

/// Why a call to a shim did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The shim answered with a failure.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The connection ended before the answer: the shim has died, was shut down, or talks to another daemon.
    #[error("the shim is gone")]
    Gone,
    /// The shim program could not be started.
    #[error("cannot start the shim program {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The shim started and ended before it said anything.
    #[error("the shim for {} ended at once: {said}", bundle.display())]
    StillBorn {
        /// The bundle.
        bundle: PathBuf,
        /// The end of its `shim.log`.
        said: String,
    },
    /// The shim accepted a connection and did not answer in time.
    #[error("the shim for {} does not answer", bundle.display())]
    Unresponsive {
        /// The bundle.
        bundle: PathBuf,
    },
    /// The socket cannot be used.
    #[error("cannot talk to the shim for {}", bundle.display())]
    Socket {
        /// The bundle.
        bundle: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The byte stream of an exec broke.
    #[error("the stream from the shim broke")]
    Stream(#[source] io::Error),
    /// The shim speaks a newer protocol.
    #[error("the shim speaks version {version} of the protocol, newer than {PROTOCOL_VERSION}")]
    Newer {
        /// Its version.
        version: u32,
    },
    /// The shim sent something that is not of the protocol.
    #[error("the shim sent nonsense: {0}")]
    Nonsense(String),
    /// The cleanup of a dead shim failed.
    #[error("cannot clean up after the shim for {}: {said}", bundle.display())]
    Cleanup {
        /// The bundle.
        bundle: PathBuf,
        /// What it wrote on standard error.
        said: String,
    },
}

impl ShimError {
    /// The kind of the failure, for whoever reports it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(failure) => match failure.kind {
                FailureKind::CommandNotFound | FailureKind::NotExecutable | FailureKind::Invalid => {
                    ErrorKind::InvalidArgument
                }
                FailureKind::WrongPhase | FailureKind::NotRunning | FailureKind::AlreadyExists => {
                    ErrorKind::Conflict
                }
                FailureKind::NoSuchExec => ErrorKind::NotFound,
                FailureKind::Runtime | FailureKind::Internal => ErrorKind::Internal,
            },
            Self::Unresponsive { .. } => ErrorKind::Unavailable,
            Self::Gone
            | Self::Spawn { .. }
            | Self::StillBorn { .. }
            | Self::Socket { .. }
            | Self::Stream(_)
            | Self::Newer { .. }
            | Self::Nonsense(_)
            | Self::Cleanup { .. } => ErrorKind::Internal,
        }
    }
}
