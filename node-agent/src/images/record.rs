//! The stored forms of names and targets.
//!
//! Start reading at [`NameRecord`] and [`TargetRecord`]. What content says of itself is not stored again: it is read when
//! the daemon starts.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shoal_types::{Digest, ImageId};

use crate::store::Record;

/// A row of the table of names; its key is the complete reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NameRecord {
    /// What it points to.
    pub(super) target: ImageId,
    /// When it was last put there.
    pub(super) tagged: Timestamp,
}

impl Record for NameRecord {
    const TABLE: &'static str = "images";
}

/// A row of the table of targets; its key is the digest. It exists as long as the image does, named or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TargetRecord {
    /// Media type of the manifest or index.
    pub(super) media_type: String,
    /// Its bytes.
    pub(super) size: u64,
    /// When the image came to this node.
    pub(super) added: Timestamp,
    /// The image on top of which it was made here.
    pub(super) parent: Option<ImageId>,
    /// Repositories (complete names) of which it is known that they have its content.
    pub(super) sources: BTreeSet<String>,
    /// Layers that were compressed for a push: the layer as it is here, and what stands for it at registries.
    pub(super) compressed: BTreeMap<Digest, CompressedLayer>,
    /// Manifests that were pushed in its place because of these: complete repository name, digest.
    pub(super) pushed_as: BTreeSet<(String, Digest)>,
}

/// The compressed form of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CompressedLayer {
    /// Its digest.
    pub(super) digest: Digest,
    /// Its bytes.
    pub(super) size: u64,
}

impl Record for TargetRecord {
    const TABLE: &'static str = "targets";
}

impl TargetRecord {
    /// A target that has just come.
    pub(super) fn new(media_type: &str, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            size,
            added: Timestamp::now(),
            parent: None,
            sources: BTreeSet::new(),
            compressed: BTreeMap::new(),
            pushed_as: BTreeSet::new(),
        }
    }
}
