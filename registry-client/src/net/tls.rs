//! The TLS handshake with a server, and its failures in Go's words.
//!
//! Start reading at [`handshake`]. What is trusted is decided in `trust.rs`.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, InvalidMessage};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::TransportFailure;

/// Proves the server's identity as the configuration demands, and encrypts `stream`.
pub(crate) async fn handshake<S>(
    stream: S,
    host: &str,
    config: Arc<ClientConfig>,
    limit: Duration,
) -> Result<TlsStream<S>, TransportFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| TransportFailure::Tls(format!("tls: invalid server name {host}")))?;
    match timeout(limit, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(tls_failure(&error, host).unwrap_or_else(|| super::connect::cut(&error))),
        Err(_elapsed) => Err(TransportFailure::Timeout("net/http: TLS handshake timeout")),
    }
}

/// What TLS says of an IO error, if it comes from TLS. Errors of TLS 1.3 may come with the first read after the
/// handshake, such as a refused client certificate.
pub(crate) fn tls_failure(error: &io::Error, host: &str) -> Option<TransportFailure> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(error) => {
            TransportFailure::Certificate(certificate_problem(error, host))
        }
        // A record of an unknown type is what the first bytes of "HTTP/1.1 400 Bad Request" look like.
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => TransportFailure::NotTls,
        rustls::Error::AlertReceived(alert) => {
            TransportFailure::Tls(format!("remote error: tls: {}", alert_text(*alert)))
        }
        other => TransportFailure::Tls(format!("tls: {other}")),
    })
}

fn certificate_problem(error: &CertificateError, host: &str) -> String {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "x509: certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } => name_problem(presented, host),
        CertificateError::NotValidForName => name_problem(&[], host),
        CertificateError::BadEncoding => "x509: malformed certificate".to_owned(),
        CertificateError::Revoked => "x509: certificate is revoked".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "x509: certificate specifies an incompatible key usage".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature | CertificateError::Other(_) => {
            "x509: certificate signed by unknown authority".to_owned()
        }
        other => format!("x509: {other}"),
    }
}

/// webpki presents names as `DnsName("a.example")` and `IpAddress(..)`.
fn name_problem(presented: &[String], host: &str) -> String {
    let is_address = host.parse::<IpAddr>().is_ok();
    let kind = if is_address { "IpAddress(" } else { "DnsName(" };
    let plain = |name: &String| name.strip_prefix(kind).map(|name| name.trim_matches(['"', ')']).to_owned());
    let names: Vec<String> = presented.iter().filter_map(plain).collect();
    match (names.is_empty(), is_address) {
        (true, true) => {
            format!("x509: cannot validate certificate for {host} because it doesn't contain any IP SANs")
        }
        (true, false) => format!("x509: certificate is not valid for any names, but wanted to match {host}"),
        (false, _) => format!("x509: certificate is valid for {}, not {host}", names.join(", ")),
    }
}

/// Go's words (crypto/tls/alert.go).
fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::HandshakeFailure => "handshake failure".to_owned(),
        AlertDescription::BadCertificate => "bad certificate".to_owned(),
        AlertDescription::CertificateRequired => "certificate required".to_owned(),
        AlertDescription::CertificateExpired => "expired certificate".to_owned(),
        AlertDescription::CertificateUnknown => "unknown certificate".to_owned(),
        AlertDescription::UnknownCA => "unknown certificate authority".to_owned(),
        AlertDescription::AccessDenied => "access denied".to_owned(),
        AlertDescription::ProtocolVersion => "protocol version not supported".to_owned(),
        AlertDescription::InternalError => "internal error".to_owned(),
        AlertDescription::UnrecognisedName => "unrecognized name".to_owned(),
        other => format!("{other:?}"),
    }
}
