//! The listener for other nodes.
//!
//! Start reading at [`Listener::bind`]. One task accepts, one serves each connection; both end when the listener is stopped. The
//! [`Service`] behind it learns who calls from the client's certificate, which TLS has verified; a caller without one is nobody.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shoal_types::ErrorKind;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::WireError;
use crate::ca::Credentials;
use crate::ca::certificate::NodeCertificate;
use crate::error::ClusterError;

/// Largest JSON body of a node, in bytes.
const MAX_BODY: usize = 64 << 20;
/// Largest JSON body of somebody without a certificate.
const MAX_ANONYMOUS_BODY: usize = 64 << 10;
/// How long a client may take to begin.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How often a silent connection is probed, and how long the answer may take.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// How long calls that are under way when the listener stops may take.
const FAREWELL_LIMIT: Duration = Duration::from_millis(500);

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// What its certificate says; `None` without one.
    pub(crate) certificate: Option<NodeCertificate>,
    /// From where.
    pub(crate) address: SocketAddr,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    /// Who calls.
    pub(crate) peer: Peer,
    /// What for.
    pub(crate) path: String,
    /// With what.
    pub(crate) body: Incoming,
}

impl Call {
    /// The body as one JSON value.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, ClusterError> {
        let limit = if self.peer.certificate.is_some() { MAX_BODY } else { MAX_ANONYMOUS_BODY };
        let wrong = |text: String| ClusterError::refused(ErrorKind::InvalidArgument, text);
        let body = Limited::new(self.body, limit).collect().await.map_err(|source| {
            if source.is::<LengthLimitError>() {
                wrong(format!("the message is longer than {limit} bytes"))
            } else {
                ClusterError::Unreachable(source.to_string())
            }
        })?;
        serde_json::from_slice(&body.to_bytes())
            .map_err(|source| wrong(format!("the message is not understood: {source}")))
    }
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Reply {
    /// One JSON value.
    Json(Vec<u8>),
    /// Pieces of a body, until the sender is dropped. The receiver is dropped when the caller goes away.
    Stream(mpsc::Receiver<Bytes>),
}

impl Reply {
    /// One JSON value.
    pub(crate) fn json<T: Serialize>(value: &T) -> Result<Self, ClusterError> {
        serde_json::to_vec(value)
            .map(Self::Json)
            .map_err(|source| ClusterError::local("encoding a reply", source))
    }
}

/// What a manager answers.
#[async_trait]
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one call. The future is dropped when the caller goes away.
    async fn serve(&self, call: Call) -> Result<Reply, ClusterError>;
}

/// A listener that serves.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Listener {
    /// Listens at `address`; serving begins at [`Self::serve`].
    pub(crate) async fn bind(address: SocketAddr) -> Result<(Self, TcpListener), ClusterError> {
        let context = format!("listening on {address} for other nodes");
        let socket = TcpListener::bind(address)
            .await
            .map_err(|source| ClusterError::local(context.clone(), source))?;
        let address = socket.local_addr().map_err(|source| ClusterError::local(context, source))?;
        Ok((Self { address, stop: CancellationToken::new(), tasks: TaskTracker::new() }, socket))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to serve.
    pub(crate) fn serve(
        &self,
        socket: TcpListener,
        credentials: Arc<Credentials>,
        service: Arc<dyn Service>,
    ) {
        let (stop, tasks) = (self.stop.clone(), self.tasks.clone());
        self.tasks.spawn(async move {
            loop {
                // Both may be dropped: a connection that is not yet accepted stays in the socket's queue.
                let accepted = tokio::select! {
                    accepted = socket.accept() => accepted,
                    () = stop.cancelled() => return,
                };
                match accepted {
                    Ok((stream, address)) => {
                        let connection =
                            Connection { stream, address, credentials: Arc::clone(&credentials) };
                        tasks.spawn(connection.run(Arc::clone(&service), stop.clone()));
                    }
                    Err(source) => {
                        warn!(error = %source, "cannot accept a connection of a node");
                        // Whatever is exhausted is freed by somebody else, who tells nobody.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
    }

    /// Stops listening and ends every connection.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    credentials: Arc<Credentials>,
}

impl Connection {
    async fn run(self, service: Arc<dyn Service>, stop: CancellationToken) {
        let address = self.address;
        if let Err(reason) = self.serve(service, stop).await {
            debug!(peer = %address, reason, "a connection of a node has ended");
        }
    }

    async fn serve(self, service: Arc<dyn Service>, stop: CancellationToken) -> Result<(), String> {
        let _ = self.stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(self.credentials.tls().server);
        let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(self.stream));
        // Dropped when the listener stops: nothing was asked yet.
        let handshake = tokio::select! {
            handshake = handshake => handshake,
            () = stop.cancelled() => return Ok(()),
        };
        let stream = handshake
            .map_err(|_| "the handshake took too long".to_owned())?
            .map_err(|source| source.to_string())?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate
            .map(|certificate| NodeCertificate::parse(certificate))
            .transpose()
            .map_err(|source| source.to_string())?;
        let peer = Peer { certificate, address: self.address };
        let serve = service_fn(move |request| answer(Arc::clone(&service), peer, request));
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PROBE_INTERVAL)
            .keep_alive_timeout(PROBE_INTERVAL)
            .max_concurrent_streams(1024)
            .serve_connection(TokioIo::new(stream), serve);
        let mut connection = std::pin::pin!(connection);
        // Not dropped when it is stopped: calls under way and the ends of streams get a moment to reach the peer.
        tokio::select! {
            served = connection.as_mut() => return served.map_err(|source| source.to_string()),
            () = stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        let ended = tokio::time::timeout(FAREWELL_LIMIT, connection).await;
        ended.map_or(Ok(()), |served| served.map_err(|source| source.to_string()))
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn answer(
    service: Arc<dyn Service>,
    peer: Peer,
    request: Request<Incoming>,
) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
    Box::pin(async move {
        let (parts, body) = request.into_parts();
        let call = Call { peer, path: parts.uri.path().to_owned(), body };
        let answer = if parts.method == Method::POST {
            service.serve(call).await
        } else {
            Err(ClusterError::refused(ErrorKind::InvalidArgument, "calls between nodes are POST requests"))
        };
        let (status, body) = match answer {
            Ok(Reply::Json(value)) => (StatusCode::OK, whole(value)),
            Ok(Reply::Stream(pieces)) => (StatusCode::OK, streamed(pieces)),
            Err(error) => {
                let text = serde_json::to_vec(&WireError::from(&error)).unwrap_or_default();
                (StatusCode::INTERNAL_SERVER_ERROR, whole(text))
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Ok(response)
    })
}

fn whole(value: Vec<u8>) -> Body {
    UnsyncBoxBody::new(Full::new(Bytes::from(value)))
}

fn streamed(pieces: mpsc::Receiver<Bytes>) -> Body {
    let frames = futures_util::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok(Frame::data(piece)), pieces))
    });
    UnsyncBoxBody::new(StreamBody::new(frames.boxed()))
}
