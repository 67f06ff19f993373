//! Managers and workers in one process, each with a directory of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use manager::api::membership::SigningAuthority;
use manager::ca::Credentials;
use manager::node::{ManagerConfig, ManagerNode, NewCluster};
use manager::worker_client::{Enrolment, WorkerClient, WorkerSession, enrol};
use manager::{Cluster, ClusterError, NotAMember};
use shoal_types::Platform;
use shoal_types::cluster::node::{Availability, NodeDescription, TlsInfo};
use shoal_types::cluster::settings::{ClusterSpec, JoinTokens};
use shoal_types::protocol::{PROTOCOL_VERSION, SessionEvent, SessionMessage, SessionRequest};

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Directories of nodes.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn config(&self, name: &str) -> ManagerConfig {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        ManagerConfig { directory: self.dir.path().join(name), listen: loopback, advertise: loopback }
    }

    /// The directory's manager at the address that it had before.
    pub(crate) fn config_at(&self, name: &str, address: SocketAddr) -> ManagerConfig {
        ManagerConfig { listen: address, advertise: address, ..self.config(name) }
    }

    pub(crate) async fn init(&self, name: &str) -> Arc<ManagerNode> {
        self.init_with(name, ClusterSpec::default()).await
    }

    pub(crate) async fn init_with(&self, name: &str, spec: ClusterSpec) -> Arc<ManagerNode> {
        self.try_init(name, spec, None).await.unwrap()
    }

    /// A cluster that begins with what the administrator brings.
    pub(crate) async fn try_init(
        &self,
        name: &str,
        spec: ClusterSpec,
        signing: Option<SigningAuthority>,
    ) -> Result<Arc<ManagerNode>, ClusterError> {
        let cluster = NewCluster {
            spec,
            address_pools: vec!["10.0.0.0/8".parse().unwrap()],
            subnet_size: 24,
            data_path_port: 4789,
            availability: Availability::Active,
            signing,
        };
        ManagerNode::init(self.config(name), cluster).await
    }

    pub(crate) async fn enrol(
        &self,
        name: &str,
        token: &str,
        remotes: &[SocketAddr],
    ) -> Result<Arc<Credentials>, ClusterError> {
        let directory: PathBuf = self.config(name).certificates();
        let (token, remotes) = (token.to_owned(), remotes.to_vec());
        enrol(Enrolment { directory, remotes, token, availability: Availability::Active }).await
    }

    /// A manager that has joined through `by`.
    pub(crate) async fn join(&self, name: &str, by: &ManagerNode) -> Arc<ManagerNode> {
        let token = tokens(by).await.manager;
        let credentials = self.enrol(name, &token, &[by.address()]).await.unwrap();
        ManagerNode::join(self.config(name), credentials, vec![by.address()]).await.unwrap()
    }

    /// A worker that has joined through `by`.
    pub(crate) async fn worker(&self, name: &str, by: &ManagerNode) -> WorkerClient {
        let token = tokens(by).await.worker;
        let credentials = self.enrol(name, &token, &[by.address()]).await.unwrap();
        WorkerClient::new(credentials, vec![by.address()])
    }
}

pub(crate) async fn tokens(manager: &ManagerNode) -> JoinTokens {
    manager.inspect().await.unwrap().1
}

pub(crate) fn ports(manager: &ManagerNode) -> Cluster {
    manager.ports(Arc::new(NotAMember))
}

pub(crate) fn request(hostname: &str) -> SessionRequest {
    SessionRequest {
        version: PROTOCOL_VERSION,
        description: NodeDescription {
            hostname: hostname.to_owned(),
            platform: Platform::new("linux", "amd64", ""),
            nano_cpus: 4_000_000_000,
            memory: 8 << 30,
            generic: Vec::new(),
            engine_version: "1".to_owned(),
            engine_labels: Default::default(),
            plugins: Vec::new(),
            tls: TlsInfo::default(),
            data_path: None,
            data_path_keys: Vec::new(),
        },
        address: String::new(),
    }
}

/// The next event of a session.
pub(crate) async fn next(session: &mut WorkerSession) -> Option<SessionEvent> {
    let next = tokio::time::timeout(LIMIT, session.next()).await.expect("an event in time");
    next.map(|event| event.unwrap())
}

/// The next message about the session itself for which `holds`.
pub(crate) async fn told(
    session: &mut WorkerSession,
    mut holds: impl FnMut(&SessionMessage) -> bool,
) -> SessionMessage {
    loop {
        if let SessionEvent::Session(message) = next(session).await.expect("the session goes on")
            && holds(&message)
        {
            return *message;
        }
    }
}

pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = tokio::time::timeout(LIMIT, async {
        while !holds().await {
            // What is waited for is asked for from outside, and has no signal.
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}
