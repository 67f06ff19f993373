//! Tasks.
//!
//! Start reading at [`Task`]. Clients only read them.

use serde::Serialize;

use super::cluster::{Driver, ObjectVersion};
use super::network::ConfigReference;
use super::node::GenericResource;
use super::service::PortConfig;
use super::task_spec::TaskSpec;
use super::time::Time;
use super::{Texts, is_zero};

/// One copy of a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Task {
    /// Id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Version.
    pub version: ObjectVersion,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// Name; clients put it together themselves.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Labels of its own, of which there are none.
    pub labels: Texts,
    /// What it runs.
    pub spec: TaskSpec,
    /// Its service.
    #[serde(rename = "ServiceID", skip_serializing_if = "String::is_empty")]
    pub service_id: String,
    /// Its slot; absent of a global service.
    #[serde(skip_serializing_if = "is_zero")]
    pub slot: u64,
    /// Its node.
    #[serde(rename = "NodeID", skip_serializing_if = "String::is_empty")]
    pub node_id: String,
    /// How far it has come.
    pub status: TaskStatus,
    /// How far it shall come.
    pub desired_state: String,
    /// Its networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks_attachments: Vec<NetworkAttachment>,
    /// Which named resources it was given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub generic_resources: Vec<GenericResource>,
    /// Which run of a job it belongs to. Since 1.41.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_iteration: Option<ObjectVersion>,
}

/// How far a task has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct TaskStatus {
    /// When that was observed.
    pub timestamp: Time,
    /// The state.
    pub state: String,
    /// What was done last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What went wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub err: String,
    /// The container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_status: Option<ContainerStatus>,
    /// Ports that were published on the node itself.
    pub port_status: PortStatus,
}

/// The container of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ContainerStatus {
    /// Its id.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// Its init process.
    #[serde(rename = "PID")]
    pub pid: u32,
    /// Its exit code.
    pub exit_code: i32,
}

/// Ports that were published on the node itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct PortStatus {
    /// The ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortConfig>,
}

/// A task's place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct NetworkAttachment {
    /// The network.
    pub network: ClusterNetwork,
    /// Addresses with the lengths of their prefixes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

/// A network of the cluster, as tasks show it; other than networks show themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ClusterNetwork {
    /// Id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Version.
    pub version: ObjectVersion,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// What was asked for.
    pub spec: ClusterNetworkSpec,
    /// What its driver was given.
    pub driver_state: Driver,
    /// The subnets it was given.
    #[serde(rename = "IPAMOptions", skip_serializing_if = "Option::is_none")]
    pub ipam_options: Option<IpamOptions>,
}

/// What a network of the cluster shall be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ClusterNetworkSpec {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Texts,
    /// Driver.
    pub driver_configuration: Driver,
    /// Whether it has IPv6.
    #[serde(rename = "IPv6Enabled", skip_serializing_if = "is_zero")]
    pub ipv6_enabled: bool,
    /// Whether nothing leads out of it.
    #[serde(skip_serializing_if = "is_zero")]
    pub internal: bool,
    /// Whether plain containers may join it.
    #[serde(skip_serializing_if = "is_zero")]
    pub attachable: bool,
    /// Whether it is the cluster's ingress.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress: bool,
    /// Address management.
    #[serde(rename = "IPAMOptions", skip_serializing_if = "Option::is_none")]
    pub ipam_options: Option<IpamOptions>,
    /// Whose configuration it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_from: Option<ConfigReference>,
    /// `swarm`.
    pub scope: String,
}

/// Address management of a network of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase", rename = "IPAMOptions")]
pub struct IpamOptions {
    /// Driver.
    pub driver: Driver,
    /// Subnets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<ClusterSubnet>,
}

/// One subnet of a network of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ClusterSubnet {
    /// The subnet.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    /// The part of it from which addresses are given out.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub range: String,
    /// Its gateway.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
}
