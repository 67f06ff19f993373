//! Commands run in a container: requests and what is known of them.
//!
//! Start reading at [`ExecCreate`].

use serde::{Deserialize, Serialize};

use super::is_zero;

/// A wish for a command.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "ExecConfig")]
pub struct ExecCreate {
    /// `user[:group]`; empty is the container's.
    pub user: String,
    /// Whether it gets all capabilities.
    pub privileged: bool,
    /// Whether it gets a pseudo-terminal.
    pub tty: bool,
    /// Height and width of the terminal. Since 1.42.
    pub console_size: Option<[u16; 2]>,
    /// Whether standard input will be attached.
    pub attach_stdin: bool,
    /// Whether standard error will be attached.
    pub attach_stderr: bool,
    /// Whether standard output will be attached.
    pub attach_stdout: bool,
    /// Keys that end the attachment.
    pub detach_keys: String,
    /// Environment beyond the container's.
    pub env: Option<Vec<String>>,
    /// Working directory; empty is the container's.
    pub working_dir: String,
    /// Program and arguments.
    pub cmd: Option<Vec<String>>,
}

/// How to start a command.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "ExecStartConfig")]
pub struct ExecStart {
    /// Whether nobody is attached.
    pub detach: bool,
    /// Whether output is one stream.
    pub tty: bool,
    /// Height and width of the terminal. Since 1.42.
    pub console_size: Option<[u16; 2]>,
}

/// What is known of a command.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase", rename = "ExecInspectResponse")]
pub struct ExecInspect {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Whether it runs.
    pub running: bool,
    /// Its exit code, once it has one.
    pub exit_code: Option<i32>,
    /// What runs.
    pub process_config: ProcessConfig,
    /// Whether standard input is attached.
    pub open_stdin: bool,
    /// Whether standard error is attached.
    pub open_stderr: bool,
    /// Whether standard output is attached.
    pub open_stdout: bool,
    /// Whether its record is about to go.
    pub can_remove: bool,
    /// The container it belongs to.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// Keys that end the attachment, in base64.
    pub detach_keys: String,
    /// Process id on the host.
    pub pid: u32,
}

/// What a command runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProcessConfig {
    /// Whether it has a pseudo-terminal.
    pub tty: bool,
    /// Program.
    pub entrypoint: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether it has all capabilities.
    pub privileged: bool,
    /// Its user.
    #[serde(skip_serializing_if = "is_zero")]
    pub user: String,
}
