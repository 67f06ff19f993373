//! Files of containers: looked at, copied in and out, exported, compared, made into images.
//!
//! Start reading at [`Files`], then `root.rs`: everything else works on one tree of mounts, the container's root with its
//! volumes in place, which is attached nowhere. Containers are hostile, and running ones change their files while we
//! look: every path is resolved by the kernel inside that tree, so neither links, nor `..`, nor a directory that is
//! exchanged for a link at the right moment leads out; devices cannot be opened through it.
//!
//! | file | what |
//! |---|---|
//! | `port.rs` | the node's port |
//! | `root.rs` | the tree of a container, running or not |
//! | `path.rs` | PURE: what a client's path means and how the entries of an archive are called |
//! | `stat.rs` | what a path is, where a link leads |
//! | `pack.rs`, `stream.rs` | from the tree to an archive, as a stream |
//! | `unpack.rs` | from an archive into the tree |
//! | `commit.rs` | an image of the container |
//!
//! What this module does not do: layers (`layers/`), images (`images/`), and deciding about a container's life.

mod commit;
mod pack;
mod path;
mod port;
mod root;
mod stat;
mod stream;
#[cfg(test)]
mod tests;
mod unpack;

use crate::containers::Engine;
use crate::images::ImageStore;

/// The files of this node's containers. Cheap to clone; holds nothing but handles.
#[derive(Debug, Clone)]
pub struct Files {
    engine: Engine,
    images: ImageStore,
}

impl Files {
    /// Works on the containers of `engine`; commits go to `images`.
    pub fn new(engine: Engine, images: ImageStore) -> Self {
        Self { engine, images }
    }
}
