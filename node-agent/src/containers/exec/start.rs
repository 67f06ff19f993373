//! Starting a command: the process that the runtime is given, the streams of its client, its exit.
//!
//! Start reading at [`Shared::start_exec`].

use std::sync::Arc;

use node_shim::protocol::{self, ExecMode, FailureKind};
use oci_spec::runtime::Process;
use serde_json::value::RawValue;
use shoal_types::ErrorKind;
use tokio::sync::oneshot;

use super::{Entry, require_running};
use crate::api::streams::Framing;
use crate::containers::Shared;
use crate::error::NodeError;
use crate::runtime::{bundle, exec, user};
use crate::shim_client::{RunningExec, ShimError};

/// Docker's exit code of a command that could not be started for another reason than its program.
const EXIT_NOT_STARTED: i32 = 126;

/// How a command is to be started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StartWish {
    /// How output is packed.
    pub(crate) framing: Framing,
    /// Whether somebody wants the streams.
    pub(crate) mode: ExecMode,
    /// Size of the terminal, if the caller says one.
    pub(crate) console_size: Option<(u16, u16)>,
}

impl Shared {
    /// Starts a command and returns its streams. Runs to its end even if the caller goes away; the exit is noted by a task
    /// that the engine owns.
    pub(crate) async fn start_exec(
        self: &Arc<Self>,
        entry: Arc<Entry>,
        wish: StartWish,
    ) -> Result<RunningExec, NodeError> {
        let view = entry.slot.view();
        require_running(&view, &view.id.to_string())?;
        entry.claim()?;
        let action = format!("exec_start: {}", entry.command_line());
        self.emit(&view, &action, [("execID", entry.id.to_string())]);
        let (started, outcome) = oneshot::channel();
        let shared = Arc::clone(self);
        self.spawn(async move {
            let result = shared.launch_exec(&entry, wish).await;
            if let Err(failed) = &result {
                shared.execs.note_exit(entry.id, failed.code);
            }
            // The caller may have gone; then the streams are closed, which the process sees as the end of input.
            let _ = started.send(result.map_err(|failed| failed.error));
        });
        outcome.await.map_err(|_| NodeError::unavailable("the daemon is shutting down"))?
    }

    async fn launch_exec(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        wish: StartWish,
    ) -> Result<RunningExec, FailedExec> {
        let shim =
            entry.slot.published().shim.ok_or_else(|| {
                NodeError::conflict(format!("container {} is not running", entry.slot.id()))
            })?;
        let process = self.exec_process(entry, wish).await?;
        let framing = match wish.framing {
            // Also of a terminal: what the client said when it started the command is how it will read the stream.
            Framing::Multiplexed => protocol::Framing::Multiplexed,
            Framing::Raw => protocol::Framing::Raw,
        };
        let request = protocol::ExecRequest {
            exec_id: entry.id,
            process,
            streams: protocol::AttachRequest {
                stdin: entry.spec.attach_stdin,
                stdout: entry.spec.attach_stdout,
                stderr: entry.spec.attach_stderr,
                framing,
            },
            mode: wish.mode,
        };
        let mut running = shim.exec(request).await.map_err(failed)?;
        self.execs.note_running(entry.id, running.pid);
        let (noted, exit) = oneshot::channel();
        let exit_of_process = std::mem::replace(&mut running.exit, crate::shim_client::ExecExit::new(exit));
        let (shared, entry) = (Arc::clone(self), Arc::clone(entry));
        self.spawn(async move {
            // A shim that dies takes its commands along; the container's own exit follows.
            let exit = exit_of_process.wait().await;
            let code = exit.as_ref().map_or(137, |exit| exit.code);
            shared.execs.note_exit(entry.id, code);
            let attributes = [("execID", entry.id.to_string()), ("exitCode", code.to_string())];
            shared.emit(&entry.slot.view(), "exec_die", attributes);
            if let Ok(exit) = exit {
                let _ = noted.send(exit);
                // It may have exited meanwhile; then there is nobody left to tell.
                let _ = shim.acknowledge_exec(entry.id).await;
            }
        });
        Ok(running)
    }

    /// The process for the runtime: the container's own, changed by what was asked for.
    async fn exec_process(&self, entry: &Entry, wish: StartWish) -> Result<Box<RawValue>, NodeError> {
        let view = entry.slot.view();
        let path = self.bundles.path(view.id);
        let mut process: Process = tokio::task::spawn_blocking(move || bundle::read_process(&path))
            .await
            .map_err(std::io::Error::other)
            .and_then(|read| read)
            .map_err(|source| NodeError::failed("read the runtime spec of the container", source))?;
        if !entry.spec.user.is_empty() {
            let user = self.look_up_user(&view, &entry.spec.user).await?;
            exec::set_user(&mut process, &user);
        }
        let spec = &view.spec.process;
        exec::customise(&mut process, &entry.spec, spec, wish.console_size, self.host.capabilities);
        let json = serde_json::to_string(&process)
            .and_then(RawValue::from_string)
            .map_err(|source| NodeError::failed("write the process to run", source))?;
        Ok(json)
    }

    /// Looks a user up among the accounts that the running container has.
    pub(crate) async fn look_up_user(
        &self,
        view: &crate::api::containers::ContainerView,
        user: &str,
    ) -> Result<user::User, NodeError> {
        let pid = view.state.run().map_or(0, |run| run.pid);
        let files = self.seams.mounter.read_files_of(pid, &user::FILES).await?;
        user::resolve(user, &view.spec.process.groups, &user::Accounts::parse(&files))
    }
}

/// Why a command was not started, and the exit code that it gets.
#[derive(Debug)]
struct FailedExec {
    error: NodeError,
    code: i32,
}

impl From<NodeError> for FailedExec {
    fn from(error: NodeError) -> Self {
        Self { error, code: EXIT_NOT_STARTED }
    }
}

fn failed(error: ShimError) -> FailedExec {
    let kind = error.kind();
    match error {
        ShimError::Refused(failure) => {
            let is_program =
                matches!(failure.kind, FailureKind::CommandNotFound | FailureKind::NotExecutable);
            let code = if is_program { failure.kind.exit_code() } else { EXIT_NOT_STARTED };
            let kind = if is_program { ErrorKind::InvalidArgument } else { kind };
            let message = crate::runtime::texts::exec_failure(&failure);
            FailedExec { error: NodeError::Refused { kind, message }, code }
        }
        other => {
            let error = NodeError::failed("start a command in the container", other);
            FailedExec { error, code: EXIT_NOT_STARTED }
        }
    }
}
