//! TLS of TCP listeners, and who a client says it is.
//!
//! Start reading at [`acceptor`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api_compat::PeerCertificate;
use rustls::RootCertStore;
use rustls::server::{ServerConfig, ServerConnection, WebPkiClientVerifier};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::{TlsMode, TlsSettings};

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read or holds something else.
    #[error("could not load {what} ({}): {reason}", path.display())]
    File {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The parts do not fit each other.
    #[error("invalid TLS configuration: {0}")]
    Config(String),
}

/// The certificate that a client has shown in a finished handshake.
pub(super) fn certificate_of(connection: &ServerConnection) -> Option<PeerCertificate> {
    Some(PeerCertificate(connection.peer_certificates()?.first()?.to_vec()))
}

/// Reads the files and makes what performs handshakes.
pub(super) fn acceptor(settings: &TlsSettings) -> Result<TlsAcceptor, TlsError> {
    let wrong = |error: &dyn std::fmt::Display| TlsError::Config(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?;
    let builder = match settings.mode {
        TlsMode::Mutual => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("CA certificate", &settings.ca)? {
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| wrong(&error))?;
            builder.with_client_cert_verifier(verifier)
        }
        TlsMode::Server | TlsMode::Off => builder.with_no_client_auth(),
    };
    let chain = certificates("X509 key pair", &settings.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key)
        .map_err(|error| file("X509 key pair", &settings.key, error))?;
    let mut config = builder.with_single_cert(chain, key).map_err(|error| wrong(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| file(what, path, error))?;
    if certificates.is_empty() {
        return Err(TlsError::File {
            what,
            path: path.to_owned(),
            reason: "no certificate found".to_owned(),
        });
    }
    Ok(certificates)
}

fn file(what: &'static str, path: &Path, error: rustls_pki_types::pem::Error) -> TlsError {
    let reason = match error {
        rustls_pki_types::pem::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    TlsError::File { what, path: path.to_owned(), reason }
}
