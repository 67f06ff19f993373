//! Ports: commands run in a container beside its init process.
//!
//! Start reading at [`Execs`].

use async_trait::async_trait;
use shoal_types::{ContainerId, ExecId};

use super::streams::{Attachment, Framing};
use crate::error::NodeError;

/// Commands run beside the init process. A record lives until some minutes after its exit, or until its container stops.
#[async_trait]
pub trait Execs: Send + Sync {
    /// Prepares a command in a running container.
    async fn create(&self, container: &str, spec: ExecSpec) -> Result<ExecId, NodeError>;

    /// Fails as [`Self::start`] would before it tries anything: there is no such command, it was started already, or its
    /// container does not run.
    async fn check_start(&self, id: &str) -> Result<(), NodeError>;

    /// Runs it and attaches the caller. A failure to execute is an error of this call; the front end decides how to
    /// tell a client whose connection it has already taken over.
    async fn start(&self, id: &str, options: ExecStart) -> Result<Attachment, NodeError>;

    /// Runs it without a client.
    async fn start_detached(&self, id: &str) -> Result<(), NodeError>;

    /// What is known of it. The exit code is known before the attached streams end.
    async fn inspect(&self, id: &str) -> Result<ExecView, NodeError>;

    /// Sets the size of its terminal in characters; waits until it has been started.
    async fn resize(&self, id: &str, height: u16, width: u16) -> Result<(), NodeError>;
}

/// A wish for a command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Additional environment.
    pub env: Vec<String>,
    /// `user[:group]`; empty is the container's.
    pub user: String,
    /// Working directory; empty is the container's.
    pub working_dir: String,
    /// Whether it gets a pseudo-terminal.
    pub tty: bool,
    /// Whether it gets all capabilities.
    pub privileged: bool,
    /// Whether standard input will be attached.
    pub attach_stdin: bool,
    /// Whether standard output will be attached.
    pub attach_stdout: bool,
    /// Whether standard error will be attached.
    pub attach_stderr: bool,
    /// Keys that end the attachment; `None` is the daemon's default.
    pub detach_keys: Option<String>,
    /// Initial height and width of the terminal.
    pub console_size: Option<(u16, u16)>,
}

/// How to start it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecStart {
    /// How output is packed.
    pub framing: Framing,
    /// Initial height and width of the terminal.
    pub console_size: Option<(u16, u16)>,
}

/// What is known of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecView {
    /// Its id.
    pub id: ExecId,
    /// The container it belongs to.
    pub container: ContainerId,
    /// What was asked for.
    pub spec: ExecSpec,
    /// Whether the container has it still running.
    pub running: bool,
    /// Its exit code, once it has one.
    pub exit_code: Option<i32>,
    /// Process id in the host's namespace; 0 before the start.
    pub pid: u32,
}
