//! Where every call from another node arrives: who may ask what.
//!
//! Start reading at [`OpenDesk`]. Anybody may ask for the trust root, enrol with a token, or renew an expired certificate by proof of its key.
//! Everything else takes a certificate of this cluster that was not revoked, and what concerns the managers' group one
//! for that role. What only the leader can answer is answered elsewhere with where the leader is.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use shoal_types::cluster::node::NodeRole;
use shoal_types::{ErrorKind, NodeId};

use crate::ca::Credentials;
use crate::ca::certificate::NodeCertificate;
use crate::ca::registrar::Registrar;
use crate::dispatcher::Dispatcher;
use crate::error::ClusterError;
use crate::forward::Forwarder;
use crate::log_reader;
use crate::raft::{Group, JoinGroup, Leadership, Member};
use crate::rpc::paths;
use crate::rpc::server::{Call, Reply, Service};
use crate::store::Store as _;

/// Answers every call from another node.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) group: Arc<Group>,
    pub(crate) registrar: Registrar,
    pub(crate) forwarder: Arc<Forwarder>,
    /// Filled in while this manager leads.
    pub(crate) dispatcher: Mutex<Option<Arc<Dispatcher>>>,
}

impl Desk {
    /// Takes sessions from now on, or no longer.
    pub(crate) fn set_dispatcher(&self, dispatcher: Option<Arc<Dispatcher>>) {
        *self.dispatcher.lock().unwrap_or_else(PoisonError::into_inner) = dispatcher;
    }

    /// The dispatcher, if this manager leads.
    pub(crate) fn dispatcher(&self) -> Result<Arc<Dispatcher>, ClusterError> {
        let dispatcher = self.dispatcher.lock().unwrap_or_else(PoisonError::into_inner).clone();
        dispatcher.ok_or_else(|| self.not_leading())
    }

    fn not_leading(&self) -> ClusterError {
        match *self.group.leadership().borrow() {
            Leadership::At(leader) => ClusterError::NotLeader(Some(leader)),
            // Its parts are about to be made.
            Leadership::Here(_) => ClusterError::NotLeader(None),
            Leadership::Nowhere => ClusterError::NoLeader,
        }
    }

    fn check_leading(&self) -> Result<(), ClusterError> {
        match *self.group.leadership().borrow() {
            Leadership::Here(_) => Ok(()),
            _ => Err(self.not_leading()),
        }
    }

    /// What the caller's certificate says, if it is a node of this cluster.
    fn check_node(&self, call: &Call) -> Result<NodeCertificate, ClusterError> {
        let certificate = call.peer.certificate.ok_or_else(|| {
            ClusterError::refused(
                ErrorKind::Unauthorized,
                "rpc error: code = Unauthenticated desc = a certificate of the swarm is needed",
            )
        })?;
        let is_revoked = self.group.snapshot().revocation(certificate.node).is_some();
        if certificate.cluster != self.credentials.cluster_id() || is_revoked {
            return Err(ClusterError::refused(
                ErrorKind::Forbidden,
                format!(
                    "rpc error: code = PermissionDenied desc = node {} is not part of this swarm any more",
                    certificate.node
                ),
            ));
        }
        Ok(certificate)
    }

    /// Likewise, if it is a manager.
    fn check_manager(&self, call: &Call) -> Result<NodeId, ClusterError> {
        let certificate = self.check_node(call)?;
        let snapshot = self.group.snapshot();
        // A member that has just begun knows of nobody yet.
        let is_manager = snapshot.node(certificate.node).is_none_or(|node| node.role == NodeRole::Manager);
        if certificate.role == NodeRole::Manager && is_manager {
            return Ok(certificate.node);
        }
        Err(ClusterError::refused(
            ErrorKind::Forbidden,
            "rpc error: code = PermissionDenied desc = only managers may ask for this",
        ))
    }

    async fn serve_dispatcher(&self, call: Call) -> Result<Reply, ClusterError> {
        let node = self.check_node(&call)?.node;
        let dispatcher = self.dispatcher()?;
        let address = call.peer.address.ip();
        match call.path.as_str() {
            paths::SESSION => {
                dispatcher.open_session(node, address, call.json().await?).await.map(Reply::Stream)
            }
            paths::HEARTBEAT => Reply::json(&dispatcher.heartbeat(node, &call.json().await?)?),
            paths::REPORT => Reply::json(&dispatcher.report(node, call.json().await?).await?),
            paths::ACKNOWLEDGE => Reply::json(&dispatcher.acknowledge(node, &call.json().await?)?),
            paths::LOGS => Reply::json(&dispatcher.publish_logs(node, call.json().await?).await?),
            paths::NETWORK => Reply::json(&dispatcher.look_up(node, &call.json::<String>().await?).await?),
            paths::ATTACH => Reply::json(&dispatcher.attach(node, call.json().await?).await?),
            paths::DETACH => Reply::json(&dispatcher.detach(node, call.json().await?).await?),
            _ => Reply::json(&dispatcher.goodbye(node).await?),
        }
    }

    async fn serve_raft(&self, call: Call) -> Result<Reply, ClusterError> {
        if call.path == paths::RAFT_CANVASS {
            // The only way in which a member that was removed meanwhile learns of it.
            self.check_node(&call)?;
            return self.group.serve(call).await.unwrap_or_else(|| Err(unknown_path()));
        }
        if call.path == paths::RAFT_JOIN {
            // Only the leader knows for sure who is a manager: a follower may not have heard of a promotion yet.
            self.check_node(&call)?;
            self.check_leading()?;
            let node = self.check_manager(&call)?;
            let caller = call.peer.address.ip();
            let JoinGroup { id, mut address } = call.json().await?;
            if address.ip().is_unspecified() {
                address.set_ip(caller);
            }
            return self.group.serve_join(Member { node, address }, id).await;
        }
        self.check_manager(&call)?;
        self.group.serve(call).await.unwrap_or_else(|| Err(unknown_path()))
    }
}

/// The desk as the listener's service.
#[derive(Debug)]
pub(crate) struct OpenDesk(pub(crate) Arc<Desk>);

#[async_trait]
impl Service for OpenDesk {
    async fn serve(&self, call: Call) -> Result<Reply, ClusterError> {
        let desk = &self.0;
        match call.path.as_str() {
            paths::TRUST_ROOT => Reply::json(&desk.registrar.trust_root()?),
            paths::ENROL => {
                desk.check_leading()?;
                Reply::json(&desk.registrar.enrol(call.json().await?).await?)
            }
            paths::RENEW_EXPIRED => {
                desk.check_leading()?;
                Reply::json(&desk.registrar.renew_expired(&call.json().await?).await?)
            }
            paths::RENEW => {
                let node = desk.check_node(&call)?.node;
                desk.check_leading()?;
                Reply::json(&desk.registrar.renew(node, &call.json().await?).await?)
            }
            paths::HEALTH => {
                desk.check_node(&call)?;
                Reply::json(&desk.credentials.node_id())
            }
            paths::CONTROL => {
                desk.check_manager(&call)?;
                desk.forwarder.serve(call.json().await?).await
            }
            paths::CONTROL_LOGS => {
                desk.check_manager(&call)?;
                log_reader::serve(desk, call.json().await?).await
            }
            paths::SESSION
            | paths::HEARTBEAT
            | paths::REPORT
            | paths::ACKNOWLEDGE
            | paths::LOGS
            | paths::NETWORK
            | paths::ATTACH
            | paths::DETACH
            | paths::GOODBYE => desk.serve_dispatcher(call).await,
            path if path.starts_with("/v1/raft/") => desk.serve_raft(call).await,
            _ => Err(unknown_path()),
        }
    }
}

fn unknown_path() -> ClusterError {
    ClusterError::refused(ErrorKind::NotFound, "this manager does not know that call")
}
