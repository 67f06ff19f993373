//! The node's port for commands.
//!
//! Start reading at the implementation of [`Execs`].

use std::time::Duration;

use async_trait::async_trait;
use node_shim::protocol::{ConsoleSize, ExecMode, Target};
use shoal_types::{ErrorKind, ExecId};

use super::start::StartWish;
use super::{Phase, require_running};
use crate::api::execs::{ExecSpec, ExecStart, ExecView, Execs};
use crate::api::streams::{Attachment, Framing};
use crate::containers::Engine;
use crate::containers::attach::detach::DetachKeys;
use crate::containers::attach::{ExecStreams, streams};
use crate::error::NodeError;

/// How long a resize waits for a command to be started.
const START_TIMEOUT: Duration = Duration::from_secs(10);

#[async_trait]
impl Execs for Engine {
    async fn create(&self, container: &str, spec: ExecSpec) -> Result<ExecId, NodeError> {
        let handle = self.find(container)?;
        let view = handle.view();
        require_running(&view, container)?;
        if spec.command.first().is_none_or(String::is_empty) {
            return Err(NodeError::invalid("No exec command specified"));
        }
        if let Some(keys) = spec.detach_keys.as_deref().filter(|keys| !keys.is_empty()) {
            DetachKeys::parse(keys)
                .map_err(|_| NodeError::invalid(format!("Invalid escape keys ({keys}) provided")))?;
        }
        if !spec.user.is_empty() {
            // An unknown user is told now, although the accounts may have changed when the command is started.
            self.shared.look_up_user(&view, &spec.user).await?;
        }
        Ok(self.shared.create_exec(handle.slot(), spec).id)
    }

    async fn check_start(&self, id: &str) -> Result<(), NodeError> {
        let entry = self.shared.execs.find(id)?;
        let view = entry.slot.view();
        require_running(&view, &view.id.to_string())?;
        entry.require_unclaimed()
    }

    async fn start(&self, id: &str, options: ExecStart) -> Result<Attachment, NodeError> {
        let entry = self.shared.execs.find(id)?;
        let keys = match entry.spec.detach_keys.as_deref().filter(|keys| !keys.is_empty()) {
            Some(keys) => DetachKeys::parse(keys)?,
            None => DetachKeys::parse(&self.shared.config().detach_keys)?,
        };
        let wish = StartWish {
            framing: options.framing,
            mode: ExecMode::Attached,
            console_size: options.console_size,
        };
        let followed = entry.follow();
        let running = self.shared.start_exec(std::sync::Arc::clone(&entry), wish).await?;
        let Some(socket) = running.stream else {
            return Err(NodeError::failed("attach to a command", std::io::Error::other("it has no streams")));
        };
        let shared = std::sync::Arc::clone(&self.shared);
        let detached = std::sync::Arc::clone(&entry);
        let on_detach = Box::new(move || {
            let attributes = [("execID", detached.id.to_string())];
            shared.emit(&detached.slot.view(), "exec_detach", attributes);
        });
        Ok(streams::exec_attachment(ExecStreams {
            socket,
            tty: entry.spec.tty,
            stdin: entry.spec.attach_stdin,
            keys,
            phase: followed,
            on_detach,
        }))
    }

    async fn start_detached(&self, id: &str) -> Result<(), NodeError> {
        let entry = self.shared.execs.find(id)?;
        let wish = StartWish { framing: Framing::Raw, mode: ExecMode::Detached, console_size: None };
        self.shared.start_exec(entry, wish).await.map(drop)
    }

    async fn inspect(&self, id: &str) -> Result<ExecView, NodeError> {
        Ok(self.shared.execs.find(id)?.view())
    }

    async fn resize(&self, id: &str, height: u16, width: u16) -> Result<(), NodeError> {
        let entry = self.shared.execs.find(id)?;
        let view = entry.slot.view();
        require_running(&view, &view.id.to_string())?;
        let mut phase = entry.follow();
        let started = phase.wait_for(|phase| !matches!(phase, Phase::Created | Phase::Starting));
        let Ok(started) = tokio::time::timeout(START_TIMEOUT, started).await else {
            return Err(NodeError::failed(
                "resize a command's terminal",
                std::io::Error::other("timeout waiting for exec session ready"),
            ));
        };
        drop(started);
        let Some(shim) = entry.slot.published().shim else {
            return Err(NodeError::conflict(format!("container {} is not running", entry.slot.id())));
        };
        shim.resize(Target::Exec(entry.id), ConsoleSize { height, width }).await.map_err(
            |source| match source.kind() {
                // It has ended, or was never started: it is not there any more.
                ErrorKind::NotFound => {
                    NodeError::Refused { kind: ErrorKind::NotFound, message: "no such exec".to_owned() }
                }
                _ => NodeError::failed("resize a command's terminal", source),
            },
        )
    }
}
