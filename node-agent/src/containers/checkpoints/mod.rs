//! The node's port for checkpoints: directories with what CRIU has written, beside the container's own files.
//!
//! Start reading at the implementation of [`Checkpoints`]. Who writes is the runtime of the container, asked by its shim, which
//! lets a checkpoint appear when it is whole; here it is decided who may. `criu.rs` says whether this machine can, `program.rs`
//! whether the runtime can, `shelf.rs` looks after the directories.

mod criu;
mod program;
mod shelf;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use node_shim::protocol::FailureKind;
use shoal_types::container::state::ContainerState;
use tokio::sync::oneshot;

use self::shelf::Place;
use super::config::RuntimeProgram;
use super::request::Request;
use super::{Engine, Handle, run_blocking};
use crate::api::checkpoints::{AfterCheckpoint, CheckpointName, CheckpointWish, Checkpoints};
use crate::api::containers::Containers as _;
use crate::crash_point::crash_point;
use crate::error::{ErrorChain, NodeError};
use crate::shim_client::{Shim, ShimError};

/// Directory of a container's checkpoints, among its files.
const DIRECTORY: &str = "checkpoints";
const NO_COMMAND_LINE: &str = "checkpoints need a runtime that works with CRIU, which the built-in one does not: register runc (--add-runtime NAME=runc) and make the container with --runtime NAME";

#[async_trait]
impl Checkpoints for Engine {
    async fn checkpoint(&self, name: &str, wish: CheckpointWish) -> Result<(), NodeError> {
        let handle = self.find(name)?;
        let shim = running_shim(&handle)?;
        self.require_criu(&handle).await?;
        self.write_down(handle, shim, name, wish).await
    }

    async fn checkpoints(&self, name: &str, root: Option<PathBuf>) -> Result<Vec<String>, NodeError> {
        let handle = self.find(name)?;
        match root {
            None => run_blocking(move || shelf::list_own(&handle.directory().join(DIRECTORY))).await?,
            Some(root) => {
                let container = name.to_owned();
                run_blocking(move || shelf::list_given(&root, &container)).await?
            }
        }
    }

    async fn remove_checkpoint(&self, name: &str, checkpoint: CheckpointName) -> Result<(), NodeError> {
        let place = place_of(&self.find(name)?, name, checkpoint);
        run_blocking(move || place.remove()).await?
    }

    async fn restore(&self, name: &str, checkpoint: CheckpointName) -> Result<(), NodeError> {
        let handle = self.find(name)?;
        if !matches!(handle.view().state, ContainerState::Created | ContainerState::Exited(_)) {
            // It cannot start, and says why.
            return self.start(name).await;
        }
        self.require_criu(&handle).await?;
        let place = place_of(&handle, name, checkpoint);
        let directory = run_blocking(move || place.find()).await??;
        let (reply, answer) = oneshot::channel();
        handle.send(Request::Restore(directory, reply))?;
        let outcome = answer.await.map_err(|_| NodeError::NoSuchContainer(handle.id().to_string()))?;
        outcome.map_err(|refusal| super::port::error_of(refusal, name))
    }
}

impl Engine {
    /// Refuses what cannot work on this machine or with this container's runtime.
    async fn require_criu(&self, handle: &Handle) -> Result<(), NodeError> {
        let config = self.shared.config();
        let view = handle.view();
        let runtime = view.spec.runtime.as_deref().unwrap_or(&config.default_runtime);
        match config.runtime(runtime) {
            Some(RuntimeProgram::CommandLine { path, arguments }) => {
                criu::require().await?;
                program::require(&path.to_string_lossy(), arguments).await
            }
            Some(RuntimeProgram::Embedded) | None => Err(NodeError::not_implemented(NO_COMMAND_LINE)),
        }
    }

    /// Makes a checkpoint, whether its caller stays or not.
    pub(super) async fn write_down(
        &self,
        handle: Handle,
        shim: Arc<dyn Shim>,
        name: &str,
        wish: CheckpointWish,
    ) -> Result<(), NodeError> {
        let CheckpointWish { checkpoint, after } = wish;
        let (name, place) = (name.to_owned(), place_of(&handle, name, checkpoint));
        let (done, outcome) = oneshot::channel();
        self.shared.spawn(async move {
            let made = make(shim.as_ref(), place, &name, after).await;
            if made.is_ok() {
                handle.emit("checkpoint", []);
            }
            // The client may have gone; the checkpoint is there all the same.
            let _ = done.send(made);
        });
        outcome.await.map_err(|_| NodeError::unavailable("the daemon is shutting down"))?
    }
}

async fn make(
    shim: &dyn Shim,
    place: Place,
    container: &str,
    after: AfterCheckpoint,
) -> Result<(), NodeError> {
    let place = run_blocking(move || place.prepare().map(|()| place)).await??;
    crash_point("checkpoint: place prepared");
    shim.checkpoint(place.path(), after).await.map_err(|error| match error {
        ShimError::Refused(failure) if failure.kind == FailureKind::AlreadyExists => place.exists(),
        error => {
            let message = format!("Cannot checkpoint container {container}: {}", ErrorChain(&error));
            NodeError::Refused { kind: error.kind(), message }
        }
    })?;
    crash_point("checkpoint: written");
    // What a client was told survives a crash of the machine.
    run_blocking(move || place.sync()).await?
}

fn running_shim(handle: &Handle) -> Result<Arc<dyn Shim>, NodeError> {
    let is_running = matches!(handle.view().state, ContainerState::Running(_) | ContainerState::Paused(_));
    let shim = handle.shim().filter(|_| is_running);
    shim.ok_or_else(|| NodeError::conflict(format!("container {} is not running", handle.id())))
}

/// `name` is what the client called the container.
fn place_of(handle: &Handle, name: &str, checkpoint: CheckpointName) -> Place {
    let root = checkpoint.root.unwrap_or_else(|| handle.directory().join(DIRECTORY));
    Place::new(root, checkpoint.name, name.to_owned())
}
