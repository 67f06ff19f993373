//! What is mounted into a container beside its root file system.
//!
//! Start reading at [`MountSpec`]. Grammar of the user's notations is `api-compat`'s; creating volumes, copy-up and
//! finding the path on the host is `node-agent/src/volumes`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One wish for a mount. Which of several for one destination wins is decided by [`MountOrigin`]'s order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Absolute, cleaned path inside the container. Empty only for [`MountSource::VolumesFrom`].
    pub destination: String,
    /// What appears there.
    pub source: MountSource,
    /// Whether it can be written to.
    pub access: MountAccess,
    /// Which notation asked for it; later origins override earlier ones for the same destination.
    pub origin: MountOrigin,
    /// The mode as it was written (`ro,z`), shown by inspect.
    pub mode: String,
}

/// Where a wish for a mount was written, in the order in which later overrides earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountOrigin {
    /// `VOLUME` of the image, or `Config.Volumes`: an anonymous volume if nothing else claims the destination.
    Declared,
    /// `--volumes-from`.
    VolumesFrom,
    /// `-v`.
    Bind,
    /// `--mount`.
    Mount,
    /// `--tmpfs`.
    Tmpfs,
}

/// Whether a mount may be written to, and how deep the answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountAccess {
    /// May be written to.
    #[default]
    ReadWrite,
    /// Read-only, with everything mounted below it where the kernel can (5.12 and later).
    ReadOnly,
    /// Read-only, but not what is mounted below it.
    ReadOnlyNonRecursive,
    /// Read-only with everything below, or the container does not start.
    ReadOnlyForceRecursive,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// Absolute path on the host.
        path: String,
        /// How mounts travel between host and container.
        propagation: Propagation,
        /// Whether mounts below the path come along.
        recursion: BindRecursion,
        /// What to do when the path does not exist.
        missing: MissingSource,
        /// SELinux relabelling that was asked for.
        relabel: Option<Relabel>,
    },
    /// A volume of this node, made at creation if it does not exist.
    Volume {
        /// Empty asks for an anonymous one.
        name: String,
        /// Directory within the volume; empty is its root.
        subpath: String,
        /// Whether an empty volume is filled from the image.
        copy: VolumeCopy,
        /// Driver of a volume that has to be made; empty is `local`.
        driver: String,
        /// The driver's options for a volume that has to be made.
        options: BTreeMap<String, String>,
        /// Labels of a volume that has to be made.
        labels: BTreeMap<String, String>,
        /// How mounts travel between host and container.
        propagation: Propagation,
        /// SELinux relabelling that was asked for.
        relabel: Option<Relabel>,
    },
    /// Memory of its own.
    Tmpfs {
        /// Limit in bytes; 0 is the kernel's default.
        size: u64,
        /// Permission bits of the root; `None` is 1777.
        mode: Option<u32>,
        /// Further options of the file system, such as `exec` or `uid=1000`.
        options: Vec<String>,
    },
    /// The content of an image, read-only.
    Image {
        /// The image's reference.
        reference: String,
        /// Directory within the image; empty is its root.
        subpath: String,
    },
    /// Everything that another container has mounted.
    VolumesFrom {
        /// Name or id of the other container.
        container: String,
    },
}

/// How mounts travel between the host's and the container's side (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Whatever is usual for the kind of mount: `rprivate` for binds.
    #[default]
    Default,
    /// Not at all, this mount alone.
    Private,
    /// Not at all, and what is below.
    Rprivate,
    /// Both ways.
    Shared,
    /// Both ways, and what is below.
    Rshared,
    /// From the host to the container.
    Slave,
    /// From the host to the container, and what is below.
    Rslave,
}

/// Whether mounts below a bound path come along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindRecursion {
    /// They do.
    #[default]
    Recursive,
    /// They do not.
    NonRecursive,
}

/// What to do when the bound path of the host does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingSource {
    /// Refuse the container.
    #[default]
    Refuse,
    /// Make a directory, at start (`-v` does so).
    CreateDirectory,
}

/// Whether an empty volume is filled with what the image has at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeCopy {
    /// It is, at creation of the container.
    #[default]
    FromImage,
    /// It is not (`nocopy`).
    Nothing,
}

/// SELinux label that a mounted path gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relabel {
    /// `z`: shared between containers.
    Shared,
    /// `Z`: private to this one.
    Private,
}
