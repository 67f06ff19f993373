//! Services: what shall run in the cluster, in how many copies, and how it changes.
//!
//! Start reading at [`ServiceSpec`].

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Meta;
use super::secret::{ConfigReference, SecretReference};
use crate::container::health::HealthSpec;
use crate::container::mounts::MountSpec;
use crate::container::networking::Protocol;
use crate::container::resources::Ulimit;
use crate::ids::{NetworkId, ServiceId};
use crate::platform::Platform;

/// What somebody asked a service to be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    /// Name, unique in the cluster and a DNS label.
    pub name: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// What each task runs.
    pub template: TaskTemplate,
    /// In how many copies.
    pub mode: ServiceMode,
    /// How a change is rolled out; `None` takes the defaults.
    pub update: Option<UpdatePolicy>,
    /// How a change is rolled back; `None` takes the defaults.
    pub rollback: Option<UpdatePolicy>,
    /// How it is reached.
    pub endpoint: EndpointSpec,
}

/// What each task of a service runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskTemplate {
    /// The container.
    pub container: ServiceContainer,
    /// Limits and reservations.
    pub resources: ServiceResources,
    /// What happens after an exit.
    pub restart: RestartRule,
    /// Where it may run.
    pub placement: Placement,
    /// Networks it joins.
    pub networks: Vec<NetworkWish>,
    /// Log driver and options; `None` is the node's default.
    pub logging: Option<crate::container::spec::LoggingSpec>,
    /// Raised to replace tasks although nothing else has changed.
    pub force_update: u64,
    /// Name of the runtime as the client gave it; empty is `container`.
    pub runtime: String,
    /// What the registry asks of whoever pulls the image. It is given to nodes and never shown.
    pub credentials: Option<RegistryCredentials>,
}

/// The header by which a registry is told who pulls, as the client sent it (`X-Registry-Auth`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RegistryCredentials(#[serde(with = "crate::base64_bytes")] pub Vec<u8>);

impl fmt::Debug for RegistryCredentials {
    /// Leaves the content out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryCredentials(..)")
    }
}

/// The container of a service's tasks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceContainer {
    /// Image reference, mostly pinned to a digest by the client.
    pub image: String,
    /// Labels of the containers.
    pub labels: BTreeMap<String, String>,
    /// Replaces the image's entrypoint.
    pub command: Vec<String>,
    /// Replaces the image's command.
    pub args: Vec<String>,
    /// Host name; may be a template.
    pub hostname: String,
    /// Environment; values may be templates.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// `user[:group]`.
    pub user: String,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Whether standard input is kept open.
    pub open_stdin: bool,
    /// Whether the root file system is read-only.
    pub read_only: bool,
    /// Mounts; sources may be templates.
    pub mounts: Vec<MountSpec>,
    /// Signal that stops it.
    pub stop_signal: String,
    /// Time between that signal and SIGKILL.
    pub stop_grace: Option<Duration>,
    /// Health check.
    pub health: Option<HealthSpec>,
    /// Lines for /etc/hosts, `address name`.
    pub hosts: Vec<String>,
    /// Name servers.
    pub dns_servers: Vec<std::net::IpAddr>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Options of resolv.conf.
    pub dns_options: Vec<String>,
    /// Secrets.
    pub secrets: Vec<SecretReference>,
    /// Configs.
    pub configs: Vec<ConfigReference>,
    /// Whether an init process runs.
    pub init: Option<bool>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// Capabilities taken away.
    pub cap_drop: Vec<String>,
    /// Limits of processes.
    pub ulimits: Vec<Ulimit>,
    /// Added to the badness by which the kernel chooses whom to kill.
    pub oom_score_adj: i32,
    /// What it may and may not do; `None` when nothing was said.
    pub privileges: Option<ServicePrivileges>,
    /// Isolation technology, of Windows; kept and shown.
    pub isolation: String,
}

/// What the container of a service's tasks may and may not do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServicePrivileges {
    /// Where a Windows credential spec comes from: `(kind, name)` with kind `Config`, `File` or `Registry`; kept and shown.
    pub credential_spec: Option<(String, String)>,
    /// SELinux context; kept and shown where the node has none.
    pub selinux: Option<SelinuxContext>,
    /// System call filter: mode (`default`, `unconfined`, `custom`) and the profile of `custom`.
    #[serde(with = "crate::base64_bytes::named")]
    pub seccomp: Option<(String, Vec<u8>)>,
    /// AppArmor mode (`default`, `disabled`).
    pub apparmor: Option<String>,
    /// Whether processes may gain no privileges.
    pub no_new_privileges: bool,
}

/// An SELinux context.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SelinuxContext {
    /// Whether it is switched off.
    pub disable: bool,
    /// User.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type.
    pub kind: String,
    /// Level.
    pub level: String,
}

/// What a task may use and what is kept free for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceResources {
    /// Billionths of a processor that it may use; 0 is without limit.
    pub limit_nano_cpus: i64,
    /// Bytes of memory that it may use; 0 is without limit.
    pub limit_memory: i64,
    /// Processes that it may have; 0 is without limit.
    pub limit_pids: i64,
    /// Billionths of a processor that its node must have free.
    pub reserved_nano_cpus: i64,
    /// Bytes of memory that its node must have free.
    pub reserved_memory: i64,
    /// Named resources that its node must have free: kind, and how many or which.
    pub reserved_generic: Vec<(String, GenericResource)>,
    /// Bytes of swap beside the memory; -1 is without limit.
    pub swap: Option<i64>,
    /// How readily the kernel swaps, 0 to 100; -1 is the node's default.
    pub swappiness: Option<i64>,
}

/// An amount of a resource that the administrator has named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GenericResource {
    /// So many that are all alike.
    Discrete(u64),
    /// A particular one.
    Named(String),
}

/// What happens after a task has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartRule {
    /// After which exits a new task is made.
    pub condition: RestartCondition,
    /// How long to wait before.
    pub delay: Duration,
    /// How often within the window; 0 is without limit.
    pub max_attempts: u64,
    /// Over how long attempts are counted; zero is for ever, and so is what nobody has said.
    pub window: Option<Duration>,
}

impl Default for RestartRule {
    fn default() -> Self {
        Self {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(5),
            max_attempts: 0,
            window: None,
        }
    }
}

impl RestartRule {
    /// Over how long attempts are counted; `None` is for ever.
    pub fn bounded_window(&self) -> Option<Duration> {
        self.window.filter(|window| !window.is_zero())
    }
}

/// After which exits a new task is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// None.
    None,
    /// Those with another code than 0.
    OnFailure,
    /// All.
    #[default]
    Any,
}

/// Where tasks may run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// Expressions that a node must meet, such as `node.role==worker`.
    pub constraints: Vec<String>,
    /// Labels over whose values tasks are spread evenly, most important first.
    pub spread_over: Vec<String>,
    /// Most tasks of the service on one node; 0 is without limit.
    pub max_per_node: u64,
    /// Platforms that the image is for; empty is any.
    pub platforms: Vec<Platform>,
}

/// A network that tasks join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkWish {
    /// Name or id.
    pub target: String,
    /// Further names of the service within it.
    pub aliases: Vec<String>,
    /// Options of the network's driver.
    pub driver_options: BTreeMap<String, String>,
}

/// In how many copies a service runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "mode")]
pub enum ServiceMode {
    /// So many, anywhere.
    Replicated {
        /// How many.
        replicas: u64,
    },
    /// One on each node that qualifies.
    Global,
    /// Until so many have completed.
    ReplicatedJob {
        /// How many run at a time.
        max_concurrent: u64,
        /// How many must complete.
        total_completions: u64,
    },
    /// Until one has completed on each node that qualifies.
    GlobalJob,
}

impl ServiceMode {
    /// Whether its tasks run to completion.
    pub fn is_job(&self) -> bool {
        matches!(self, Self::ReplicatedJob { .. } | Self::GlobalJob)
    }
}

impl Default for ServiceMode {
    fn default() -> Self {
        Self::Replicated { replicas: 1 }
    }
}

/// How tasks are exchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdatePolicy {
    /// How many at a time; 0 is all.
    pub parallelism: u64,
    /// How long to wait between groups.
    pub delay: Duration,
    /// What to do when too many new tasks fail.
    pub on_failure: FailureAction,
    /// How long a new task is watched.
    pub monitor: Duration,
    /// Which part of the tasks may fail, 0 to 1.
    pub max_failure_ratio: f32,
    /// Whether the old task goes first or the new one comes first.
    pub order: UpdateOrder,
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            on_failure: FailureAction::Pause,
            monitor: Duration::from_secs(5),
            max_failure_ratio: 0.0,
            order: UpdateOrder::StopFirst,
        }
    }
}

/// What to do when too many new tasks fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureAction {
    /// Stop exchanging.
    #[default]
    Pause,
    /// Go on.
    Continue,
    /// Go back to the spec before.
    Rollback,
}

/// Which of the two tasks of a slot goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The old one is stopped, then the new one started.
    #[default]
    StopFirst,
    /// The new one is started, then the old one stopped.
    StartFirst,
}

/// How a service is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSpec {
    /// What its name resolves to.
    pub resolution: ResolutionMode,
    /// Ports it publishes.
    pub ports: Vec<PublishedServicePort>,
}

/// What a service's name resolves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResolutionMode {
    /// One address that leads to any of its tasks.
    #[default]
    Vip,
    /// The addresses of its tasks.
    Dnsrr,
}

/// A port that a service publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedServicePort {
    /// Name, mostly empty.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port of the tasks.
    pub target: u16,
    /// Port of the nodes; 0 lets the allocator choose.
    pub published: u16,
    /// On which nodes.
    pub mode: PublishMode,
}

/// On which nodes a port is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PublishMode {
    /// On every node.
    #[default]
    Ingress,
    /// On the nodes that run a task.
    Host,
}

/// A service that exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Version and times.
    pub meta: Meta,
    /// What it shall be.
    pub spec: ServiceSpec,
    /// What it was to be before the last update, for a rollback.
    pub previous: Option<Box<ServiceSpec>>,
    /// Counts the specs that it has had, from 1; a rollback counts too. Tasks remember the one that they were made from.
    pub spec_version: u64,
    /// What the allocator has given it.
    pub endpoint: ServiceEndpoint,
    /// How the last update fares.
    pub update: Option<UpdateStatus>,
    /// Which run of the job this is; `None` of a service that is no job.
    pub job: Option<JobStatus>,
}

impl Service {
    /// A service as it is made at `now`: the first of its specs, to which nothing was given yet. A job begins its first run.
    pub fn new(id: ServiceId, spec: ServiceSpec, now: Timestamp) -> Self {
        let job = spec.mode.is_job().then_some(JobStatus { iteration: 0, last_execution: now });
        Self {
            id,
            meta: Meta { version: 0, created: now, updated: now },
            spec,
            previous: None,
            spec_version: 1,
            endpoint: ServiceEndpoint::default(),
            update: None,
            job,
        }
    }
}

/// A run of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Counts the runs, from 0; every update of the service begins another.
    pub iteration: u64,
    /// When it began.
    pub last_execution: Timestamp,
}

/// What the allocator has given a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceEndpoint {
    /// Its ports, with the chosen numbers.
    pub ports: Vec<PublishedServicePort>,
    /// Its address in each network.
    pub virtual_ips: Vec<(NetworkId, ipnet::IpNet)>,
}

/// How an update fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// How far it has come.
    pub state: UpdateState,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// A sentence for the user.
    pub message: String,
}

/// How far an update has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// Tasks are being exchanged.
    Updating,
    /// It has stopped because of failures.
    Paused,
    /// Every task is new.
    Completed,
    /// Tasks are being exchanged back.
    RollbackStarted,
    /// That has stopped because of failures.
    RollbackPaused,
    /// Every task is as before.
    RollbackCompleted,
}
