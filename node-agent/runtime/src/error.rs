//! What can go wrong in the runtime, and what was only worth a warning.
//!
//! Start reading at [`RuntimeError`]; [`RuntimeError::exit_code`] and [`RuntimeError::kind`] are what callers compare,
//! never the texts. The texts of [`ExecutableError`] are runc's, because the docker CLI derives its own exit status
//! from substrings of them. This module does no IO and knows no HTTP status.

use std::io;
use std::path::PathBuf;

use shoal_types::ErrorKind;
use thiserror::Error;

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, RuntimeError>;

/// Why the runtime could not do what was asked.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// The configuration contradicts itself or the runtime specification.
    #[error("invalid container configuration: {0}")]
    InvalidSpec(String),
    /// The configuration asks for something that this runtime refuses instead of ignoring.
    #[error("not supported by the embedded runtime: {0}")]
    Unsupported(String),
    /// The program of the container or of the exec cannot be executed.
    #[error(transparent)]
    Executable(#[from] ExecutableError),
    /// A step in this process failed.
    #[error("{step}")]
    Step {
        /// What was being done, with the path or the name it was done to.
        step: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A step failed inside the container's init or exec process, before any user code existed.
    #[error("error during container init: {step}")]
    Init {
        /// What was being done, with the path or the name it was done to.
        step: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The process died, or was killed, before it said that it was ready.
    #[error("container process {pid} ended before it was ready (killed, or out of memory)")]
    Vanished {
        /// Its pid in the caller's pid namespace.
        pid: i32,
    },
    /// A hook of the configuration failed or ran out of time.
    #[error("{stage} hook {path:?} failed: {reason}")]
    Hook {
        /// The stage, as the runtime specification names it.
        stage: &'static str,
        /// The program.
        path: PathBuf,
        /// Exit status, signal or time-out, with what it wrote to stderr.
        reason: String,
    },
    /// No container of that name is known below the state root.
    #[error("container {id:?} does not exist")]
    NoSuchContainer {
        /// The name that was looked for.
        id: String,
    },
    /// A container of that name is known already.
    #[error("container with id exists: {id:?}")]
    AlreadyExists {
        /// The name.
        id: String,
    },
    /// The container is in a state in which the operation is not allowed.
    #[error("cannot {operation} a container in the {status} state")]
    WrongState {
        /// The verb.
        operation: &'static str,
        /// The state in the words of the runtime specification.
        status: &'static str,
    },
}

impl RuntimeError {
    /// Names the transport-independent kind of the failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidSpec(_) | Self::Executable(_) => ErrorKind::InvalidArgument,
            Self::Unsupported(_) => ErrorKind::NotImplemented,
            Self::NoSuchContainer { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } | Self::WrongState { .. } => ErrorKind::Conflict,
            Self::Step { .. } | Self::Init { .. } | Self::Vanished { .. } | Self::Hook { .. } => {
                ErrorKind::Internal
            }
        }
    }

    /// Gives the exit status that a container gets whose start failed this way: 126, 127 or 128.
    ///
    /// The rule is dockerd's: 127 when the program is missing, 126 when it may not be executed, 128 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Executable(failure) => match failure.reason {
                ExecutableReason::NotFoundInPath
                | ExecutableReason::NoSuchFile
                | ExecutableReason::NotADirectory => 127,
                ExecutableReason::PermissionDenied | ExecutableReason::IsADirectory => 126,
                ExecutableReason::Other => 128,
            },
            _ => 128,
        }
    }

    /// Joins the text of the error and of all its sources with `: `, as it is shown at the edge.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            // As Docker's messages have it, in which clients look for words of the kernel.
            match cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
                Some(errno) => text.push_str(&crate::errno_text(errno)),
                None => text.push_str(&cause.to_string()),
            }
            source = cause.source();
        }
        text
    }

    pub(crate) fn step(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Step { step: step.into(), source: source.into() }
    }
}

/// Why a program cannot be executed, with runc's text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct ExecutableError {
    /// The class that decides the exit status.
    pub reason: ExecutableReason,
    /// The whole text, for example `exec: "nope": executable file not found in $PATH`.
    pub text: String,
}

/// The classes of [`ExecutableError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutableReason {
    /// A name without a slash is in none of the directories of `$PATH`.
    NotFoundInPath,
    /// The path does not exist, or the interpreter that the file names does not.
    NoSuchFile,
    /// A component of the path is not a directory.
    NotADirectory,
    /// The user of the process may not execute it, or it is on a noexec mount.
    PermissionDenied,
    /// The path is a directory.
    IsADirectory,
    /// The file exists and may be executed, but the kernel does not understand it.
    Other,
}

impl ExecutableReason {
    /// Classifies an errno of stat(2) or execve(2).
    #[must_use]
    pub fn from_errno(errno: i32) -> Self {
        match errno {
            libc::ENOENT => Self::NoSuchFile,
            libc::ENOTDIR => Self::NotADirectory,
            libc::EACCES | libc::EPERM => Self::PermissionDenied,
            libc::EISDIR => Self::IsADirectory,
            _ => Self::Other,
        }
    }
}

/// Something that was asked for and could not be had, without being worth a failure.
///
/// These are the limits that runc and dockerd also give up quietly on hosts that refuse them; the caller logs them or
/// hands them to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The host does not let this process raise the limit; the value that was set instead is given.
    RlimitLowered {
        /// The name of the limit in the form `RLIMIT_NOFILE`.
        name: String,
        /// The hard limit that was asked for.
        requested: u64,
        /// The hard limit that the process has.
        applied: u64,
    },
    /// The host does not let this process lower the score below what it has itself.
    OomScoreAdjustRefused {
        /// What was asked for.
        requested: i32,
    },
    /// The caller does not hold these capabilities itself and cannot give them to the container.
    CapabilitiesUnavailable {
        /// The mask of the missing ones, bit numbers as in `linux/capability.h`.
        missing: u64,
    },
    /// The program that runs the runtime can be opened for writing from inside the container.
    ///
    /// See [`crate::sealed`]; only seen when a caller started itself without it.
    BinaryNotSealed,
    /// The kernel or the cgroup lacks a controller or a file for a limit; the limit is not in force.
    LimitUnavailable {
        /// The limit in the words of the runtime specification, for example `memory.swap`.
        limit: &'static str,
        /// Why not.
        reason: String,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RlimitLowered { name, requested, applied } => write!(
                formatter,
                "{name} of {requested} is above what this host allows, the limit is {applied}"
            ),
            Self::OomScoreAdjustRefused { requested } => {
                write!(formatter, "this host does not allow an OOM score adjustment of {requested}")
            }
            Self::CapabilitiesUnavailable { missing } => {
                write!(formatter, "this host does not hold the capabilities {missing:#x}")
            }
            Self::BinaryNotSealed => {
                write!(formatter, "the runtime was not started from its sealed binary")
            }
            Self::LimitUnavailable { limit, reason } => {
                write!(formatter, "limit {limit} is not in force: {reason}")
            }
        }
    }
}

/// Adds what was being done to a failure of the kernel.
pub(crate) trait Context<T> {
    /// Turns the failure into [`RuntimeError::Step`]; the text is built only on failure.
    fn step<S: Into<String>>(self, describe: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn step<S: Into<String>>(self, describe: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| RuntimeError::step(describe(), source))
    }
}
