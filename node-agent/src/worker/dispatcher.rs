//! Port: the worker's way to the managers.
//!
//! Start reading at [`Dispatcher`]. The traits are declared here, by the one who needs them, because this crate and the manager's
//! never import each other; the composition root adapts the manager's client. Messages are those of
//! `shoal_types::protocol`. Certificates and which managers there are is the implementer's business: the worker only learns that
//! a session is open, what it says, and that it has ended.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shoal_types::ErrorKind;
use shoal_types::cluster::overlay::OverlayNetwork;
use shoal_types::protocol::{
    AttachReply, AttachRequest, DetachRequest, LogReport, SessionEvent, SessionRequest, StatusReport,
};

/// Opens sessions with whoever leads the cluster.
#[async_trait]
pub trait Dispatcher: Send + Sync {
    /// Opens a session. Tries every known manager once; the worker backs off between calls. A session that the node had
    /// before is ended by the leader.
    async fn open(&self, request: SessionRequest) -> Result<Box<dyn Session>, DispatchError>;
}

/// An open session: the stream of what the leader says. Dropping it ends the session.
#[async_trait]
pub trait Session: Send {
    /// The next event; `None` when the leader has closed the session. Cancel-safe: an event is never lost by dropping the
    /// future.
    async fn next(&mut self) -> Option<Result<SessionEvent, DispatchError>>;

    /// The way to report within this session.
    fn reports(&self) -> Arc<dyn Reports>;
}

/// What a worker tells the leader within one session. After the session has ended every method fails.
#[async_trait]
pub trait Reports: Send + Sync {
    /// Says that the node lives; answers after how long to say so again.
    async fn heartbeat(&self) -> Result<Duration, DispatchError>;

    /// Reports observed states. When it returns, they are in the replicated store.
    async fn report(&self, report: StatusReport) -> Result<(), DispatchError>;

    /// Says that the node is as it was told up to this message; asked for by messages that take somebody out of service.
    async fn acknowledge(&self, sequence: u64) -> Result<(), DispatchError>;

    /// Sends lines of a log subscription.
    async fn publish_logs(&self, report: LogReport) -> Result<(), DispatchError>;

    /// Looks up a network that plain containers may join, by name or id.
    async fn look_up(&self, network: &str) -> Result<OverlayNetwork, DispatchError>;

    /// Lets a plain container of this node join a network of the cluster.
    async fn attach(&self, request: AttachRequest) -> Result<AttachReply, DispatchError>;

    /// Ends attachments of this node.
    async fn detach(&self, request: DetachRequest) -> Result<(), DispatchError>;
}

/// Why a session could not be opened or used: the manager's words and their kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DispatchError {
    /// The kind. [`ErrorKind::Unauthorized`] and [`ErrorKind::Forbidden`] mean that the cluster does not know this node (any more).
    pub kind: ErrorKind,
    /// The whole message.
    pub message: String,
}

impl DispatchError {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for DispatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DispatchError {}
