//! What a worker says to managers: enrolment, sessions, reports, renewal of its certificate.
//!
//! Start reading at [`WorkerClient`]. A node first [`enrol`]s with a join token and has [`Credentials`] from then on; with
//! those it opens a [`WorkerSession`] with whoever leads. Every node of the cluster does so, managers too, over the network even
//! when the leader lives in the same process: there is one code path. What a worker does with what it is told is not decided
//! here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rand::seq::SliceRandom as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shoal_types::ErrorKind;
use shoal_types::cluster::node::{Availability, NodeRole, TlsInfo};
use shoal_types::cluster::overlay::OverlayNetwork;
use shoal_types::protocol::{
    AttachReply, AttachRequest, DetachRequest, HeartbeatReply, LogReport, ManagerPeer, SessionEvent,
    SessionId, SessionRequest, StatusReport,
};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::ca::authority::{generate_request, sign};
use crate::ca::registrar::{Certified, EnrolRequest, RenewExpiredRequest, RenewRequest};
use crate::ca::tokens::{JoinToken, root_digest};
use crate::ca::{Credentials, Issued};
use crate::clock::{LOOK_EVERY, until};
use crate::dispatcher::{Acknowledgement, Beat, LogsOfSession, ReportOfSession};
use crate::error::ClusterError;
use crate::rpc::client::{CallAs, RpcClient};
use crate::rpc::lines::JsonLines;
use crate::rpc::{paths, tls};

/// How long an authority may take to answer.
const CERTIFICATE_LIMIT: Duration = Duration::from_secs(5);
/// How long a leader may take to open a session.
const SESSION_LIMIT: Duration = Duration::from_secs(10);
/// How long a heartbeat may take.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(3);
/// How long a report may take; the leader commits it.
const REPORT_LIMIT: Duration = Duration::from_secs(15);
/// How long lines of logs may take; their reader may be slow.
const LOGS_LIMIT: Duration = Duration::from_secs(60);
/// How often a manager may point at another before this is given up.
const MAX_HINTS: usize = 3;
/// Shortest and longest wait before a failed renewal is tried again.
const RENEWAL_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3600));
/// Longest wait when it has expired.
const EXPIRED_PAUSE: Duration = Duration::from_secs(30);

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
pub async fn enrol(enrolment: Enrolment) -> Result<Arc<Credentials>, ClusterError> {
    let token: JoinToken = enrolment.token.parse()?;
    let trust_root = fetch_trust_root(&enrolment.remotes, &token).await?;
    let (key, request) = generate_request()?;
    // The token is shown only over a connection that is verified by now.
    let client = RpcClient::new(CallAs::Anybody(tls::anonymous_client(&trust_root)?));
    let wish = EnrolRequest { token: enrolment.token, request, availability: enrolment.availability };
    let (certified, _): (Certified, _) =
        ask_any(&client, &enrolment.remotes, paths::ENROL, &wish, CERTIFICATE_LIMIT).await?;
    let issued = Issued { certificate: certified.certificate, key, trust_root: certified.trust_root };
    let directory = enrolment.directory;
    tokio::task::spawn_blocking(move || Credentials::create(&directory, issued))
        .await
        .map_err(|source| ClusterError::local("storing the node's certificate", source))?
}

/// The trust root that has the token's digest. Whoever answers with another is no manager of that cluster.
async fn fetch_trust_root(remotes: &[SocketAddr], token: &JoinToken) -> Result<String, ClusterError> {
    let client = RpcClient::new(CallAs::Anybody(tls::unverified_client()?));
    let mut failure = ClusterError::Unreachable("no manager was named".to_owned());
    for remote in remotes {
        match client.call::<_, String>(*remote, paths::TRUST_ROOT, &(), CERTIFICATE_LIMIT).await {
            Ok(trust_root) if root_digest(&trust_root) == token.root => return Ok(trust_root),
            Ok(_) => {
                failure = ClusterError::refused(
                    ErrorKind::InvalidArgument,
                    "rpc error: code = Unknown desc = remote CA does not match fingerprint",
                );
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Asks one manager after the other, following hints to the leader, until one answers or refuses for good.
async fn ask_any<Q: Serialize + Sync, A: DeserializeOwned>(
    client: &RpcClient,
    managers: &[SocketAddr],
    path: &str,
    question: &Q,
    limit: Duration,
) -> Result<(A, SocketAddr), ClusterError> {
    let mut failure = ClusterError::Unreachable("no manager is known".to_owned());
    for manager in managers {
        let mut to = *manager;
        for _ in 0..MAX_HINTS {
            match client.call(to, path, question, limit).await {
                Ok(answer) => return Ok((answer, to)),
                Err(ClusterError::NotLeader(Some(leader))) if leader != to => to = leader,
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => {
                    failure = error;
                    break;
                }
            }
        }
    }
    Err(failure)
}

/// Whether every manager would refuse likewise.
fn is_final(error: &ClusterError) -> bool {
    !matches!(
        error,
        ClusterError::NotLeader(_)
            | ClusterError::NoLeader
            | ClusterError::Deadline
            | ClusterError::Unreachable(_)
            | ClusterError::Local { .. }
    )
}

/// A node's way to the managers. One per node; it remembers all managers that it is told of, and keeps the certificate
/// renewed for as long as it lives.
#[derive(Debug)]
pub struct WorkerClient {
    way: Arc<Way>,
    renewing: AbortHandle,
}

/// What the parts of a client share.
#[derive(Debug)]
struct Way {
    credentials: Arc<Credentials>,
    client: RpcClient,
    managers: Mutex<Vec<SocketAddr>>,
    /// Where the node's own manager is reached from the node itself, when it has one.
    own: OnceLock<SocketAddr>,
}

impl Drop for WorkerClient {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl WorkerClient {
    /// A client that tries these managers first. The caller keeps [`SessionEvent::Session`]'s managers on disk and passes
    /// them here after a restart. Must be called within a runtime.
    pub fn new(credentials: Arc<Credentials>, managers: Vec<SocketAddr>) -> Self {
        let client = RpcClient::new(CallAs::Node(Arc::clone(&credentials)));
        let way = Arc::new(Way { credentials, client, managers: Mutex::new(managers), own: OnceLock::new() });
        let renewing = tokio::spawn(keep_renewed(Arc::clone(&way))).abort_handle();
        Self { way, renewing }
    }

    /// Says where the node's own manager is reached from the node itself. What it advertises need not be: others may come by an
    /// address that a router translates. For as long as the node is a manager it asks itself first.
    pub fn asks_itself_at(&self, own: SocketAddr) {
        // It listens where it listened when the daemon started.
        let _ = self.way.own.set(own);
    }

    /// Opens a session with the leader, following hints from managers that do not lead. Tries every known manager once; the
    /// caller backs off between calls. What the node says of its certificate is filled in here.
    pub async fn open_session(&self, mut request: SessionRequest) -> Result<WorkerSession, ClusterError> {
        // From before it is said: the leader's first words may change it.
        let generation = self.way.credentials.generation();
        request.description.tls = self.way.credentials.tls_info()?;
        let mut failure = ClusterError::Unreachable("no manager is known".to_owned());
        for manager in self.way.shuffled_managers() {
            let mut to = manager;
            for _ in 0..MAX_HINTS {
                match self.way.open(to, &request, &generation).await {
                    Ok(session) => return Ok(session),
                    Err(ClusterError::NotLeader(Some(leader))) if leader != to => to = leader,
                    Err(error) if is_final(&error) => return Err(error),
                    Err(error) => {
                        failure = error;
                        break;
                    }
                }
            }
        }
        Err(failure)
    }

    /// Obtains a new certificate for the role that the cluster now wants this node to have, and puts it in place; connections
    /// made before go on. An expired certificate is renewed by proof of its key.
    pub async fn renew(&self) -> Result<(), ClusterError> {
        self.way.renew().await
    }

    /// Takes over which managers there are; [`WorkerSession::next`] does this by itself.
    pub fn learn_managers(&self, managers: &[ManagerPeer]) {
        self.way.learn_managers(managers);
    }

    /// Managers that are known, for the caller to keep.
    pub fn managers(&self) -> Vec<SocketAddr> {
        self.way.managers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells a manager that this node leaves, so that it need not wait for silence. Best effort.
    pub async fn say_goodbye(&self) -> Result<(), ClusterError> {
        let managers = self.way.shuffled_managers();
        ask_any::<_, ()>(&self.way.client, &managers, paths::GOODBYE, &(), HEARTBEAT_LIMIT).await.map(|_| ())
    }
}

impl Way {
    async fn open(
        self: &Arc<Self>,
        to: SocketAddr,
        request: &SessionRequest,
        generation: &watch::Receiver<u64>,
    ) -> Result<WorkerSession, ClusterError> {
        let body = self.client.open(to, paths::SESSION, request, SESSION_LIMIT).await?;
        let mut events = JsonLines::new(body);
        let first = tokio::time::timeout(SESSION_LIMIT, events.next::<SessionEvent>()).await;
        let message = match first {
            Ok(Some(Ok(SessionEvent::Session(message)))) => message,
            Ok(Some(Err(error))) => return Err(error),
            _ => return Err(ClusterError::Unreachable(format!("{to} has opened no session"))),
        };
        self.learn(&message.managers, &message.trust_root).await;
        let handle = SessionHandle { id: message.id.clone(), leader: to, way: Arc::clone(self) };
        let generation = generation.clone();
        let told = request.description.tls.clone();
        Ok(WorkerSession { handle, events, first: Some(SessionEvent::Session(message)), generation, told })
    }

    async fn renew(&self) -> Result<(), ClusterError> {
        let (key, request) = generate_request()?;
        let managers = self.shuffled_managers();
        let certified: Certified = if self.credentials.is_expired() {
            let proof = sign(&self.credentials.node_key(), request.as_bytes())?;
            let wish = RenewExpiredRequest { request, certificate: self.credentials.certificate(), proof };
            // Managers do not accept the expired certificate, so none is shown.
            let anybody = CallAs::Anybody(tls::anonymous_client(&self.credentials.trust_root())?);
            let client = RpcClient::new(anybody);
            ask_any(&client, &managers, paths::RENEW_EXPIRED, &wish, CERTIFICATE_LIMIT).await?.0
        } else {
            let wish = RenewRequest { request };
            ask_any(&self.client, &managers, paths::RENEW, &wish, CERTIFICATE_LIMIT).await?.0
        };
        let issued = Issued { certificate: certified.certificate, key, trust_root: certified.trust_root };
        self.credentials.replace(issued).await?;
        tracing::info!(node.id = %self.credentials.node_id(), role = ?self.credentials.role(), "certificate renewed");
        Ok(())
    }

    async fn learn(&self, managers: &[ManagerPeer], trust_root: &str) {
        self.learn_managers(managers);
        if !trust_root.is_empty()
            && let Err(error) = self.credentials.trust(trust_root.to_owned()).await
        {
            tracing::warn!(%error, "the cluster's new trust root could not be stored");
        }
    }

    fn learn_managers(&self, managers: &[ManagerPeer]) {
        if !managers.is_empty() {
            let addresses = managers.iter().map(|peer| peer.address).collect();
            *self.managers.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
        }
    }

    fn shuffled_managers(&self) -> Vec<SocketAddr> {
        let mut managers = self.managers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        managers.shuffle(&mut rand::rng());
        let own = self.own.get().filter(|_| self.credentials.role() == NodeRole::Manager);
        own.into_iter().copied().chain(managers).collect()
    }
}

/// Renews the certificate whenever that is due, for ever.
async fn keep_renewed(way: Arc<Way>) {
    let mut generation = way.credentials.generation();
    let mut due = way.credentials.renewal_due();
    loop {
        // Both may be dropped: when renewal is due is drawn anew for another certificate.
        tokio::select! {
            // When renewal is due is a time.
            () = tokio::time::sleep(until(Timestamp::now(), due).min(LOOK_EVERY)) => {}
            changed = generation.changed() => {
                if changed.is_err() { return }
                due = way.credentials.renewal_due();
            }
        }
        if Timestamp::now() < due {
            continue;
        }
        let mut pause = RENEWAL_PAUSE.0;
        while let Err(error) = way.renew().await {
            tracing::warn!(%error, "the node's certificate could not be renewed yet");
            // Managers do not tell when they will be there again.
            tokio::time::sleep(pause).await;
            // Without a certificate the node can do nothing else.
            let longest = if way.credentials.is_expired() { EXPIRED_PAUSE } else { RENEWAL_PAUSE.1 };
            pause = (pause * 2).min(longest);
        }
        due = way.credentials.renewal_due();
    }
}

/// An open session: the stream of what the leader says.
#[derive(Debug)]
pub struct WorkerSession {
    handle: SessionHandle,
    events: JsonLines,
    first: Option<SessionEvent>,
    /// Changes of the node's certificate and of whom it trusts.
    generation: watch::Receiver<u64>,
    /// What the leader was told of these when the session was opened.
    told: TlsInfo,
}

impl WorkerSession {
    /// The next event; `None` when the leader has closed the session (it has lost its leadership, or the node has another
    /// session), or when this node has a certificate of another authority, or trusts another, than it has said: the leader
    /// waits for that, and learns it by the next session. Cancel-safe: an event is never lost by dropping the future.
    pub async fn next(&mut self) -> Option<Result<SessionEvent, ClusterError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let next = loop {
            // Neither loses anything when it is dropped.
            tokio::select! {
                next = self.events.next::<SessionEvent>() => break next?,
                changed = self.generation.changed() => {
                    let credentials = &self.handle.way.credentials;
                    if changed.is_err() || credentials.tls_info().is_ok_and(|now| now != self.told) {
                        return None;
                    }
                }
            }
        };
        if let Ok(SessionEvent::Session(message)) = &next {
            // Runs to its end by itself, so that the event is not lost when this future is dropped.
            let (way, message) = (Arc::clone(&self.handle.way), message.clone());
            tokio::spawn(async move { way.learn(&message.managers, &message.trust_root).await });
        }
        Some(next)
    }

    /// The way to report within this session.
    pub fn handle(&self) -> SessionHandle {
        self.handle.clone()
    }
}

/// Reports of one session. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    id: SessionId,
    leader: SocketAddr,
    way: Arc<Way>,
}

impl SessionHandle {
    /// Says that the node lives; answers after how long to say so again. To be called from the session's beginning on.
    pub async fn heartbeat(&self) -> Result<Duration, ClusterError> {
        let beat = Beat { session: self.id.clone() };
        let reply: HeartbeatReply = self.call(paths::HEARTBEAT, &beat, HEARTBEAT_LIMIT).await?;
        Ok(reply.next)
    }

    /// Reports observed states. When it returns, the report is in the replicated store.
    pub async fn report(&self, report: StatusReport) -> Result<(), ClusterError> {
        let report = ReportOfSession { session: self.id.clone(), report };
        self.call(paths::REPORT, &report, REPORT_LIMIT).await
    }

    /// Says that the node is as it was told up to a message.
    pub async fn acknowledge(&self, sequence: u64) -> Result<(), ClusterError> {
        let told = Acknowledgement { session: self.id.clone(), sequence };
        self.call(paths::ACKNOWLEDGE, &told, HEARTBEAT_LIMIT).await
    }

    /// Sends lines of a log subscription.
    pub async fn publish_logs(&self, report: LogReport) -> Result<(), ClusterError> {
        let report = LogsOfSession { session: self.id.clone(), report };
        self.call(paths::LOGS, &report, LOGS_LIMIT).await
    }

    /// Looks up a network that plain containers may join.
    pub async fn look_up(&self, network: &str) -> Result<OverlayNetwork, ClusterError> {
        self.call(paths::NETWORK, &network, REPORT_LIMIT).await
    }

    /// Lets a container of this node join a network of the cluster.
    pub async fn attach(&self, request: AttachRequest) -> Result<AttachReply, ClusterError> {
        self.call(paths::ATTACH, &request, REPORT_LIMIT).await
    }

    /// Ends attachments of this node.
    pub async fn detach(&self, request: DetachRequest) -> Result<(), ClusterError> {
        self.call(paths::DETACH, &request, REPORT_LIMIT).await
    }

    async fn call<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        path: &str,
        question: &Q,
        limit: Duration,
    ) -> Result<A, ClusterError> {
        self.way.client.call(self.leader, path, question, limit).await
    }
}
