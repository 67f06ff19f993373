//! The cluster's ports as they are now: those of this machine's manager while it has one, else a refusal that says why.
//!
//! Start reading at [`Switch::cluster`]. The front end is made once and lives as long as the daemon; managers come and go. Every
//! method below only finds out whom to ask.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use manager::api::events::{ClusterEvent, Events};
use manager::api::logs::{LineStream, Logs, LogsOf};
use manager::api::membership::{Membership, Standing};
use manager::api::networks::Networks;
use manager::api::nodes::{NodeFilter, Nodes, RemoveForce};
use manager::api::secrets::{Configs, Secrets};
use manager::api::services::{ServiceFilter, ServiceUpdate, Services, TaskCounts};
use manager::api::tasks::{TaskFilter, Tasks};
use manager::api::{Cluster, ClusterError, ObjectFilter};
use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::cluster::node::{Node, NodeSpec};
use shoal_types::cluster::secret::{Config, ConfigSpec, Secret, SecretSpec};
use shoal_types::cluster::service::{RegistryCredentials, Service, ServiceSpec};
use shoal_types::cluster::task::Task;
use shoal_types::network::NetworkSpec;
use shoal_types::protocol::LogOptions;
use shoal_types::{ConfigId, NetworkId, SecretId, ServiceId};
use tokio::sync::watch;

use super::Published;

/// Finds out whom to ask.
#[derive(Debug, Clone)]
pub(super) struct Switch {
    pub(super) published: watch::Receiver<Published>,
}

impl Switch {
    /// The bundle of ports for the front end.
    pub(super) fn bundle(self, membership: Arc<dyn Membership>) -> Cluster {
        let switch = Arc::new(self);
        Cluster {
            membership,
            services: switch.clone(),
            tasks: switch.clone(),
            nodes: switch.clone(),
            networks: switch.clone(),
            logs: switch.clone(),
            events: switch.clone(),
            secrets: switch.clone(),
            configs: switch,
        }
    }

    /// The ports of this machine's manager.
    fn cluster(&self) -> Result<Cluster, ClusterError> {
        let published = self.published.borrow();
        match &published.cluster {
            Some(cluster) => Ok(cluster.clone()),
            None => Err(refusal(&published.standing)),
        }
    }
}

/// Why a machine that has no manager answers nothing about the cluster.
pub(super) fn refusal(standing: &Standing) -> ClusterError {
    match standing {
        Standing::Inactive => ClusterError::NotAMember,
        Standing::Locked => ClusterError::Locked,
        Standing::Worker(_) => ClusterError::Worker,
        Standing::Error(text) if *text == ClusterError::CertificatesExpired.to_string() => {
            ClusterError::CertificatesExpired
        }
        Standing::Pending | Standing::Error(_) | Standing::Manager(_) => ClusterError::Preparing,
    }
}

#[async_trait]
impl Services for Switch {
    async fn create(
        &self,
        spec: ServiceSpec,
        credentials: Option<RegistryCredentials>,
    ) -> Result<ServiceId, ClusterError> {
        self.cluster()?.services.create(spec, credentials).await
    }

    async fn list(&self, filter: ServiceFilter) -> Result<Vec<(Service, TaskCounts)>, ClusterError> {
        self.cluster()?.services.list(filter).await
    }

    async fn inspect(&self, name: &str) -> Result<Service, ClusterError> {
        self.cluster()?.services.inspect(name).await
    }

    async fn update(&self, name: &str, update: ServiceUpdate) -> Result<Vec<String>, ClusterError> {
        self.cluster()?.services.update(name, update).await
    }

    async fn remove(&self, name: &str) -> Result<(), ClusterError> {
        self.cluster()?.services.remove(name).await
    }
}

#[async_trait]
impl Tasks for Switch {
    async fn list(&self, filter: TaskFilter) -> Result<Vec<Task>, ClusterError> {
        self.cluster()?.tasks.list(filter).await
    }

    async fn inspect(&self, name: &str) -> Result<Task, ClusterError> {
        self.cluster()?.tasks.inspect(name).await
    }
}

#[async_trait]
impl Nodes for Switch {
    async fn list(&self, filter: NodeFilter) -> Result<Vec<Node>, ClusterError> {
        self.cluster()?.nodes.list(filter).await
    }

    async fn inspect(&self, name: &str) -> Result<Node, ClusterError> {
        self.cluster()?.nodes.inspect(name).await
    }

    async fn update(&self, name: &str, version: u64, spec: NodeSpec) -> Result<(), ClusterError> {
        self.cluster()?.nodes.update(name, version, spec).await
    }

    async fn remove(&self, name: &str, force: RemoveForce) -> Result<(), ClusterError> {
        self.cluster()?.nodes.remove(name, force).await
    }
}

#[async_trait]
impl Networks for Switch {
    async fn create(&self, spec: NetworkSpec) -> Result<NetworkId, ClusterError> {
        self.cluster()?.networks.create(spec).await
    }

    async fn list(&self) -> Result<Vec<ClusterNetwork>, ClusterError> {
        self.cluster()?.networks.list().await
    }

    async fn inspect(&self, name: &str) -> Result<ClusterNetwork, ClusterError> {
        self.cluster()?.networks.inspect(name).await
    }

    async fn remove(&self, name: &str) -> Result<(), ClusterError> {
        self.cluster()?.networks.remove(name).await
    }
}

#[async_trait]
impl Secrets for Switch {
    async fn create(&self, spec: SecretSpec) -> Result<SecretId, ClusterError> {
        self.cluster()?.secrets.create(spec).await
    }

    async fn list(&self, filter: ObjectFilter) -> Result<Vec<Secret>, ClusterError> {
        self.cluster()?.secrets.list(filter).await
    }

    async fn inspect(&self, name: &str) -> Result<Secret, ClusterError> {
        self.cluster()?.secrets.inspect(name).await
    }

    async fn update(&self, name: &str, version: u64, spec: SecretSpec) -> Result<(), ClusterError> {
        self.cluster()?.secrets.update(name, version, spec).await
    }

    async fn remove(&self, name: &str) -> Result<(), ClusterError> {
        self.cluster()?.secrets.remove(name).await
    }
}

#[async_trait]
impl Configs for Switch {
    async fn create(&self, spec: ConfigSpec) -> Result<ConfigId, ClusterError> {
        self.cluster()?.configs.create(spec).await
    }

    async fn list(&self, filter: ObjectFilter) -> Result<Vec<Config>, ClusterError> {
        self.cluster()?.configs.list(filter).await
    }

    async fn inspect(&self, name: &str) -> Result<Config, ClusterError> {
        self.cluster()?.configs.inspect(name).await
    }

    async fn update(&self, name: &str, version: u64, spec: ConfigSpec) -> Result<(), ClusterError> {
        self.cluster()?.configs.update(name, version, spec).await
    }

    async fn remove(&self, name: &str) -> Result<(), ClusterError> {
        self.cluster()?.configs.remove(name).await
    }
}

#[async_trait]
impl Logs for Switch {
    async fn read(&self, of: LogsOf, options: LogOptions) -> Result<LineStream, ClusterError> {
        self.cluster()?.logs.read(of, options).await
    }
}

#[async_trait]
impl Events for Switch {
    async fn subscribe(&self) -> Result<BoxStream<'static, ClusterEvent>, ClusterError> {
        self.cluster()?.events.subscribe().await
    }
}
