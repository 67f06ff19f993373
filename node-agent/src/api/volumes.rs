//! Ports: volumes.
//!
//! Start reading at [`Volumes`]. Mounting volumes into containers is the engine's own business and not a port.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use shoal_types::volume::{Volume, VolumeSpec};

use super::{LabelFilter, Pruned};
use crate::error::NodeError;

/// Directories that outlive containers.
#[async_trait]
pub trait Volumes: Send + Sync {
    /// Makes a volume, or returns the one that already has the name, unchanged.
    async fn create(&self, spec: VolumeSpec) -> Result<Volume, NodeError>;

    /// Those that pass, sorted by name; and warnings of drivers that did not answer.
    async fn list(&self, filter: VolumeFilter) -> Result<(Vec<Volume>, Vec<String>), NodeError>;

    /// One volume by its exact name, with what its driver says of it.
    async fn inspect(&self, name: &str) -> Result<(Volume, BTreeMap<String, serde_json::Value>), NodeError>;

    /// Removes one that no container refers to.
    async fn remove(&self, name: &str, missing: OfMissing) -> Result<(), NodeError>;

    /// Removes those that no container refers to.
    async fn prune(&self, filter: VolumePruneFilter) -> Result<Pruned, NodeError>;

    /// Disk use and number of containers that refer to each volume.
    async fn usage(&self) -> Result<Vec<VolumeUsage>, NodeError>;
}

/// What removing something that does not exist is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfMissing {
    /// A failure.
    Fail,
    /// A success.
    Succeed,
}

/// Which volumes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeFilter {
    /// Whether any container refers to it.
    pub dangling: Option<bool>,
    /// Regular expressions or exact names.
    pub names: Vec<String>,
    /// Names of drivers.
    pub drivers: Vec<String>,
    /// Labels.
    pub labels: LabelFilter,
}

/// Which unused volumes to prune.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumePruneFilter {
    /// Labels.
    pub labels: LabelFilter,
    /// Whether named ones go too.
    pub scope: PruneScope,
    /// Only those made before.
    pub until: Option<Timestamp>,
}

/// How far a prune of volumes goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PruneScope {
    /// Anonymous ones.
    #[default]
    Anonymous,
    /// Named ones too.
    All,
}

/// What a volume costs.
#[derive(Debug, Clone)]
pub struct VolumeUsage {
    /// The volume.
    pub volume: Volume,
    /// Bytes of disk; -1 when its driver cannot tell.
    pub size: i64,
    /// Containers that refer to it.
    pub references: usize,
}
