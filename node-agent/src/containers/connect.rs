//! Connecting and disconnecting one container, running or not.
//!
//! Start reading at [`Actor::join_network`]. A change of the wishes is durable before the kernel is touched; when the kernel
//! refuses, the wishes are taken back.

use std::sync::Arc;

use async_trait::async_trait;
use shoal_types::container::networking::{EndpointSpec, NetworkMode, NetworkingSpec};
use shoal_types::container::state::ContainerState;
use shoal_types::network::{Network, NetworkScope};
use shoal_types::{ContainerId, ErrorKind};
use tokio::sync::oneshot;

use super::actor::Actor;
use super::ports::{NetworkRequest, NetworkRun, PreparedNetworks};
use super::request::Request;
use super::{Engine, Shared};
use crate::api::networks::DisconnectForce;
use crate::error::NodeError;
use crate::networks::{Connections, HOST, NONE};
use crate::runtime::files;
use crate::store::Batch;

/// Docker's refusal for a container that lives in another's namespace.
const SHARED_NAMESPACE: &str = "container sharing network namespace with another container or host cannot be connected to any other network";
/// Docker's refusal for one that shall leave the host's.
const DISCONNECT_FROM_HOST: &str =
    "cannot disconnect container from host network - container was created in host network mode";

#[async_trait]
impl Connections for Engine {
    async fn connect(
        &self,
        container: &str,
        network: &Network,
        endpoint: EndpointSpec,
    ) -> Result<(), NodeError> {
        let (reply, outcome) = oneshot::channel();
        let joined = (network.spec.name.clone(), network.spec.scope);
        self.find(container)?.send(Request::Join(joined, Box::new(endpoint), reply))?;
        super::answered(outcome).await
    }

    async fn disconnect(
        &self,
        container: &str,
        network: &Network,
        _force: DisconnectForce,
    ) -> Result<(), NodeError> {
        let (reply, outcome) = oneshot::channel();
        self.find(container)?.send(Request::Leave(network.spec.name.clone(), reply))?;
        super::answered(outcome).await
    }
}

impl Actor {
    /// Connects the container to one more network.
    pub(super) async fn join_network(
        &mut self,
        (network, scope): (String, NetworkScope),
        endpoint: EndpointSpec,
    ) -> Result<(), NodeError> {
        self.require_own_network()?;
        if self.core.record.endpoints.contains_key(&network) {
            let name = &self.core.record.name;
            match (self.core.run.is_some(), scope) {
                (true, NetworkScope::Local) => {
                    let message = format!("endpoint with name {name} already exists in network {network}");
                    return Err(NodeError::forbidden(message));
                }
                (true, NetworkScope::Swarm) => {
                    let message = format!("{name} is already attached to network {network}");
                    return Err(NodeError::conflict(message));
                }
                // Docker keeps the first wish for a network of the node, and takes the last for one of the cluster.
                (false, NetworkScope::Local) => return Ok(()),
                (false, NetworkScope::Swarm) => {}
            }
        }
        let mut networking = self.core.record.spec.networking.clone();
        if networking.mode == NetworkMode::None && !networking.endpoints.contains_key(NONE) {
            // It has left all its networks; this one is its own from now on.
            networking.mode = NetworkMode::Network(network.clone());
        }
        networking.endpoints.insert(network.clone(), endpoint);
        let mut request = self.request_with(networking)?;
        let prepared = self.shared.seams.networks.prepare(&request).await?;
        request.networking.endpoints.clone_from(&prepared.endpoints);
        let endpoint = prepared.endpoints.get(&network).cloned().unwrap_or_default();
        let before = self.core.record.clone();
        self.adopt(&request, prepared).await?;
        if self.core.run.is_some() {
            match self.shared.seams.networks.join(&request, &network, &endpoint).await {
                Ok(run) => {
                    self.note_network(run, "connect", &network).await?;
                    self.renew_files().await;
                }
                Err(error) => {
                    self.core.record = before;
                    self.store_record().await?;
                    return Err(error);
                }
            }
        }
        self.publish();
        Ok(())
    }

    /// Disconnects the container from one network.
    pub(super) async fn leave_network(&mut self, network: &str) -> Result<(), NodeError> {
        if network == HOST && self.core.record.spec.networking.mode == NetworkMode::Host {
            return Err(NodeError::invalid(DISCONNECT_FROM_HOST));
        }
        self.require_own_network()?;
        if !self.core.record.endpoints.contains_key(network) {
            // Docker does not class this refusal, which makes it a failure for clients.
            let message = format!("container {} is not connected to network {network}", self.core.id);
            return Err(NodeError::Refused { kind: ErrorKind::Internal, message });
        }
        let request = self.request_with(self.core.record.spec.networking.clone())?;
        // The intent first: a boot completes what is not in the record any more.
        let before = self.core.record.clone();
        self.drop_endpoint(network);
        let outcome = match self.store_record().await {
            Ok(()) if self.core.run.is_some() => {
                self.shared.seams.networks.leave(&request, network).await.map(Some)
            }
            Ok(()) => Ok(None),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(Some(run)) => {
                self.note_network(run, "disconnect", network).await?;
                self.renew_files().await;
            }
            Ok(None) => {}
            Err(error) => {
                self.core.record = before;
                self.store_record().await?;
                return Err(error);
            }
        }
        self.publish();
        Ok(())
    }

    /// Takes a network out of the container's record.
    fn drop_endpoint(&mut self, network: &str) {
        let spec = Arc::make_mut(&mut self.core.record.spec);
        spec.networking.endpoints.remove(network);
        if spec.networking.mode == NetworkMode::Network(network.to_owned())
            || (network == crate::networks::DEFAULT_BRIDGE
                && spec.networking.mode == NetworkMode::DefaultBridge)
        {
            // The network of the mode is gone by the user's wish: the next start takes what is left.
            spec.networking.mode = spec
                .networking
                .endpoints
                .keys()
                .next()
                .map_or(NetworkMode::None, |name| NetworkMode::Network(name.clone()));
        }
        self.core.record.endpoints.remove(network);
    }

    fn require_own_network(&self) -> Result<(), NodeError> {
        let state = &self.core.life.condition().state;
        if matches!(state, ContainerState::Removing { .. } | ContainerState::Dead { .. }) {
            return Err(NodeError::conflict(format!(
                "Container {} is marked for removal and cannot be connected or disconnected to the network",
                self.core.id
            )));
        }
        match &self.core.record.spec.networking.mode {
            NetworkMode::Container(_) | NetworkMode::Host => Err(NodeError::invalid(SHARED_NAMESPACE)),
            NetworkMode::DefaultBridge | NetworkMode::None | NetworkMode::Network(_) => Ok(()),
        }
    }

    fn request_with(&self, networking: NetworkingSpec) -> Result<NetworkRequest, NodeError> {
        let mut request = self
            .linked_network_request()
            .ok_or_else(|| NodeError::invalid("the container has no network of its own"))?;
        request.networking = networking;
        Ok(request)
    }

    /// Writes completed wishes down.
    async fn adopt(&mut self, request: &NetworkRequest, prepared: PreparedNetworks) -> Result<(), NodeError> {
        let spec = Arc::make_mut(&mut self.core.record.spec);
        spec.networking = request.networking.clone();
        self.core.record.endpoints = prepared.statuses;
        self.store_record().await
    }

    /// Remembers how the network of the running container is now, and tells listeners what has changed.
    pub(super) async fn note_network(
        &mut self,
        network: NetworkRun,
        action: &str,
        changed: &str,
    ) -> Result<(), NodeError> {
        let Some(run) = self.core.run.as_deref_mut() else { return Ok(()) };
        let before = run.record.network.replace(network);
        self.write_run().await?;
        let Some(run) = self.core.run.as_deref() else { return Ok(()) };
        let joined = run.record.network.iter().chain(&before).flat_map(|network| &network.joined);
        if let Some(joined) = joined.into_iter().find(|joined| joined.name == changed) {
            self.shared.emit_network(action, joined, self.core.id);
        }
        Ok(())
    }

    /// Brings the files of the running container up to date with its networks and with the containers it links to.
    /// What cannot be renewed is logged: the networks themselves are as they were asked to be.
    pub(super) async fn renew_files(&mut self) {
        if let Err(error) = self.try_renew_files().await {
            tracing::error!(container.id = %self.core.id, error = %error.message(), "network files cannot be renewed");
        }
    }

    /// Lets the firewall know whom the running container may reach by its links, and at which addresses.
    pub(super) async fn renew_links(&mut self, request: &NetworkRequest) -> Result<(), NodeError> {
        let run = self.shared.seams.networks.rename(request).await?;
        self.note_network(run, "rename", "").await
    }

    async fn try_renew_files(&mut self) -> Result<(), NodeError> {
        let Some(request) = self.linked_network_request() else { return Ok(()) };
        let before = self.core.run.as_deref().and_then(|run| run.record.files.clone());
        let Some(before) = before else { return Ok(()) };
        if !request.links.is_empty() {
            self.renew_links(&request).await?;
        }
        let after = self.shared.seams.networks.files(&request).await?;
        if before == after {
            return Ok(());
        }
        let directory = self.shared.directory(self.core.id);
        let written = after.clone();
        super::run_blocking(move || files::renew(&directory, &before, &written))
            .await?
            .map_err(|source| NodeError::failed("write the container's files", source))?;
        if let Some(run) = self.core.run.as_deref_mut() {
            run.record.files = Some(after);
        }
        self.write_run().await
    }

    /// Remembers the run for the next boot.
    async fn write_run(&self) -> Result<(), NodeError> {
        let Some(run) = self.core.run.as_deref() else { return Ok(()) };
        let path = self.shared.bundles.path(self.core.id);
        let record = run.record.clone();
        super::run_blocking(move || record.write(&path))
            .await?
            .map_err(|source| NodeError::failed("write the run's record", source))
    }

    /// Makes a changed record durable.
    pub(super) async fn store_record(&self) -> Result<(), NodeError> {
        let batch = Batch::new().put(self.core.id.to_string(), &self.core.record)?;
        self.shared.commit(batch).await
    }
}

impl Shared {
    /// Running containers that link to this one learn its new address. Nobody waits for them.
    pub(super) fn renew_files_of_those_who_link_to(self: &Arc<Self>, id: ContainerId) {
        let linking = self.links().to(id);
        for slot in linking.into_iter().filter_map(|from| self.slot(from)) {
            if slot.view().state.run().is_some()
                && let Err(error) = slot.send(self, Request::RenewFiles)
            {
                tracing::warn!(container.id = %slot.id(), error = %error.message(), "a link is out of date");
            }
        }
    }
}
