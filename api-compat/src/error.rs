//! What a client is told when something fails: the one mapping from kinds to HTTP statuses.
//!
//! Start reading at [`ApiError`] and [`status_of`]. Nothing else in the tree knows a status code of an error. The text
//! is the whole chain of the engine's error, joined here once.

use builder::BuildError;
use http::StatusCode;
use manager::ClusterError;
use node_agent::NodeError;
use shoal_types::ErrorKind;

use crate::version::VersionError;

/// The message of an unknown path, and of a known path with another method.
pub const PAGE_NOT_FOUND: &str = "page not found";

/// A failure on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    kind: ErrorKind,
    message: String,
    cause: Cause,
}

/// Whether the operator has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A rule of the engine spoke against the request. Docker answers some of these with 500.
    Rule,
    /// Something of the engine or the machine has failed.
    Fault,
}

impl ApiError {
    /// A failure of this kind with this text.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let cause = if kind == ErrorKind::Internal { Cause::Fault } else { Cause::Rule };
        Self { kind, message: message.into(), cause }
    }

    /// A request that is wrong in itself.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// A request for something that this engine does not do.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotImplemented, message)
    }

    /// A failure of the engine.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// A request that is wrong in itself, but that Docker answers as if the engine had failed.
    pub fn internal_rule(message: impl Into<String>) -> Self {
        Self { cause: Cause::Rule, ..Self::internal(message) }
    }

    /// A path that does not exist.
    pub fn page_not_found() -> Self {
        Self::new(ErrorKind::NotFound, PAGE_NOT_FOUND)
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What it comes from.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// The text for the client.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        status_of(self.kind)
    }

    /// The same failure, told with `context` and a colon in front.
    #[must_use]
    pub fn in_context(mut self, context: &str) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

/// The status of a kind of failure.
pub fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<NodeError> for ApiError {
    fn from(error: NodeError) -> Self {
        let told = Self::new(error.kind(), error.message());
        Self { cause: if error.is_fault() { Cause::Fault } else { Cause::Rule }, ..told }
    }
}

impl From<ClusterError> for ApiError {
    fn from(error: ClusterError) -> Self {
        // What managers refuse, and a cluster without a leader, are told with 500 too, but nothing of this machine has failed.
        let cause = if matches!(error, ClusterError::Local { .. }) { Cause::Fault } else { Cause::Rule };
        Self { cause, ..Self::new(error.kind(), error.to_string()) }
    }
}

impl From<BuildError> for ApiError {
    fn from(error: BuildError) -> Self {
        let mut message = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            message = format!("{message}: {cause}");
        }
        Self::new(error.kind(), message)
    }
}

impl From<VersionError> for ApiError {
    fn from(error: VersionError) -> Self {
        Self::invalid(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_dockers_status() {
        let cases = [
            (ErrorKind::InvalidArgument, 400),
            (ErrorKind::Unauthorized, 401),
            (ErrorKind::Forbidden, 403),
            (ErrorKind::NotFound, 404),
            (ErrorKind::Conflict, 409),
            (ErrorKind::NotModified, 304),
            (ErrorKind::Unavailable, 503),
            (ErrorKind::NotImplemented, 501),
            (ErrorKind::Internal, 500),
        ];
        for (kind, status) in cases {
            assert_eq!(status_of(kind).as_u16(), status);
        }
    }

    #[test]
    fn a_rule_that_is_answered_with_500_is_no_fault() {
        let message = "Container x is not paused".to_owned();
        let rule = ApiError::from(NodeError::Refused { kind: ErrorKind::Internal, message });
        assert_eq!((rule.status().as_u16(), rule.cause()), (500, Cause::Rule));
        let fault = ApiError::from(NodeError::failed("mount", std::io::Error::other("no such device")));
        assert_eq!((fault.status().as_u16(), fault.cause()), (500, Cause::Fault));
    }

    #[test]
    fn the_engines_error_is_told_with_its_whole_chain() {
        let error = NodeError::failed("mount the root file system", std::io::Error::other("no such device"));
        let error = ApiError::from(error);
        assert_eq!(error.message(), "mount the root file system: no such device");
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
