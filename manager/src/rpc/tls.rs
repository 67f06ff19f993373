//! TLS between nodes.
//!
//! Start reading at [`TlsConfigs`]. Both sides show certificates of the cluster's authority; a machine that is no node yet
//! shows none, and accepts the authority by the digest in its join token. Managers are dialled by their role's name, not by
//! their host's. TLS 1.3 only: there are no old peers.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use crate::error::ClusterError;

/// HTTP/2 is all that is spoken.
const ALPN: &[u8] = b"h2";

/// TLS as the listener and as the client of one node.
#[derive(Debug, Clone)]
pub(crate) struct TlsConfigs {
    /// Of the listener. Clients may come without a certificate; what they may ask then is the service's decision.
    pub(crate) server: Arc<ServerConfig>,
    /// Of the client.
    pub(crate) client: Arc<ClientConfig>,
}

impl TlsConfigs {
    /// From a certificate (others may follow it), its key and the certificates to trust, all PEM.
    pub(crate) fn new(certificate: &str, key: &str, trust_root: &str) -> Result<Self, ClusterError> {
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(failed)?;
        let roots = Arc::new(root_store(trust_root)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(failed)?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(failed)?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(failed)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(failed)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// TLS of a machine that is no node but knows whom to trust.
pub(crate) fn anonymous_client(trust_root: &str) -> Result<Arc<ClientConfig>, ClusterError> {
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .with_root_certificates(root_store(trust_root)?)
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(client))
}

/// TLS towards an authority outside the cluster: HTTP/1, and TLS 1.2 too, because such servers are old friends of their users.
pub(crate) fn outside_client(trust_root: &str) -> Result<Arc<ClientConfig>, ClusterError> {
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(root_store(trust_root)?)
        .with_no_client_auth();
    Ok(Arc::new(client))
}

/// Likewise, with a certificate (others may follow it) and its key, PEM.
pub(crate) fn outside_client_of(
    certificate: &str,
    key: &str,
    trust_root: &str,
) -> Result<Arc<ClientConfig>, ClusterError> {
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(root_store(trust_root)?)
        .with_client_auth_cert(
            certificates(certificate)?,
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(failed)?,
        )
        .map_err(failed)?;
    Ok(Arc::new(client))
}

/// TLS of the very first contact: whoever answers is believed. Good only for fetching the trust root, which is then compared
/// with a digest; nothing secret may be sent over it.
pub(crate) fn unverified_client() -> Result<Arc<ClientConfig>, ClusterError> {
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider())))
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(client))
}

/// The name by which managers are dialled.
pub(crate) fn manager_name() -> Result<ServerName<'static>, ClusterError> {
    ServerName::try_from(crate::ca::certificate::MANAGER_UNIT).map_err(failed)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, ClusterError> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(failed)
}

fn root_store(trust_root: &str) -> Result<RootCertStore, ClusterError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(trust_root)? {
        store.add(certificate).map_err(failed)?;
    }
    Ok(store)
}

fn failed(source: impl ToString) -> ClusterError {
    ClusterError::local("preparing TLS between nodes", source)
}

/// Believes any server, but checks that it has the key of the certificate that it shows.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
