//! Objects for tests of the worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use shoal_types::cluster::Meta;
use shoal_types::cluster::node::{
    Availability, DataPathKey, Node, NodeRole, NodeSpec, NodeState, NodeStatus,
};
use shoal_types::cluster::secret::{Secret, SecretSpec};
use shoal_types::cluster::service::{Service, ServiceContainer, ServiceSpec, TaskTemplate};
use shoal_types::cluster::task::{Task, TaskPlace, TaskStatus};
use shoal_types::cluster::task_state::TaskState;
use shoal_types::network::Network;
use shoal_types::protocol::{SessionId, SessionMessage};
use shoal_types::{NodeId, Platform, SecretId, ServiceId, TaskId};
use tokio::sync::watch;

use super::overlays::{OverlayMember, OverlayNews, Overlays};
use super::values::NodeFacts;
use crate::error::NodeError;

fn meta() -> Meta {
    Meta { version: 1, created: Timestamp::UNIX_EPOCH, updated: Timestamp::UNIX_EPOCH }
}

/// A task of a service that runs busybox, assigned to be run.
pub(super) fn a_task(service: &str, slot: u64) -> Task {
    let template = TaskTemplate {
        container: ServiceContainer { image: "busybox".to_owned(), ..ServiceContainer::default() },
        ..TaskTemplate::default()
    };
    let spec = ServiceSpec { name: service.to_owned(), ..ServiceSpec::default() };
    let service = Service::new(ServiceId::from_u128(5), spec, Timestamp::UNIX_EPOCH);
    let place = TaskPlace::Slot(slot);
    let made = Task::new(TaskId::random(), &service, place, Arc::new(template), Timestamp::UNIX_EPOCH);
    Task {
        meta: meta(),
        node: Some(node_facts().id),
        status: TaskStatus::new(TaskState::Assigned, Timestamp::UNIX_EPOCH, ""),
        ..made
    }
}

/// A secret with this content.
pub(super) fn a_secret(name: &str, data: &[u8]) -> Secret {
    let spec = SecretSpec { name: name.to_owned(), data: data.to_vec(), ..SecretSpec::default() };
    Secret { id: SecretId::random(), meta: meta(), spec }
}

/// The node of these tests.
pub(super) fn node_facts() -> NodeFacts {
    NodeFacts {
        id: NodeId::from_u128(7),
        hostname: "host".to_owned(),
        platform: Platform::new("linux", "amd64", ""),
    }
}

/// What a leader says first.
pub(super) fn a_session_message() -> SessionMessage {
    let spec = NodeSpec {
        name: String::new(),
        labels: BTreeMap::new(),
        role: NodeRole::Worker,
        availability: Availability::Active,
    };
    let status =
        NodeStatus { state: NodeState::Ready, message: String::new(), address: String::new(), since: None };
    SessionMessage {
        id: SessionId("s".to_owned()),
        node: Node {
            id: node_facts().id,
            meta: meta(),
            spec,
            role: NodeRole::Worker,
            description: None,
            status,
            manager: None,
            attachments: Vec::new(),
        },
        role: NodeRole::Worker,
        managers: Vec::new(),
        trust_root: String::new(),
        renew: false,
        heartbeat: Duration::from_secs(5),
    }
}

/// A node without networks that span nodes.
#[derive(Debug)]
pub(super) struct NoOverlays;

#[async_trait]
impl Overlays for NoOverlays {
    async fn begin(&self, _member: OverlayMember) {}
    async fn take(&self, _news: OverlayNews) {}
    async fn make(&self, _network: &Network) -> Result<(), NodeError> {
        Ok(())
    }
    async fn leave(&self) {}

    fn data_path_keys(&self) -> watch::Receiver<Vec<DataPathKey>> {
        watch::channel(Vec::new()).1
    }

    fn renew_keys(&self) {}
}
