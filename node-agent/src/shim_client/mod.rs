//! The engine's view of shims: the ports [`Shims`] (make, find, clean up) and [`Shim`] (one container's shim), and
//! what travels through them.
//!
//! Start reading at [`Shims`]. The real thing is [`ProcessShims`]: `process.rs` starts and finds shim processes,
//! `connection.rs` speaks the protocol of `node_shim::protocol`. The fake, for tests of the engine, is in `fake.rs`.
//! This module decides nothing about containers: when to start, what an exit means and what to clean up is the
//! business of `containers/`.

mod connection;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub(crate) mod frames;
mod process;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use node_shim::protocol::{
    AfterCheckpoint, AttachRequest, ConsoleSize, Event, ExecRequest, ExitRecord, KillScope, ShimState, Target,
};
use shoal_types::ExecId;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

pub use self::error::ShimError;
pub use self::process::{ProcessShims, ShimProgram};

/// Makes, finds and buries shims. One bundle directory has at most one shim.
///
/// The life of a bundle, as the engine walks it:
///
/// 1. Write `shim.json` into the bundle, then [`Shims::spawn`]. `config.json` must be there before the container is made.
/// 2. [`Shim::attach`] for clients that attached before the start, [`Shim::create`], set up what needs the pid,
///    [`Shim::start`].
/// 3. The exit arrives as [`Event::Phase`]; then [`Shim::shut_down`] and the bundle can be deleted.
/// 4. After a daemon restart: [`Shims::find`]. When the shim is dead (here, or because [`ShimEvents::next`] ended):
///    [`Shims::clean_up`], which yields the exit in any case.
#[async_trait]
pub trait Shims: Send + Sync + std::fmt::Debug {
    /// Starts a shim for a bundle that has none and connects to it.
    async fn spawn(&self, bundle: &Path) -> Result<FoundShim, ShimError>;

    /// Connects to the shim of a bundle, if one lives; `None` means that it is dead or never was. Takes the place of
    /// any earlier connection.
    async fn find(&self, bundle: &Path) -> Result<Option<FoundShim>, ShimError>;

    /// Makes sure that nothing runs on behalf of a bundle: kills the shim if it hangs, kills what is left of the
    /// container, deletes the runtime's state, and returns how the container ended (as the shim recorded it, else 137
    /// and now). Repeating it yields the same. The bundle itself stays.
    async fn clean_up(&self, bundle: &Path) -> Result<ExitRecord, ShimError>;
}

/// A shim that was just connected.
#[derive(Debug)]
pub struct FoundShim {
    /// The way to talk to it.
    pub shim: Arc<dyn Shim>,
    /// What it knew at the moment of connecting; `events` continues from here.
    pub state: ShimState,
    /// What happens to it from now on.
    pub events: ShimEvents,
}

/// One shim. Handles are cheap; dropping the last one closes the connection and leaves the shim and its container
/// running.
///
/// Every call is sent whole even if its future is dropped; whether it took effect is then seen in the events.
/// [`ShimError::Refused`] carries the shim's typed failure; [`ShimError::Gone`] means that the outcome is unknown
/// and will never be told.
#[async_trait]
pub trait Shim: Send + Sync + std::fmt::Debug {
    /// Makes the container, whose program waits for [`Shim::start`]; yields the init process' pid.
    async fn create(&self) -> Result<u32, ShimError>;

    /// Starts the container's program; returns after it was executed.
    async fn start(&self) -> Result<Timestamp, ShimError>;

    /// Sends a signal to the init process or to all processes.
    async fn kill(&self, signal: i32, scope: KillScope) -> Result<(), ShimError>;

    /// Freezes the container; idempotent.
    async fn pause(&self) -> Result<(), ShimError>;

    /// Thaws the container; idempotent.
    async fn resume(&self) -> Result<(), ShimError>;

    /// Writes the state of the container's processes down, to be found at `place` when it is whole; the directory around it
    /// exists. Goes on when the future is dropped. The container's exit, if it is wanted, is told afterwards.
    async fn checkpoint(&self, place: &Path, after: AfterCheckpoint) -> Result<(), ShimError>;

    /// Sets a terminal's size; remembered when the terminal does not exist yet, ignored without one.
    async fn resize(&self, target: Target, size: ConsoleSize) -> Result<(), ShimError>;

    /// Ends the container's standard input.
    async fn close_stdin(&self) -> Result<(), ShimError>;

    /// Opens a byte stream of the container's stdio. Everything written from the moment this returns is delivered.
    /// Shutting down the stream's write half is the end of input.
    async fn attach(&self, request: AttachRequest) -> Result<UnixStream, ShimError>;

    /// Runs a process in the container.
    async fn exec(&self, request: ExecRequest) -> Result<RunningExec, ShimError>;

    /// Sends a signal to an exec's process.
    async fn signal_exec(&self, exec_id: ExecId, signal: i32) -> Result<(), ShimError>;

    /// Tells the shim that an exec's exit is on record here; until then it is repeated in every state.
    async fn acknowledge_exec(&self, exec_id: ExecId) -> Result<(), ShimError>;

    /// What the shim knows now.
    async fn state(&self) -> Result<ShimState, ShimError>;

    /// Kills the container if it runs, deletes it from its runtime and ends the shim. A shim that is already gone is
    /// [`ShimError::Gone`]; the caller then cleans up.
    async fn shut_down(&self) -> Result<(), ShimError>;
}

/// What happens to one shim. Owned by the container's actor.
#[derive(Debug)]
pub struct ShimEvents {
    receiver: mpsc::UnboundedReceiver<Event>,
}

impl ShimEvents {
    pub(crate) fn new(receiver: mpsc::UnboundedReceiver<Event>) -> Self {
        Self { receiver }
    }

    /// The next event. `None`: the connection is over, because the shim was shut down, has died (then
    /// [`Shims::clean_up`] is due), or was taken over (then [`Event::Superseded`] came before).
    ///
    /// Safe to drop at an await: no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}

/// A process started by [`Shim::exec`].
#[derive(Debug)]
pub struct RunningExec {
    /// The pid in the host's pid namespace.
    pub pid: u32,
    /// The byte stream, unless the exec is detached.
    pub stream: Option<UnixStream>,
    /// How it will have ended.
    pub exit: ExecExit,
}

/// The exit of an exec, for the one who started it; the actor gets [`Event::ExecExited`] besides.
#[derive(Debug)]
pub struct ExecExit {
    receiver: oneshot::Receiver<ExitRecord>,
}

impl ExecExit {
    pub(crate) fn new(receiver: oneshot::Receiver<ExitRecord>) -> Self {
        Self { receiver }
    }

    /// Waits for the exit. The byte stream ends after the shim has sent the exit, so whoever has seen the end of the
    /// stream waits here only for the time it takes this process to read the other socket.
    pub async fn wait(self) -> Result<ExitRecord, ShimError> {
        self.receiver.await.map_err(|_| ShimError::Gone)
    }
}

/// What a process wrote, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedExec {
    /// The first bytes of the output, in the form that the request's framing gave them.
    pub output: Vec<u8>,
    /// Whether there were more.
    pub truncated: bool,
    /// How it ended.
    pub exit: ExitRecord,
}

impl RunningExec {
    /// Collects at most `limit` bytes of output, throws the rest away and waits for the exit: what a health check
    /// needs. The memory used is bounded by `limit`.
    pub async fn capture(mut self, limit: usize) -> Result<CapturedExec, ShimError> {
        let mut output = Vec::new();
        let mut truncated = false;
        if let Some(stream) = &mut self.stream {
            let mut chunk = [0u8; 2048];
            loop {
                let n_read = stream.read(&mut chunk).await.map_err(ShimError::Stream)?;
                if n_read == 0 {
                    break;
                }
                let room = limit.saturating_sub(output.len());
                truncated |= n_read > room;
                output.extend_from_slice(&chunk[..n_read.min(room)]);
            }
        }
        let exit = self.exit.wait().await?;
        Ok(CapturedExec { output, truncated, exit })
    }
}
