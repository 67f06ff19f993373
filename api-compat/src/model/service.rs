//! Services.
//!
//! Start reading at [`ServiceSpec`] and [`Service`]. Durations are nanoseconds.

use serde::{Deserialize, Serialize};

use super::cluster::ObjectVersion;
use super::task_spec::{NetworkAttachmentConfig, TaskSpec};
use super::time::Time;
use super::{Empty, Texts, is_zero};

/// A wish for a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceSpec {
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Labels.
    pub labels: Texts,
    /// What each task runs.
    pub task_template: TaskSpec,
    /// In how many copies.
    pub mode: ServiceMode,
    /// How a change is rolled out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_config: Option<UpdateConfig>,
    /// How a change is rolled back. Since 1.28.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_config: Option<UpdateConfig>,
    /// Networks, where old clients tell them; newer ones do so in the template.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkAttachmentConfig>,
    /// How it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_spec: Option<EndpointSpec>,
}

/// In how many copies a service runs: one of the four.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceMode {
    /// So many, anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicated: Option<ReplicatedService>,
    /// One on each node that qualifies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global: Option<Empty>,
    /// Until so many have completed; read from 1.41 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicated_job: Option<ReplicatedJob>,
    /// Until one has completed on each node that qualifies; read from 1.41 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_job: Option<Empty>,
}

/// A service of so many copies.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ReplicatedService {
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
}

/// A service that ends when so many have completed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ReplicatedJob {
    /// How many run at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u64>,
    /// How many must complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_completions: Option<u64>,
}

/// How tasks are exchanged.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateConfig {
    /// How many at a time; 0 is all.
    pub parallelism: u64,
    /// How long to wait between groups.
    #[serde(skip_serializing_if = "is_zero")]
    pub delay: i64,
    /// `pause`, `continue` or `rollback`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failure_action: String,
    /// How long a new task is watched.
    #[serde(skip_serializing_if = "is_zero")]
    pub monitor: i64,
    /// Which part of the tasks may fail, 0 to 1.
    pub max_failure_ratio: f32,
    /// `stop-first` or `start-first`. Since 1.29.
    pub order: String,
}

/// How a service is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct EndpointSpec {
    /// `vip` or `dnsrr`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// Ports it publishes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortConfig>,
}

/// A port that a service publishes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "EndpointPortConfig")]
pub struct PortConfig {
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// Port of the tasks.
    #[serde(skip_serializing_if = "is_zero")]
    pub target_port: u32,
    /// Port of the nodes; 0 is any.
    #[serde(skip_serializing_if = "is_zero")]
    pub published_port: u32,
    /// `ingress` or `host`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub publish_mode: String,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// Id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Version.
    pub version: ObjectVersion,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// What it shall be.
    pub spec: ServiceSpec,
    /// What it was to be before the last update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_spec: Option<ServiceSpec>,
    /// What it was given.
    pub endpoint: Endpoint,
    /// How the last update fares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_status: Option<UpdateStatus>,
    /// What its tasks do. Since 1.41.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_status: Option<ServiceStatus>,
    /// Which run of a job this is. Since 1.41.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_status: Option<JobStatus>,
}

/// What a service was given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Endpoint {
    /// What was asked for.
    pub spec: EndpointSpec,
    /// Ports, with the chosen numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortConfig>,
    /// Address in each network.
    #[serde(rename = "VirtualIPs", skip_serializing_if = "Vec::is_empty")]
    pub virtual_ips: Vec<VirtualIp>,
}

/// Address of a service in one network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase", rename = "EndpointVirtualIP")]
pub struct VirtualIp {
    /// The network.
    #[serde(rename = "NetworkID", skip_serializing_if = "String::is_empty")]
    pub network_id: String,
    /// The address with the length of its prefix.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub addr: String,
}

/// How an update fares.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct UpdateStatus {
    /// `updating`, `paused`, `completed`, `rollback_started`, `rollback_paused` or `rollback_completed`.
    pub state: String,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// A sentence for the user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What the tasks of a service do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ServiceStatus {
    /// Run.
    pub running_tasks: u64,
    /// Shall run.
    pub desired_tasks: u64,
    /// Have completed, of a job.
    pub completed_tasks: u64,
}

/// A run of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct JobStatus {
    /// Counts the runs.
    pub job_iteration: ObjectVersion,
    /// When it began.
    pub last_execution: Time,
}

/// A service that was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ServiceCreateResponse {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What the user should know.
    pub warnings: Option<Vec<String>>,
}

/// A service that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ServiceUpdateResponse {
    /// What the user should know.
    pub warnings: Option<Vec<String>>,
}
