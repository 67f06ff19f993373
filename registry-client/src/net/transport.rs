//! One request out, one response in, over pooled connections of one TLS configuration.
//!
//! Start reading at [`Transport::send`]. It sees to time limits, redirects (which never carry credentials to another
//! party) and the bounds of what is read into memory. It does not repeat requests and does not know what status codes
//! mean beyond redirects; that is `endpoint.rs` and `retry.rs`. HTTP/1.1 only: layers come faster over several
//! connections than through one HTTP/2 connection's flow control, and dockerd does the same.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, HOST, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{sleep, timeout};

use super::connect::{Connector, cut};
use super::proxy::ProxyRules;
use super::tls::tls_failure;
use super::url::{is_https, is_same_origin, resolve_location, shown};
use crate::config::Timeouts;
use crate::error::{RegistryError, TransportFailure};

/// As many as Go's http.Client follows.
const MAX_REDIRECTS: usize = 10;

/// What is read from a connection at once, and so the largest chunk of a body and the largest head. Larger ones are no
/// faster, and sinks queue chunks by number.
const MAX_READ_BUFFER: usize = 128 << 10;

/// A body on its way out, with the errors of the source that supplies it.
pub(crate) type StreamBody = UnsyncBoxBody<Bytes, io::Error>;

/// What is sent along with a request.
pub(crate) enum Payload {
    /// Nothing, or a body that can be sent again after a redirect.
    Bytes(Bytes),
    /// A body that can be sent once. `sent` counts the bytes that the connection has taken.
    Stream { body: StreamBody, sent: Arc<AtomicU64> },
}

/// A request to be sent.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
}

impl Request {
    /// A request without a body.
    pub(crate) fn new(method: Method, uri: Uri) -> Self {
        Self { method, uri, headers: HeaderMap::new(), payload: Payload::Bytes(Bytes::new()) }
    }
}

/// Sends requests. One per registry endpoint; cheap to share.
pub(crate) struct Transport {
    pool: legacy::Client<Connector, StreamBody>,
    proxies: Arc<ProxyRules>,
    timeouts: Timeouts,
    user_agent: HeaderValue,
}

impl Transport {
    pub(crate) fn new(connector: Connector, timeouts: Timeouts, user_agent: HeaderValue) -> Self {
        let proxies = Arc::clone(&connector.proxies);
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(timeouts.idle_connection)
            .http1_max_buf_size(MAX_READ_BUFFER)
            .build(connector);
        Self { pool, proxies, timeouts, user_agent }
    }

    /// Sends a request and waits for the head of the response, following redirects.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, RegistryError> {
        let Request { method, mut uri, mut headers, payload } = request;
        let replayed = match &payload {
            Payload::Bytes(bytes) => Some(bytes.clone()),
            Payload::Stream { .. } => None,
        };
        let mut payload = Some(payload);
        for _ in 0..=MAX_REDIRECTS {
            let body = payload.take().or_else(|| replayed.clone().map(Payload::Bytes));
            let Some(body) = body else { break };
            let response = self.send_once(&method, &uri, &headers, body).await?;
            let is_repeatable = replayed.is_some();
            let Some(next) = redirect_target(&method, &response, is_repeatable)? else { return Ok(response) };
            if !is_same_origin(&uri, &next) {
                headers.remove(AUTHORIZATION);
            }
            uri = next;
        }
        Err(invalid(&method, &uri, format!("stopped after {MAX_REDIRECTS} redirects")))
    }

    async fn send_once(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        payload: Payload,
    ) -> Result<Response, RegistryError> {
        let (body, sent) = match payload {
            Payload::Bytes(bytes) => (Full::new(bytes).map_err(|never| match never {}).boxed_unsync(), None),
            Payload::Stream { body, sent } => (body, Some(sent)),
        };
        let mut request = http::Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        request.headers_mut().remove(HOST);
        request.headers_mut().insert(USER_AGENT, self.user_agent.clone());
        if !is_https(uri)
            && let Some(authorization) =
                self.proxies.choose(uri).and_then(|proxy| proxy.authorization.clone())
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
        }
        let mut pending = std::pin::pin!(self.pool.request(request));
        let mut progress = 0;
        loop {
            tokio::select! {
                answer = &mut pending => {
                    return match answer {
                        Ok(response) => Ok(Response::new(response, method, uri, self.timeouts.stall)),
                        Err(error) => Err(classify(&error, method, uri)),
                    };
                }
                // The timer starts anew as long as the body of the request gets somewhere.
                () = sleep(self.timeouts.response) => {
                    let now = sent.as_ref().map_or(0, |sent| sent.load(Ordering::Relaxed));
                    if now == progress {
                        let failure = TransportFailure::Timeout("net/http: timeout awaiting response headers");
                        return Err(failed(method, uri, failure));
                    }
                    progress = now;
                }
            }
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

/// Where a response sends the client, if it does and the request can be sent again.
fn redirect_target(
    method: &Method,
    response: &Response,
    is_repeatable: bool,
) -> Result<Option<Uri>, RegistryError> {
    let follows = match response.status() {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
            matches!(*method, Method::GET | Method::HEAD)
        }
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => is_repeatable,
        _ => false,
    };
    let Some(location) = response.headers.get(LOCATION).filter(|_| follows) else { return Ok(None) };
    let target = location.to_str().ok().and_then(|location| resolve_location(&response.uri, location));
    target.map(Some).ok_or_else(|| invalid(method, &response.uri, "invalid redirect location".to_owned()))
}

/// A response whose body is still to be read.
pub(crate) struct Response {
    pub(crate) method: Method,
    /// The address that answered: the last of a chain of redirects.
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    status: StatusCode,
    body: Incoming,
    stall: Duration,
}

impl Response {
    fn new(response: http::Response<Incoming>, method: &Method, uri: &Uri, stall: Duration) -> Self {
        let (head, body) = response.into_parts();
        Self {
            method: method.clone(),
            uri: uri.clone(),
            headers: head.headers,
            status: head.status,
            body,
            stall,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// A header's value, if it is there once and is text.
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next piece of the body, `None` at its end. A body that ends before its announced length is an error.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            match timeout(self.stall, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    // Trailers are of no interest.
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Ok(Some(Err(error))) => return Err(self.failure(classify_hyper(&error, &self.uri))),
                Ok(None) => return Ok(None),
                Err(_elapsed) => return Err(self.failure(TransportFailure::Timeout("read: i/o timeout"))),
            }
        }
    }

    /// Reads the body, `None` if it is longer than `limit`.
    pub(crate) async fn read_at_most(&mut self, limit: usize) -> Result<Option<Bytes>, RegistryError> {
        let mut all = BytesMut::new();
        while let Some(bytes) = self.chunk().await? {
            if all.len() + bytes.len() > limit {
                return Ok(None);
            }
            all.extend_from_slice(&bytes);
        }
        Ok(Some(all.freeze()))
    }

    /// An error about this response's content.
    pub(crate) fn invalid(&self, problem: impl Into<String>) -> RegistryError {
        invalid(&self.method, &self.uri, problem.into())
    }

    fn failure(&self, failure: TransportFailure) -> RegistryError {
        failed(&self.method, &self.uri, failure)
    }
}

/// The method in the capitalisation of Go's url.Error.
pub(crate) fn go_method(method: &Method) -> &'static str {
    match *method {
        Method::HEAD => "Head",
        Method::POST => "Post",
        Method::PUT => "Put",
        Method::PATCH => "Patch",
        Method::DELETE => "Delete",
        _ => "Get",
    }
}

pub(crate) fn failed(method: &Method, uri: &Uri, failure: TransportFailure) -> RegistryError {
    RegistryError::Transport { method: go_method(method), url: shown(uri), failure }
}

pub(crate) fn invalid(method: &Method, uri: &Uri, problem: String) -> RegistryError {
    RegistryError::InvalidResponse { method: go_method(method), url: shown(uri), problem }
}

fn classify(error: &legacy::Error, method: &Method, uri: &Uri) -> RegistryError {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(source) = cause {
        if let Some(failure) = source.downcast_ref::<TransportFailure>() {
            return failed(method, uri, failure.clone());
        }
        if let Some(error) = source.downcast_ref::<hyper::Error>() {
            return failed(method, uri, classify_hyper(error, uri));
        }
        cause = source.source();
    }
    failed(method, uri, TransportFailure::Cut(error.to_string()))
}

fn classify_hyper(error: &hyper::Error, uri: &Uri) -> TransportFailure {
    if error.is_parse() {
        return TransportFailure::Malformed("malformed HTTP response".to_owned());
    }
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(error) = source.downcast_ref::<io::Error>() {
            return tls_failure(error, uri.host().unwrap_or_default()).unwrap_or_else(|| cut(error));
        }
        cause = source.source();
    }
    // A close before the head of the response, in the body, or of a connection that was about to be used again.
    let text = if error.is_incomplete_message() { "EOF" } else { "unexpected EOF" };
    TransportFailure::Cut(text.to_owned())
}
