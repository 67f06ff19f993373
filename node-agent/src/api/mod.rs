//! The ports of the node: what the API front end, the builder and the cluster's worker may ask of it.
//!
//! Start reading at [`Node`], a bundle of handles without methods; each trait is one noun. The traits are declared here, by
//! the provider, so that nothing of the engine depends on HTTP. They are the only traits of this crate that are
//! `async_trait`s, beside the engine's view of a shim. No implementation lives here; `crate::fake` and the engine's
//! modules implement them.
//!
//! Rules for every method: a name may be a container's full id, exact name (with or without a leading slash) or
//! unique id prefix, in that order; a future may be dropped at any await without leaving a change half done, because
//! changes run in the owner's task.

pub mod checkpoints;
pub mod containers;
pub mod events;
pub mod execs;
pub mod files;
pub mod images;
pub mod networks;
pub mod streams;
pub mod system;
pub mod volumes;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::Stream;

pub use crate::error::NodeError;

/// Bytes that the engine produces: an archive, an export.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, NodeError>> + Send>>;

/// Bytes that a client sends: an archive to load or to unpack. The error is the connection's.
pub type ByteSource = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// Handles to everything that a node offers. It has fields and no methods.
#[derive(Clone)]
pub struct Node {
    /// Life of containers.
    pub containers: Arc<dyn containers::Containers>,
    /// What can be seen of containers.
    pub views: Arc<dyn containers::ContainerViews>,
    /// Attached clients, logs, statistics.
    pub streams: Arc<dyn streams::ContainerStreams>,
    /// Files of containers, and images made from them.
    pub files: Arc<dyn files::ContainerFiles>,
    /// Written states of containers.
    pub checkpoints: Arc<dyn checkpoints::Checkpoints>,
    /// Commands run beside the init process.
    pub execs: Arc<dyn execs::Execs>,
    /// Images.
    pub images: Arc<dyn images::Images>,
    /// Images that come and go.
    pub transfers: Arc<dyn images::ImageTransfers>,
    /// Networks.
    pub networks: Arc<dyn networks::Networks>,
    /// Volumes.
    pub volumes: Arc<dyn volumes::Volumes>,
    /// The machine and the daemon.
    pub system: Arc<dyn system::System>,
    /// What has happened.
    pub events: Arc<dyn events::Events>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

/// Labels that an object must carry: `key` alone, or `key=value`. All must match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelFilter {
    /// Key, and the value if one was given.
    pub required: Vec<(String, Option<String>)>,
    /// Key and value of labels that must be absent (`label!`).
    pub excluded: Vec<(String, Option<String>)>,
}

impl LabelFilter {
    /// Whether an object with these labels passes.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let has = |(key, value): &(String, Option<String>)| match (label(key), value) {
            (Some(found), Some(wanted)) => found == wanted,
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.required.iter().all(has) && !self.excluded.iter().any(has)
    }
}

/// What a prune removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Names or ids, in the order of removal.
    pub removed: Vec<String>,
    /// Bytes of disk that were freed.
    pub reclaimed: u64,
}
