//! The node's port for what flows in and out of containers.
//!
//! Start reading at the implementation of [`ContainerStreams`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{BoxStream, StreamExt as _};
use node_shim::protocol::{self, ConsoleSize, Target};
use shoal_types::container::state::ContainerState;
use tokio::io::AsyncRead;
use tokio::sync::{oneshot, watch};
use tokio_util::io::StreamReader;

use super::attach::detach::DetachKeys;
use super::attach::{self, Attached};
use super::lifecycle::is_restarting;
use super::request::Request;
use super::slot::{Presence, Published};
use super::{Engine, Handle};
use crate::api::containers::ContainerView;
use crate::api::streams::{
    AttachRequest, Attachment, ContainerStreams, Framing, LogQuery, Logs, Replay, StatsMode, StatsSample,
};
use crate::error::NodeError;
use crate::logs::read::{self, Growth, Wanted};
use crate::runtime::launch;

/// How long the end of the output waits for the exit: far longer than a teardown takes, and not for ever, because a
/// container may close its output and go on.
const LONGEST_EXIT: Duration = Duration::from_secs(10);

#[async_trait]
impl ContainerStreams for Engine {
    async fn attach(&self, name: &str, request: AttachRequest) -> Result<Attachment, NodeError> {
        let handle = self.find(name)?;
        let view = handle.view();
        require_attachable(&view, name)?;
        let keys = match request.detach_keys.as_deref().filter(|keys| !keys.is_empty()) {
            Some(keys) => DetachKeys::parse(keys)?,
            None => DetachKeys::parse(&self.shared.config().detach_keys)?,
        };
        let tty = view.spec.process.tty;
        let stdin = request.stdin && view.spec.process.open_stdin;
        let framing = match request.framing {
            Framing::Multiplexed if !tty => protocol::Framing::Multiplexed,
            Framing::Multiplexed | Framing::Raw => protocol::Framing::Raw,
        };
        // The live stream first: what is written meanwhile comes twice rather than not at all.
        let attached =
            if request.live { Some(self.open_streams(&handle, &request, framing).await?) } else { None };
        let replay = match request.replay {
            Replay::Log => Some(self.replay(&handle, &request, framing).await?),
            Replay::Nothing => None,
        };
        self.shared.emit(&view, "attach", []);
        // Of a container that removes itself there is nothing to ask afterwards: its client is not held up.
        let is_asked_for = attached.is_some() && !view.spec.auto_remove;
        let exited = is_asked_for.then(|| exited(handle.clone()));
        let shared = Arc::clone(&self.shared);
        let on_detach = Box::new(move || shared.emit(&handle.view(), "detach", []));
        Ok(attach::streams::container_attachment(attach::ContainerStreams {
            attached,
            tty,
            stdin,
            keys,
            replay,
            before_end: exited.map(|wait| Box::pin(wait) as attach::streams::BoxedWait),
            on_detach,
        }))
    }

    async fn resize(&self, name: &str, height: u16, width: u16) -> Result<(), NodeError> {
        let handle = self.find(name)?;
        let view = handle.view();
        let Some(shim) = handle.shim().filter(|_| view.state.run().is_some()) else {
            return Err(NodeError::conflict(format!("container {} is not running", view.id)));
        };
        shim.resize(Target::Init, ConsoleSize { height, width })
            .await
            .map_err(|source| NodeError::failed("resize the terminal", source))?;
        let attributes = [("height", height.to_string()), ("width", width.to_string())];
        self.shared.emit(&view, "resize", attributes);
        Ok(())
    }

    async fn logs(&self, name: &str, query: LogQuery) -> Result<Logs, NodeError> {
        let handle = self.find(name)?;
        if !query.stdout && !query.stderr {
            return Err(NodeError::invalid("must specify at least one of 'stdout' or 'stderr'"));
        }
        let view = handle.view();
        if matches!(view.state, ContainerState::Removing { .. } | ContainerState::Dead { .. }) {
            return Err(NodeError::conflict(
                "can not get logs from container which is dead or marked for removal",
            ));
        }
        let batches = self.read_log(&handle, query).await?;
        Ok(Logs { tty: view.spec.process.tty, batches })
    }

    async fn stats(
        &self,
        name: &str,
        mode: StatsMode,
    ) -> Result<BoxStream<'static, Result<StatsSample, NodeError>>, NodeError> {
        self.statistics(name, mode).await
    }
}

impl Engine {
    async fn open_streams(
        &self,
        handle: &Handle,
        request: &AttachRequest,
        framing: protocol::Framing,
    ) -> Result<Attached, NodeError> {
        let wanted = protocol::AttachRequest {
            stdin: request.stdin && handle.view().spec.process.open_stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            framing,
        };
        let (reply, attached) = oneshot::channel();
        handle.send(Request::Attach(wanted, reply))?;
        super::answered(attached).await
    }

    /// What was logged so far, packed like the live stream.
    async fn replay(
        &self,
        handle: &Handle,
        request: &AttachRequest,
        framing: protocol::Framing,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, NodeError> {
        let query = LogQuery { stdout: request.stdout, stderr: request.stderr, ..LogQuery::default() };
        let batches = self.read_log(handle, query).await?;
        let is_framed = framing == protocol::Framing::Multiplexed;
        let packed = batches.map(move |batch| {
            batch.map(|batch| read::pack(&batch, is_framed)).map_err(std::io::Error::other)
        });
        Ok(Box::new(StreamReader::new(packed)))
    }

    async fn read_log(
        &self,
        handle: &Handle,
        query: LogQuery,
    ) -> Result<BoxStream<'static, Result<crate::api::streams::LogBatch, NodeError>>, NodeError> {
        let view = handle.view();
        let config = launch::log_config(view.id, &view.spec, self.shared.log_path(view.id));
        let growth = Box::new(Running(handle.subscribe()));
        read::read(Wanted { config, query, growth, news: self.shared.log_news.clone() }).await
    }
}

/// Waits until a container whose output has ended is down. One that closed its output and goes on is not waited for.
async fn exited(handle: Handle) {
    let (settled, done) = oneshot::channel();
    if handle.send(Request::Settle(settled)).is_err() {
        return;
    }
    // A start that is under way has an outcome now: one that failed leaves nothing to wait for.
    let _ = done.await;
    let mut published = handle.subscribe();
    let is_down = |now: &Published| now.view.state.run().is_none() || now.presence == Presence::Removed;
    let _ = tokio::time::timeout(LONGEST_EXIT, published.wait_for(is_down)).await;
}

/// Refuses to attach to a container that cannot be attached to now. `name` is what the client called it.
fn require_attachable(view: &ContainerView, name: &str) -> Result<(), NodeError> {
    match &view.state {
        ContainerState::Paused(_) => Err(NodeError::conflict(format!(
            "container {name} is paused, unpause the container before attach"
        ))),
        ContainerState::Restarting { .. } => Err(NodeError::conflict(is_restarting(view.id))),
        ContainerState::Created
        | ContainerState::Running(_)
        | ContainerState::Exited(_)
        | ContainerState::Removing { .. }
        | ContainerState::Dead { .. } => Ok(()),
    }
}

/// A log grows while its container runs.
struct Running(watch::Receiver<Published>);

#[async_trait]
impl Growth for Running {
    fn has_ended(&self) -> bool {
        let now = self.0.borrow();
        now.view.state.run().is_none() || now.presence == Presence::Removed
    }

    async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
