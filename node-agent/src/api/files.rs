//! Ports: files of containers, and images made from them.
//!
//! Start reading at [`ContainerFiles`]. Every path is resolved by the kernel inside the container's root, with its
//! volumes in place, whether it runs or not.

use async_trait::async_trait;
use jiff::Timestamp;
use shoal_types::{ImageId, ImageRef};

use super::{ByteSource, ByteStream};
use crate::error::NodeError;

/// What can be done with a container's files.
#[async_trait]
pub trait ContainerFiles: Send + Sync {
    /// Looks at one path without following a last symbolic link.
    async fn stat(&self, name: &str, path: &str) -> Result<PathStat, NodeError>;

    /// Packs a path as a tar archive.
    async fn read_archive(&self, name: &str, path: &str) -> Result<(PathStat, ByteStream), NodeError>;

    /// Unpacks a tar archive, plain or compressed, into an existing directory.
    async fn write_archive(
        &self,
        name: &str,
        path: &str,
        options: UnpackOptions,
        archive: ByteSource,
    ) -> Result<(), NodeError>;

    /// Packs the whole root file system, without volumes.
    async fn export(&self, name: &str) -> Result<ByteStream, NodeError>;

    /// What the container has changed against its image, sorted by path.
    async fn changes(&self, name: &str) -> Result<Vec<PathChange>, NodeError>;

    /// Makes an image of the container as it is.
    async fn commit(&self, name: &str, request: CommitRequest) -> Result<ImageId, NodeError>;
}

/// What is known of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// Last component.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Mode as stat(2) has it, type and permission bits.
    pub mode: u32,
    /// Time of the last change of the content.
    pub modified: Timestamp,
    /// Where a symbolic link leads, resolved inside the container; empty for anything else.
    pub link_target: String,
}

/// How to unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnpackOptions {
    /// Whether a directory may replace a file and the reverse.
    pub replace: ReplaceKinds,
    /// Whose the unpacked files are.
    pub ownership: UnpackOwnership,
}

/// Whether unpacking may change what kind of thing a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplaceKinds {
    /// It may.
    #[default]
    Allow,
    /// A directory stays a directory, anything else stays something else.
    Refuse,
}

/// Whose unpacked files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnpackOwnership {
    /// As the archive says.
    #[default]
    FromArchive,
    /// The container's user's.
    ContainerUser,
}

/// One path that differs from the image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathChange {
    /// Absolute path inside the container.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// Other content or attributes.
    Modified,
    /// New.
    Added,
    /// Gone.
    Deleted,
}

/// A wish for an image of a container.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// The name it gets; `None` leaves it without.
    pub reference: Option<ImageRef>,
    /// Who made it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// Whether processes are frozen meanwhile.
    pub pause: bool,
    /// Dockerfile instructions that change the configuration, such as `ENV A=1`.
    pub changes: Vec<String>,
    /// Configuration to use instead of the container's, in Docker's image form, before the changes.
    pub config: Option<super::images::ImageRunConfig>,
}
