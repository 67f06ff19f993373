//! What is known of a container at its start, all that the runtime spec depends on.
//!
//! Start reading at [`SpecInputs`]. Plain values: whoever makes them has looked at the machine, at images, volumes and
//! networks; whoever reads them does not have to.

use std::path::PathBuf;
use std::sync::Arc;

use shoal_types::ContainerId;
use shoal_types::container::spec::ContainerSpec;

use super::files::FilePaths;
use super::user::User;
use crate::containers::config::EngineConfig;
use crate::containers::host::Host;
use crate::containers::ports::{HostMount, ResolvedMount};
use crate::userns::IdMapping;

/// What is known of a container at its start.
#[derive(Debug, Clone)]
pub(crate) struct SpecInputs {
    /// Its id.
    pub(crate) id: ContainerId,
    /// Its host name; that of another container or of the machine when it shares theirs.
    pub(crate) hostname: String,
    /// What it shall be.
    pub(crate) spec: Arc<ContainerSpec>,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Whom it runs as.
    pub(crate) user: User,
    /// Its mounts.
    pub(crate) mounts: Vec<ResolvedMount>,
    /// Where their content is on the host.
    pub(crate) host_mounts: Vec<HostMount>,
    /// Files of the network that are bound into it.
    pub(crate) files: FilePaths,
    /// Where `/dev/shm` is on the host, when others may share it.
    pub(crate) shm: Option<PathBuf>,
    /// Namespaces of other containers that it joins.
    pub(crate) peers: PeerNamespaces,
    /// Its network namespace.
    pub(crate) network: NetworkNamespace,
    /// Its user namespace; `None` is the host's.
    pub(crate) user_namespace: Option<PathBuf>,
    /// Whose ids its own are on the host.
    pub(crate) ids: IdMapping,
    /// Variables that tell of linked containers.
    pub(crate) links: Vec<String>,
    /// The engine's settings.
    pub(crate) config: Arc<EngineConfig>,
    /// The machine.
    pub(crate) host: Arc<Host>,
}

/// Namespaces of other containers that a container joins, by the process id of their init process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PeerNamespaces {
    /// Network.
    pub(crate) network: Option<u32>,
    /// IPC.
    pub(crate) ipc: Option<u32>,
    /// Where the other's `/dev/shm` is on the host.
    pub(crate) shm: Option<PathBuf>,
    /// Processes.
    pub(crate) pid: Option<u32>,
}

impl PeerNamespaces {
    /// One of the others, if there are any.
    pub(crate) fn any(&self) -> Option<u32> {
        self.network.or(self.ipc).or(self.pid)
    }
}

/// The network namespace of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NetworkNamespace {
    /// The host's.
    Host,
    /// One that exists, at this path.
    At(PathBuf),
    /// Another container's, see [`PeerNamespaces::network`].
    Peer,
}
