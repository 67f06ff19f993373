//! Ports: attached clients, logs and statistics of containers.
//!
//! Start reading at [`ContainerStreams`]. Framing for Docker's clients of logs is the front end's; that of attached
//! streams is done by the shim, where it costs nothing.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use shoal_types::ContainerId;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::NodeError;

/// What flows in and out of containers.
#[async_trait]
pub trait ContainerStreams: Send + Sync {
    /// Attaches a client to the init process, from now on. Possible before the start, without losing a byte.
    async fn attach(&self, name: &str, request: AttachRequest) -> Result<Attachment, NodeError>;

    /// Sets the size of the terminal in characters.
    async fn resize(&self, name: &str, height: u16, width: u16) -> Result<(), NodeError>;

    /// Reads the log.
    async fn logs(&self, name: &str, query: LogQuery) -> Result<Logs, NodeError>;

    /// Measures what the container uses, once or again and again.
    async fn stats(
        &self,
        name: &str,
        mode: StatsMode,
    ) -> Result<BoxStream<'static, Result<StatsSample, NodeError>>, NodeError>;
}

/// What a client wants to be attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// Whether it wants to write standard input.
    pub stdin: bool,
    /// Whether it wants standard output.
    pub stdout: bool,
    /// Whether it wants standard error.
    pub stderr: bool,
    /// Whether the log so far comes first.
    pub replay: Replay,
    /// Whether the live streams follow.
    pub live: bool,
    /// How output is packed when there is no terminal.
    pub framing: Framing,
    /// Keys that end the attachment, in Docker's notation; `None` is the daemon's default.
    pub detach_keys: Option<String>,
}

/// Whether the log so far is sent to an attaching client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replay {
    /// It is not.
    #[default]
    Nothing,
    /// It is.
    Log,
}

/// How standard output and error share one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Frames of Docker's `stdcopy`, unless there is a terminal.
    Multiplexed,
    /// Bytes as they come.
    Raw,
}

/// A client's end of the standard streams.
pub struct Attachment {
    /// Whether there is a terminal, that is, whether output is raw.
    pub tty: bool,
    /// Output; ends when the process has ended or the client detached.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// Input; shutting it down is the end of standard input. `None` when none was asked for or none is open.
    pub input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment")
            .field("tty", &self.tty)
            .field("input", &self.input.is_some())
            .finish_non_exhaustive()
    }
}

/// Which part of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// Whether standard output is wanted.
    pub stdout: bool,
    /// Whether standard error is wanted.
    pub stderr: bool,
    /// Whether new entries follow until the container stops.
    pub follow: bool,
    /// Only entries of this time or later.
    pub since: Option<Timestamp>,
    /// Only entries of this time or earlier.
    pub until: Option<Timestamp>,
    /// Only so many of the last entries.
    pub tail: Option<usize>,
}

/// A log that is being read.
pub struct Logs {
    /// Whether the container has a terminal: output is then one raw stream.
    pub tty: bool,
    /// Entries in their order, in batches so that reading is not bound by a wake-up for each line.
    pub batches: BoxStream<'static, Result<LogBatch, NodeError>>,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("tty", &self.tty).finish_non_exhaustive()
    }
}

/// Some entries of a log, their bytes in one buffer.
#[derive(Debug, Clone, Default)]
pub struct LogBatch {
    /// The bytes of all entries, one after the other.
    pub data: Bytes,
    /// Where each entry ends and what it is.
    pub entries: Vec<LogEntry>,
}

/// One entry of a log: a line with its newline, or a piece of a long one.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// Where its bytes begin in [`LogBatch::data`].
    pub start: usize,
    /// Where they end.
    pub end: usize,
    /// Which stream it came from.
    pub source: LogSource,
    /// When the shim read it.
    pub time: Timestamp,
    /// What the log options add to every entry, sorted by key.
    pub attributes: Arc<[(String, String)]>,
}

/// The stream an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How often to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatsMode {
    /// Once a second, for ever.
    Stream,
    /// Twice, about a second apart; one sample that carries both.
    Once,
    /// A single reading, at once.
    OneShot,
}

/// What a container used at one moment, and at the moment before if there was one.
#[derive(Debug, Clone)]
pub struct StatsSample {
    /// The container.
    pub id: ContainerId,
    /// Its name, without slash.
    pub name: String,
    /// The reading; `None` when the container does not run.
    pub current: Option<Arc<StatsReading>>,
    /// The reading before.
    pub previous: Option<Arc<StatsReading>>,
}

/// One reading of the kernel's counters.
#[derive(Debug, Clone)]
pub struct StatsReading {
    /// When.
    pub at: Timestamp,
    /// Counters of the cgroup.
    pub cgroup: node_runtime::cgroup::Readings,
    /// Processor time of the whole machine in nanoseconds.
    pub system_cpu: u64,
    /// Processors online.
    pub online_cpus: u32,
    /// Memory of the machine in bytes, the limit of a container without one.
    pub machine_memory: u64,
    /// Counters of each interface, by name.
    pub interfaces: Vec<(String, InterfaceCounters)>,
}

/// Counters of one network interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets received with errors.
    pub rx_errors: u64,
    /// Packets dropped on receipt.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets dropped instead of sent.
    pub tx_dropped: u64,
}
