//! Files of containers, which this release cannot read or write yet.
//!
//! Start reading at [`NoFiles`].

use async_trait::async_trait;
use node_agent::api::files::{CommitRequest, ContainerFiles, PathChange, PathStat, UnpackOptions};
use node_agent::api::{ByteSource, ByteStream, NodeError};
use shoal_types::ImageId;

const REASON: &str = "files of containers cannot be copied yet";

/// Answers that it cannot be done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoFiles;

#[async_trait]
impl ContainerFiles for NoFiles {
    async fn stat(&self, _name: &str, _path: &str) -> Result<PathStat, NodeError> {
        Err(NodeError::not_implemented(REASON))
    }

    async fn read_archive(&self, _name: &str, _path: &str) -> Result<(PathStat, ByteStream), NodeError> {
        Err(NodeError::not_implemented(REASON))
    }

    async fn write_archive(
        &self,
        _name: &str,
        _path: &str,
        _options: UnpackOptions,
        _archive: ByteSource,
    ) -> Result<(), NodeError> {
        Err(NodeError::not_implemented(REASON))
    }

    async fn export(&self, _name: &str) -> Result<ByteStream, NodeError> {
        Err(NodeError::not_implemented(REASON))
    }

    async fn changes(&self, _name: &str) -> Result<Vec<PathChange>, NodeError> {
        Err(NodeError::not_implemented(REASON))
    }

    async fn commit(&self, _name: &str, _request: CommitRequest) -> Result<ImageId, NodeError> {
        Err(NodeError::not_implemented(REASON))
    }
}
