//! The stored form of a snapshot.
//!
//! Start reading at [`SnapshotRecord`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shoal_types::ChainId;

use super::{SnapshotKey, SnapshotName, Usage};
use crate::store::Record;

/// A row of the table of snapshots; its key is the [`SnapshotName`]'s text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Number of its directory.
    pub(super) dir: u64,
    /// What it stands on.
    pub(super) parent: Option<ChainId>,
    /// When it was prepared, or committed.
    pub(super) created: Timestamp,
    /// Bytes and inodes; `None` of an active one.
    pub(super) usage: Option<(u64, u64)>,
    /// The boot of the machine in which it was written, as long as the disk may not have all of it; `None` when it has,
    /// and of an active one, whose owner decides what must be durable.
    pub(super) unsynced_since_boot: Option<String>,
}

impl Record for SnapshotRecord {
    const TABLE: &'static str = "snapshots";
}

impl SnapshotRecord {
    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage.map(|(bytes, inodes)| Usage { bytes, inodes })
    }
}

/// Reads a key of the table.
pub(super) fn parse_name(text: &str) -> SnapshotName {
    match text.parse() {
        Ok(digest) => SnapshotName::Committed(ChainId(digest)),
        Err(_) => SnapshotName::Active(SnapshotKey(text.to_owned())),
    }
}
