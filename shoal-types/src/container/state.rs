//! What a container is, as the engine has observed it.
//!
//! Start reading at [`ContainerState`]: one enum with its data inside the variants, never flags that must agree. The
//! transitions are `node-agent/src/containers/lifecycle`; Docker's flat form of it is made in `api-compat`.

use std::net::IpAddr;

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::networking::PortSpec;
use crate::digest::{ChainId, Digest, ImageId};
use crate::error_kind::ErrorKind;
use crate::ids::{EndpointId, NetworkId};

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ContainerState {
    /// Never ran. Whether a start has failed is told beside the state, because it can fail in other states too.
    Created,
    /// The init process runs.
    Running(Run),
    /// The init process runs, but the freezer holds it.
    Paused(Run),
    /// It exited and will be started again.
    Restarting {
        /// How the last run ended.
        last: Exit,
        /// When the next start is due.
        due: Timestamp,
    },
    /// It exited and stays so.
    Exited(Exit),
    /// It is being removed; a crash in the middle continues the removal.
    Removing {
        /// How the last run ended, if it ever ran.
        last: Option<Exit>,
    },
    /// Its removal failed; it can only be removed again.
    Dead {
        /// How the last run ended, if it ever ran.
        last: Option<Exit>,
        /// What stood in the way.
        reason: String,
    },
}

/// One run of the init process, from its start on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Process id in the host's namespace.
    pub pid: u32,
    /// When the init process was executed.
    pub started_at: Timestamp,
    /// Whether the kernel has killed a process of the container for lack of memory during this run.
    pub oom_killed: bool,
    /// When the run before it ended; `None` for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_end: Option<Timestamp>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The process's own code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// Whether the kernel killed a process of the container for lack of memory during the run.
    pub oom_killed: bool,
    /// When the run began; `None` when the process could not even be executed.
    pub started_at: Option<Timestamp>,
    /// When the run ended.
    pub finished_at: Timestamp,
    /// What the engine has to say about it; empty for an ordinary exit.
    pub error: String,
}

/// Why a container could not be started. The kind is kept, so that nothing has to guess it from the text later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// 126 not executable, 127 not found, 128 anything else, 0 when the process was never at fault.
    pub code: i32,
    /// The whole message as the client saw it.
    pub error: String,
    /// The kind of the failure.
    pub kind: ErrorKind,
}

impl ContainerState {
    /// The run in progress, if the init process lives.
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Running(run) | Self::Paused(run) => Some(run),
            Self::Created
            | Self::Restarting { .. }
            | Self::Exited(_)
            | Self::Removing { .. }
            | Self::Dead { .. } => None,
        }
    }

    /// How the last run ended, if it has.
    pub fn last_exit(&self) -> Option<&Exit> {
        match self {
            Self::Restarting { last, .. } | Self::Exited(last) => Some(last),
            Self::Removing { last } | Self::Dead { last, .. } => last.as_ref(),
            Self::Created | Self::Running(_) | Self::Paused(_) => None,
        }
    }

    /// The name by which Docker's API knows the state.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
            Self::Restarting { .. } => "restarting",
            Self::Exited(_) => "exited",
            Self::Removing { .. } => "removing",
            Self::Dead { .. } => "dead",
        }
    }
}

/// What joins a container to one network, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// The network. Known even while the container does not run.
    pub network_id: NetworkId,
    /// Set while the endpoint exists in the kernel.
    pub endpoint_id: Option<EndpointId>,
    /// IPv4 address with the length of its subnet's prefix.
    pub ipv4: Option<Ipv4Net>,
    /// Where IPv4 packets to elsewhere go.
    pub ipv4_gateway: Option<std::net::Ipv4Addr>,
    /// IPv6 address with the length of its subnet's prefix.
    pub ipv6: Option<Ipv6Net>,
    /// Where IPv6 packets to elsewhere go.
    pub ipv6_gateway: Option<std::net::Ipv6Addr>,
    /// Hardware address.
    pub mac_address: Option<String>,
    /// Names under which the network's other members find it.
    pub dns_names: Vec<String>,
}

/// A port of the container that is published, and what leads to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The port inside.
    pub container_port: PortSpec,
    /// Address of the host; unspecified is every one of its family.
    pub host_ip: IpAddr,
    /// Port of the host; `None` where nothing is translated and the container's own address is open (routed networks).
    pub host_port: Option<u16>,
}

/// A mount that the container has or will have, found out at creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// Which of Docker's kinds it is.
    pub kind: MountKind,
    /// Name of the volume, or reference of the image; empty for others.
    pub name: String,
    /// Path on the host.
    pub source: String,
    /// Path inside the container.
    pub destination: String,
    /// Driver of the volume; empty for others.
    pub driver: String,
    /// The mode as written.
    pub mode: String,
    /// Whether it can be written to.
    pub access: super::mounts::MountAccess,
    /// How mounts travel.
    pub propagation: super::mounts::Propagation,
    /// Whether the volume was made for this container alone and goes with it.
    pub anonymous: bool,
    /// Directory within the volume or image.
    pub subpath: String,
    /// Index into the spec's mounts, for what only the spec knows (tmpfs options, bind recursion). `None` for
    /// what came from another container or an image's declaration.
    pub spec_index: Option<usize>,
    /// What is shown of an image; only of [`MountKind::Image`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<MountedImage>,
}

/// The content that a mount of an image shows, decided when the container is made: the name may move on to another
/// image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedImage {
    /// The image.
    pub id: ImageId,
    /// The manifest of the chosen platform.
    pub manifest: Digest,
    /// Its stack of layers; `None` without layers.
    pub chain: Option<ChainId>,
}

/// The kinds of mount that Docker shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A path of the host.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
    /// The content of an image.
    Image,
}
