//! The node's port for the life of containers: names are looked up, wishes handed to owners, refusals put into words.
//!
//! Start reading at the implementation of [`Containers`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use shoal_types::ErrorKind;
use shoal_types::container::spec::ContainerSpec;
use shoal_types::container::state::ContainerState;
use tokio::sync::oneshot;

use super::lifecycle::{Refusal, StopPlan};
use super::request::{LifeWish, Request};
use super::{Engine, Handle, names, signal, wait};
use crate::api::Pruned;
use crate::api::containers::{
    ContainerUpdate, Containers, CreateContainer, Created, ExitFuture, PruneFilter, RemoveOptions,
    RemoveTarget, StopOptions, WaitCondition,
};
use crate::error::NodeError;
use crate::figures::Action;

#[async_trait]
impl Containers for Engine {
    async fn create(&self, request: CreateContainer) -> Result<Created, NodeError> {
        let (done, outcome) = oneshot::channel();
        let (shared, start) = (Arc::clone(&self.shared), Instant::now());
        self.shared.spawn(async move {
            let created = shared.create(request).await;
            let created = shared.seams.figures.noted(Action::ContainerCreate, start, created);
            // The client may have gone; the container is there all the same.
            let _ = done.send(created);
        });
        outcome.await.map_err(|_| NodeError::unavailable("the daemon is shutting down"))?
    }

    async fn start(&self, name: &str) -> Result<(), NodeError> {
        let (handle, start) = (self.find(name)?, Instant::now());
        let started = handle.ask(LifeWish::Start).await?;
        let started = self.shared.seams.figures.noted(Action::ContainerStart, start, started);
        started.map_err(|refusal| error_of(refusal, name))
    }

    async fn stop(&self, name: &str, options: StopOptions) -> Result<(), NodeError> {
        let handle = self.find(name)?;
        let plan = self.stop_plan(&handle.view().spec, &options)?;
        let outcome = handle.ask(LifeWish::Stop(plan)).await?;
        outcome.map_err(|refusal| {
            internal(refusal, name, |text| format!("cannot stop container: {name}: {text}"))
        })
    }

    async fn restart(&self, name: &str, options: StopOptions) -> Result<(), NodeError> {
        let handle = self.find(name)?;
        let in_words = |text: &str| format!("Cannot restart container {name}: {text}");
        let plan = self.stop_plan(&handle.view().spec, &options)?;
        let outcome = handle.ask(LifeWish::Restart(plan)).await?;
        // Docker answers every failure of a restart with 500.
        outcome.map_err(|refusal| NodeError::Refused {
            kind: ErrorKind::Internal,
            message: in_words(&error_of(refusal, name).message()),
        })
    }

    async fn kill(&self, name: &str, signal: Option<&str>) -> Result<(), NodeError> {
        let number = signal.filter(|name| !name.is_empty()).map_or(Ok(signal::SIGKILL), signal::parse)?;
        let handle = self.find(name)?;
        let outcome = handle.ask(LifeWish::Kill(number)).await?;
        outcome.map_err(|refusal| {
            let error = error_of(refusal, name);
            let message = format!("cannot kill container: {name}: {}", error.message());
            NodeError::Refused { kind: error.kind(), message }
        })
    }

    async fn pause(&self, name: &str) -> Result<(), NodeError> {
        let handle = self.find(name)?;
        handle.ask(LifeWish::Pause).await?.map_err(|refusal| error_of(refusal, name))
    }

    async fn unpause(&self, name: &str) -> Result<(), NodeError> {
        let handle = self.find(name)?;
        handle.ask(LifeWish::Unpause).await?.map_err(|refusal| error_of(refusal, name))
    }

    async fn rename(&self, name: &str, new_name: &str) -> Result<(), NodeError> {
        let is_empty = |name: &str| name.trim().trim_start_matches('/').is_empty();
        if is_empty(name) || is_empty(new_name) {
            return Err(NodeError::invalid("Neither old nor new names may be empty"));
        }
        let handle = self.find(name.trim())?;
        let new_name = names::check(new_name.trim())
            .map_err(|error| NodeError::invalid(format!("Error when allocating new name: {error}")))?;
        let (reply, outcome) = oneshot::channel();
        handle.send(Request::Rename(new_name.to_owned(), reply))?;
        super::answered(outcome).await
    }

    async fn update(&self, name: &str, update: ContainerUpdate) -> Result<Vec<String>, NodeError> {
        let handle = self.find(name)?;
        let (reply, outcome) = oneshot::channel();
        handle.send(Request::Update(Box::new(update), reply))?;
        super::answered(outcome).await.map_err(|error| NodeError::Refused {
            kind: error.kind(),
            message: format!("Cannot update container {name}: {}", error.message()),
        })
    }

    async fn remove(&self, name: &str, options: RemoveOptions) -> Result<(), NodeError> {
        if options.target == RemoveTarget::Link {
            return self.remove_link(name).await;
        }
        let handle = self.find(name)?;
        if matches!(handle.view().state, ContainerState::Removing { .. }) {
            return Err(error_of(Refusal::RemovalInProgress, name));
        }
        let start = Instant::now();
        let outcome = handle.ask(LifeWish::Remove(options.running, options.volumes)).await?;
        let outcome = self.shared.seams.figures.noted(Action::ContainerDelete, start, outcome);
        outcome.map_err(|refusal| match refusal {
            Refusal::RemovalInProgress => error_of(refusal, name),
            refusal => {
                let error = error_of(refusal, name);
                let message = format!("cannot remove container \"{name}\": {}", error.message());
                NodeError::Refused { kind: error.kind(), message }
            }
        })
    }

    async fn wait(&self, name: &str, condition: WaitCondition) -> Result<ExitFuture, NodeError> {
        Ok(wait::wait(self.find(name)?.subscribe(), condition))
    }

    async fn prune(&self, filter: PruneFilter) -> Result<Pruned, NodeError> {
        self.prune_containers(filter).await
    }
}

impl Engine {
    /// What a stop means for a container: its own signal and time unless the caller says otherwise.
    fn stop_plan(&self, spec: &ContainerSpec, options: &StopOptions) -> Result<StopPlan, NodeError> {
        let named = options.signal.as_deref().filter(|name| !name.is_empty());
        let signal = match named {
            Some(name) => signal::parse(name)?,
            None => self.shared.rules(spec).stop_signal.number(),
        };
        let seconds =
            options.timeout.or(spec.process.stop_timeout).unwrap_or(self.shared.config().stop_timeout);
        let grace = u64::try_from(seconds).ok().map(Duration::from_secs);
        Ok(StopPlan { signal, grace })
    }

    /// Removes the link `/parent/alias`; both containers stay.
    async fn remove_link(&self, name: &str) -> Result<(), NodeError> {
        let bare = name.trim_start_matches('/');
        let Some((parent, alias)) = bare.split_once('/') else {
            self.find(name)?;
            return Err(NodeError::conflict(
                "Conflict, cannot remove the default link name of the container",
            ));
        };
        let missing = || {
            NodeError::failed(
                "remove a link",
                io_other(format!("Cannot get parent /{parent} for link name /{bare}")),
            )
        };
        let parent: Handle = self.find(parent).map_err(|_| missing())?;
        let (reply, outcome) = oneshot::channel();
        parent.send(Request::Unlink(alias.to_owned(), reply))?;
        super::answered(outcome).await
    }

    /// Removes containers that do not run, one after the other.
    async fn prune_containers(&self, filter: PruneFilter) -> Result<Pruned, NodeError> {
        let Ok(_pruning) = self.shared.pruning.try_lock() else {
            return Err(NodeError::conflict("a prune operation is already running"));
        };
        let mut pruned = Pruned::default();
        for slot in self.shared.slots() {
            let view = slot.view();
            let is_stopped = matches!(
                view.state,
                ContainerState::Created | ContainerState::Exited(_) | ContainerState::Dead { .. }
            );
            let is_old = filter.until.is_none_or(|until| view.created < until);
            let matches = filter.labels.matches(|key| view.spec.labels.get(key).map(String::as_str));
            if !is_stopped || !is_old || !matches {
                continue;
            }
            let size = self.shared.seams.images.rootfs_sizes(view.id).await.map_or(0, |sizes| sizes.writable);
            // One that was started or removed meanwhile is left out.
            if self.remove(&view.id.to_string(), RemoveOptions::default()).await.is_ok() {
                pruned.removed.push(view.id.to_string());
                pruned.reclaimed = pruned.reclaimed.saturating_add(size);
            }
        }
        let attributes = [("reclaimed".to_owned(), pruned.reclaimed.to_string())].into();
        self.shared.seams.events.publish(crate::api::events::EventKind::Container, "prune", "", attributes);
        Ok(pruned)
    }
}

fn io_other(text: String) -> std::io::Error {
    std::io::Error::other(text)
}

/// A refusal in Docker's words. `name` is what the client called the container.
pub(super) fn error_of(refusal: Refusal, name: &str) -> NodeError {
    match refusal {
        Refusal::NotModified => NodeError::NotModified,
        Refusal::Conflict(message) => NodeError::conflict(message),
        Refusal::Impossible(message) => NodeError::Refused { kind: ErrorKind::Internal, message },
        Refusal::Failed(message) => {
            tracing::error!(container.name = name, error = message, "a container did not do as it was told");
            NodeError::Refused { kind: ErrorKind::Internal, message }
        }
        Refusal::StartFailed(failure) => NodeError::Refused { kind: failure.kind, message: failure.error },
        Refusal::RemovalInProgress => {
            NodeError::conflict(format!("removal of container {name} is already in progress"))
        }
    }
}

/// A refusal that Docker answers with 500 and words around it, unless nothing had to be done.
fn internal(refusal: Refusal, name: &str, in_words: impl Fn(&str) -> String) -> NodeError {
    match error_of(refusal, name) {
        NodeError::NotModified => NodeError::NotModified,
        error => NodeError::Refused { kind: ErrorKind::Internal, message: in_words(&error.message()) },
    }
}
