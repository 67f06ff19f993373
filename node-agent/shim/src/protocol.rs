//! What the daemon and a shim say to each other, and the files of the bundle through which they outlive each other.
//!
//! # Connections
//! A shim listens on [`SOCKET_FILE`] in its bundle and is born with one end of a socket pair as its standard input,
//! which is treated as a connection already accepted. Every connection starts alike: the client sends one frame
//! with a [`Hello`], the shim answers with one frame, `Result<Welcome, Failure>`. What follows depends on the role:
//!
//! - [`Role::Control`]: frames both ways for as long as the connection lives. The client sends [`Request`]s, each
//!   with an id of its choice; the shim sends exactly one [`Message::Reply`] for each, in any order, and
//!   [`Message::Event`]s. At most one control connection is current: a new one supersedes the old, which gets
//!   [`Event::Superseded`] and is closed. The shim works on when the connection breaks; the [`Welcome`] of the next
//!   one carries the whole [`ShimState`], so that nothing which happened between is missed.
//! - [`Role::Attach`]: after the welcome the connection is a byte stream of the container's stdio, from this moment.
//! - [`Role::Exec`]: starts a process; the welcome carries its pid (or the typed failure), after which the connection
//!   is a byte stream of that process' stdio; with no stream wanted the shim closes it.
//!
//! Byte streams: the client's bytes are standard input, and closing its write side is the end of input. The shim's
//! bytes are raw, or framed as Docker's multiplexed stream ([`Framing`]). The shim closes the stream after the last
//! byte of output; the exit of an exec is announced on the control connection before that.
//!
//! # Frames
//! A frame is a length of four bytes, big endian, and as many bytes of JSON, at most [`MAX_FRAME_LEN`].
//!
//! # Versions
//! [`PROTOCOL_VERSION`] grows when a peer could misread the other; fields that may be ignored do not need it. A daemon
//! may meet shims of an older version than itself (they live on across upgrades), never of a newer one.
//!
//! # Files of the bundle
//! See the constants. All writes of the shim are atomic (a new file, renamed), and [`EXIT_FILE`] is on disk
//! before anybody is told of the exit. What the daemon writes into [`LAUNCH_FILE`] is in `launch.rs`. These modules define types only; the IO is in `socket.rs` and in the client.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shoal_types::ExecId;

pub use crate::launch::{Launch, LogConfig, LogFileConfig, RootfsSource, RuntimeChoice, StdinMode};

/// The version of this protocol, in [`Hello`] and [`Launch`].
pub const PROTOCOL_VERSION: u32 = 2;

/// The first version that knows [`Call::Checkpoint`].
pub const CHECKPOINTS_SINCE: u32 = 2;

/// The most bytes of JSON that a frame may carry: a process with the largest environment the kernel takes fits.
pub const MAX_FRAME_LEN: usize = 8 * 1024 * 1024;

/// The OCI runtime spec; written by the daemon.
pub const CONFIG_FILE: &str = "config.json";
/// The [`Launch`] parameters; written by the daemon.
pub const LAUNCH_FILE: &str = "shim.json";
/// The socket on which the shim listens, mode 0600.
pub const SOCKET_FILE: &str = "shim.sock";
/// A [`ProcessRecord`] of the shim itself; written by the shim.
pub const SHIM_PID_FILE: &str = "shim.pid";
/// A [`ProcessRecord`] of the container's init process; written by the shim before it answers a create.
pub const INIT_PID_FILE: &str = "init.pid";
/// The [`ExitRecord`] of the container; written by the shim, or by its cleanup when it died.
pub const EXIT_FILE: &str = "exit.json";
/// What the shim has to say about itself: its standard error.
pub const SHIM_LOG_FILE: &str = "shim.log";
/// Where the root file system is mounted for runtimes that do not mount it themselves; their config.json must say
/// `"root": {"path": "rootfs"}`.
pub const ROOTFS_DIR: &str = "rootfs";

/// A process that can be told from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// The pid in the host's pid namespace.
    pub pid: u32,
    /// When the process started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The exit code as Docker reports it: the process' own, or 128 plus the signal.
    pub code: i32,
    /// The signal that ended the process, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed any process of the container for want of memory during this run. Always false for
    /// an exec.
    #[serde(default)]
    pub oom_killed: bool,
    /// When the shim (or its cleanup) noticed the exit.
    pub at: Timestamp,
    /// Whether nobody knows that the container's program was ever started: it was killed before, or the cleanup after a
    /// dead shim has found no trace of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unstarted: bool,
    /// Whether the processes were killed because a checkpoint holds their state ([`AfterCheckpoint::Exit`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub checkpointed: bool,
}

/// The first frame of a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the client.
    pub version: u32,
    /// What this connection is for.
    pub role: Role,
}

/// What a connection is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Requests, replies and events.
    Control,
    /// The stdio of the container's init process. Legal at any time until the container has exited; output made
    /// before is only in the log.
    Attach(AttachRequest),
    /// A further process in the running container.
    Exec(Box<ExecRequest>),
}

/// The shim's answer to a [`Hello`], inside a `Result` whose other side is a [`Failure`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Welcome {
    /// This is the control connection now.
    Control {
        /// [`PROTOCOL_VERSION`] of the shim.
        version: u32,
        /// The shim's own pid.
        shim_pid: u32,
        /// Everything that is known at this moment.
        state: ShimState,
    },
    /// The byte stream of the container begins.
    Attached,
    /// The process runs; its byte stream begins, if one was wanted.
    Exec {
        /// The pid in the host's pid namespace.
        pid: u32,
    },
}

/// How output bytes are presented on a byte stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// As they come, both streams mixed.
    Raw,
    /// Docker's frames: stream (1 stdout, 2 stderr), three zero bytes, length in four bytes big endian, payload.
    Multiplexed,
}

/// Which of the container's streams a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// Send input. Ignored when the container's standard input is closed.
    pub stdin: bool,
    /// Receive standard output (with a terminal: everything).
    pub stdout: bool,
    /// Receive standard error.
    pub stderr: bool,
    /// How output is presented.
    pub framing: Framing,
}

/// A process to run beside the container's init process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The engine's name for it; never used twice in one container.
    pub exec_id: ExecId,
    /// The OCI `process` object, which also decides on the terminal and its size.
    pub process: Box<RawValue>,
    /// Which streams the client wants. Without `stdin` the process reads the end of input at once.
    pub streams: AttachRequest,
    /// Whether the client waits for the streams at all, or only for the start.
    pub mode: ExecMode,
}

/// Whether an exec has a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecMode {
    /// The connection carries the streams; when the client goes, input ends and output is thrown away, but the
    /// process goes on.
    Attached,
    /// Output is thrown away, input is empty; the connection is closed after the welcome.
    Detached,
}

/// One request on the control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client, unique among its outstanding requests; repeated in the reply.
    pub id: u64,
    /// What to do.
    pub call: Call,
}

/// What a daemon may ask of a shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Makes the container up to the point where its own program would start. Legal once, in [`Phase::Idle`].
    Create,
    /// Starts the container's program. Legal in [`Phase::Created`].
    Start,
    /// Sends a signal. Legal in `Created` and `Running`; a process already gone is [`FailureKind::NotRunning`].
    Kill {
        /// The signal's number.
        signal: i32,
        /// Who gets it.
        scope: KillScope,
    },
    /// Stops all processes of the container by the cgroup freezer. Repeating it is no failure.
    Pause,
    /// Lets them run again. Repeating it is no failure.
    Resume,
    /// Writes the state of all processes into a directory, which appears when it is whole; goes on if the daemon goes away.
    /// Legal in [`Phase::Running`], one at a time. The reply comes when the directory is there, before the exit is told.
    Checkpoint {
        /// The directory: absolute, in one that exists.
        place: PathBuf,
        /// What becomes of the processes.
        after: AfterCheckpoint,
    },
    /// Sends a signal to the process of an exec.
    SignalExec {
        /// Which exec.
        exec_id: ExecId,
        /// The signal's number.
        signal: i32,
    },
    /// Sets the size of a terminal; remembered if the terminal does not exist yet, ignored if there is none.
    Resize {
        /// Whose terminal.
        target: Target,
        /// The new size.
        size: ConsoleSize,
    },
    /// Ends the container's standard input.
    CloseStdin,
    /// Asks for the [`ShimState`].
    State,
    /// Forgets an exec that has exited. Unknown ones are no failure.
    AcknowledgeExec {
        /// Which exec.
        exec_id: ExecId,
    },
    /// Deletes the container from its runtime and ends the shim, after every attached client has got its output. A container that still runs is killed first.
    /// The reply comes when nothing of the container is left; the connection then closes.
    Shutdown,
}

/// What becomes of a container after a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterCheckpoint {
    /// It runs on.
    Run,
    /// It is killed.
    Exit,
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KillScope {
    /// The init process.
    Init,
    /// Every process of the container's cgroup.
    All,
}

/// Whose terminal is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The init process.
    Init,
    /// An exec.
    Exec(ExecId),
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// What a shim sends on the control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The one reply to a request.
    Reply {
        /// The request's id.
        id: u64,
        /// What came of it.
        result: Result<Answer, Failure>,
    },
    /// Something happened.
    Event(Event),
}

/// The good outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done,
    /// To [`Call::Create`]: the init process.
    Created {
        /// The pid in the host's pid namespace.
        pid: u32,
    },
    /// To [`Call::Start`].
    Started {
        /// When the program was started.
        at: Timestamp,
    },
    /// To [`Call::State`].
    State(ShimState),
}

/// What happened. Events precede the reply of the request that caused them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The container has entered this phase. For [`Phase::Exited`] the log is complete and closed, and
    /// [`EXIT_FILE`] is on disk.
    Phase(Phase),
    /// An exec runs.
    ExecStarted {
        /// Which exec.
        exec_id: ExecId,
        /// The pid in the host's pid namespace.
        pid: u32,
    },
    /// The process of an exec has ended; kept in the state until acknowledged.
    ExecExited {
        /// Which exec.
        exec_id: ExecId,
        /// How it ended.
        exit: ExitRecord,
    },
    /// The kernel killed processes of the container for want of memory.
    Oom {
        /// How many in this run so far.
        kills: u64,
    },
    /// The log cannot be written: entries are lost from here until further notice. Sent once per kind of trouble.
    LogTrouble {
        /// The operating system's words.
        message: String,
    },
    /// Another control connection has taken over; this one is closed now.
    Superseded,
}

/// What a shim knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimState {
    /// How far the container is.
    pub phase: Phase,
    /// Execs that run, or have exited and were not yet acknowledged.
    pub execs: Vec<ExecState>,
    /// Processes that the kernel killed for want of memory in this run.
    pub oom_kills: u64,
    /// Whether the container is frozen by [`Call::Pause`].
    #[serde(default)]
    pub paused: bool,
}

/// How far a container is. A shim serves one run, so phases only move forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing was asked for yet.
    Idle,
    /// The runtime is at work on a create.
    Creating,
    /// The container waits for its start.
    Created {
        /// The init process.
        pid: u32,
    },
    /// The container's program runs.
    Running {
        /// The init process.
        pid: u32,
        /// When the program was started.
        started_at: Timestamp,
    },
    /// The create or the start failed; nothing of the container is left but the runtime's state. [`EXIT_FILE`] holds
    /// the exit code that such a failure gives a container.
    Failed(Failure),
    /// The init process has ended.
    Exited(ExitRecord),
}

/// One exec as the shim knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecState {
    /// Which exec.
    pub exec_id: ExecId,
    /// The pid in the host's pid namespace.
    pub pid: u32,
    /// How it ended, unless it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitRecord>,
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The sort of failure; compare this, never the text.
    pub kind: FailureKind,
    /// The runtime's or the kernel's words, for the user.
    pub message: String,
}

impl Failure {
    /// A failure with its text.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// The sorts of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program to run does not exist in the container.
    CommandNotFound,
    /// The program exists and cannot be executed.
    NotExecutable,
    /// The runtime failed otherwise.
    Runtime,
    /// The container is not in a phase in which this is legal.
    WrongPhase,
    /// The process to signal is gone.
    NotRunning,
    /// No such exec.
    NoSuchExec,
    /// What shall be made is there already, or somebody else is making it.
    AlreadyExists,
    /// The request itself is wrong: version, id used twice, signal number.
    Invalid,
    /// The shim or the kernel failed.
    Internal,
}

impl FailureKind {
    /// The exit code that Docker gives a container or exec whose start failed this way.
    pub const fn exit_code(self) -> i32 {
        match self {
            Self::CommandNotFound => 127,
            Self::NotExecutable => 126,
            Self::Runtime
            | Self::WrongPhase
            | Self::NotRunning
            | Self::NoSuchExec
            | Self::AlreadyExists
            | Self::Invalid
            | Self::Internal => 128,
        }
    }
}

#[cfg(test)]
mod tests;
