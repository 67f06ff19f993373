//! Why an image was not built.
//!
//! Start reading at [`BuildError`]. Texts that clients match are Docker's, each with a test in `check` or `context`.

use shoal_types::ErrorKind;
use shoal_types::image_ref::ParseImageRefError;
use shoal_types::platform::ParsePlatformError;

/// Why an image was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// This release does not build.
    #[error("image build is not supported yet; build elsewhere and push or load the result")]
    NotSupported,
    /// There is no such builder.
    #[error("invalid version {0:?}")]
    Version(String),
    /// A name for the image is none.
    #[error("invalid tag {tag:?}")]
    Tag {
        /// As the client wrote it.
        tag: String,
        /// Why.
        #[source]
        source: ParseImageRefError,
    },
    /// A name for the image already says which content it stands for.
    #[error("build tag cannot contain a digest")]
    TagWithDigest,
    /// The platform is not one.
    #[error("invalid platform")]
    Platform(#[source] ParsePlatformError),
    /// Squashing outside of experimental mode.
    #[error("squash is only supported with experimental mode")]
    Squash,
    /// A way of isolating that Linux does not have.
    #[error("unsupported isolation: {0:?}")]
    Isolation(String),
    /// Security options are for Windows.
    #[error("The daemon on this platform does not support setting security options on build")]
    SecurityOptions,
    /// The size of /dev/shm is negative.
    #[error("SHM size can not be less than 0")]
    ShmSize,
    /// A network that steps of this builder cannot have.
    #[error("network mode {0:?} not supported by buildkit")]
    Network(String),
    /// More results than one were asked for.
    #[error("multiple outputs not supported")]
    SeveralOutputs,
    /// The context is neither an archive nor something that can be fetched.
    #[error("remoteURL ({0}) could not be recognized as URL")]
    Context(String),
    /// A revision that git would take for an option.
    #[error("invalid refspec: {0}")]
    Revision(String),
    /// The classic builder does not talk to sessions.
    #[error(
        "experimental session with v1 builder is no longer supported, use builder version v2 (BuildKit) instead"
    )]
    ClassicSession,
    /// The context is in a session, and which one is not said.
    #[error("the context is in a session, but no session is named")]
    NoSession,
    /// A path with a NUL.
    #[error("invalid Dockerfile path {0:?}")]
    Path(String),
}

impl BuildError {
    /// The transport-independent kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotSupported => ErrorKind::NotImplemented,
            Self::Version(_)
            | Self::Tag { .. }
            | Self::TagWithDigest
            | Self::Platform(_)
            | Self::Squash
            | Self::Isolation(_)
            | Self::SecurityOptions
            | Self::ShmSize
            | Self::Network(_)
            | Self::SeveralOutputs
            | Self::Context(_)
            | Self::Revision(_)
            | Self::ClassicSession
            | Self::NoSession
            | Self::Path(_) => ErrorKind::InvalidArgument,
        }
    }
}
