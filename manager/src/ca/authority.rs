//! The cluster's authority: its own certificate and key, and the certificates that it issues.
//!
//! Start reading at [`Authority::generate`] and [`Authority::issue`]. Forms are swarm's: ECDSA P-256; the authority is named
//! `swarm-ca` and lives 20 years; a node's certificate names the node (CN), its role (OU) and the cluster (O), and begins an hour
//! ago so that clocks may differ.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SubjectPublicKeyInfo,
};
use shoal_types::ErrorKind;
use shoal_types::cluster::node::NodeRole;
use shoal_types::{ClusterId, NodeId};

use super::certificate::{AUTHORITY_NAME, AuthorityCertificate, MANAGER_UNIT, WORKER_UNIT};
use super::private_key;
use crate::error::ClusterError;

/// How long an authority lives.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How far the beginning of a certificate lies back.
const BACKDATE: Duration = Duration::from_secs(3600);

/// An authority that can sign.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    /// The node.
    pub(crate) node: NodeId,
    /// Its role.
    pub(crate) role: NodeRole,
    /// Its cluster.
    pub(crate) cluster: ClusterId,
}

impl Authority {
    /// A new one: its certificate and key, both PEM.
    pub(crate) fn generate() -> Result<(String, String), ClusterError> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, AUTHORITY_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, AUTHORITY_LIFE);
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Takes one from its certificate and key, both PEM.
    pub(crate) fn from_pem(certificate: &str, key: &str) -> Result<Self, ClusterError> {
        let key = private_key::read(key)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(failed)?;
        Ok(Self { issuer })
    }

    /// Signs the certificate of another authority: same name, same key, for as long as that one holds. Whoever trusts this
    /// authority then trusts certificates of the other when they come with this one.
    pub(crate) fn cross_sign(&self, other: &str) -> Result<String, ClusterError> {
        let other = AuthorityCertificate::parse(other)?;
        let key = SubjectPublicKeyInfo::from_der(&other.public_key).map_err(failed)?;
        let mut params = authority_params(&other);
        params.use_authority_key_identifier_extension = true;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + seconds(other.not_before);
        params.not_after = epoch + seconds(other.not_after);
        Ok(params.signed_by(&key, &self.issuer).map_err(failed)?.pem())
    }

    /// Signs a node's request, whatever names it contains: only its key is taken over, after its proof of possession.
    pub(crate) fn issue(
        &self,
        request: &str,
        subject: Subject,
        life: Duration,
    ) -> Result<String, ClusterError> {
        let mut request = read_request(request)?;
        request.params = node_params(subject, life)?;
        let certificate = request.signed_by(&self.issuer).map_err(failed)?;
        Ok(certificate.pem())
    }
}

/// A new key, PEM, and a request for a certificate of it, PEM. The authority fills in the names.
pub(crate) fn generate_request() -> Result<(String, String), ClusterError> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok((key.serialize_pem(), request.pem().map_err(failed)?))
}

/// The key for which a request asks, DER (SubjectPublicKeyInfo).
pub(crate) fn request_key(request: &str) -> Result<Vec<u8>, ClusterError> {
    use rcgen::PublicKeyData as _;

    Ok(read_request(request)?.public_key.subject_public_key_info())
}

fn read_request(request: &str) -> Result<CertificateSigningRequestParams, ClusterError> {
    CertificateSigningRequestParams::from_pem(request).map_err(|source| {
        ClusterError::refused(
            ErrorKind::InvalidArgument,
            format!("the certificate signing request is not valid: {source}"),
        )
    })
}

/// A request for an authority's certificate by another authority, PEM: proves the key and carries the name.
pub(crate) fn cross_sign_request(certificate: &str, key: &str) -> Result<String, ClusterError> {
    let params = authority_params(&AuthorityCertificate::parse(certificate)?);
    let request = params.serialize_request(&private_key::read(key)?).map_err(failed)?;
    request.pem().map_err(failed)
}

/// Signs a message with a key, PEM (ECDSA P-256, SHA-256, ASN.1).
pub(crate) fn sign(key: &str, message: &[u8]) -> Result<Vec<u8>, ClusterError> {
    let key = KeyPair::from_pem(key).map_err(failed)?;
    rcgen::SigningKey::sign(&key, message).map_err(failed)
}

/// What the certificate of an authority of this name says.
fn authority_params(authority: &AuthorityCertificate) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in &authority.name {
        params.distinguished_name.push(DnType::from_oid(kind), value.clone());
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn seconds(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0))
}

fn node_params(subject: Subject, life: Duration) -> Result<CertificateParams, ClusterError> {
    let unit = match subject.role {
        NodeRole::Manager => MANAGER_UNIT,
        NodeRole::Worker => WORKER_UNIT,
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, subject.cluster.to_string());
    params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
    params.distinguished_name.push(DnType::CommonName, subject.node.to_string());
    let mut names = vec![unit.to_owned(), subject.node.to_string()];
    if subject.role == NodeRole::Manager {
        names.push(AUTHORITY_NAME.to_owned());
    }
    params.subject_alt_names = names
        .into_iter()
        .map(|name| name.try_into().map(SanType::DnsName).map_err(failed))
        .collect::<Result<_, _>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, life);
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, life: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = Duration::from_secs(u64::try_from(Timestamp::now().as_second()).unwrap_or(0));
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = epoch + now + life;
}

fn failed(source: impl ToString) -> ClusterError {
    ClusterError::local("making a certificate", source)
}

#[cfg(test)]
mod tests {
    use super::super::certificate::NodeCertificate;
    use super::*;

    fn subject(role: NodeRole) -> Subject {
        Subject { node: NodeId::random(), role, cluster: ClusterId::random() }
    }

    #[test]
    fn a_node_certificate_says_who_it_is_whatever_the_request_says() {
        let (certificate, key) = Authority::generate().unwrap();
        let authority = Authority::from_pem(&certificate, &key).unwrap();
        for role in [NodeRole::Worker, NodeRole::Manager] {
            let subject = subject(role);
            let (_, request) = generate_request().unwrap();
            let issued = authority.issue(&request, subject, Duration::from_secs(7200)).unwrap();
            let read = NodeCertificate::parse_pem(&issued).unwrap();
            assert_eq!((read.node, read.role, read.cluster), (subject.node, role, subject.cluster));
            let life = read.not_after.as_second() - read.not_before.as_second();
            assert_eq!(life, 7200 + 3600);
        }
    }

    #[test]
    fn a_request_that_does_not_prove_its_key_is_refused() {
        let (certificate, key) = Authority::generate().unwrap();
        let authority = Authority::from_pem(&certificate, &key).unwrap();
        let (_, request) = generate_request().unwrap();
        let mut lines: Vec<String> = request.lines().map(str::to_owned).collect();
        let last = lines.len() - 2;
        lines[last] = lines[last].chars().rev().collect();
        let refused =
            authority.issue(&lines.join("\n"), subject(NodeRole::Worker), Duration::from_secs(7200));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
