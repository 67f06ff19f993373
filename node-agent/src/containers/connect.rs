//! Connecting and disconnecting one container, running or not.
//!
//! Start reading at [`Actor::join_network`]. A change of the wishes is durable before the kernel is touched; when the kernel
//! refuses, the wishes are taken back.

use std::sync::Arc;

use async_trait::async_trait;
use shoal_types::container::networking::{EndpointSpec, NetworkMode, NetworkingSpec};
use shoal_types::container::state::ContainerState;
use shoal_types::network::Network;
use tokio::sync::oneshot;

use super::Engine;
use super::actor::Actor;
use super::peers::Peers;
use super::ports::{NetworkRequest, NetworkRun, PreparedNetworks};
use super::request::Request;
use crate::api::networks::DisconnectForce;
use crate::error::NodeError;
use crate::networks::Connections;
use crate::store::Batch;

#[async_trait]
impl Connections for Engine {
    async fn connect(
        &self,
        container: &str,
        network: &Network,
        endpoint: EndpointSpec,
    ) -> Result<(), NodeError> {
        let (reply, outcome) = oneshot::channel();
        let name = network.spec.name.clone();
        self.find(container)?.send(Request::Join(name, Box::new(endpoint), reply))?;
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
        network: String,
        endpoint: EndpointSpec,
    ) -> Result<(), NodeError> {
        self.require_own_network("connect to", &network)?;
        if self.core.record.endpoints.contains_key(&network) {
            let name = &self.core.record.name;
            return Err(NodeError::forbidden(format!(
                "endpoint with name {name} already exists in network {network}"
            )));
        }
        let mut networking = self.core.record.spec.networking.clone();
        networking.endpoints.insert(network.clone(), endpoint);
        if matches!(networking.mode, NetworkMode::None) {
            // A container without network that is connected to one has a network from now on.
            return Err(NodeError::conflict(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ));
        }
        let mut request = self.request_with(networking)?;
        let prepared = self.shared.seams.networks.prepare(&request).await?;
        request.networking.endpoints.clone_from(&prepared.endpoints);
        let endpoint = prepared.endpoints.get(&network).cloned().unwrap_or_default();
        let before = self.core.record.clone();
        self.adopt(&request, prepared).await?;
        if self.core.run.is_some() {
            match self.shared.seams.networks.join(&request, &network, &endpoint).await {
                Ok(run) => self.note_network(run, "connect", &network).await?,
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
        self.require_own_network("disconnect from", network)?;
        if !self.core.record.endpoints.contains_key(network) {
            return Err(NodeError::forbidden(format!(
                "container {} is not connected to network {network}",
                self.core.id
            )));
        }
        let request = self.request_with(self.core.record.spec.networking.clone())?;
        if self.core.run.is_some() {
            let run = self.shared.seams.networks.leave(&request, network).await?;
            self.note_network(run, "disconnect", network).await?;
        }
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
        self.store_record().await?;
        self.publish();
        Ok(())
    }

    fn require_own_network(&self, verb: &str, network: &str) -> Result<(), NodeError> {
        let state = &self.core.life.condition().state;
        if matches!(state, ContainerState::Removing { .. } | ContainerState::Dead { .. }) {
            return Err(NodeError::conflict(format!(
                "Container {} is marked for removal and cannot be connected or disconnected to the network",
                self.core.id
            )));
        }
        match &self.core.record.spec.networking.mode {
            NetworkMode::Container(_) => Err(NodeError::invalid(
                "container sharing network namespace with another container or host cannot be connected to any other network",
            )),
            NetworkMode::Host => Err(NodeError::invalid(format!(
                "cannot {verb} network {network}: container sharing network namespace with another container or host cannot be connected to any other network"
            ))),
            NetworkMode::DefaultBridge | NetworkMode::None | NetworkMode::Network(_) => Ok(()),
        }
    }

    fn request_with(&self, networking: NetworkingSpec) -> Result<NetworkRequest, NodeError> {
        let mut request = self
            .network_request(&Peers::default())
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
        let path = self.shared.bundles.path(self.core.id);
        let record = run.record.clone();
        super::run_blocking(move || record.write(&path))
            .await?
            .map_err(|source| NodeError::failed("write the run's record", source))?;
        let joined = run.record.network.iter().chain(&before).flat_map(|network| &network.joined);
        if let Some(joined) = joined.into_iter().find(|joined| joined.name == changed) {
            self.shared.emit_network(action, joined, self.core.id);
        }
        Ok(())
    }

    /// Makes a changed record durable.
    pub(super) async fn store_record(&self) -> Result<(), NodeError> {
        let batch = Batch::new().put(self.core.id.to_string(), &self.core.record)?;
        self.shared.commit(batch).await
    }
}
