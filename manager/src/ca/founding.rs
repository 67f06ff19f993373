//! The first objects of a new cluster.
//!
//! Start reading at [`found`]. Makes keys and certificates; writes nothing.

use ipnet::IpNet;
use jiff::Timestamp;
use shoal_types::cluster::Meta;
use shoal_types::cluster::node::{Availability, NodeRole};
use shoal_types::cluster::settings::{Cluster, ClusterSpec, JoinTokens};
use shoal_types::{ClusterId, NodeId};

use super::authority::{Authority, Subject, generate_request};
use super::certificate::AuthorityCertificate;
use super::registrar::new_node;
use super::succession;
use super::tokens::{JoinToken, TokenSecret, UnlockKey, root_digest};
use super::{Issued, Lock};
use crate::api::membership::SigningAuthority;
use crate::error::ClusterError;
use crate::store::{self, Object};

/// What a new cluster shall be.
#[derive(Debug, Clone)]
pub(crate) struct Founding {
    /// Settings.
    pub(crate) spec: ClusterSpec,
    /// Pools for networks of the cluster.
    pub(crate) address_pools: Vec<IpNet>,
    /// Prefix length of each piece.
    pub(crate) subnet_size: u8,
    /// UDP port of the data path.
    pub(crate) data_path_port: u16,
    /// Whether the first node takes tasks.
    pub(crate) availability: Availability,
    /// The authority, if the administrator brings one. Without its key the cluster begins with one of its own: an authority
    /// outside would have to certify this node, which has nothing yet to show it. Whoever founds the cluster hands over later.
    pub(crate) signing: Option<SigningAuthority>,
}

/// A new cluster.
#[derive(Debug)]
pub(crate) struct Founded {
    /// Its first objects: itself, its authority, its first node.
    pub(crate) objects: Vec<Object>,
    /// The first node's certificate.
    pub(crate) issued: Issued,
    /// Whether managers' keys are locked.
    pub(crate) lock: Lock,
}

/// Makes a new cluster.
pub(crate) fn found(founding: Founding, now: Timestamp) -> Result<Founded, ClusterError> {
    let (certificate, key) = match founding.signing.filter(|given| !given.key.is_empty()) {
        Some(given) => {
            let SigningAuthority { certificate, key } = succession::check(&given, now)?;
            (certificate, key)
        }
        None => Authority::generate()?,
    };
    let authority = Authority::from_pem(&certificate, &key)?;
    let (node, cluster, meta) = (NodeId::random(), ClusterId::random(), first_meta(now));
    let (node_key, request) = generate_request()?;
    let subject = Subject { node, role: NodeRole::Manager, cluster };
    let issued = Issued {
        certificate: authority.issue(&request, subject, founding.spec.certificate_life)?,
        key: node_key,
        trust_root: certificate.clone(),
    };
    let unlock_key = founding.spec.autolock.then(UnlockKey::random);
    let own = AuthorityCertificate::parse(&certificate)?;
    let objects = vec![
        Cluster {
            id: cluster,
            meta,
            spec: founding.spec,
            trust_root: certificate.clone(),
            issuer_subject: own.subject,
            issuer_public_key: own.public_key,
            is_rotating: false,
            address_pools: founding.address_pools,
            subnet_size: founding.subnet_size,
            data_path_port: founding.data_path_port,
        }
        .into(),
        store::Authority {
            meta,
            tokens: JoinTokens { worker: new_token(&certificate), manager: new_token(&certificate) },
            certificate,
            key,
            unlock_key: unlock_key.as_ref().map(UnlockKey::to_string),
            successor: None,
        }
        .into(),
        new_node(node, NodeRole::Manager, founding.availability, meta).into(),
    ];
    Ok(Founded { objects, issued, lock: unlock_key.map_or(Lock::Open, Lock::With) })
}

/// Version and times of an object that is about to be created.
pub(crate) fn first_meta(now: Timestamp) -> Meta {
    Meta { version: 0, created: now, updated: now }
}

/// A new join token for an authority.
pub(crate) fn new_token(certificate: &str) -> String {
    JoinToken { root: root_digest(certificate), secret: TokenSecret::random() }.to_string()
}
