//! What machines ask of the cluster's authority over the network: to become a node, and to stay one.
//!
//! Start reading at [`Registrar::enrol`]. The authority's key is in the replicated store; only the leader signs, because a new node is an
//! object that must be stored first. Any manager may be asked and says who leads.

use std::sync::Arc;

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use shoal_types::cluster::Meta;
use shoal_types::cluster::node::{Availability, Node, NodeRole, NodeSpec, NodeState, NodeStatus};
use shoal_types::{ErrorKind, NodeId};
use tokio::sync::Semaphore;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::authority::{Authority, Subject};
use super::certificate::{AuthorityCertificate, NodeCertificate};
use super::external::ExternalSigner;
use super::founding::first_meta;
use super::succession::outside_for;
use super::tokens::JoinToken;
use crate::clock::Clock;
use crate::error::ClusterError;
use crate::store::{Change, Key, Snapshot, Store};

/// Certificates that are signed at the same time.
const AT_ONCE: usize = 30;

/// A wish to become a node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EnrolRequest {
    /// The join token.
    pub(crate) token: String,
    /// Certificate signing request, PEM.
    pub(crate) request: String,
    /// Whether the node shall take tasks.
    pub(crate) availability: Availability,
}

/// A wish for a new certificate.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RenewRequest {
    /// Certificate signing request, PEM.
    pub(crate) request: String,
}

/// A wish for a new certificate by a node whose present one has expired.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RenewExpiredRequest {
    /// Certificate signing request, PEM.
    pub(crate) request: String,
    /// The expired certificate, PEM.
    pub(crate) certificate: String,
    /// Signature of the request by the key of that certificate (ECDSA P-256, SHA-256, ASN.1).
    #[serde(with = "shoal_types::base64_bytes")]
    pub(crate) proof: Vec<u8>,
}

/// A certificate.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Certified {
    /// The certificate, PEM.
    pub(crate) certificate: String,
    /// Certificates to trust, PEM.
    pub(crate) trust_root: String,
}

/// Issues certificates on behalf of the authority in the store.
#[derive(Clone)]
pub(crate) struct Registrar {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    external: Arc<ExternalSigner>,
    /// Turns at signing: nodes that all renew at once shall not keep the leader from everything else.
    turns: Arc<Semaphore>,
}

impl std::fmt::Debug for Registrar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registrar").finish_non_exhaustive()
    }
}

impl Registrar {
    /// The registrar of a store.
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, external: ExternalSigner) -> Self {
        Self { store, clock, external: Arc::new(external), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The certificates that nodes trust, PEM; public.
    pub(crate) fn trust_root(&self) -> Result<String, ClusterError> {
        let snapshot = self.store.snapshot();
        Ok(snapshot.cluster().ok_or(ClusterError::NoLeader)?.trust_root.clone())
    }

    /// Makes a node of a machine that shows a token.
    pub(crate) async fn enrol(&self, wish: EnrolRequest) -> Result<Certified, ClusterError> {
        let snapshot = self.store.snapshot();
        let role = role_of_token(&snapshot, &wish.token)?;
        let node = new_node(NodeId::random(), role, wish.availability, first_meta(self.clock.now()));
        let id = node.id;
        // The node is stored before its certificate exists, so that no certificate is ever without a node.
        self.store.commit(vec![Change::Create(node.into())]).await?;
        tracing::info!(node.id = %id, ?role, "a node has joined");
        let issued = self.issue(&self.store.snapshot(), id, role, &wish.request).await;
        // Nobody can ever be this node; one that is never heard of would hold an exchange of the authority up for ever.
        if issued.is_err()
            && let Err(error) = self.store.commit(vec![Change::Remove(Key::Node(id))]).await
        {
            tracing::warn!(node.id = %id, %error, "a node that got no certificate cannot be removed");
        }
        issued
    }

    /// Renews the certificate of a node that has shown its present one. The new one is for the role that the node has now.
    pub(crate) async fn renew(&self, node: NodeId, wish: &RenewRequest) -> Result<Certified, ClusterError> {
        let snapshot = self.store.snapshot();
        let role = known_node(&snapshot, node)?.role;
        self.issue(&snapshot, node, role, &wish.request).await
    }

    /// Renews an expired certificate.
    pub(crate) async fn renew_expired(&self, wish: &RenewExpiredRequest) -> Result<Certified, ClusterError> {
        let snapshot = self.store.snapshot();
        let node = verify_proof(&snapshot, wish)?;
        let role = known_node(&snapshot, node)?.role;
        tracing::info!(node.id = %node, "an expired certificate is renewed by proof of its key");
        self.issue(&snapshot, node, role, &wish.request).await
    }
}

impl Registrar {
    /// A certificate of the authority that signs now: the successor while the authority is exchanged, and then its own certificate
    /// comes along, signed by the present one.
    async fn issue(
        &self,
        snapshot: &Snapshot,
        node: NodeId,
        role: NodeRole,
        request: &str,
    ) -> Result<Certified, ClusterError> {
        let _turn = self.turns.acquire().await;
        let (cluster, authority) =
            snapshot.cluster().zip(snapshot.authority()).ok_or(ClusterError::NoLeader)?;
        let subject = Subject { node, role, cluster: cluster.id };
        let (certificate, key, cross_signed) = match &authority.successor {
            Some(next) => (&next.certificate, &next.key, next.cross_signed.as_str()),
            None => (&authority.certificate, &authority.key, ""),
        };
        let issued = if key.is_empty() {
            let outside = outside_for(&cluster.spec, authority, certificate);
            self.external.sign(&outside, certificate, request, subject).await?
        } else {
            Authority::from_pem(certificate, key)?.issue(request, subject, cluster.spec.certificate_life)?
        };
        let trust_root = cluster.trust_root.clone();
        Ok(Certified { certificate: format!("{}\n{cross_signed}", issued.trim_end()), trust_root })
    }
}

/// A node that has not been heard of yet.
pub(crate) fn new_node(id: NodeId, role: NodeRole, availability: Availability, meta: Meta) -> Node {
    Node {
        id,
        meta,
        spec: NodeSpec { name: String::new(), labels: std::collections::BTreeMap::new(), role, availability },
        description: None,
        status: NodeStatus {
            state: NodeState::Unknown,
            message: String::new(),
            address: String::new(),
            since: None,
        },
        role,
        manager: None,
        attachments: Vec::new(),
    }
}

/// Which role a token gives. Compares both in a time that does not tell how far they agree.
fn role_of_token(snapshot: &Snapshot, token: &str) -> Result<NodeRole, ClusterError> {
    let shown: JoinToken = token.parse()?;
    let authority = snapshot.authority().ok_or(ClusterError::NoLeader)?;
    let matches =
        |valid: &str| valid.parse::<JoinToken>().is_ok_and(|valid| valid.secret.matches(&shown.secret));
    let (is_worker, is_manager) = (matches(&authority.tokens.worker), matches(&authority.tokens.manager));
    match (is_manager, is_worker) {
        (true, _) => Ok(NodeRole::Manager),
        (_, true) => Ok(NodeRole::Worker),
        _ => Err(ClusterError::WrongJoinToken),
    }
}

fn known_node(snapshot: &Snapshot, id: NodeId) -> Result<&Arc<Node>, ClusterError> {
    let is_revoked = snapshot.revocation(id).is_some();
    snapshot.node(id).filter(|_| !is_revoked).ok_or_else(|| {
        ClusterError::refused(
            ErrorKind::Forbidden,
            format!("rpc error: code = PermissionDenied desc = node {id} is not part of this swarm any more"),
        )
    })
}

/// The node that has signed a request with the key of its expired certificate.
fn verify_proof(snapshot: &Snapshot, wish: &RenewExpiredRequest) -> Result<NodeId, ClusterError> {
    let refuse = || {
        ClusterError::refused(
            ErrorKind::Unauthorized,
            "rpc error: code = Unauthenticated desc = the expired certificate is none of this cluster's",
        )
    };
    let authority = snapshot.authority().ok_or(ClusterError::NoLeader)?;
    let der = CertificateDer::from_pem_slice(wish.certificate.as_bytes()).map_err(|_| refuse())?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| refuse())?;
    // While the authority is exchanged there are two.
    let successor = authority.successor.as_ref().map(|successor| successor.certificate.as_str());
    let is_ours = [Some(authority.certificate.as_str()), successor]
        .into_iter()
        .flatten()
        .filter_map(|pem| AuthorityCertificate::parse(pem).ok())
        .any(|authority| authority.has_issued(&der));
    if !is_ours {
        return Err(refuse());
    }
    let key = certificate.public_key().subject_public_key.data.as_ref();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
        .verify(wish.request.as_bytes(), &wish.proof)
        .map_err(|_| refuse())?;
    Ok(NodeCertificate::parse(&der)?.node)
}

#[cfg(test)]
mod tests {
    use super::super::authority::generate_request;
    use super::super::founding::{self, Founding};
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::{Key, MemoryStore};
    use shoal_types::cluster::settings::ClusterSpec;

    fn registrar() -> (Registrar, Arc<MemoryStore>) {
        let founding = Founding {
            spec: ClusterSpec::default(),
            address_pools: vec!["10.0.0.0/8".parse().unwrap()],
            subnet_size: 24,
            data_path_port: 4789,
            availability: Availability::Active,
            signing: None,
        };
        let founded = founding::found(founding, jiff::Timestamp::now()).unwrap();
        let store = Arc::new(MemoryStore::default());
        store.commit_now(&founded.objects.into_iter().map(Change::Create).collect::<Vec<_>>()).unwrap();
        (
            Registrar::new(
                Arc::clone(&store) as Arc<dyn Store>,
                Arc::new(SystemClock),
                ExternalSigner::default(),
            ),
            store,
        )
    }

    fn wish(token: String) -> EnrolRequest {
        EnrolRequest { token, request: generate_request().unwrap().1, availability: Availability::Drain }
    }

    #[tokio::test]
    async fn the_token_decides_the_role_and_a_wrong_one_is_refused() {
        let (registrar, store) = registrar();
        let tokens = store.snapshot().authority().unwrap().tokens.clone();
        for (token, role) in [(tokens.worker.clone(), NodeRole::Worker), (tokens.manager, NodeRole::Manager)]
        {
            let certified = registrar.enrol(wish(token)).await.unwrap();
            let read = NodeCertificate::parse_pem(&certified.certificate).unwrap();
            assert_eq!(read.role, role);
            let node = store.snapshot().node(read.node).unwrap().clone();
            assert_eq!((node.spec.role, node.spec.availability), (role, Availability::Drain));
        }
        let n_nodes = store.snapshot().n_nodes();
        let wrong = format!("{}{}", &tokens.worker[..60], "0".repeat(25));
        let refused = registrar.enrol(wish(wrong)).await.unwrap_err();
        assert!(matches!(refused, ClusterError::WrongJoinToken), "{refused:?}");
        let refused = registrar.enrol(wish("nonsense".to_owned())).await.unwrap_err();
        assert!(matches!(refused, ClusterError::InvalidJoinToken), "{refused:?}");
        assert_eq!(store.snapshot().n_nodes(), n_nodes, "no node was made for them");
    }

    #[tokio::test]
    async fn a_removed_node_gets_no_certificate() {
        let (registrar, store) = registrar();
        let token = store.snapshot().authority().unwrap().tokens.worker.clone();
        let certified = registrar.enrol(wish(token)).await.unwrap();
        let node = NodeCertificate::parse_pem(&certified.certificate).unwrap().node;
        let renewal = RenewRequest { request: generate_request().unwrap().1 };
        registrar.renew(node, &renewal).await.unwrap();
        store.commit_now(&[Change::Remove(Key::Node(node))]).unwrap();
        assert_eq!(registrar.renew(node, &renewal).await.unwrap_err().kind(), ErrorKind::Forbidden);
    }

    #[tokio::test]
    async fn an_expired_certificate_is_renewed_for_whoever_has_its_key() {
        let (registrar, store) = registrar();
        let token = store.snapshot().authority().unwrap().tokens.worker.clone();
        let (key, request) = generate_request().unwrap();
        let certified = registrar
            .enrol(EnrolRequest { token, request, availability: Availability::Active })
            .await
            .unwrap();
        let node = NodeCertificate::parse_pem(&certified.certificate).unwrap().node;
        let (other_key, request) = generate_request().unwrap();
        let proof = super::super::authority::sign(&key, request.as_bytes()).unwrap();
        let mut wish = RenewExpiredRequest { request, certificate: certified.certificate, proof };
        let renewed = registrar.renew_expired(&wish).await.unwrap();
        assert_eq!(NodeCertificate::parse_pem(&renewed.certificate).unwrap().node, node);
        wish.proof = super::super::authority::sign(&other_key, wish.request.as_bytes()).unwrap();
        assert_eq!(registrar.renew_expired(&wish).await.unwrap_err().kind(), ErrorKind::Unauthorized);
    }
}
