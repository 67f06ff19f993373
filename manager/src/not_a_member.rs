//! The cluster of a machine that is in none: it says so, in swarm's words.
//!
//! Start reading at [`NotAMember`]. Beginning and joining a cluster are refused as not implemented until there are managers.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::cluster::node::{Node, NodeSpec};
use shoal_types::cluster::secret::{Config, ConfigSpec, Secret, SecretSpec};
use shoal_types::cluster::service::{RegistryCredentials, Service, ServiceSpec};
use shoal_types::cluster::settings::{Cluster as ClusterObject, ClusterSpec, JoinTokens};
use shoal_types::cluster::task::Task;
use shoal_types::network::NetworkSpec;
use shoal_types::protocol::LogOptions;
use shoal_types::{ConfigId, NetworkId, NodeId, SecretId, ServiceId};

use crate::api::events::{ClusterEvent, Events};
use crate::api::logs::{LineStream, Logs, LogsOf};
use crate::api::membership::{
    InitRequest, JoinRequest, LeaveForce, Membership, Rotation, Standing, Surroundings,
};
use crate::api::networks::Networks;
use crate::api::nodes::{NodeFilter, Nodes, RemoveForce};
use crate::api::secrets::{Configs, Secrets};
use crate::api::services::{ServiceFilter, ServiceUpdate, Services, TaskCounts};
use crate::api::tasks::{TaskFilter, Tasks};
use crate::api::{Cluster, ClusterError, ObjectFilter};

/// Why a cluster can neither be begun nor joined yet.
const NO_MANAGERS_YET: &str =
    "this release of shoald runs containers on one node; swarm mode is not supported yet";

/// Answers for a machine that is in no cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct NotAMember;

impl NotAMember {
    /// The bundle of ports, all answered by this.
    pub fn bundle() -> Cluster {
        let answer = Arc::new(Self);
        Cluster {
            membership: answer.clone(),
            services: answer.clone(),
            tasks: answer.clone(),
            nodes: answer.clone(),
            networks: answer.clone(),
            logs: answer.clone(),
            events: answer.clone(),
            secrets: answer.clone(),
            configs: answer,
        }
    }
}

#[async_trait]
impl Membership for NotAMember {
    fn standing(&self) -> Standing {
        Standing::Inactive
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings::default()
    }

    async fn init(&self, _: InitRequest) -> Result<NodeId, ClusterError> {
        Err(ClusterError::NotImplemented(NO_MANAGERS_YET))
    }

    async fn join(&self, _: JoinRequest) -> Result<(), ClusterError> {
        Err(ClusterError::NotImplemented(NO_MANAGERS_YET))
    }

    async fn leave(&self, _: LeaveForce) -> Result<(), ClusterError> {
        Err(ClusterError::NothingToLeave)
    }

    async fn unlock(&self, _: &str) -> Result<(), ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn unlock_key(&self) -> Result<String, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn backup(&self) -> Result<String, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn inspect(&self) -> Result<(ClusterObject, JoinTokens), ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn update(&self, _: u64, _: ClusterSpec, _: Rotation) -> Result<(), ClusterError> {
        Err(ClusterError::NotAMember)
    }
}

#[async_trait]
impl Services for NotAMember {
    async fn create(
        &self,
        _: ServiceSpec,
        _: Option<RegistryCredentials>,
    ) -> Result<ServiceId, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn list(&self, _: ServiceFilter) -> Result<Vec<(Service, TaskCounts)>, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn inspect(&self, _: &str) -> Result<Service, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn update(&self, _: &str, _: ServiceUpdate) -> Result<Vec<String>, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn remove(&self, _: &str) -> Result<(), ClusterError> {
        Err(ClusterError::NotAMember)
    }
}

#[async_trait]
impl Tasks for NotAMember {
    async fn list(&self, _: TaskFilter) -> Result<Vec<Task>, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn inspect(&self, _: &str) -> Result<Task, ClusterError> {
        Err(ClusterError::NotAMember)
    }
}

#[async_trait]
impl Nodes for NotAMember {
    async fn list(&self, _: NodeFilter) -> Result<Vec<Node>, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn inspect(&self, _: &str) -> Result<Node, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn update(&self, _: &str, _: u64, _: NodeSpec) -> Result<(), ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn remove(&self, _: &str, _: RemoveForce) -> Result<(), ClusterError> {
        Err(ClusterError::NotAMember)
    }
}

#[async_trait]
impl Secrets for NotAMember {
    async fn create(&self, _: SecretSpec) -> Result<SecretId, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn list(&self, _: ObjectFilter) -> Result<Vec<Secret>, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn inspect(&self, _: &str) -> Result<Secret, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn update(&self, _: &str, _: u64, _: SecretSpec) -> Result<(), ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn remove(&self, _: &str) -> Result<(), ClusterError> {
        Err(ClusterError::NotAMember)
    }
}

#[async_trait]
impl Configs for NotAMember {
    async fn create(&self, _: ConfigSpec) -> Result<ConfigId, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn list(&self, _: ObjectFilter) -> Result<Vec<Config>, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn inspect(&self, _: &str) -> Result<Config, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn update(&self, _: &str, _: u64, _: ConfigSpec) -> Result<(), ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn remove(&self, _: &str) -> Result<(), ClusterError> {
        Err(ClusterError::NotAMember)
    }
}

#[async_trait]
impl Networks for NotAMember {
    async fn create(&self, _: NetworkSpec) -> Result<NetworkId, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn list(&self) -> Result<Vec<ClusterNetwork>, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn inspect(&self, _: &str) -> Result<ClusterNetwork, ClusterError> {
        Err(ClusterError::NotAMember)
    }

    async fn remove(&self, _: &str) -> Result<(), ClusterError> {
        Err(ClusterError::NotAMember)
    }
}

#[async_trait]
impl Logs for NotAMember {
    async fn read(&self, _: LogsOf, _: LogOptions) -> Result<LineStream, ClusterError> {
        Err(ClusterError::NotAMember)
    }
}

#[async_trait]
impl Events for NotAMember {
    async fn subscribe(&self) -> Result<BoxStream<'static, ClusterEvent>, ClusterError> {
        Err(ClusterError::NotAMember)
    }
}
