//! Tasks: one copy of a service, placed on one node.
//!
//! Start reading at [`Task`]. A task is never restarted; a new one takes its slot.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Meta;
use super::service::{EndpointSpec, GenericResource, PublishedServicePort, Service, TaskTemplate};
use super::task_state::TaskState;
use crate::container::spec::LoggingSpec;
use crate::ids::{ContainerId, NetworkId, NodeId, ServiceId, TaskId};

/// One copy of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Version and times.
    pub meta: Meta,
    /// The service.
    pub service: ServiceId,
    /// Which place of the service it takes.
    pub place: TaskPlace,
    /// Name of the service when the task was made, for the container's name and for filters.
    pub service_name: String,
    /// What it runs: the service's template as it was when the task was made. Tasks of one spec share it.
    pub template: Arc<TaskTemplate>,
    /// The log driver that the cluster's settings gave it, because its service names none. Not in the template, so that no task
    /// looks as if its service had changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_logging: Option<Box<LoggingSpec>>,
    /// How the service was reached when the task was made; a change replaces tasks.
    #[serde(default)]
    pub endpoint: EndpointSpec,
    /// The node that runs it, once there is one.
    pub node: Option<NodeId>,
    /// How far it shall come.
    pub desired: TaskState,
    /// How far it has come.
    pub status: TaskStatus,
    /// Its addresses.
    pub networks: Vec<TaskAttachment>,
    /// Which named resources of its node it has been given.
    #[serde(default)]
    pub generic: Vec<(String, GenericResource)>,
    /// Time before which it is not started, by the leader's clock: the delay before a restart.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// When it was first seen running, by the leader's clock.
    #[serde(default)]
    pub started: Option<Timestamp>,
    /// When it was first seen to have ended, by the leader's clock.
    #[serde(default)]
    pub ended: Option<Timestamp>,
    /// Labels of the service, for filters.
    pub labels: BTreeMap<String, String>,
    /// Which run of a job it belongs to.
    pub job_iteration: Option<u64>,
    /// Version of the service's spec that it was made from; tells which tasks an update has not reached.
    pub spec_version: u64,
}

/// Which place of its service a task takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskPlace {
    /// Of a replicated service: counted from 1; tasks of one slot follow each other.
    Slot(u64),
    /// Of a global service: the node itself.
    Node(NodeId),
}

impl Task {
    /// A task as an orchestrator makes it at `now`: it takes `place` of the service, carries what the service is at this
    /// time, has no node yet and shall run.
    pub fn new(
        id: TaskId,
        service: &Service,
        place: TaskPlace,
        template: Arc<TaskTemplate>,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            meta: Meta { version: 0, created: now, updated: now },
            service: service.id,
            place,
            service_name: service.spec.name.clone(),
            template,
            usual_logging: None,
            endpoint: service.spec.endpoint.clone(),
            node: None,
            desired: TaskState::Running,
            status: TaskStatus::new(TaskState::New, now, "created"),
            networks: Vec::new(),
            generic: Vec::new(),
            not_before: None,
            started: None,
            ended: None,
            labels: service.spec.labels.clone(),
            job_iteration: service.job.map(|job| job.iteration),
            spec_version: service.spec_version,
        }
    }

    /// Where its output goes, if anybody has said.
    pub fn logging(&self) -> Option<&LoggingSpec> {
        self.template.logging.as_ref().or(self.usual_logging.as_deref())
    }

    /// The name that the container and `docker service ps` have: `service.slot.id`, or `service.node.id` of a global one.
    pub fn name(&self) -> String {
        format!("{}.{}.{}", self.service_name, self.place, self.id)
    }

    /// Whether it takes part in what its service does: it shall run or complete, or shall be ready to.
    pub fn is_wanted(&self) -> bool {
        self.desired <= TaskState::Complete
    }
}

impl fmt::Display for TaskPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(number) => number.fmt(f),
            Self::Node(node) => node.fmt(f),
        }
    }
}

/// What was observed of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// How far it has come.
    pub state: TaskState,
    /// When that was observed.
    pub at: Timestamp,
    /// What was done last.
    pub message: String,
    /// What went wrong; empty if nothing.
    pub error: String,
    /// The container, once there is one.
    pub container: Option<TaskContainer>,
    /// Ports that were published on the node itself.
    pub host_ports: Vec<PublishedServicePort>,
}

impl TaskStatus {
    /// A state without a container, an error or ports.
    pub fn new(state: TaskState, at: Timestamp, message: impl Into<String>) -> Self {
        Self {
            state,
            at,
            message: message.into(),
            error: String::new(),
            container: None,
            host_ports: Vec::new(),
        }
    }
}

/// The container of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskContainer {
    /// Its id.
    pub id: ContainerId,
    /// Its init process on the node; 0 when it does not run.
    pub pid: u32,
    /// Its exit code.
    pub exit_code: i32,
}

/// A task's place in a network of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskAttachment {
    /// The network.
    pub network: NetworkId,
    /// Addresses that the allocator has given.
    pub addresses: Vec<IpNet>,
    /// Further names within the network.
    pub aliases: Vec<String>,
    /// Options of the network's driver.
    pub driver_options: BTreeMap<String, String>,
}
