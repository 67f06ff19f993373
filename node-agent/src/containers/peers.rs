//! Other containers that one needs at its start: those whose namespaces it shares, and those it links to.
//!
//! Start reading at [`Shared::peers`]. They are only looked at: what they publish is enough, and none of them waits.

use std::path::PathBuf;
use std::sync::Arc;

use shoal_types::container::networking::{NetworkMode, NetworkingSpec};
use shoal_types::container::security::{IpcMode, PidMode};
use shoal_types::container::spec::ContainerSpec;
use shoal_types::container::state::ContainerState;
use shoal_types::{ContainerId, ErrorKind};

use super::Shared;
use super::actor::Actor;
use super::lifecycle::is_restarting;
use super::links::{self, Linked};
use super::ports::{LinkTarget, NamespaceOwner, NetworkRequest};
use super::record::ContainerRecord;
use crate::api::containers::ContainerView;
use crate::error::NodeError;
use crate::networks::DEFAULT_BRIDGE;
use crate::runtime::inputs::PeerNamespaces;

/// What a start needs of other containers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Process id of the container whose network is shared.
    network: Option<u32>,
    /// Directory of its files.
    pub(super) network_directory: Option<PathBuf>,
    /// Its host name, which goes with the network.
    network_hostname: Option<String>,
    /// Process id of the container whose IPC is shared, and its `/dev/shm` on the host.
    ipc: Option<(u32, PathBuf)>,
    /// Process id of the container whose processes are shared.
    pid: Option<u32>,
    /// Linked containers, with what they are called.
    links: Vec<(Arc<ContainerView>, String)>,
}

impl Peers {
    /// The namespaces to join.
    pub(super) fn namespaces(&self) -> PeerNamespaces {
        PeerNamespaces {
            network: self.network,
            ipc: self.ipc.as_ref().map(|(pid, _)| *pid),
            shm: self.ipc.as_ref().map(|(_, shm)| shm.clone()),
            pid: self.pid,
        }
    }

    /// The host name: the container's own unless it shares another's network.
    pub(super) fn hostname(&self, own: &str) -> String {
        self.network_hostname.as_deref().filter(|_| own.is_empty()).unwrap_or(own).to_owned()
    }

    /// The variables by which linked containers are found. Only those on the default bridge are told this way.
    pub(super) fn environment(&self, parent: &str) -> Vec<String> {
        let linked = self.links.iter().filter_map(|(view, alias)| {
            let address = view.endpoints.get(DEFAULT_BRIDGE)?.ipv4?.addr().to_string();
            Some(links::environment(&Linked {
                parent,
                alias,
                address,
                ports: &view.spec.networking.exposed,
                env: &view.spec.process.env,
            }))
        });
        linked.flatten().collect()
    }
}

/// The namespace of another container that a container wants to join.
#[derive(Debug, Clone, Copy)]
enum Joined {
    Network,
    Ipc,
    Pid,
}

impl Joined {
    /// Why that cannot be: the other one does not run. Docker has another text and another kind for each.
    fn stopped(self, other: &ContainerView) -> NodeError {
        let is_stopped = format!("container {} is not running", other.id);
        match self {
            Self::Network => NodeError::conflict(format!(
                "cannot join network namespace of a non running container: container {} is {}",
                other.name,
                other.state.name()
            )),
            Self::Ipc => NodeError::conflict(format!("failed to join IPC namespace: {is_stopped}")),
            Self::Pid => NodeError::Refused {
                kind: ErrorKind::Internal,
                message: format!("failed to join PID namespace: {is_stopped}"),
            },
        }
    }
}

impl Shared {
    /// Looks at the containers that a start needs; one that does not run stands in the way.
    pub(super) fn peers(&self, spec: &ContainerSpec) -> Result<Peers, NodeError> {
        let mut peers = Peers::default();
        if let NetworkMode::Container(name) = &spec.networking.mode {
            let (view, pid) = self.running_peer(name, Joined::Network)?;
            peers.network = Some(pid);
            peers.network_directory = Some(self.directory(view.id));
            peers.network_hostname = Some(self.hostname(&view.spec));
        }
        if let IpcMode::Container(name) = &spec.namespaces.ipc {
            let (view, pid) = self.running_peer(name, Joined::Ipc)?;
            if !matches!(view.spec.namespaces.ipc, IpcMode::Shareable | IpcMode::Host) {
                return Err(NodeError::conflict(format!(
                    "can't join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
                    view.id
                )));
            }
            peers.ipc = Some((pid, self.shm_path(view.id)));
        }
        if let PidMode::Container(name) = &spec.namespaces.pid {
            peers.pid = Some(self.running_peer(name, Joined::Pid)?.1);
        }
        Ok(peers)
    }

    /// What networks are told of a container, without its links; `None` when it shares another's network.
    pub(crate) fn network_request_of(
        &self,
        id: ContainerId,
        record: &ContainerRecord,
    ) -> Option<NetworkRequest> {
        let spec = &record.spec;
        if matches!(spec.networking.mode, NetworkMode::Container(_)) {
            return None;
        }
        let of_network = spec.sysctls.iter().filter(|(key, _)| key.starts_with("net."));
        Some(NetworkRequest {
            container: id,
            name: record.name.clone(),
            hostname: self.hostname(spec),
            domainname: spec.process.domainname.clone(),
            networking: effective(&spec.networking),
            sysctls: of_network.map(|(key, value)| (key.clone(), value.clone())).collect(),
            owner: if self.ids_of(spec).is_identity() {
                NamespaceOwner::Host
            } else {
                NamespaceOwner::Container
            },
            links: Vec::new(),
        })
    }

    fn running_peer(&self, name: &str, what: Joined) -> Result<(Arc<ContainerView>, u32), NodeError> {
        let view = self.find_slot(name)?.view();
        match &view.state {
            ContainerState::Running(run) | ContainerState::Paused(run) => Ok((Arc::clone(&view), run.pid)),
            ContainerState::Restarting { .. } => Err(NodeError::conflict(is_restarting(view.id))),
            ContainerState::Created
            | ContainerState::Exited(_)
            | ContainerState::Removing { .. }
            | ContainerState::Dead { .. } => Err(what.stopped(&view)),
        }
    }
}

/// A container whose networking is disabled has a namespace of its own, and no network in it whatever else was asked for.
fn effective(networking: &NetworkingSpec) -> NetworkingSpec {
    if networking.disabled {
        return NetworkingSpec { mode: NetworkMode::None, disabled: true, ..NetworkingSpec::default() };
    }
    networking.clone()
}

impl Actor {
    /// What networks are told of this container; `None` when it shares another's network.
    pub(super) fn network_request(&self, peers: &Peers) -> Option<NetworkRequest> {
        let links = peers.links.iter().map(|(view, alias)| LinkTarget {
            container: view.id,
            name: view.name.clone(),
            hostname: view.spec.process.hostname.clone(),
            alias: alias.clone(),
        });
        let mut request = self.shared.network_request_of(self.core.id, &self.core.record)?;
        request.links = links.collect();
        // Who shares one namespace of another container needs that one's user namespace for the others too.
        if let (NamespaceOwner::Container, Some(process)) = (request.owner, peers.namespaces().any()) {
            request.owner = NamespaceOwner::Peer(process);
        }
        Some(request)
    }

    /// The same with its links, whether those containers run or not.
    pub(super) fn linked_network_request(&self) -> Option<NetworkRequest> {
        self.network_request(&Peers { links: self.linked(), ..Peers::default() })
    }

    /// Containers that this one links to.
    pub(super) fn linked(&self) -> Vec<(Arc<ContainerView>, String)> {
        let links = self.shared.links();
        let running = links.of(self.core.id).iter().filter_map(|link| {
            let view = self.shared.slot(link.target)?.view();
            Some((view, link.alias.clone()))
        });
        running.collect()
    }

    /// The containers that a start needs, linked ones included.
    pub(super) fn peers(&self) -> Result<Peers, NodeError> {
        let mut peers = self.shared.peers(&self.core.record.spec)?;
        peers.links = self.linked();
        if let Some((view, _)) = peers.links.iter().find(|(view, _)| view.state.run().is_none()) {
            return Err(NodeError::conflict(format!(
                "Cannot link to a non running container: /{} AS /{}/{}",
                view.name,
                self.core.record.name,
                peers.links.iter().find(|(other, _)| other.id == view.id).map_or("", |(_, alias)| alias)
            )));
        }
        Ok(peers)
    }
}
