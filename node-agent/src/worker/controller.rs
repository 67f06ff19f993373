//! One task's container: what each step does, by the ports that the API uses too.
//!
//! Start reading at [`Controller`]. Every method may be repeated after a crash: what exists already is found by its name and taken
//! over. Nothing is decided here, and no state of the task is kept.

use std::fmt;
use std::sync::Arc;

use futures_util::StreamExt as _;
use registry_client::{AuthConfig, Credentials};
use shoal_types::cluster::service::{PublishMode, PublishedServicePort};
use shoal_types::cluster::task::{Task, TaskContainer};
use shoal_types::container::health::HealthStatus;
use shoal_types::container::mounts::{MissingSource, MountSource};
use shoal_types::container::spec::ContainerSpec;
use shoal_types::container::state::ContainerState;
use shoal_types::{ContainerId, Digest, ErrorKind, ImageRef};
use tokio::sync::Semaphore;

use super::TaskFiles;
use super::assignments::Dependencies;
use super::container::{self, LABEL_TASK_ID, SpecError, container_of, grace_seconds};
use super::files::{self, FileError};
use super::overlays::Overlays;
use super::values::NodeFacts;
use crate::api::Node;
use crate::api::containers::{
    ContainerView, ContainerViews, Containers, CreateContainer, OfRunning, OfVolumes, RemoveOptions,
    RemoveTarget, StopOptions,
};
use crate::api::images::{ImageTransfers, Images, PullRequest};
use crate::api::streams::ContainerStreams;
use crate::error::NodeError;

/// What the engine says of a container whose health check has failed, in moby's words.
const UNHEALTHY: &str = "dockerexec: unhealthy container";

/// Writes down what a container was asked to be, for those who inspect it. The engine stores the text without looking inside.
pub type DescribeRequest = fn(&ContainerSpec) -> String;

/// Why a step of a task failed. The texts are swarm's, because users read them in lists of tasks.
#[derive(Debug, thiserror::Error)]
pub(super) enum TaskError {
    /// The container has ended.
    #[error("task: non-zero exit ({code}){}", cause.as_deref().map(|cause| format!(": {cause}")).unwrap_or_default())]
    Exit {
        /// Its code.
        code: i32,
        /// Why, if the engine knows more than the code.
        cause: Option<String>,
    },
    /// The engine could not start it.
    #[error("starting container failed: {}", .0.message())]
    Start(NodeError),
    /// The engine refused or failed.
    #[error("{}", .0.message())]
    Node(#[from] NodeError),
    /// The task cannot be a container.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Its files cannot be had.
    #[error(transparent)]
    Files(#[from] FileError),
    /// Its image is not here and cannot be pulled. The task is over: its service's restart policy says what comes of that.
    #[error("{}", .0.message())]
    Pull(NodeError),
    /// A bound path is not there.
    #[error("invalid bind mount source, source path not found: {0}")]
    BindSource(String),
    /// Its container has disappeared.
    #[error("No such container: {0}")]
    Gone(String),
}

impl TaskError {
    /// Whether the same step may succeed a moment later.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Node(error) | Self::Start(error) => error.kind() == ErrorKind::Unavailable,
            _ => false,
        }
    }

    /// The exit code, if there is one.
    pub(super) fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Exit { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// The ports by which tasks act.
#[derive(Clone)]
pub(super) struct Ports {
    pub(super) containers: Arc<dyn Containers>,
    pub(super) views: Arc<dyn ContainerViews>,
    pub(super) streams: Arc<dyn ContainerStreams>,
    pub(super) images: Arc<dyn Images>,
    pub(super) transfers: Arc<dyn ImageTransfers>,
}

impl Ports {
    /// Those of a node.
    pub(super) fn of(node: &Node) -> Self {
        Self {
            containers: Arc::clone(&node.containers),
            views: Arc::clone(&node.views),
            streams: Arc::clone(&node.streams),
            images: Arc::clone(&node.images),
            transfers: Arc::clone(&node.transfers),
        }
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// What tasks share: the node they run on.
#[derive(Debug)]
pub(super) struct Host {
    /// The ports.
    pub(super) ports: Ports,
    /// What the node says of itself in templates.
    pub(super) facts: NodeFacts,
    /// Where files of tasks are, in memory.
    pub(super) files: TaskFiles,
    /// What writes requests down.
    pub(super) describe: DescribeRequest,
    /// How many containers are made or started at once.
    pub(super) starts: Semaphore,
    /// Networks of the cluster.
    pub(super) overlays: Arc<dyn Overlays>,
}

/// What a container looked like when a step was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    /// The container.
    pub(super) container: TaskContainer,
    /// Ports of the node that lead to it.
    pub(super) host_ports: Vec<PublishedServicePort>,
}

/// Acts for one task.
#[derive(Debug, Clone)]
pub(super) struct Controller {
    host: Arc<Host>,
}

impl Controller {
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self { host }
    }

    /// Fetches the image, makes files and container.
    pub(super) async fn prepare(
        &self,
        task: &Task,
        dependencies: &Dependencies,
    ) -> Result<Sighting, TaskError> {
        if let Some(view) = self.find(task).await? {
            return Ok(sighting(task, &view));
        }
        let facts = &self.host.facts;
        // Before the image is fetched: what cannot work is told at once.
        let wanted = files::wanted_files(task, dependencies, facts)?;
        check_mounts(&container_of(task, facts, &dependencies.networks, Vec::new())?).await?;
        for attachment in &task.networks {
            if let Some(network) = dependencies.networks.get(&attachment.network) {
                self.host.overlays.make(network).await?;
            }
        }
        self.fetch(task).await.map_err(TaskError::Pull)?;
        let directory = files::directory_of(&self.host.files.directory, task.id);
        let ids = self.host.files.ids.clone();
        let mounts = run_blocking(move || files::place(&directory, &wanted, &ids)).await??;
        let spec = container_of(task, facts, &dependencies.networks, mounts)?;
        let requested = (self.host.describe)(&spec).into();
        let request = CreateContainer { name: Some(task.name()), spec, requested };
        let _turn = self.host.starts.acquire().await;
        let created = self.host.ports.containers.create(request).await?;
        tracing::debug!(task.id = %task.id, container.id = %created.id, "task has its container");
        let container = TaskContainer { id: created.id, pid: 0, exit_code: 0 };
        Ok(Sighting { container, host_ports: Vec::new() })
    }

    /// Starts the container. With a health check it returns when the first verdict is good; with a bad one it stops the
    /// container and fails. A container that has run already, before a crash, is not run a second time.
    pub(super) async fn start(&self, task: &Task) -> Result<Sighting, TaskError> {
        match self.find(task).await? {
            Some(view) if matches!(view.state, ContainerState::Exited(_)) => {
                ending(&view).unwrap_or(Ok(())).map(|()| sighting(task, &view))
            }
            _ => self.start_again(task).await,
        }
    }

    /// Starts the container whether or not it has run before.
    pub(super) async fn start_again(&self, task: &Task) -> Result<Sighting, TaskError> {
        {
            let _turn = self.host.starts.acquire().await;
            match self.host.ports.containers.start(&task.name()).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotModified => {}
                Err(error) => return Err(TaskError::Start(error)),
            }
        }
        self.until(task, |view| match &view.health {
            Some(health) => health.status != HealthStatus::Starting,
            None => true,
        })
        .await
    }

    /// Waits for the end of the container: `Ok` when it was a success, an error that says how it ended otherwise.
    pub(super) async fn wait(&self, task: &Task) -> Result<Sighting, TaskError> {
        self.until(task, |_| false).await
    }

    /// Stops the container; one that does not run, or is not there, is stopped already.
    pub(super) async fn shut_down(&self, task: &Task) -> Result<Option<Sighting>, TaskError> {
        let options = StopOptions { signal: None, timeout: Some(grace_seconds(task)) };
        match self.host.ports.containers.stop(&task.name(), options).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotModified | ErrorKind::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.find(task).await?.map(|view| sighting(task, &view)))
    }

    /// Removes the container with all that belongs to it alone, running or not.
    pub(super) async fn remove(&self, task: &Task) -> Result<(), TaskError> {
        if let Some(view) = self.find(task).await? {
            remove_container(&self.host.ports, view.id).await?;
        }
        let directory = files::directory_of(&self.host.files.directory, task.id);
        let cleared = run_blocking(move || files::clear(&directory)).await?;
        Ok(cleared.map_err(|source| NodeError::failed("take secrets and configs away", source))?)
    }

    /// The task's container. Another one that happens to have the name is not it.
    async fn find(&self, task: &Task) -> Result<Option<Arc<ContainerView>>, NodeError> {
        match self.host.ports.views.inspect(&task.name()).await {
            Ok(view) if view.spec.labels.get(LABEL_TASK_ID) == Some(&task.id.to_string()) => Ok(Some(view)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows the container until a condition holds or it has ended, and stops it when its health check fails.
    async fn until(
        &self,
        task: &Task,
        is_met: impl Fn(&ContainerView) -> bool,
    ) -> Result<Sighting, TaskError> {
        let name = task.name();
        let mut views = match self.host.ports.views.follow(&name).await {
            Ok(views) => views,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(TaskError::Gone(name)),
            Err(error) => return Err(error.into()),
        };
        while let Some(view) = views.next().await {
            if let Some(ended) = ending(&view) {
                return ended.map(|()| sighting(task, &view));
            }
            if is_unhealthy(&view) {
                return Err(self.stop_unhealthy(task).await);
            }
            if is_met(&view) {
                return Ok(sighting(task, &view));
            }
        }
        Err(TaskError::Gone(name))
    }

    async fn stop_unhealthy(&self, task: &Task) -> TaskError {
        let code = match self.shut_down(task).await {
            Ok(sighting) => sighting.map_or(-1, |sighting| sighting.container.exit_code),
            Err(error) => {
                tracing::warn!(task.id = %task.id, %error, "unhealthy container does not stop");
                -1
            }
        };
        TaskError::Exit { code, cause: Some(UNHEALTHY.to_owned()) }
    }

    /// Pulls the image, unless it is pinned to a digest that is here. A failure is not the end where an image of that name is
    /// here, or where nobody can say whether it is: then the creation tells.
    async fn fetch(&self, task: &Task) -> Result<(), NodeError> {
        let image = &task.template.container.image;
        // An id names an image that is here, or none.
        if image.parse::<Digest>().is_ok() {
            return Ok(());
        }
        let Ok(reference) = ImageRef::parse(image) else { return Ok(()) };
        let reference = reference.with_default_tag();
        let found = self.host.ports.images.inspect(image, None).await;
        if found.is_ok() && reference.digest().is_some() {
            return Ok(());
        }
        let Err(error) = self.pull(task, reference).await else { return Ok(()) };
        tracing::info!(task.id = %task.id, image, error = error.message(), "image of a task cannot be pulled");
        match found {
            Err(missing) if missing.kind() == ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn pull(&self, task: &Task, reference: ImageRef) -> Result<(), NodeError> {
        let request = PullRequest { reference, platform: None, credentials: credentials(task) };
        let mut progress = self.host.ports.transfers.pull(request).await?;
        let mut outcome = Ok(());
        while let Some(step) = progress.next().await {
            if let Err(error) = step {
                outcome = Err(error);
            }
        }
        outcome
    }
}

/// Removes a container whatever its state, with its anonymous volumes. One that is gone is not missed.
pub(super) async fn remove_container(ports: &Ports, id: ContainerId) -> Result<(), NodeError> {
    let options = RemoveOptions {
        running: OfRunning::Kill,
        volumes: OfVolumes::RemoveAnonymous,
        target: RemoveTarget::Container,
    };
    match ports.containers.remove(&id.to_string(), options).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What the registry is told, if the service has said. What cannot be read counts as nothing, as with a plain pull.
fn credentials(task: &Task) -> Option<Credentials> {
    let header = std::str::from_utf8(&task.template.credentials.as_ref()?.0).ok()?;
    AuthConfig::from_header(header).ok().map(|auth| auth.credentials())
}

/// Bound paths must exist before the task is started; nobody makes them on a node that the user may never have seen.
async fn check_mounts(spec: &ContainerSpec) -> Result<(), TaskError> {
    for mount in &spec.mounts {
        let MountSource::Bind { path, missing: MissingSource::Refuse, .. } = &mount.source else { continue };
        if tokio::fs::symlink_metadata(path).await.is_err() {
            return Err(TaskError::BindSource(path.clone()));
        }
    }
    Ok(())
}

/// How a container has ended, if it has.
fn ending(view: &ContainerView) -> Option<Result<(), TaskError>> {
    let ended = |code: i32, cause: &str| {
        let cause = Some(cause.to_owned()).filter(|cause| !cause.is_empty());
        if code == 0 && cause.is_none() { Ok(()) } else { Err(TaskError::Exit { code, cause }) }
    };
    match &view.state {
        ContainerState::Exited(exit) => Some(ended(exit.code, &exit.error)),
        ContainerState::Removing { last } | ContainerState::Dead { last, .. } => Some(match last {
            Some(exit) => ended(exit.code, &exit.error),
            None => Err(TaskError::Gone(view.name.clone())),
        }),
        ContainerState::Created => {
            let failure = view.start_failure.as_ref()?;
            Some(Err(TaskError::Exit { code: failure.code, cause: Some(failure.error.clone()) }))
        }
        ContainerState::Running(_) | ContainerState::Paused(_) | ContainerState::Restarting { .. } => None,
    }
}

fn is_unhealthy(view: &ContainerView) -> bool {
    view.health.as_ref().is_some_and(|health| health.status == HealthStatus::Unhealthy)
}

fn sighting(task: &Task, view: &ContainerView) -> Sighting {
    let run = view.state.run();
    let container = TaskContainer {
        id: view.id,
        pid: run.map_or(0, |run| run.pid),
        exit_code: view.state.last_exit().filter(|_| run.is_none()).map_or(0, |exit| exit.code),
    };
    Sighting { container, host_ports: host_ports(task, view) }
}

/// Which ports of the node lead to the container, with the numbers that were drawn.
fn host_ports(task: &Task, view: &ContainerView) -> Vec<PublishedServicePort> {
    let wanted = task.endpoint.ports.iter().filter(|port| port.mode == PublishMode::Host);
    wanted
        .filter_map(|port| {
            let leading_there = view.published.iter().filter(|published| {
                let inside = published.container_port;
                inside.port == port.target && inside.protocol == port.protocol
            });
            let found = leading_there
                .filter_map(|published| published.host_port)
                .find(|number| port.published == 0 || *number == port.published)?;
            Some(PublishedServicePort { published: found, ..port.clone() })
        })
        .collect()
}

async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| NodeError::failed("work on files of a task", error))
}

/// Time that a stop may take at most, the container's grace included.
pub(super) fn stop_limit(task: &Task) -> std::time::Duration {
    container::grace(task) + std::time::Duration::from_secs(30)
}
