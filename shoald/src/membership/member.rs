//! A machine that is a node: its certificate, its worker, and its manager if it has one.
//!
//! Start reading at [`Member`]. What is started and stopped when is decided by its owner.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use manager::ClusterError;
use manager::api::membership::{Standing, Surroundings};
use manager::ca::Credentials;
use manager::node::{ManagerConfig, ManagerNode};
use manager::worker_client::WorkerClient;
use node_agent::api::Node;
use node_agent::store::Store;
use node_agent::worker::{Connection, Worker, WorkerIdentity, WorkerParts};
use shoal_types::cluster::node::NodeRole;
use shoal_types::protocol::{ManagerPeer, SessionId, SessionMessage};
use shoal_types::{ErrorKind, NodeId};
use tokio::sync::watch;

use super::MembershipSettings;
use super::dispatcher::Managers;
use super::record::Record;

/// A machine that is a node.
pub(super) struct Member {
    pub(super) record: Record,
    pub(super) credentials: Arc<Credentials>,
    pub(super) client: Arc<WorkerClient>,
    pub(super) worker: Worker,
    pub(super) connection: watch::Receiver<Connection>,
    pub(super) manager: Option<Arc<ManagerNode>>,
    /// Why the manager that should run does not.
    pub(super) trouble: Option<String>,
    /// Whether a session was ever open in this daemon's life, or the node was a member before.
    pub(super) is_settled: bool,
    /// The session in which the leader's wish for another certificate was fulfilled; it learns of that by the next.
    pub(super) renewed_in: Option<SessionId>,
}

impl Member {
    /// Starts the worker of a node. Tasks that run are taken up.
    pub(super) async fn start(
        node: &Node,
        store: &Store,
        settings: &MembershipSettings,
        record: Record,
        credentials: Arc<Credentials>,
    ) -> Result<Self, ClusterError> {
        let mut managers = record.managers.clone();
        // A manager reaches itself like every other, and first of all.
        if credentials.role() == NodeRole::Manager && !managers.contains(&record.advertise) {
            managers.insert(0, record.advertise);
        }
        let client = Arc::new(WorkerClient::new(Arc::clone(&credentials), managers));
        client.asks_itself_at(from_itself(record.listen));
        let parts = WorkerParts {
            node: node.clone(),
            store: store.clone(),
            dispatcher: Arc::new(Managers(Arc::clone(&client))),
            overlays: Arc::clone(&settings.overlays),
            describe: settings.describe,
            identity: WorkerIdentity {
                node: credentials.node_id(),
                address: record.advertise.ip().to_string(),
                data_path: record.data_path.unwrap_or_else(|| record.advertise.ip()),
                files: settings.files.clone(),
                generic: settings.generic.clone(),
                engine_version: settings.engine_version.clone(),
            },
        };
        let worker = Worker::start(parts)
            .await
            .map_err(|error| ClusterError::Refused { kind: error.kind(), message: error.message() })?;
        let connection = worker.connection();
        Ok(Self {
            record,
            credentials,
            client,
            worker,
            connection,
            manager: None,
            trouble: None,
            is_settled: false,
            renewed_in: None,
        })
    }

    pub(super) fn node_id(&self) -> NodeId {
        self.credentials.node_id()
    }

    /// What this node is.
    pub(super) fn standing(&self) -> Standing {
        if self.credentials.is_expired() {
            return Standing::Error(ClusterError::CertificatesExpired.to_string());
        }
        if let Some(trouble) = &self.trouble {
            return Standing::Error(trouble.clone());
        }
        let connection = self.connection.borrow();
        match (&self.manager, connection.error()) {
            (Some(_), _) => Standing::Manager(self.node_id()),
            // The cluster does not know this node any more.
            (None, Some(error)) if matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Forbidden) => {
                Standing::Error(error.message.clone())
            }
            (None, _) if self.is_settled && self.credentials.role() == NodeRole::Worker => {
                Standing::Worker(self.node_id())
            }
            (None, _) => Standing::Pending,
        }
    }

    /// Where this node and the managers are.
    pub(super) fn surroundings(&self) -> Surroundings {
        let connection = self.connection.borrow();
        let managers: Vec<ManagerPeer> =
            connection.message().map(|message| message.managers.clone()).unwrap_or_default();
        Surroundings { address: self.record.advertise.ip().to_string(), managers }
    }

    /// What the leader has last said, if there is a session.
    pub(super) fn message(&self) -> Option<Arc<SessionMessage>> {
        self.connection.borrow().message().cloned()
    }

    /// Managers that this node could ask: those of the session, else those it kept.
    pub(super) fn known_managers(&self) -> Vec<SocketAddr> {
        let known = self.client.managers();
        if known.is_empty() { self.record.managers.clone() } else { known }
    }
}

/// How a node reaches what listens there: on all addresses means on the loopback's too.
fn from_itself(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Where a node's manager lives.
pub(super) fn manager_config(settings: &MembershipSettings, record: &Record) -> ManagerConfig {
    ManagerConfig {
        directory: settings.directory.clone(),
        listen: record.listen,
        advertise: record.advertise,
    }
}
