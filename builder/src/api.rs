//! The port: what the front end may ask of builds.
//!
//! Start reading at [`Builder`]. How a build is done is not known here.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use node_agent::api::ByteSource;
use shoal_types::ImageId;

use crate::error::BuildError;
use crate::request::BuildRequest;

/// Builds of images on this node.
#[async_trait]
pub trait Builder: Send + Sync {
    /// Builds an image. `body` is what the client sends along: the context if [`BuildRequest::context`] says so, unread
    /// otherwise. An error before the first item is a failure of the whole request, a later one is told in the stream.
    /// Dropping the stream cancels the build and ends the step that runs.
    async fn build(&self, request: BuildRequest, body: ByteSource) -> Result<BuildStream, BuildError>;

    /// Cancels the build to which the client gave this id; one that is not running is no error.
    async fn cancel(&self, build_id: &str) -> Result<(), BuildError>;
}

/// Progress and outcome of a build.
pub type BuildStream = BoxStream<'static, Result<BuildProgress, BuildError>>;

/// One thing that a build tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildProgress {
    /// What a step prints, or the builder about it; with its newlines.
    Text(String),
    /// An image is finished. Several may come; the last one is the outcome.
    Built(ImageId),
}
