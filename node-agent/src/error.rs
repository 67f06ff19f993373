//! Why the node could not do what was asked.
//!
//! Start reading at [`NodeError`] and its [`kind`](NodeError::kind). Variants that clients match by their text say so;
//! each such text has a test. What only one noun can say lives in that noun's own enum and is carried here unchanged.
//! HTTP statuses are not known here.

use std::sync::Arc;

use registry_client::RegistryError;
use shoal_types::ErrorKind;
use shoal_types::image_ref::ParseImageRefError;

use crate::content::ContentError;
use crate::layers::LayerError;
use crate::store::StoreError;

/// Why the node could not do what was asked. The text is Docker's where clients look at it.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No container has this id, name or prefix.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// More than one container has an id with this prefix.
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousContainer(String),
    /// No image has this name. Clients answer it by pulling.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// No command has this id.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// No network has this id, name or prefix.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// No volume has this name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// A text is not an image reference.
    #[error(transparent)]
    Reference(#[from] ParseImageRefError),
    /// The state database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Content failed.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A snapshot or layer failed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A registry failed or refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Work that several waited for failed for all of them.
    #[error(transparent)]
    Shared(Arc<NodeError>),
    /// A rule of the engine, in Docker's words. For refusals that exist once and that nobody distinguishes by type.
    #[error("{message}")]
    Refused {
        /// The kind.
        kind: ErrorKind,
        /// The whole message.
        message: String,
    },
    /// The thing already is as it was asked to be.
    #[error("not modified")]
    NotModified,
    /// A step of the engine failed; the text names the step.
    #[error("{context}")]
    Failed {
        /// What was being done to what, as a verb phrase.
        context: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl NodeError {
    /// The transport-independent kind, which decides the status that clients see.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchContainer(_)
            | Self::NoSuchImage(_)
            | Self::NoSuchExec(_)
            | Self::NoSuchNetwork(_)
            | Self::NoSuchVolume(_) => ErrorKind::NotFound,
            Self::AmbiguousContainer(_) | Self::Reference(_) => ErrorKind::InvalidArgument,
            Self::Store(error) => error.kind(),
            Self::Content(error) => error.kind(),
            Self::Layer(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Shared(error) => error.kind(),
            Self::Refused { kind, .. } => *kind,
            Self::NotModified => ErrorKind::NotModified,
            Self::Failed { .. } => ErrorKind::Internal,
        }
    }

    /// Whether something of the engine or its machine has failed, which the operator has to know. A rule that speaks
    /// against a request is no fault, even one that Docker answers as if it were; nor is what a registry does.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Registry(_) => false,
            Self::Shared(error) => error.is_fault(),
            _ => self.kind() == ErrorKind::Internal,
        }
    }

    /// A request that can never succeed as it is.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Refused { kind: ErrorKind::InvalidArgument, message: message.into() }
    }

    /// A request that contradicts the present state.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Refused { kind: ErrorKind::Conflict, message: message.into() }
    }

    /// A request that a rule forbids.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::Refused { kind: ErrorKind::Forbidden, message: message.into() }
    }

    /// A request that may succeed later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Refused { kind: ErrorKind::Unavailable, message: message.into() }
    }

    /// A request for something that the engine does not do.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::Refused { kind: ErrorKind::NotImplemented, message: message.into() }
    }

    /// A failure of a step: `context` is a verb phrase such as `mount the root file system`.
    pub fn failed(
        context: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed { context: context.into(), source: source.into() }
    }

    /// The text with all its sources, joined by `: `, as clients see it.
    pub fn message(&self) -> String {
        ErrorChain(self).to_string()
    }
}

/// Shows what the kernel said as Docker's messages have it, which scripts look for: in lower case and without number.
pub(crate) struct KernelWords<'a>(pub(crate) &'a std::io::Error);

impl std::fmt::Display for KernelWords<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.raw_os_error() {
            Some(errno) => write!(f, "{}", node_runtime::errno_text(errno)),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Shows an error with its sources, joined by `: `.
pub struct ErrorChain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Debug for ErrorChain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_clients_match_are_dockers() {
        let cases = [
            (NodeError::NoSuchContainer("x".into()), "No such container: x", ErrorKind::NotFound),
            (NodeError::NoSuchImage("x:latest".into()), "No such image: x:latest", ErrorKind::NotFound),
            (NodeError::NoSuchExec("x".into()), "No such exec instance: x", ErrorKind::NotFound),
            (NodeError::NoSuchNetwork("x".into()), "network x not found", ErrorKind::NotFound),
            (NodeError::NoSuchVolume("x".into()), "get x: no such volume", ErrorKind::NotFound),
            (
                NodeError::AmbiguousContainer("a".into()),
                "multiple IDs found with provided prefix: a",
                ErrorKind::InvalidArgument,
            ),
        ];
        for (error, text, kind) in cases {
            assert_eq!((error.message().as_str(), error.kind()), (text, kind));
        }
    }

    #[test]
    fn a_failure_shows_its_whole_chain_once() {
        let error = NodeError::failed("mount the root file system", std::io::Error::other("no such device"));
        assert_eq!(error.message(), "mount the root file system: no such device");
    }
}
