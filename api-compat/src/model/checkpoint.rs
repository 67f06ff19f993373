//! Checkpoints of containers.

use serde::{Deserialize, Serialize};

/// A wish for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckpointCreate {
    /// Its name.
    #[serde(rename = "CheckpointID")]
    pub checkpoint_id: String,
    /// Where to put it; with the container if empty.
    pub checkpoint_dir: String,
    /// Whether the container ends.
    pub exit: bool,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Checkpoint {
    /// Its name.
    pub name: String,
}
