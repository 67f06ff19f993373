//! Reading certificates of nodes: who it is, in which role, for how long.
//!
//! Start reading at [`NodeCertificate::parse`]. Verification is TLS's; this reads what a verified (or our own) certificate says.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use shoal_types::cluster::node::NodeRole;
use shoal_types::{ClusterId, NodeId};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::ClusterError;

/// Organisational unit of managers' certificates, and the name by which they are dialled.
pub(crate) const MANAGER_UNIT: &str = "swarm-manager";
/// Organisational unit of workers' certificates.
pub(crate) const WORKER_UNIT: &str = "swarm-worker";
/// Common name of authorities.
pub(crate) const AUTHORITY_NAME: &str = "swarm-ca";

/// What a node's certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeCertificate {
    /// The node.
    pub(crate) node: NodeId,
    /// Its role.
    pub(crate) role: NodeRole,
    /// Its cluster.
    pub(crate) cluster: ClusterId,
    /// From when it holds.
    pub(crate) not_before: Timestamp,
    /// Until when it holds.
    pub(crate) not_after: Timestamp,
}

impl NodeCertificate {
    /// Reads a certificate in DER.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, ClusterError> {
        let wrong = |reason: &str| ClusterError::local("reading a node's certificate", reason);
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| wrong("it is no X.509 certificate"))?;
        let subject = certificate.subject();
        let role = match name_part(subject.iter_organizational_unit().next()) {
            Some(MANAGER_UNIT) => NodeRole::Manager,
            Some(WORKER_UNIT) => NodeRole::Worker,
            _ => return Err(wrong("its organisational unit is no role")),
        };
        let node = name_part(subject.iter_common_name().next());
        let cluster = name_part(subject.iter_organization().next());
        let validity = certificate.validity();
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| wrong("its times are out of range"));
        Ok(Self {
            node: node
                .and_then(|name| name.parse().ok())
                .ok_or_else(|| wrong("its common name is no node id"))?,
            role,
            cluster: cluster
                .and_then(|name| name.parse().ok())
                .ok_or_else(|| wrong("its organisation is no cluster id"))?,
            not_before: time(validity.not_before.timestamp())?,
            not_after: time(validity.not_after.timestamp())?,
        })
    }

    /// Reads the first certificate of a PEM text.
    pub(crate) fn parse_pem(pem: &str) -> Result<Self, ClusterError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|source| ClusterError::local("reading a node's certificate", source))?;
        Self::parse(&der)
    }
}

/// Subject and public key of the first certificate in a PEM text, in DER, as `TLSInfo` shows them.
pub(crate) fn subject_and_key(pem: &str) -> Result<(Vec<u8>, Vec<u8>), ClusterError> {
    let wrong = |reason: &str| ClusterError::local("reading the authority's certificate", reason);
    let der =
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| wrong("it is no PEM certificate"))?;
    let (_, certificate) =
        X509Certificate::from_der(&der).map_err(|_| wrong("it is no X.509 certificate"))?;
    Ok((certificate.subject().as_raw().to_vec(), certificate.public_key().raw.to_vec()))
}

fn name_part<'a>(part: Option<&'a x509_parser::x509::AttributeTypeAndValue<'a>>) -> Option<&'a str> {
    part.and_then(|part| part.as_str().ok())
}
