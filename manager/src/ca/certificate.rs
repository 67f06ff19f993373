//! Reading certificates: of nodes, who it is, in which role, for how long; of authorities, their name and key.
//!
//! Start reading at [`NodeCertificate::parse`] and [`AuthorityCertificate`]. Verification between nodes is TLS's; this reads what a verified
//! (or our own) certificate says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::DnValue;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use shoal_types::cluster::node::NodeRole;
use shoal_types::{ClusterId, NodeId};
use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

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

/// What the certificate of an authority says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthorityCertificate {
    /// The certificate itself, DER.
    pub(crate) der: Vec<u8>,
    /// Its name, DER.
    pub(crate) subject: Vec<u8>,
    /// The parts of its name: object identifier and value.
    pub(crate) name: Vec<(Vec<u64>, DnValue)>,
    /// Its public key, DER (SubjectPublicKeyInfo).
    pub(crate) public_key: Vec<u8>,
    /// From when it holds.
    pub(crate) not_before: Timestamp,
    /// Until when it holds.
    pub(crate) not_after: Timestamp,
}

impl AuthorityCertificate {
    /// Reads the first certificate in a PEM text.
    pub(crate) fn parse(pem: &str) -> Result<Self, ClusterError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| not_readable("it is no PEM"))?;
        Self::parse_der(&der)
    }

    fn parse_der(der: &[u8]) -> Result<Self, ClusterError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| not_readable("it is no X.509 certificate"))?;
        let validity = certificate.validity();
        let time =
            |seconds| Timestamp::from_second(seconds).map_err(|_| not_readable("its times are out of range"));
        let parts = certificate.subject().iter_attributes().map(|part| {
            let kind = part.attr_type().iter().map(Iterator::collect).unwrap_or_default();
            Ok((kind, name_value(part)?))
        });
        Ok(Self {
            der: der.to_vec(),
            subject: certificate.subject().as_raw().to_vec(),
            name: parts.collect::<Result<_, ClusterError>>()?,
            public_key: certificate.public_key().raw.to_vec(),
            not_before: time(validity.not_before.timestamp())?,
            not_after: time(validity.not_after.timestamp())?,
        })
    }

    /// Whether a certificate, DER, is of this authority: names it and is signed by its key.
    pub(crate) fn has_issued(&self, der: &[u8]) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
        let Ok((_, key)) = SubjectPublicKeyInfo::from_der(&self.public_key) else { return false };
        certificate.issuer().as_raw() == self.subject && certificate.verify_signature(Some(&key)).is_ok()
    }
}

/// The authority that has issued a node's certificate: one of those that stand behind it in `chain`, or one that is trusted. All PEM.
pub(crate) fn issuer(chain: &str, trust_root: &str) -> Result<AuthorityCertificate, ClusterError> {
    let mut chain = all(chain)?.into_iter();
    let certificate = chain.next().ok_or_else(|| not_readable("there is none"))?;
    let candidates = chain.chain(all(trust_root)?);
    candidates
        .filter_map(|der| AuthorityCertificate::parse_der(&der).ok())
        .find(|authority| authority.has_issued(&certificate))
        .ok_or_else(|| not_readable("no authority that this node knows has issued its certificate"))
}

/// All certificates of a PEM text.
pub(crate) fn all(pem: &str) -> Result<Vec<CertificateDer<'static>>, ClusterError> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(not_readable)
}

/// A certificate as PEM, always in the same form: join tokens carry a digest of it.
pub(crate) fn to_pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = next;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn name_value(part: &x509_parser::x509::AttributeTypeAndValue<'_>) -> Result<DnValue, ClusterError> {
    let text = part.as_str().map_err(|_| not_readable("its name is in a form that is not known"))?;
    match part.attr_value().header.tag() {
        Tag::Utf8String => Ok(DnValue::Utf8String(text.to_owned())),
        Tag::PrintableString => text.try_into().map(DnValue::PrintableString).map_err(not_readable),
        Tag::Ia5String => text.try_into().map(DnValue::Ia5String).map_err(not_readable),
        _ => Err(not_readable("its name is in a form that is not known")),
    }
}

fn not_readable(reason: impl ToString) -> ClusterError {
    ClusterError::local("reading the authority's certificate", reason)
}

fn name_part<'a>(part: Option<&'a x509_parser::x509::AttributeTypeAndValue<'a>>) -> Option<&'a str> {
    part.and_then(|part| part.as_str().ok())
}
