//! Calls to one plugin: a POST with JSON, answered by JSON.
//!
//! Start reading at [`Plugin::call`]. Each call has a connection of its own: calls are rare, and a plugin that was restarted is
//! found again without further ado. A plugin that cannot be reached is tried again for a while, because plugins are often
//! started beside the daemon; one that answers, whatever it says, is not.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use registry_client::trust::{self, ServerTrust};
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// The media type of the protocol.
const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
/// What is taken of an answer.
const MAX_ANSWER: usize = 8 << 20;
/// How long a plugin that cannot be reached is tried.
const PATIENCE: Duration = Duration::from_secs(15);
/// The pause after the first failure; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Where a plugin is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A socket of this machine.
    Unix(PathBuf),
    /// A host and port.
    Tcp(String),
    /// A host and port, encrypted.
    Tls(String, TlsFiles),
}

/// Who is trusted, and who we are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    pub(super) ca_file: Option<PathBuf>,
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    pub(super) is_proven: bool,
}

/// A plugin that was found.
#[derive(Debug)]
pub struct Plugin {
    name: String,
    address: Address,
    implements: Vec<String>,
}

/// Why a call has failed.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// Nobody answers.
    #[error("{method}: {source}")]
    Unreachable {
        /// What was called.
        method: String,
        /// What the kernel says; part of the text, as dockerd has it.
        source: io::Error,
    },
    /// The plugin said that it failed.
    #[error("{method}: {message}")]
    Refused {
        /// What was called.
        method: String,
        /// Its words.
        message: String,
    },
    /// The plugin does not know the method.
    #[error("{method}: not found")]
    NoSuchMethod {
        /// What was called.
        method: String,
    },
    /// The answer makes no sense.
    #[error("{method}: {message}")]
    Nonsense {
        /// What was called.
        method: String,
        /// Why not.
        message: String,
    },
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Plugin {
    pub(super) fn new(name: String, address: Address) -> Self {
        Self { name, address, implements: Vec::new() }
    }

    pub(super) fn implementing(self, implements: Vec<String>) -> Self {
        Self { implements, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it serves a subsystem.
    pub fn implements(&self, subsystem: &str) -> bool {
        self.implements.iter().any(|implemented| implemented == subsystem)
    }

    /// Calls a method, such as `VolumeDriver.Mount`. The answer's text `Err` is its caller's to look at.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        arguments: &(impl Serialize + Sync),
    ) -> Result<T, PluginError> {
        let nonsense = |error: &dyn std::fmt::Display| PluginError::Nonsense {
            method: method.to_owned(),
            message: error.to_string(),
        };
        let body = serde_json::to_vec(arguments).map_err(|error| nonsense(&error))?;
        // `null` is what no arguments are written as.
        let body = if body == b"null" { Bytes::new() } else { Bytes::from(body) };
        let stream = self.connect(method).await?;
        let (status, answer) = post(stream, method, body).await.map_err(|error| nonsense(&error))?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&answer).map_err(|error| nonsense(&error));
        }
        Err(refusal(method, status, &answer))
    }

    async fn connect(&self, method: &str) -> Result<Box<dyn Stream>, PluginError> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.try_connect().await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            if start.elapsed() + pause > PATIENCE {
                return Err(PluginError::Unreachable { method: method.to_owned(), source: error });
            }
            tracing::debug!(plugin.name = self.name, %error, "plugin cannot be reached; trying again");
            // A plugin that is being started does not say when it listens.
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn try_connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.address {
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Address::Tcp(host) => Box::new(TcpStream::connect(host).await?),
            Address::Tls(host, files) => {
                let wanted = ServerTrust {
                    ca_file: files.ca_file.clone(),
                    identity: files.identity.clone(),
                    is_proven: files.is_proven,
                };
                let config = tokio::task::spawn_blocking(move || trust::towards_server(&wanted)).await;
                let config = config.map_err(io::Error::other)?.map_err(io::Error::other)?;
                let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
                let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())
                    .map_err(io::Error::other)?;
                let stream = TcpStream::connect(host).await?;
                Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
            }
        })
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn post(stream: Box<dyn Stream>, method: &str, body: Bytes) -> Result<(StatusCode, Bytes), Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(format!("/{method}"))
        .header(HOST, "plugin")
        .header(ACCEPT, MEDIA_TYPE)
        .header(CONTENT_TYPE, MEDIA_TYPE)
        .body(Full::new(body))?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let bytes = Limited::new(answer.into_body(), MAX_ANSWER).collect().await?.to_bytes();
        Ok::<_, Failure>((status, bytes))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        // The answer may be there when the connection ends; it is looked at first.
        biased;
        answered = &mut answer => answered,
        ended = &mut connection => {
            ended?;
            answer.await
        }
    }
}

/// What a plugin says that did not answer 200: JSON with `Err`, or its plain words.
fn refusal(method: &str, status: StatusCode, answer: &[u8]) -> PluginError {
    #[derive(serde::Deserialize)]
    struct Failed {
        #[serde(rename = "Err")]
        err: String,
    }
    let method = method.to_owned();
    if status == StatusCode::NOT_FOUND {
        return PluginError::NoSuchMethod { method };
    }
    let told = serde_json::from_slice::<Failed>(answer).ok().map(|failed| failed.err);
    let message = told
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| String::from_utf8_lossy(answer).trim().to_owned());
    PluginError::Refused { method, message }
}

/// An address where nobody listens.
#[cfg(test)]
pub(super) fn address_of_nobody(directory: &std::path::Path) -> Address {
    Address::Unix(directory.join("nobody.sock"))
}
