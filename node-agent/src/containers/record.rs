//! What the database keeps of a container: what it is, which seldom changes, and how it is, which changes at every step.
//!
//! Start reading at [`ContainerRecord`]. The two have tables of their own, so that a start or an exit writes some hundred
//! bytes. What belongs to one run (network, mounts on the host) is in the bundle, `run.rs`, because it is lost at a
//! reboot like the things that it describes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shoal_types::container::mounts::MountSpec;
use shoal_types::container::spec::ContainerSpec;
use shoal_types::container::state::{EndpointStatus, MountPoint};
use shoal_types::{ContainerId, ImageId};

use super::lifecycle::Condition;
use super::ports::{Fill, ResolvedMount};
use crate::api::images::Descriptor;
use crate::store::Record;

/// What a container is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    /// Its name, without slash.
    pub(crate) name: String,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// Its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image_id: Option<ImageId>,
    /// The manifest that was chosen from the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image_manifest: Option<Descriptor>,
    /// What it shall be, with the image's configuration and all defaults.
    pub(crate) spec: Arc<ContainerSpec>,
    /// What the client had sent; opaque.
    pub(crate) requested: Arc<str>,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Its mounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) mounts: Vec<MountRecord>,
    /// Its networks by name, as they are shown while it does not run.
    #[serde(default)]
    pub(crate) endpoints: BTreeMap<String, EndpointStatus>,
    /// Containers that it links to in the old way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) links: Vec<LinkRecord>,
}

impl Record for ContainerRecord {
    const TABLE: &'static str = "containers";
}

/// A mount and the wish behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MountRecord {
    /// What it is.
    pub(crate) point: MountPoint,
    /// What was wished for.
    pub(crate) spec: Option<MountSpec>,
}

impl From<ResolvedMount> for MountRecord {
    fn from(mount: ResolvedMount) -> Self {
        Self { point: mount.point, spec: mount.spec }
    }
}

impl From<&MountRecord> for ResolvedMount {
    fn from(record: &MountRecord) -> Self {
        // Volumes are filled when a container is made and never again.
        Self { point: record.point.clone(), spec: record.spec.clone(), fill: Fill::Never }
    }
}

/// A link of the old kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkRecord {
    /// The other container.
    pub(crate) target: ContainerId,
    /// What it is called.
    pub(crate) alias: String,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StateRecord {
    /// The lifecycle's own.
    pub(crate) condition: Condition,
}

impl Record for StateRecord {
    const TABLE: &'static str = "container_states";
}
