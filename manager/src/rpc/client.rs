//! Calls to managers.
//!
//! Start reading at [`RpcClient::call`]. One connection for each address, made when first needed and again when it has broken or
//! this node's certificate has changed; calls share it. A call that fails on a connection that was idle is not repeated here,
//! because it may have had its effect: that is for the caller to judge.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::WireError;
use super::tls::manager_name;
use crate::ca::Credentials;
use crate::error::ClusterError;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How often a silent connection is probed, and how long the answer may take. A dead peer is noticed in their sum.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// Largest JSON reply.
const MAX_REPLY: usize = 256 << 20;

/// Body of a request: whole, or a stream that may break off.
type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// As whom to call.
#[derive(Debug, Clone)]
pub(crate) enum CallAs {
    /// This node, with its present certificate.
    Node(Arc<Credentials>),
    /// A machine that is no node.
    Anybody(Arc<ClientConfig>),
}

/// Calls managers.
#[derive(Debug)]
pub(crate) struct RpcClient {
    call_as: CallAs,
    lanes: Mutex<HashMap<SocketAddr, Arc<Lane>>>,
}

/// The connection to one address. Whoever needs it first makes it, the others wait for that.
#[derive(Debug, Default)]
struct Lane {
    connection: tokio::sync::Mutex<Option<Connection>>,
}

#[derive(Debug, Clone)]
struct Connection {
    requests: SendRequest<Body>,
    generation: u64,
}

impl RpcClient {
    /// A client without connections.
    pub(crate) fn new(call_as: CallAs) -> Self {
        Self { call_as, lanes: Mutex::default() }
    }

    /// Asks and waits for the answer, `limit` at most.
    ///
    /// [`ClusterError::Unreachable`] when nobody answered in time or the connection broke: what was asked may have happened.
    pub(crate) async fn call<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        to: SocketAddr,
        path: &str,
        question: &Q,
        limit: Duration,
    ) -> Result<A, ClusterError> {
        let body = encode(question)?;
        let asked = async {
            let reply = self.send(to, path, body).await?;
            read(reply.into_body()).await
        };
        tokio::time::timeout(limit, asked)
            .await
            .map_err(|_| ClusterError::Unreachable(format!("{to} has not answered within {limit:?}")))?
    }

    /// Asks for a stream of answers; `limit` is for its beginning.
    pub(crate) async fn open<Q: Serialize + Sync>(
        &self,
        to: SocketAddr,
        path: &str,
        question: &Q,
        limit: Duration,
    ) -> Result<Incoming, ClusterError> {
        let body = encode(question)?;
        let reply = tokio::time::timeout(limit, self.send(to, path, body))
            .await
            .map_err(|_| ClusterError::Unreachable(format!("{to} has not answered within {limit:?}")))??;
        Ok(reply.into_body())
    }

    /// Sends a stream and waits for the answer, for as long as it takes.
    pub(crate) async fn upload<A: DeserializeOwned>(
        &self,
        to: SocketAddr,
        path: &str,
        pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Result<A, ClusterError> {
        let body = UnsyncBoxBody::new(StreamBody::new(pieces.map(|piece| piece.map(Frame::data))));
        let reply = self.send(to, path, body).await?;
        read(reply.into_body()).await
    }

    async fn send(&self, to: SocketAddr, path: &str, body: Body) -> Result<Response<Incoming>, ClusterError> {
        let mut requests = self.connect(to).await?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{}{path}", crate::ca::certificate::MANAGER_UNIT))
            .body(body)
            .map_err(|source| ClusterError::local("making a request to a manager", source))?;
        let reply = requests.send_request(request).await.map_err(|source| unreachable(to, source))?;
        if reply.status() == StatusCode::OK {
            return Ok(reply);
        }
        let status = reply.status();
        let text = Limited::new(reply.into_body(), 1 << 20).collect().await;
        let error = text.ok().and_then(|text| serde_json::from_slice::<WireError>(&text.to_bytes()).ok());
        Err(error.map_or_else(|| unreachable(to, format!("it has answered {status}")), ClusterError::from))
    }

    async fn connect(&self, to: SocketAddr) -> Result<SendRequest<Body>, ClusterError> {
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lanes.entry(to).or_default())
        };
        let (tls, generation) = match &self.call_as {
            CallAs::Node(credentials) => {
                let generation = *credentials.generation().borrow();
                (credentials.tls().client, generation)
            }
            CallAs::Anybody(tls) => (Arc::clone(tls), 0),
        };
        let mut connection = lane.connection.lock().await;
        if let Some(made) = connection.as_ref()
            && made.generation == generation
            && !made.requests.is_closed()
        {
            return Ok(made.requests.clone());
        }
        *connection = None;
        let requests = tokio::time::timeout(CONNECT_LIMIT, dial(to, tls))
            .await
            .map_err(|_| unreachable(to, format!("it has not answered within {CONNECT_LIMIT:?}")))??;
        *connection = Some(Connection { requests: requests.clone(), generation });
        Ok(requests)
    }
}

async fn dial(to: SocketAddr, tls: Arc<ClientConfig>) -> Result<SendRequest<Body>, ClusterError> {
    let stream = TcpStream::connect(to).await.map_err(|source| unreachable(to, source))?;
    let _ = stream.set_nodelay(true);
    let stream = TlsConnector::from(tls)
        .connect(manager_name()?, stream)
        .await
        .map_err(|source| unreachable(to, source))?;
    let (requests, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PROBE_INTERVAL)
        .keep_alive_timeout(PROBE_LIMIT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|source| unreachable(to, source))?;
    // Owned by the handles to it: it ends when the last of them and the last of its streams are dropped, or the peer goes away.
    tokio::spawn(async move {
        if let Err(source) = connection.await {
            tracing::debug!(peer = %to, error = %source, "a connection to a manager has broken");
        }
    });
    Ok(requests)
}

fn encode<Q: Serialize>(question: &Q) -> Result<Body, ClusterError> {
    let text = serde_json::to_vec(question)
        .map_err(|source| ClusterError::local("encoding a message to a manager", source))?;
    Ok(UnsyncBoxBody::new(Full::new(Bytes::from(text)).map_err(|never| match never {})))
}

async fn read<A: DeserializeOwned>(body: Incoming) -> Result<A, ClusterError> {
    let text = Limited::new(body, MAX_REPLY)
        .collect()
        .await
        .map_err(|source| ClusterError::Unreachable(source.to_string()))?;
    serde_json::from_slice(&text.to_bytes())
        .map_err(|source| ClusterError::Unreachable(format!("the answer is not understood: {source}")))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is handed over, as in map_err")]
fn unreachable(to: SocketAddr, source: impl ToString) -> ClusterError {
    ClusterError::Unreachable(format!("{to}: {}", source.to_string()))
}
