//! What each task of a service runs, and where.
//!
//! Start reading at [`TaskSpec`]; the container in it is in `service_container`. Durations are nanoseconds.

use serde::{Deserialize, Serialize};

use super::cluster::Driver;
use super::node::{Platform, ResourceObject};
use super::service_container::ContainerSpec;
use super::{Empty, Texts, is_zero};

/// What each task of a service runs, and where.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskSpec {
    /// The container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_spec: Option<ContainerSpec>,
    /// A plugin instead; refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin_spec: Option<Empty>,
    /// A container of a node that joins a network instead; refused, because only the cluster makes such tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_attachment_spec: Option<Empty>,
    /// What it may use and what is kept free for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// What happens after an exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Where it may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Networks it joins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkAttachmentConfig>,
    /// Log driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<Driver>,
    /// Raised to replace tasks although nothing else has changed.
    pub force_update: u64,
    /// `container`, or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime: String,
}

/// What a task may use and what is kept free for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ResourceRequirements {
    /// What it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limit>,
    /// What its node must have free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservations: Option<ResourceObject>,
    /// Bytes of swap beside the memory; -1 is without limit. Since 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<i64>,
    /// How readily the kernel swaps, 0 to 100; -1 is the node's default. Since 1.52.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swappiness: Option<i64>,
}

/// What a task may use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Limit {
    /// Billionths of a processor.
    #[serde(rename = "NanoCPUs", skip_serializing_if = "is_zero")]
    pub nano_cpus: i64,
    /// Bytes of memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub memory_bytes: i64,
    /// Processes. Since 1.41.
    #[serde(skip_serializing_if = "is_zero")]
    pub pids: i64,
}

/// What happens after an exit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// After which exits a new task is made: `none`, `on-failure` or `any`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub condition: String,
    /// How long to wait before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<i64>,
    /// How often; 0 is without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u64>,
    /// Over how long attempts are counted; 0 is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<i64>,
}

/// Where tasks may run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Placement {
    /// Expressions that a node must meet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<String>,
    /// How tasks are spread over those that do, most important first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preferences: Vec<PlacementPreference>,
    /// Most tasks of the service on one node; 0 is without limit. Since 1.40.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_replicas: u64,
    /// Platforms that the image is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
}

/// One way of spreading tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct PlacementPreference {
    /// Evenly over the values of a label.
    pub spread: Option<SpreadOver>,
}

/// Spreads evenly.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct SpreadOver {
    /// The label, such as `node.labels.rack`.
    pub spread_descriptor: String,
}

/// A network that tasks join.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkAttachmentConfig {
    /// Name or id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Further names of the service within it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Options of its driver.
    #[serde(skip_serializing_if = "Texts::is_empty")]
    pub driver_opts: Texts,
}
