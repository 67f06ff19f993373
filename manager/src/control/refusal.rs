//! Refusals in swarm's form: clients see the code of gRPC before the text, and scripts match both.
//!
//! Start reading at [`Code`].

use std::fmt;

use shoal_types::ErrorKind;

use crate::error::ClusterError;

/// The codes under which swarm refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// The request is wrong.
    InvalidArgument,
    /// Something that it needs is not so.
    FailedPrecondition,
    /// Something of that name exists.
    AlreadyExists,
    /// It is not there.
    NotFound,
    /// It cannot be done.
    Unimplemented,
    /// Anything else.
    Unknown,
}

impl Code {
    /// The kind, by which the front end chooses a status (spec/swarm.md 6.4).
    fn kind(self) -> ErrorKind {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition => ErrorKind::InvalidArgument,
            Self::AlreadyExists => ErrorKind::Conflict,
            Self::NotFound => ErrorKind::NotFound,
            Self::Unimplemented => ErrorKind::NotImplemented,
            Self::Unknown => ErrorKind::Internal,
        }
    }

    /// A refusal of this code.
    pub(super) fn refuse(self, text: impl fmt::Display) -> ClusterError {
        ClusterError::refused(self.kind(), format!("rpc error: code = {self:?} desc = {text}"))
    }
}

/// A refusal that swarm's front end makes before it asks a manager: the text alone.
pub(super) fn refuse(kind: ErrorKind, text: impl Into<String>) -> ClusterError {
    ClusterError::refused(kind, text)
}

/// What an update of an object that has changed since is answered.
pub(super) fn out_of_sequence() -> ClusterError {
    Code::Unknown.refuse("update out of sequence")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_out_of_sequence_is_an_unknown_failure_as_in_swarm() {
        assert_eq!(out_of_sequence().to_string(), "rpc error: code = Unknown desc = update out of sequence");
        assert_eq!(out_of_sequence().kind(), ErrorKind::Internal);
    }
}
