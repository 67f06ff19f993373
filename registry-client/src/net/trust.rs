//! Whom to trust as a registry, and who this node is towards it: roots, certs.d directories, the verifier.
//!
//! Start reading at [`client_config`]. Every registry has a rustls configuration of its own, with the provider named
//! explicitly: the process-wide default is neither set nor needed. Files are read by blocking calls; the caller is on a
//! blocking thread. The handshake is `tls.rs`.

mod validity;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::RegistryError;

/// Bundles of the distributions, as Go's crypto/x509 looks for them.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Sessions that are remembered per registry to shorten the next handshake.
const RESUMED_SESSIONS: usize = 8;

/// Whether a registry must prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// By a certificate that leads to a trusted root.
    Proven,
    /// Not at all: the administrator has called it insecure.
    Unproven,
}

/// The system's certificate authorities, read when the first secure registry is spoken to.
#[derive(Debug, Default)]
pub(crate) struct SystemRoots(OnceLock<Arc<RootCertStore>>);

impl SystemRoots {
    fn get(&self) -> Arc<RootCertStore> {
        Arc::clone(self.0.get_or_init(|| Arc::new(read_system_roots())))
    }
}

/// What a registry's configuration is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrustInputs<'a> {
    /// Host and port as in references: the name of its directory below certs.d.
    pub(crate) registry: &'a str,
    pub(crate) identity: Identity,
    pub(crate) certs_dirs: &'a [PathBuf],
    pub(crate) extra_ca_files: &'a [PathBuf],
}

/// Builds the configuration for one registry and everything that it leads to (token servers, redirects), as dockerd
/// does.
pub(crate) fn client_config(
    inputs: TrustInputs<'_>,
    system: &SystemRoots,
) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| RegistryError::Certificate(error.to_string()))?;
    let mut found = Found::default();
    if inputs.identity == Identity::Proven {
        for dir in inputs.certs_dirs {
            found.read_dir(&dir.join(inputs.registry))?;
        }
    }
    let verifier: Arc<dyn ServerCertVerifier> = match inputs.identity {
        Identity::Unproven => Arc::new(AcceptAnyone { provider }),
        Identity::Proven => {
            for file in inputs.extra_ca_files {
                found.roots.extend(read_certificates(file)?);
            }
            Arc::new(Verifier::new(roots_with(system.get(), found.roots), provider)?)
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match found.identities.into_iter().next() {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| RegistryError::Certificate(format!("tls: {error}")))?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(RESUMED_SESSIONS);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Builds the configuration for a server that is no registry. `ca_file` is trusted in place of the system's roots.
pub(crate) fn server_config(
    identity: Identity,
    ca_file: Option<&Path>,
    own: Option<(&Path, &Path)>,
    system: &SystemRoots,
) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| RegistryError::Certificate(error.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = match (identity, ca_file) {
        (Identity::Unproven, _) => Arc::new(AcceptAnyone { provider }),
        (Identity::Proven, None) => Arc::new(Verifier::new(system.get(), provider)?),
        (Identity::Proven, Some(file)) => {
            let roots = roots_with(Arc::new(RootCertStore::empty()), read_certificates(file)?);
            Arc::new(Verifier::new(roots, provider)?)
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = own else { return Ok(builder.with_no_client_auth()) };
    let chain = read_certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| RegistryError::Certificate(format!("{}: {error}", key.display())))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| RegistryError::Certificate(format!("tls: {error}")))
}

/// What the certs.d directories of one registry hold.
#[derive(Default)]
struct Found {
    roots: Vec<CertificateDer<'static>>,
    identities: Vec<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Found {
    /// Reads `*.crt` as roots and pairs of `*.cert` and `*.key` as this node's identity. Texts are dockerd's.
    fn read_dir(&mut self, dir: &Path) -> Result<(), RegistryError> {
        let names = match list_names(dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(dir, &error)),
        };
        for name in &names {
            let path = dir.join(name);
            if name.ends_with(".crt") {
                self.roots.extend(read_certificates(&path)?);
            } else if let Some(stem) = name.strip_suffix(".cert") {
                let key = format!("{stem}.key");
                if !names.contains(&key) {
                    return Err(RegistryError::Certificate(format!(
                        "missing key {key} for client certificate {name}. CA certificates must use the extension .crt"
                    )));
                }
                let key = PrivateKeyDer::from_pem_file(dir.join(&key)).map_err(|error| {
                    RegistryError::Certificate(format!("{}: {error}", dir.join(&key).display()))
                })?;
                self.identities.push((read_certificates(&path)?, key));
            } else if let Some(stem) = name.strip_suffix(".key")
                && !names.contains(&format!("{stem}.cert"))
            {
                let text = format!("missing client certificate {stem}.cert for key {name}");
                return Err(RegistryError::Certificate(text));
            }
        }
        Ok(())
    }
}

fn list_names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let broken =
        |error: &dyn std::fmt::Display| RegistryError::Certificate(format!("{}: {error}", path.display()));
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| broken(&error))?;
    certificates.collect::<Result<_, _>>().map_err(|error| broken(&error))
}

fn unreadable(path: &Path, error: &io::Error) -> RegistryError {
    RegistryError::Certificate(format!("open {}: {}", path.display(), super::connect::describe_io(error)))
}

fn roots_with(system: Arc<RootCertStore>, extra: Vec<CertificateDer<'static>>) -> Arc<RootCertStore> {
    if extra.is_empty() {
        return system;
    }
    let mut roots = RootCertStore::clone(&system);
    let (_, n_ignored) = roots.add_parsable_certificates(extra);
    if n_ignored > 0 {
        tracing::warn!(n_ignored, "certificates that cannot be read as authorities are not trusted");
    }
    Arc::new(roots)
}

/// `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the system's bundle, as for Go and OpenSSL.
fn read_system_roots() -> RootCertStore {
    let file = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let dirs = std::env::var_os("SSL_CERT_DIR");
    let mut files: Vec<PathBuf> = file.into_iter().collect();
    if let Some(dirs) = &dirs {
        for dir in std::env::split_paths(dirs) {
            files.extend(list_names(&dir).unwrap_or_default().into_iter().map(|name| dir.join(name)));
        }
    } else if files.is_empty() {
        files.extend(SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()));
    }
    let mut roots = RootCertStore::empty();
    for file in files {
        match CertificateDer::pem_file_iter(&file) {
            Ok(certificates) => {
                roots.add_parsable_certificates(certificates.filter_map(Result::ok));
            }
            Err(error) => {
                tracing::warn!(path = %file.display(), error = %error, "cannot read certificate authorities");
            }
        }
    }
    roots
}

/// The WebPKI verifier, and one thing it leaves out: a certificate that is itself a trusted root.
///
/// `openssl req -x509`, which registry tutorials tell people to use, makes one certificate that is both authority and
/// server. Go accepts it when it is trusted; webpki refuses authorities as servers. Such a certificate is accepted here
/// if its subject and key are those of a root, it names the host, and it is within its time; the handshake proves that
/// the server has the key.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
}

impl Verifier {
    fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Result<Self, RegistryError> {
        // rustls refuses to build without any root; a machine without any still speaks to insecure registries.
        if roots.is_empty() {
            return Err(RegistryError::Certificate(
                "x509: failed to load system roots and no roots provided".to_owned(),
            ));
        }
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider)
            .build()
            .map_err(|error| RegistryError::Certificate(error.to_string()))?;
        Ok(Self { webpki, roots })
    }

    fn is_root(&self, certificate: &CertificateDer<'_>) -> bool {
        let mut alone = RootCertStore::empty();
        let is_readable = alone.add(certificate.clone().into_owned()).is_ok();
        is_readable
            && alone.roots.iter().all(|it| {
                let is_same = |root: &rustls::pki_types::TrustAnchor<'_>| {
                    root.subject == it.subject && root.subject_public_key_info == it.subject_public_key_info
                };
                self.roots.roots.iter().any(is_same)
            })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict =
            self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if verdict.is_ok() || !self.is_root(end_entity) {
            return verdict;
        }
        match validity::of_certificate(end_entity) {
            Some(validity) if now.as_secs() < validity.not_before => {
                Err(CertificateError::NotValidYet.into())
            }
            Some(validity) if now.as_secs() > validity.not_after => Err(CertificateError::Expired.into()),
            Some(_) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            None => Err(CertificateError::BadEncoding.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// For insecure registries: any certificate will do, but the handshake must still be made with its key.
#[derive(Debug)]
struct AcceptAnyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
