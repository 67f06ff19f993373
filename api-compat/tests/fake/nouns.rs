//! One network, one volume, the machine and what has happened.
#![cfg(test)]

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use node_agent::NodeError;
use node_agent::api::Pruned;
use node_agent::api::containers::{ContainerViews, ListQuery};
use node_agent::api::events::*;
use node_agent::api::networks::*;
use node_agent::api::system::*;
use node_agent::api::volumes::*;
use registry_client::Credentials;
use shoal_types::container::networking::EndpointSpec;
use shoal_types::network::{Network, NetworkSpec};
use shoal_types::volume::{Volume, VolumeSpec};
use shoal_types::{ContainerId, NetworkId};

use super::Fake;
use crate::objects;

#[async_trait]
impl Networks for Fake {
    async fn create(&self, spec: NetworkSpec) -> Result<(NetworkId, String), NodeError> {
        self.change(format!("network {spec:?}"))?;
        Ok((NetworkId::new("c1c2"), String::new()))
    }

    async fn list(&self, filter: NetworkFilter) -> Result<Vec<Network>, NodeError> {
        self.note(format!("networks {filter:?}"))?;
        Ok(vec![objects::network()])
    }

    async fn inspect(&self, name: &str) -> Result<NetworkView, NodeError> {
        if name != "bridge" {
            return Err(NodeError::NoSuchNetwork(name.to_owned()));
        }
        let endpoint = objects::endpoint();
        Ok(NetworkView {
            overlay: None,
            network: objects::network(),
            containers: BTreeMap::from([(ContainerId::from_bytes([1; 32]), ("one".to_owned(), endpoint))]),
            address_use: BTreeMap::from([(
                "172.17.0.0/16".to_owned(),
                AddressUse { in_use: 3, available: 9 },
            )]),
        })
    }

    async fn remove(&self, name: &str) -> Result<(), NodeError> {
        self.change(format!("network rm {name}"))
    }

    async fn connect(&self, network: &str, container: &str, endpoint: EndpointSpec) -> Result<(), NodeError> {
        self.change(format!("connect {network} {container} {endpoint:?}"))
    }

    async fn disconnect(
        &self,
        network: &str,
        container: &str,
        force: DisconnectForce,
    ) -> Result<(), NodeError> {
        self.change(format!("disconnect {network} {container} {force:?}"))
    }

    async fn prune(&self, filter: NetworkPruneFilter) -> Result<Pruned, NodeError> {
        self.change(format!("prune networks {filter:?}"))?;
        Ok(Pruned::default())
    }
}

#[async_trait]
impl Volumes for Fake {
    async fn create(&self, spec: VolumeSpec) -> Result<Volume, NodeError> {
        self.change(format!("volume {spec:?}"))?;
        Ok(objects::volume())
    }

    async fn list(&self, filter: VolumeFilter) -> Result<(Vec<Volume>, Vec<String>), NodeError> {
        self.note(format!("volumes {filter:?}"))?;
        Ok((vec![objects::volume()], Vec::new()))
    }

    async fn inspect(&self, name: &str) -> Result<(Volume, BTreeMap<String, serde_json::Value>), NodeError> {
        if name != "vol" {
            return Err(NodeError::NoSuchVolume(name.to_owned()));
        }
        Ok((objects::volume(), BTreeMap::new()))
    }

    async fn remove(&self, name: &str, missing: OfMissing) -> Result<(), NodeError> {
        self.change(format!("volume rm {name} {missing:?}"))
    }

    async fn prune(&self, filter: VolumePruneFilter) -> Result<Pruned, NodeError> {
        self.change(format!("prune volumes {filter:?}"))?;
        Ok(Pruned::default())
    }

    async fn usage(&self) -> Result<Vec<VolumeUsage>, NodeError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl System for Fake {
    async fn info(&self) -> Result<SystemInfo, NodeError> {
        Ok(objects::system_info())
    }

    async fn disk_usage(&self, what: UsageKinds) -> Result<DiskUsage, NodeError> {
        self.note(format!("df {what:?}"))?;
        let listed =
            ContainerViews::list(self, ListQuery { with_sizes: true, ..ListQuery::default() }).await?;
        let usage = VolumeUsage { volume: objects::volume(), size: 10, references: 1 };
        Ok(DiskUsage {
            containers: what.containers.then_some(listed),
            images: what.images.then(|| vec![objects::image()]),
            layers_size: 1_982_312,
            volumes: what.volumes.then(|| vec![usage]),
            build_cache: what.build_cache.then(Vec::new),
        })
    }

    async fn login(&self, registry: &str, credentials: Credentials) -> Result<String, NodeError> {
        self.note(format!("login {registry} {}", matches!(credentials, Credentials::Basic { .. })))?;
        Ok(String::new())
    }
}

#[async_trait]
impl Events for Fake {
    async fn subscribe(&self, window: EventWindow) -> BoxStream<'static, Arc<Event>> {
        self.calls.lock().unwrap().push(format!("events {window:?}"));
        stream::iter(objects::events().into_iter().map(Arc::new)).boxed()
    }

    fn subscribers(&self) -> usize {
        0
    }
}
