//! What a worker says to managers: enrolment, sessions, reports, renewal of its certificate.
//!
//! Start reading at [`WorkerClient`]. A node first [`enrol`]s with a join token and has [`Credentials`] from then on; with
//! those it opens a [`WorkerSession`] with whoever leads. Every node of the cluster does so, managers too, over the network even
//! when the leader lives in the same process: there is one code path. What a worker does with what it is told is not decided
//! here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shoal_types::cluster::node::Availability;
use shoal_types::protocol::{LogReport, ManagerPeer, SessionEvent, SessionId, SessionRequest, StatusReport};

use crate::ca::Credentials;
use crate::error::ClusterError;

/// A wish to become a node of a cluster.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// Directory that will hold the node's certificate: `<data-root>/swarm/certificates`. It must not hold one already.
    pub directory: PathBuf,
    /// Managers, tried in order until one answers.
    pub remotes: Vec<SocketAddr>,
    /// What lets us in, and as what.
    pub token: String,
    /// Whether the node shall take tasks.
    pub availability: Availability,
}

/// Obtains a node id and a certificate from the cluster that the token names, and stores them.
///
/// The first contact is verified by the digest in the token. Ends with the first manager that issues; a wrong token is not
/// tried twice. The role follows from the token: `credentials.role()`.
pub async fn enrol(_enrolment: Enrolment) -> Result<Arc<Credentials>, ClusterError> {
    Err(ClusterError::NotImplemented("joining a cluster is not supported yet"))
}

/// A node's way to the managers. One per node; it remembers all managers that it is told of.
#[derive(Debug)]
pub struct WorkerClient {
    _credentials: Arc<Credentials>,
}

impl WorkerClient {
    /// A client that tries these managers first. The caller keeps [`SessionEvent::Session`]'s managers on disk and passes
    /// them here after a restart.
    pub fn new(credentials: Arc<Credentials>, _managers: Vec<SocketAddr>) -> Self {
        Self { _credentials: credentials }
    }

    /// Opens a session with the leader, following hints from managers that do not lead. Tries every known manager once; the
    /// caller backs off between calls.
    pub async fn open_session(&self, _request: SessionRequest) -> Result<WorkerSession, ClusterError> {
        Err(ClusterError::NotImplemented("sessions are not supported yet"))
    }

    /// Obtains a new certificate for the role that the cluster now wants this node to have, and puts it in place; connections
    /// made before go on. An expired certificate is renewed by proof of its key.
    pub async fn renew(&self) -> Result<(), ClusterError> {
        Err(ClusterError::NotImplemented("renewal is not supported yet"))
    }

    /// Takes over which managers there are; [`WorkerSession::next`] does this by itself.
    pub fn learn_managers(&self, _managers: &[ManagerPeer]) {}

    /// Tells a manager that this node leaves, so that it need not wait for silence. Best effort.
    pub async fn say_goodbye(&self) -> Result<(), ClusterError> {
        Err(ClusterError::NotImplemented("leaving is not supported yet"))
    }
}

/// An open session: the stream of what the leader says.
#[derive(Debug)]
pub struct WorkerSession {
    handle: SessionHandle,
}

impl WorkerSession {
    /// The next event; `None` when the leader has closed the session (it has lost its leadership, or the node has another
    /// session). Cancel-safe: an event is never lost by dropping the future.
    pub async fn next(&mut self) -> Option<Result<SessionEvent, ClusterError>> {
        None
    }

    /// The way to report within this session.
    pub fn handle(&self) -> SessionHandle {
        self.handle.clone()
    }
}

/// Reports of one session. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    _id: SessionId,
}

impl SessionHandle {
    /// Says that the node lives; answers after how long to say so again. To be called from the session's beginning on.
    pub async fn heartbeat(&self) -> Result<Duration, ClusterError> {
        Err(ClusterError::NotImplemented("sessions are not supported yet"))
    }

    /// Reports observed states. When it returns, the report is in the replicated store.
    pub async fn report(&self, _report: StatusReport) -> Result<(), ClusterError> {
        Err(ClusterError::NotImplemented("sessions are not supported yet"))
    }

    /// Sends lines of a log subscription.
    pub async fn publish_logs(&self, _report: LogReport) -> Result<(), ClusterError> {
        Err(ClusterError::NotImplemented("sessions are not supported yet"))
    }
}
