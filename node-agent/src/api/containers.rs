//! Ports: the life of containers, and what can be seen of them.
//!
//! Start reading at [`Containers`] for what changes a container and at [`ContainerViews`] for what only looks.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use shoal_types::container::health::{Health, HealthStatus};
use shoal_types::container::networking::PortSpec;
use shoal_types::container::resources::Resources;
use shoal_types::container::restart::RestartPolicy;
use shoal_types::container::spec::ContainerSpec;
use shoal_types::container::state::{
    ContainerState, EndpointStatus, MountPoint, PublishedPort, StartFailure,
};
use shoal_types::{ContainerId, ExecId, ImageId, SandboxId};

use super::images::Descriptor;
use super::{LabelFilter, Pruned};
use crate::error::NodeError;

/// The life of containers. Every change of one container is serialised by its owner task; changes of different
/// containers run at the same time.
#[async_trait]
pub trait Containers: Send + Sync {
    /// Makes a container that does not run yet: resolves the image, merges its configuration, reserves the name, makes
    /// volumes and the writable layer. On failure nothing is left and the name is free again. A missing image is
    /// [`NodeError::NoSuchImage`] and the only failure of kind *not found*.
    async fn create(&self, request: CreateContainer) -> Result<Created, NodeError>;

    /// Starts a container that does not run. Returns once the init process has been executed. A container that
    /// already runs is [`NodeError`] of kind *not modified*.
    async fn start(&self, name: &str) -> Result<(), NodeError>;

    /// Sends the stop signal, waits, kills. Goes on if the caller goes away. Not running is *not modified*.
    async fn stop(&self, name: &str, options: StopOptions) -> Result<(), NodeError>;

    /// Stops if necessary, then starts, as one change.
    async fn restart(&self, name: &str, options: StopOptions) -> Result<(), NodeError>;

    /// Sends a signal to the init process, by name or number; `None` is SIGKILL, which also waits for the exit.
    async fn kill(&self, name: &str, signal: Option<&str>) -> Result<(), NodeError>;

    /// Freezes all processes.
    async fn pause(&self, name: &str) -> Result<(), NodeError>;

    /// Thaws them.
    async fn unpause(&self, name: &str) -> Result<(), NodeError>;

    /// Gives a container another name.
    async fn rename(&self, name: &str, new_name: &str) -> Result<(), NodeError>;

    /// Changes limits and the restart policy, of a running container at once. Returns warnings.
    async fn update(&self, name: &str, update: ContainerUpdate) -> Result<Vec<String>, NodeError>;

    /// Removes a container and what belongs to it alone.
    async fn remove(&self, name: &str, options: RemoveOptions) -> Result<(), NodeError>;

    /// Registers interest in an exit. The interest exists when this returns, before anything is awaited; dropping
    /// the returned future ends it.
    async fn wait(&self, name: &str, condition: WaitCondition) -> Result<ExitFuture, NodeError>;

    /// Removes containers that do not run. A second call while one is under way is a conflict.
    async fn prune(&self, filter: PruneFilter) -> Result<Pruned, NodeError>;
}

/// What can be seen of containers. Reads never wait for a change under way.
#[async_trait]
pub trait ContainerViews: Send + Sync {
    /// Those that pass the query, newest first.
    async fn list(&self, query: ListQuery) -> Result<Vec<Listed>, NodeError>;

    /// One container, as it was last published by its owner.
    async fn inspect(&self, name: &str) -> Result<Arc<ContainerView>, NodeError>;

    /// One container as it is now and after each change; ends with its removal. Changes that come faster than they are read
    /// may be skipped, the newest never.
    async fn follow(&self, name: &str) -> Result<BoxStream<'static, Arc<ContainerView>>, NodeError>;

    /// Bytes of the writable layer, and of the whole root file system.
    async fn sizes(&self, name: &str) -> Result<RootSizes, NodeError>;

    /// The processes, as `ps` with these arguments shows them, restricted to the container's.
    async fn top(&self, name: &str, ps_args: &str) -> Result<ProcessTable, NodeError>;
}

/// A wish for a new container.
#[derive(Debug, Clone)]
pub struct CreateContainer {
    /// Wished name, with or without a leading slash; `None` lets the engine invent one.
    pub name: Option<String>,
    /// What it shall be, before the image's configuration is merged.
    pub spec: ContainerSpec,
    /// The client's request after version shims, opaque to the engine, given back by [`ContainerView::requested`].
    pub requested: Arc<str>,
}

/// A container that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: ContainerId,
    /// What was asked for and could not be had, in sentences for the user.
    pub warnings: Vec<String>,
}

/// How to stop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopOptions {
    /// Signal instead of the container's own.
    pub signal: Option<String>,
    /// Seconds until SIGKILL instead of the container's own; negative waits for ever.
    pub timeout: Option<i64>,
}

/// What to change of a container. `None` and zero values leave a field as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerUpdate {
    /// Limits; a zero field is left as it is.
    pub resources: Resources,
    /// Restart policy.
    pub restart: Option<RestartPolicy>,
    /// The client's request, opaque; merged by the front end into what inspect shows.
    pub requested: Option<Arc<str>>,
}

/// How to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemoveOptions {
    /// Whether a running container is killed first.
    pub running: OfRunning,
    /// What happens to its anonymous volumes.
    pub volumes: OfVolumes,
    /// Whether only the link with this name goes.
    pub target: RemoveTarget,
}

/// What to do with a container that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OfRunning {
    /// Refuse to remove it.
    #[default]
    Refuse,
    /// Kill it.
    Kill,
}

/// What to do with anonymous volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OfVolumes {
    /// They stay.
    #[default]
    Keep,
    /// They go. Named ones always stay.
    RemoveAnonymous,
}

/// What a removal is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RemoveTarget {
    /// The container.
    #[default]
    Container,
    /// The link `/parent/alias`.
    Link,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// That it does not run: at once if it does not.
    #[default]
    NotRunning,
    /// The next exit, even of a container that was not started yet.
    NextExit,
    /// Its removal.
    Removed,
}

/// Resolves with the exit that was waited for.
pub type ExitFuture = Pin<Box<dyn Future<Output = Result<ExitReport, NodeError>> + Send>>;

/// What a wait reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitReport {
    /// The exit code.
    pub code: i32,
    /// What went wrong beside the exit, such as a failed removal.
    pub error: Option<String>,
}

/// Which stopped containers to prune.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PruneFilter {
    /// Labels.
    pub labels: LabelFilter,
    /// Only those made before.
    pub until: Option<Timestamp>,
}

/// Which containers to list. Empty lists do not restrict.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Whether those that do not run are listed too.
    pub all: bool,
    /// Only so many of the newest; implies `all`.
    pub limit: Option<usize>,
    /// Whether sizes are computed, which walks the file system.
    pub with_sizes: bool,
    /// Restrictions.
    pub filter: ContainerFilter,
}

/// Restrictions on containers. Within a field one value must match; all fields must.
#[derive(Debug, Clone, Default)]
pub struct ContainerFilter {
    /// Id prefixes or patterns.
    pub ids: Vec<String>,
    /// Regular expressions, tried on the name with and without its slash.
    pub names: Vec<String>,
    /// Labels.
    pub labels: LabelFilter,
    /// Names of states; implies `all`.
    pub statuses: Vec<String>,
    /// Exit codes.
    pub exited: Vec<i32>,
    /// Images by reference, id or digest, and what was built on them.
    pub ancestors: Vec<String>,
    /// Made before this container.
    pub before: Vec<String>,
    /// Made after this container.
    pub since: Vec<String>,
    /// Names of volumes or destinations of mounts.
    pub volumes: Vec<String>,
    /// Names, ids or id prefixes of networks.
    pub networks: Vec<String>,
    /// Published ports, inclusive ranges of the port inside.
    pub published: Vec<PortRange>,
    /// Exposed ports, inclusive ranges.
    pub exposed: Vec<PortRange>,
    /// Verdicts of the health check; `None` inside is "has no health check".
    pub health: Vec<Option<HealthStatus>>,
    /// Whether it belongs to a task of the cluster.
    pub is_task: Option<bool>,
}

/// Ports from `first` to `last`, of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// First port.
    pub first: PortSpec,
    /// Last port number.
    pub last: u16,
}

/// One entry of a list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The container.
    pub view: Arc<ContainerView>,
    /// Its sizes, if they were asked for.
    pub sizes: Option<RootSizes>,
}

/// Sizes of a root file system in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RootSizes {
    /// What the container has written.
    pub writable: u64,
    /// Everything, the image's layers included.
    pub total: u64,
}

/// Output of `ps`, split into columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessTable {
    /// Headings.
    pub titles: Vec<String>,
    /// One row for each process of the container.
    pub processes: Vec<Vec<String>>,
}

/// A container as its owner last published it. Immutable; a change publishes a new one.
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// Grows with every publication of any container; the same number means the same content.
    pub version: u64,
    /// Its id.
    pub id: ContainerId,
    /// Its name, without slash.
    pub name: String,
    /// Names under which others link to it, `parent/alias`, without leading slash.
    pub link_names: Vec<String>,
    /// Whom it links to, under the names that they have now.
    pub links: Vec<LinkView>,
    /// When it was made.
    pub created: Timestamp,
    /// The resolved image. The tag may have moved since. `None` when it was made without an image.
    pub image_id: Option<ImageId>,
    /// The manifest that was chosen from the image, if it is known.
    pub image_manifest: Option<Descriptor>,
    /// Reference to show in lists: as the client wrote it while it still means the same image, else the id.
    pub image_shown: String,
    /// What it shall be: the request with the image's configuration merged and defaults filled in.
    pub spec: Arc<ContainerSpec>,
    /// What the client had sent, after version shims; opaque.
    pub requested: Arc<str>,
    /// Program that runs, and its arguments.
    pub command: Vec<String>,
    /// What it is.
    pub state: ContainerState,
    /// Why the last start failed, whatever the state.
    pub start_failure: Option<StartFailure>,
    /// How often the restart policy has started it since the user did.
    pub restart_count: u32,
    /// What the health check has found; `None` without one.
    pub health: Option<Health>,
    /// Its network namespace, while there is one.
    pub sandbox: Option<SandboxView>,
    /// Its networks by name.
    pub endpoints: BTreeMap<String, EndpointStatus>,
    /// Ports that lead to it now.
    pub published: Vec<PublishedPort>,
    /// Its mounts.
    pub mounts: Vec<MountPoint>,
    /// Commands that run in it now.
    pub exec_ids: Vec<ExecId>,
    /// Where its files are on the host.
    pub paths: ContainerPaths,
    /// Names of the OCI runtime, storage driver and profiles that are in effect.
    pub effective: EffectiveSettings,
}

/// A link of the old kind to another container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// The other container's present name, without slash.
    pub target: String,
    /// What it is called inside this one.
    pub alias: String,
}

/// A network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxView {
    /// Its id.
    pub id: SandboxId,
    /// Path at which it is pinned.
    pub key: String,
}

/// Where a container's files are on the host. Empty when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerPaths {
    /// resolv.conf.
    pub resolv_conf: String,
    /// hostname.
    pub hostname: String,
    /// hosts.
    pub hosts: String,
    /// The log, for drivers that write a file.
    pub log: String,
    /// Writable directory of the root file system.
    pub upper_dir: String,
    /// The layers below it, topmost first.
    pub lower_dirs: Vec<String>,
    /// Work directory of the overlay.
    pub work_dir: String,
    /// Where the root file system would be mounted.
    pub merged_dir: String,
}

/// What defaults and the host made of the wishes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EffectiveSettings {
    /// Name of the OCI runtime.
    pub runtime: String,
    /// Name of the log driver.
    pub log_driver: String,
    /// Options of the log driver.
    pub log_options: BTreeMap<String, String>,
    /// Name of the storage driver.
    pub storage_driver: String,
    /// Name of the AppArmor profile; empty where the kernel has none.
    pub apparmor_profile: String,
    /// SELinux label of the process; empty where the kernel has none.
    pub process_label: String,
    /// SELinux label of the mounts; empty where the kernel has none.
    pub mount_label: String,
    /// Paths hidden inside.
    pub masked_paths: Vec<String>,
    /// Paths read-only inside.
    pub readonly_paths: Vec<String>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// Seconds between the stop signal and SIGKILL when the container has none of its own.
    pub stop_timeout: i64,
}
