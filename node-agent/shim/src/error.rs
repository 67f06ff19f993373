//! Why a shim or its cleanup cannot do its work at all.
//!
//! Start reading at [`ProcessError`]. What goes wrong with a container is not here: that is told to the daemon as
//! `protocol::Failure`, with the runtime's words.

use std::io;
use std::path::PathBuf;

use shoal_types::ErrorKind;

use crate::protocol::PROTOCOL_VERSION;

/// A failure of the shim process itself.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A step failed in the kernel.
    #[error("cannot {doing}: {source}")]
    Step {
        /// What was being done, with the path it was done to.
        doing: String,
        /// The kernel's reason. Part of the text: it goes to a log file, not through the error chain of a daemon.
        source: io::Error,
    },
    /// A file of the bundle is not what it should be.
    #[error("{}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// The bundle was written by a newer daemon than this program.
    #[error("the bundle is of version {found}, newer than {PROTOCOL_VERSION}")]
    Newer {
        /// Its version.
        found: u32,
    },
    /// The bundle has a shim that lives.
    #[error("the bundle is served by the shim with pid {pid}")]
    Served {
        /// That shim.
        pid: i32,
    },
    /// The run that the bundle is for is over, possibly because a cleanup came first.
    #[error("the bundle's run is over")]
    Over,
    /// Something could not be cleaned up; everything else was.
    #[error("cannot clean up everything: {failures}")]
    Cleanup {
        /// What stood in the way, one by one.
        failures: String,
    },
    /// The command line is wrong.
    #[error("usage: shim [--cleanup] BUNDLE")]
    Usage,
}

impl ProcessError {
    /// A failed step.
    pub(crate) fn step(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Step { doing: doing.into(), source: source.into() }
    }

    /// The kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Step { .. } | Self::Cleanup { .. } => ErrorKind::Internal,
            Self::Malformed { .. } | Self::Newer { .. } | Self::Usage => ErrorKind::InvalidArgument,
            Self::Served { .. } | Self::Over => ErrorKind::Conflict,
        }
    }
}
