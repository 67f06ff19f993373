//! Plain containers join networks that span nodes, and leave them.
//!
//! Start reading at [`NetworkStore::attach`]. Managers give the address and tell everybody; when they cannot be reached, a
//! container cannot join, but one that leaves is not held up: managers are told later.

use std::time::Duration;

use shoal_types::cluster::overlay::OverlayNetwork;
use shoal_types::container::networking::EndpointSpec;
use shoal_types::network::Network;
use shoal_types::protocol::{AttachReply, AttachRequest, DetachRequest};
use shoal_types::{ContainerId, ErrorKind, NetworkId, TaskId};
use tokio::time::Instant;

use super::{Attached, Overlay, Standing, wanted_addresses};
use crate::containers::ports::NetworkRequest;
use crate::error::NodeError;
use crate::networks::{NetworkStore, State, wishes};
use crate::worker::DispatchError;

/// How long managers may take to let a container in (swarm's limit).
const ATTACH_LIMIT: Duration = Duration::from_secs(20);
/// How long to wait before a manager that cannot answer yet is asked again.
const RETRY: Duration = Duration::from_millis(200);

/// What has to be asked for a container at one network.
enum Need {
    /// Nothing: it is the node's own, a task's, or nobody knows it.
    Nothing,
    /// Managers have to let it in.
    Attachment(String),
}

impl NetworkStore {
    /// Finds a network, and looks it up with the managers if the node does not have it.
    pub(in crate::networks) async fn find_or_look_up(&self, name: &str) -> Result<Network, NodeError> {
        let missing = match self.find(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => error,
            found => return found,
        };
        let Some(reports) = self.shared.overlay.member().and_then(|member| member.ways.borrow().clone())
        else {
            return Err(missing);
        };
        match reports.look_up(name).await {
            Ok(told) => {
                let network = told.network.clone();
                self.learn(told).await?;
                Ok(network)
            }
            Err(error) if error.kind == ErrorKind::NotFound => Err(missing),
            Err(error) => Err(refused(name, &error)),
        }
    }

    /// Asks managers to let a container into those of its networks that span nodes.
    pub(in crate::networks) async fn attach(&self, request: &NetworkRequest) -> Result<(), NodeError> {
        for (name, endpoint) in &request.networking.endpoints {
            self.attach_to(request, name, endpoint).await?;
        }
        Ok(())
    }

    /// Asks managers to let a container into one network, if it spans nodes.
    pub(in crate::networks) async fn attach_to(
        &self,
        request: &NetworkRequest,
        name: &str,
        endpoint: &EndpointSpec,
    ) -> Result<(), NodeError> {
        let Need::Attachment(target) = self.with_state(|state| state.need(request, name, endpoint)) else {
            return Ok(());
        };
        if self.shared.overlay.member().is_none() {
            return Ok(());
        }
        if endpoint.mac_address.is_some() {
            return Err(NodeError::invalid(format!(
                "invalid config for network {name}: the hardware address follows from the address in an overlay network"
            )));
        }
        let mut names = wishes::dns_names(request, endpoint);
        names.retain(|other| *other != request.name);
        let wish = AttachRequest {
            network: target,
            container: request.container,
            name: request.name.clone(),
            aliases: names,
            addresses: wanted_addresses(endpoint),
        };
        self.with_state(|state| state.board.attaching.insert(request.container));
        let outcome = self.ask_to_attach(&wish, name).await;
        self.with_state(|state| state.board.attaching.remove(&request.container));
        outcome
    }

    /// Ends what a container was given in networks that span nodes, or in one of them.
    pub(in crate::networks) fn detach(&self, container: ContainerId, network: Option<&NetworkId>) {
        let ended = self.with_state(|state| state.end_attachments(container, network));
        if ended {
            let networks = self.clone();
            // Whoever stops a container does not wait for managers.
            tokio::spawn(async move { networks.tell_owed().await });
        }
    }

    /// Tells managers of attachments that have ended; what cannot be told stays owed.
    pub(super) async fn tell_owed(&self) {
        let way = self.shared.overlay.member().and_then(|member| member.ways.borrow().clone());
        let Some(reports) = way else { return };
        let _alone = self.shared.overlay.doorway.write().await;
        // Looked at now: whoever has come back meanwhile is not among them any more.
        let owed: Vec<TaskId> = self.with_state(|state| state.board.owed.iter().copied().collect());
        if owed.is_empty() {
            return;
        }
        match reports.detach(DetachRequest { attachments: owed.clone() }).await {
            Ok(()) => self.with_state(|state| state.board.owed.retain(|id| !owed.contains(id))),
            Err(error) => {
                tracing::info!(%error, "managers are told later of containers that have left a network");
            }
        }
    }

    /// Compares what managers know of this node's attachments with the containers that run, after the whole was told.
    pub(super) async fn settle_attachments(&self) {
        let Some(member) = self.shared.overlay.member() else { return };
        self.with_state(|state| {
            let stale: Vec<TaskId> = state.stale_attachments(member.node);
            state.board.owed.extend(stale);
        });
        self.tell_owed().await;
    }

    /// Asks until managers have answered, and notes what they have given.
    async fn ask_to_attach(&self, wish: &AttachRequest, name: &str) -> Result<(), NodeError> {
        let until = Instant::now() + ATTACH_LIMIT;
        loop {
            let way = self.shared.overlay.member().and_then(|member| member.ways.borrow().clone());
            let refusal = match way {
                Some(reports) => {
                    let _among_others = self.shared.overlay.doorway.read().await;
                    match reports.attach(wish.clone()).await {
                        Ok(reply) => return self.note_attached(wish.container, reply).await,
                        Err(error) => error,
                    }
                }
                None => DispatchError::new(ErrorKind::Unavailable, "no manager can be reached"),
            };
            match refusal.kind {
                ErrorKind::Unavailable if Instant::now() < until => {}
                // The start says that there is no such network.
                ErrorKind::NotFound => return Ok(()),
                _ => return Err(refused(name, &refusal)),
            }
            // The managers do not say when they can.
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn note_attached(&self, container: ContainerId, reply: AttachReply) -> Result<(), NodeError> {
        let network = reply.overlay.network.id.clone();
        self.learn(reply.overlay).await?;
        let attached = Attached { id: reply.attachment, addresses: reply.addresses };
        self.with_state(|state| {
            state.board.owed.remove(&attached.id);
            state.board.attached.insert((container, network), attached);
        });
        Ok(())
    }

    /// Knows a network before managers tell its table.
    async fn learn(&self, told: OverlayNetwork) -> Result<(), NodeError> {
        let id = told.network.id.clone();
        let Some(member) = self.shared.overlay.member() else {
            return Err(NodeError::NoSuchNetwork(told.network.spec.name));
        };
        self.with_state(|state| {
            if state.board.networks.contains_key(&id) {
                return Ok(());
            }
            state.put_overlay_network(&told, member.vtep)?;
            state.board.networks.insert(id.clone(), Overlay::new(told, Standing::Expected));
            Ok::<_, NodeError>(())
        })?;
        self.save_overlays(|other, overlay| *other == id && overlay.is_unsaved).await;
        Ok(())
    }
}

impl State {
    fn need(&self, request: &NetworkRequest, name: &str, endpoint: &EndpointSpec) -> Need {
        let Ok(entry) = self.find(name) else { return Need::Attachment(name.to_owned()) };
        let id = &entry.network.id;
        if !self.board.networks.contains_key(id) || self.task_peer(id, request, endpoint).is_some() {
            return Need::Nothing;
        }
        Need::Attachment(id.as_str().to_owned())
    }

    /// Moves attachments to those of which managers are to be told.
    fn end_attachments(&mut self, container: ContainerId, network: Option<&NetworkId>) -> bool {
        let is_meant = |(owner, of): &(ContainerId, NetworkId), _: &mut Attached| {
            *owner == container && network.is_none_or(|network| network == of)
        };
        let ended: Vec<TaskId> =
            self.board.attached.extract_if(is_meant).map(|(_, attached)| attached.id).collect();
        let has_any = !ended.is_empty();
        self.board.owed.extend(ended);
        has_any
    }

    /// Attachments of this node whose containers are in the network no more.
    fn stale_attachments(&self, node: shoal_types::NodeId) -> Vec<TaskId> {
        let mut stale = Vec::new();
        for (id, overlay) in &self.board.networks {
            for peer in overlay.peers().filter(|peer| peer.node == node && peer.service.is_none()) {
                let (Some(container), shoal_types::cluster::overlay::EntryKey::Task(attachment)) =
                    (peer.container, peer.key)
                else {
                    continue;
                };
                let is_in =
                    self.plans.get(&container).is_some_and(|plan| plan.networks().any(|other| other == id));
                let is_known = self.board.attaching.contains(&container)
                    || self.board.attached.contains_key(&(container, id.clone()));
                if !is_in && !is_known {
                    stale.push(attachment);
                }
            }
        }
        stale
    }

    /// Finds again what a container was given before the daemon was started.
    pub(in crate::networks) fn adopt_attachments(&mut self, container: ContainerId) {
        let Some(plan) = self.plans.get(&container) else { return };
        let mut found = Vec::new();
        for (id, overlay) in plan.networks().filter_map(|id| Some((id, self.board.networks.get(id)?))) {
            let own =
                overlay.peers().find(|peer| peer.container == Some(container) && peer.service.is_none());
            if let Some(peer) = own
                && let shoal_types::cluster::overlay::EntryKey::Task(attachment) = peer.key
            {
                let attached = Attached { id: attachment, addresses: peer.addresses.clone() };
                found.push(((container, id.clone()), attached));
            }
        }
        self.board.attached.extend(found);
    }
}

fn refused(name: &str, error: &DispatchError) -> NodeError {
    let message = format!("Could not attach to network {name}: {}", error.message);
    NodeError::Refused { kind: error.kind, message }
}
