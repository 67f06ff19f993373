//! The node's port for networks.
//!
//! Start reading at [`NetworkPort`]. Making is `create.rs`; connecting a container is its owner's business and goes
//! through [`Connections`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use shoal_types::NetworkId;
use shoal_types::container::networking::EndpointSpec;
use shoal_types::network::{Network, NetworkScope, NetworkSpec};

use super::{NetworkRecord, NetworkStore, predefined, run_blocking, wishes};
use crate::api::Pruned;
use crate::api::events::EventKind;
use crate::api::networks::{
    AddressUse, DisconnectForce, NetworkFilter, NetworkOrigin, NetworkPruneFilter, NetworkView, Networks,
};
use crate::crash_point::crash_point;
use crate::error::NodeError;
use crate::store::Batch;

/// What networks need of containers: changing which networks one is connected to. Implemented by the container engine,
/// whose owner tasks keep the order of changes.
#[async_trait]
pub trait Connections: Send + Sync + fmt::Debug {
    /// Connects a container, at once if it runs, else at its next start.
    async fn connect(
        &self,
        container: &str,
        network: &Network,
        endpoint: EndpointSpec,
    ) -> Result<(), NodeError>;

    /// Disconnects a container.
    async fn disconnect(
        &self,
        container: &str,
        network: &Network,
        force: DisconnectForce,
    ) -> Result<(), NodeError>;
}

/// Networks as the node offers them.
#[derive(Debug, Clone)]
pub struct NetworkPort {
    /// The networks.
    pub networks: NetworkStore,
    /// The containers.
    pub connections: Arc<dyn Connections>,
}

#[async_trait]
impl Networks for NetworkPort {
    async fn create(&self, spec: NetworkSpec) -> Result<(NetworkId, String), NodeError> {
        let networks = self.networks.clone();
        // In a task of its own, so that a client that goes away does not leave a network half made.
        let made = tokio::spawn(async move { networks.create_network(spec).await });
        let id = made.await.map_err(|source| NodeError::failed("create a network", source))??;
        Ok((id, String::new()))
    }

    async fn list(&self, filter: NetworkFilter) -> Result<Vec<Network>, NodeError> {
        let is_named = filter.by_name()?;
        let passes = |network: &Network, is_used: bool| {
            let spec = &network.spec;
            let origin =
                if predefined::is_name(&spec.name) { NetworkOrigin::Builtin } else { NetworkOrigin::Custom };
            // Those that are always there do not dangle, whoever uses them.
            let is_held = is_used || origin == NetworkOrigin::Builtin;
            filter.dangling.is_none_or(|dangling| dangling != is_held)
                && (filter.drivers.is_empty() || filter.drivers.contains(&spec.driver))
                && (filter.ids.is_empty() || filter.ids.iter().any(|id| network.id.as_str().starts_with(id)))
                && is_named(&spec.name)
                && (filter.scopes.is_empty() || filter.scopes.contains(&spec.scope))
                && filter.origin.is_none_or(|wanted| wanted == origin)
                && filter.labels.matches(|key| spec.labels.get(key).map(String::as_str))
        };
        Ok(self.networks.with_state(|state| {
            let passing =
                state.networks.values().filter(|entry| passes(&entry.network, !entry.members.is_empty()));
            passing.map(|entry| entry.network.clone()).collect()
        }))
    }

    async fn inspect(&self, name: &str) -> Result<NetworkView, NodeError> {
        self.networks.with_state(|state| {
            let entry = state.find(name)?;
            let containers =
                entry.members.iter().map(|(id, member)| (*id, (member.name.clone(), member.status.clone())));
            let clamp = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
            let address_use = state.space.usage(&entry.network.id).into_iter().map(|usage| {
                let counts =
                    AddressUse { in_use: clamp(usage.in_use), available: clamp(usage.dynamic_available) };
                (usage.subnet.to_string(), counts)
            });
            Ok(NetworkView {
                network: entry.network.clone(),
                containers: containers.collect(),
                address_use: address_use.collect(),
                overlay: state.overlay_view(&entry.network.id),
            })
        })
    }

    async fn remove(&self, name: &str) -> Result<(), NodeError> {
        let (networks, name) = (self.networks.clone(), name.to_owned());
        let removed = tokio::spawn(async move { networks.remove_network(&name).await });
        removed.await.map_err(|source| NodeError::failed("remove a network", source))?
    }

    async fn connect(&self, network: &str, container: &str, endpoint: EndpointSpec) -> Result<(), NodeError> {
        let network = self.networks.find_or_look_up(network).await?;
        wishes::check_endpoint(&network.spec.name, &endpoint, Some(&network))?;
        self.connections.connect(container, &network, endpoint).await
    }

    async fn disconnect(
        &self,
        network: &str,
        container: &str,
        force: DisconnectForce,
    ) -> Result<(), NodeError> {
        let network = self.networks.find(network)?;
        self.connections.disconnect(container, &network, force).await
    }

    async fn prune(&self, filter: NetworkPruneFilter) -> Result<Pruned, NodeError> {
        let Ok(_pruning) = self.networks.shared.pruning.try_lock() else {
            return Err(NodeError::conflict("a prune operation is already running"));
        };
        let unused: Vec<Network> = self.networks.with_state(|state| {
            let is_meant = |network: &Network| {
                !predefined::is_name(&network.spec.name)
                    && network.spec.scope == NetworkScope::Local
                    && filter.until.is_none_or(|until| network.created < until)
                    && filter.labels.matches(|key| network.spec.labels.get(key).map(String::as_str))
            };
            let unused = state.networks.values().filter(|entry| entry.members.is_empty());
            unused.filter(|entry| is_meant(&entry.network)).map(|entry| entry.network.clone()).collect()
        });
        let mut pruned = Pruned::default();
        for network in unused {
            // A container may have joined it since; then it simply stays.
            if self.networks.remove_network(network.id.as_str()).await.is_ok() {
                pruned.removed.push(network.spec.name);
            }
        }
        let attributes = BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]);
        self.networks.shared.events.publish(EventKind::Network, "prune", "", attributes);
        Ok(pruned)
    }
}

impl NetworkStore {
    /// Removes a network of this node that has no members.
    pub(super) async fn remove_network(&self, name: &str) -> Result<(), NodeError> {
        self.remove_as(name, NetworkScope::Local).await
    }

    /// Removes a network without members on behalf of those whom networks of `scope` obey: first from the kernel, then its record. A
    /// crash in between restores it.
    pub(super) async fn remove_as(&self, name: &str, scope: NetworkScope) -> Result<(), NodeError> {
        let _changes = self.shared.changes.lock().await;
        // Taken out of the state at once, so that nobody joins it while the kernel works.
        let entry = self.with_state(|state| {
            let entry = state.find(name)?;
            let spec = &entry.network.spec;
            if predefined::is_name(&spec.name) {
                return Err(NodeError::forbidden(format!(
                    "{} is a pre-defined network and cannot be removed",
                    spec.name
                )));
            }
            if spec.scope != scope {
                return Err(NodeError::unavailable(super::create::NOT_A_MANAGER));
            }
            if spec.name == super::overlay::GATEWAY_BRIDGE && state.has_ingress() {
                let none = std::iter::empty();
                return Err(NodeError::forbidden(wishes::active_endpoints(&spec.name, none)));
            }
            if !entry.members.is_empty() {
                let members = entry.members.iter().map(|(id, member)| (id, member.name.as_str()));
                return Err(NodeError::forbidden(wishes::active_endpoints(&spec.name, members)));
            }
            if spec.config_only
                && state.networks.values().any(|other| other.network.spec.config_from == spec.name)
            {
                return Err(NodeError::forbidden(format!("configuration network {:?} is in use", spec.name)));
            }
            let id = entry.network.id.clone();
            state.networks.remove(&id).ok_or(NodeError::NoSuchNetwork(name.to_owned()))
        })?;
        let network = entry.network.clone();
        if !network.spec.config_only {
            let (host, kernel) = (self.shared.host.clone(), Arc::clone(&entry.kernel));
            let errors = run_blocking(move || host.remove_network(&kernel)).await?;
            crash_point("network removed");
            for error in &errors {
                tracing::warn!(
                    network.id = %network.id,
                    error = %crate::error::ErrorChain(error),
                    "part of a network could not be removed"
                );
            }
        }
        let deleted =
            self.shared.store.commit(Batch::new().delete::<NetworkRecord>(network.id.as_str())).await;
        if let Err(error) = deleted {
            self.with_state(|state| state.networks.insert(network.id.clone(), entry));
            return Err(error.into());
        }
        self.with_state(|state| state.space.remove(&network.id));
        let attributes = [("name", &network.spec.name), ("type", &network.spec.driver)];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.clone()));
        self.shared.events.publish(EventKind::Network, "destroy", network.id.as_str(), attributes.into());
        Ok(())
    }
}
