//! Volumes: directories that outlive containers.
//!
//! Start reading at [`Volume`]. Drivers, mounting and counting references is `node-agent/src/volumes`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What somebody asked a volume to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeSpec {
    /// Name; empty asks for an anonymous one.
    pub name: String,
    /// Name of the driver; empty is `local`.
    pub driver: String,
    /// The driver's options; `None` when none were sent, which inspect shows as null.
    pub options: Option<BTreeMap<String, String>>,
    /// The user's labels; `None` when none were sent.
    pub labels: Option<BTreeMap<String, String>>,
}

/// A volume that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Name, unique on this node.
    pub name: String,
    /// Name of the driver.
    pub driver: String,
    /// Where its content is on the host. The content is there only while it is mounted, for some drivers.
    pub mountpoint: String,
    /// The driver's options.
    pub options: Option<BTreeMap<String, String>>,
    /// The user's labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// When it was made.
    pub created: Timestamp,
    /// Whether nobody named it.
    pub anonymous: bool,
    /// Where it is the same volume.
    #[serde(default)]
    pub scope: VolumeScope,
}

/// Where a volume of one name is the same volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeScope {
    /// On this machine.
    #[default]
    Local,
    /// On every machine that has the driver.
    Global,
}
