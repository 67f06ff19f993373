//! Authorities outside the cluster, asked in the protocol of CFSSL.
//!
//! Start reading at [`ExternalSigner::sign`]. A request is one POST of JSON over HTTPS to the address that the administrator has named; the node shows its own
//! certificate. What comes back is believed only after it was read: it must be of the authority that was meant, for the key
//! and the names that were asked for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use shoal_types::ErrorKind;
use shoal_types::cluster::node::NodeRole;
use shoal_types::cluster::settings::ExternalAuthority;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Credentials;
use super::authority::{Subject, cross_sign_request, request_key};
use super::certificate::{AUTHORITY_NAME, AuthorityCertificate, MANAGER_UNIT, NodeCertificate, WORKER_UNIT};
use crate::error::ClusterError;
use crate::rpc::tls;

/// How long an authority may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Largest answer; a certificate has about a kilobyte.
const MAX_REPLY: usize = 1 << 20;
/// The profile under which authorities sign for other authorities.
const CROSS_SIGN_PROFILE: &str = "CA";
/// The option that names the profile under which nodes' certificates are signed.
const PROFILE_OPTION: &str = "profile";

/// Asks authorities outside the cluster, with the node's certificate if it has one.
#[derive(Debug, Default)]
pub(crate) struct ExternalSigner {
    credentials: Option<Arc<Credentials>>,
}

/// CFSSL's question.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    certificate_request: String,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    hosts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    subject: Option<Names>,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    profile: String,
}

/// Who shall be certified.
#[derive(Debug, Serialize, Deserialize)]
struct Names {
    #[serde(rename = "CN")]
    common_name: String,
    names: Vec<Name>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Name {
    #[serde(rename = "O")]
    organisation: String,
    #[serde(rename = "OU")]
    unit: String,
}

/// CFSSL's answer.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    success: bool,
    #[serde(default)]
    result: Option<Signed>,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Signed {
    certificate: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Fault {
    message: String,
}

impl ExternalSigner {
    /// One that shows a node's certificate.
    pub(crate) fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials: Some(credentials) }
    }

    /// A certificate for a node, from the first of `authorities` that gives one. `issuer` is the authority's certificate, PEM.
    pub(crate) async fn sign(
        &self,
        authorities: &[&ExternalAuthority],
        issuer: &str,
        request: &str,
        subject: Subject,
    ) -> Result<String, ClusterError> {
        let key = request_key(request)?;
        let unit = match subject.role {
            NodeRole::Manager => MANAGER_UNIT,
            NodeRole::Worker => WORKER_UNIT,
        };
        let mut hosts = vec![unit.to_owned(), subject.node.to_string()];
        if subject.role == NodeRole::Manager {
            hosts.push(AUTHORITY_NAME.to_owned());
        }
        let name = Name { organisation: subject.cluster.to_string(), unit: unit.to_owned() };
        let names = Names { common_name: subject.node.to_string(), names: vec![name] };
        let mut question = Question {
            certificate_request: request.to_owned(),
            hosts,
            subject: Some(names),
            profile: String::new(),
        };
        self.ask_each(
            authorities,
            issuer,
            |authority| {
                question.profile = authority.options.get(PROFILE_OPTION).cloned().unwrap_or_default();
                serde_json::to_vec(&question)
            },
            |certificate| {
                let read = NodeCertificate::parse_pem(certificate)?;
                let is_right = (read.node, read.role, read.cluster)
                    == (subject.node, subject.role, subject.cluster)
                    && AuthorityCertificate::parse(certificate)?.public_key == key;
                if is_right { Ok(()) } else { Err(unusable("it has certified somebody else")) }
            },
        )
        .await
    }

    /// The certificate of another authority, signed by that of `issuer`.
    pub(crate) async fn cross_sign(
        &self,
        authorities: &[&ExternalAuthority],
        issuer: &str,
        other: &str,
        key: &str,
    ) -> Result<String, ClusterError> {
        let question = Question {
            certificate_request: cross_sign_request(other, key)?,
            hosts: Vec::new(),
            subject: None,
            profile: CROSS_SIGN_PROFILE.to_owned(),
        };
        // Whom the answer certifies is checked by the caller, as it is of the cluster's own signatures.
        self.ask_each(authorities, issuer, |_| serde_json::to_vec(&question), |_| Ok(())).await
    }

    /// Refuses unless one of `authorities` can be reached; `which` says in the text whom they sign for.
    pub(crate) async fn check(
        &self,
        authorities: &[&ExternalAuthority],
        issuer: &str,
        which: &str,
    ) -> Result<(), ClusterError> {
        for authority in authorities {
            match tokio::time::timeout(LIMIT, self.connect(authority, issuer)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => {
                    tracing::warn!(url = authority.url, %error, "an authority outside the cluster cannot be used");
                }
                Err(_) => {
                    tracing::warn!(url = authority.url, "an authority outside the cluster does not answer");
                }
            }
        }
        Err(none_usable(which))
    }

    async fn ask_each(
        &self,
        authorities: &[&ExternalAuthority],
        issuer: &str,
        mut question: impl FnMut(&ExternalAuthority) -> serde_json::Result<Vec<u8>>,
        check: impl Fn(&str) -> Result<(), ClusterError>,
    ) -> Result<String, ClusterError> {
        let issued_by = AuthorityCertificate::parse(issuer)?;
        let mut failure = none_usable("current");
        for authority in authorities {
            let body = question(authority)
                .map_err(|source| ClusterError::local("encoding a request for a certificate", source))?;
            let asked = tokio::time::timeout(LIMIT, self.ask(authority, issuer, body)).await;
            let checked =
                asked.unwrap_or_else(|_| Err(unusable("it has not answered in time"))).and_then(|pem| {
                    check(&pem)?;
                    let is_of_issuer = issued_by.has_issued(&AuthorityCertificate::parse(&pem)?.der);
                    if is_of_issuer {
                        Ok(pem)
                    } else {
                        Err(unusable("its certificate is another authority's"))
                    }
                });
            match checked {
                Ok(certificate) => return Ok(certificate),
                Err(error) => {
                    tracing::warn!(url = authority.url, %error, "an authority outside the cluster has not signed");
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    async fn ask(
        &self,
        authority: &ExternalAuthority,
        issuer: &str,
        body: Vec<u8>,
    ) -> Result<String, ClusterError> {
        let (stream, host, path) = self.connect(authority, issuer).await?;
        let (mut requests, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unusable)?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(unusable)?;
        let asked = async {
            let reply = requests.send_request(request).await.map_err(unusable)?;
            let status = reply.status();
            let text = Limited::new(reply.into_body(), MAX_REPLY).collect().await.map_err(unusable)?;
            Ok::<_, ClusterError>((status, text.to_bytes()))
        };
        tokio::pin!(asked);
        // The connection is driven beside its only request and ends with it.
        let (status, text) = tokio::select! {
            answered = &mut asked => answered?,
            _ = connection => asked.await?,
        };
        let answer: Answer = serde_json::from_slice(&text)
            .map_err(|_| unusable(format!("its answer, with status {status}, is not CFSSL's")))?;
        match answer.result {
            Some(signed) if answer.success && status == StatusCode::OK => Ok(signed.certificate),
            _ => {
                let faults: Vec<String> = answer.errors.into_iter().map(|fault| fault.message).collect();
                Err(unusable(format!("it has refused: {}", faults.join("; "))))
            }
        }
    }

    async fn connect(
        &self,
        authority: &ExternalAuthority,
        issuer: &str,
    ) -> Result<(TlsStream<TcpStream>, String, String), ClusterError> {
        let uri: Uri = authority.url.parse().map_err(unusable)?;
        let (Some("https"), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(unusable("its address must begin with https://"));
        };
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let mut trusted = format!("{issuer}\n{}", authority.certificate);
        if let Some(credentials) = &self.credentials {
            trusted.push('\n');
            trusted.push_str(&credentials.trust_root());
        }
        let config = match &self.credentials {
            Some(credentials) => credentials.outside_client(&trusted)?,
            None => tls::outside_client(&trusted)?,
        };
        let stream = TcpStream::connect((name.as_str(), port)).await.map_err(unusable)?;
        let server = ServerName::try_from(name).map_err(unusable)?;
        let stream = TlsConnector::from(config).connect(server, stream).await.map_err(unusable)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok((stream, host.to_owned(), path))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is handed over, as in map_err")]
fn unusable(source: impl ToString) -> ClusterError {
    ClusterError::refused(
        ErrorKind::Unavailable,
        format!(
            "rpc error: code = Unavailable desc = the external CA cannot be used: {}",
            source.to_string()
        ),
    )
}

fn none_usable(which: &str) -> ClusterError {
    ClusterError::refused(
        ErrorKind::InvalidArgument,
        format!(
            "rpc error: code = InvalidArgument desc = there must be at least one valid, reachable external CA \
             corresponding to the {which} CA certificate"
        ),
    )
}
