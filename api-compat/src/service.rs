//! From a request to an answer: version, route, handler, and the headers that every answer has.
//!
//! Start reading at [`Api`], a service for hyper that can sit behind any listener. A request's future may be dropped at
//! any await; nothing here changes state. Listening and TLS are shoald's.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{CONTENT_LENGTH, HeaderName, SERVER};
use http::{HeaderValue, Method, Request, Response, StatusCode, request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tracing::Instrument as _;

use crate::error::ApiError;
use crate::extract::{Call, Query, RequestBody};
use crate::reply::{self, Body, BodyError, Reply};
use crate::route::Table;
use crate::state::ApiState;
use crate::version::{self, MAX_VERSION};
use crate::{hijack, routes};

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: ApiState,
    pub(crate) table: Table,
    pub(crate) lists: routes::containers::ListCache,
    headers: CommonHeaders,
    requests: AtomicU64,
}

/// The Docker Engine API of one node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

/// Headers of every answer, errors included.
#[derive(Debug)]
struct CommonHeaders {
    server: HeaderValue,
    api_version: HeaderValue,
    experimental: HeaderValue,
}

const API_VERSION: HeaderName = HeaderName::from_static("api-version");
const OSTYPE: HeaderName = HeaderName::from_static("ostype");
const EXPERIMENTAL: HeaderName = HeaderName::from_static("docker-experimental");

impl CommonHeaders {
    fn of(state: &ApiState) -> Self {
        // `Docker/` is what clients look for; a version that is no header value is left out.
        let server = format!("Docker/{} (linux)", state.daemon.version);
        let fallback = HeaderValue::from_static("Docker (linux)");
        let experimental = if state.daemon.experimental { "true" } else { "false" };
        Self {
            server: HeaderValue::try_from(server).unwrap_or(fallback),
            api_version: HeaderValue::try_from(MAX_VERSION.to_string())
                .unwrap_or(HeaderValue::from_static("")),
            experimental: HeaderValue::from_static(experimental),
        }
    }

    fn add_to(&self, reply: &mut Reply) {
        let headers = reply.headers_mut();
        headers.insert(API_VERSION, self.api_version.clone());
        headers.insert(EXPERIMENTAL, self.experimental.clone());
        headers.insert(OSTYPE, HeaderValue::from_static("linux"));
        headers.insert(SERVER, self.server.clone());
    }
}

impl Api {
    /// The API in front of this node.
    pub fn new(state: ApiState) -> Self {
        let headers = CommonHeaders::of(&state);
        let shared = Shared {
            state,
            table: Table::new(routes::all()),
            lists: routes::containers::ListCache::default(),
            headers,
            requests: AtomicU64::new(1),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Answers one request. Never fails: what goes wrong is told in the answer.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (mut head, body) = request.into_parts();
        let body = body.map_err(Into::into).boxed_unsync();
        let id = self.shared.requests.fetch_add(1, Ordering::Relaxed);
        let span = tracing::info_span!(
            "request",
            request.id = id,
            request.method = %head.method,
            request.path = head.uri.path(),
        );
        let upgrade = hijack::wanted(&mut head);
        let is_head = head.method == Method::HEAD;
        let answer = self.answer(head, body, upgrade);
        let mut reply = match AssertUnwindSafe(answer).catch_unwind().instrument(span.clone()).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => {
                span.in_scope(|| log_failure(&error));
                reply::failure(&error)
            }
            Err(_) => {
                span.in_scope(|| tracing::error!("a handler panicked"));
                reply::failure(&ApiError::internal("internal error: the request's handler has panicked"))
            }
        };
        if reply.extensions().get::<reply::Bare>().is_none() {
            self.shared.headers.add_to(&mut reply);
        }
        if is_head && matches!(reply.body(), Body::Empty) {
            reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        reply
    }

    async fn answer(
        &self,
        head: request::Parts,
        body: RequestBody,
        upgrade: Option<hyper::upgrade::OnUpgrade>,
    ) -> Result<Reply, ApiError> {
        if head.method == Method::OPTIONS {
            return Ok(reply::empty(StatusCode::OK));
        }
        let path = percent_decode_str(head.uri.path())
            .decode_utf8()
            .map_err(|_| ApiError::invalid("the path is not UTF-8"))?;
        let (asked, path) = version::split_prefix(&path);
        let Some((route, names)) = self.shared.table.find(&head.method, path) else {
            return Err(ApiError::page_not_found());
        };
        let version = version::negotiate(asked, self.shared.state.daemon.min_api_version)?;
        if !route.is_in(version) {
            let needed = route.about.since.unwrap_or_default();
            let (method, pattern) = (&route.method, route.pattern);
            return Err(ApiError::invalid(format!(
                "{method} {pattern} requires minimum API version 1.{needed}"
            )));
        }
        let call = Call {
            shared: Arc::clone(&self.shared),
            version,
            method: head.method,
            names: names.into_iter().map(str::to_owned).collect(),
            query: Query::parse(head.uri.query().unwrap_or_default()).declared_by(&route.about.params),
            headers: head.headers,
            body,
            upgrade,
        };
        route.call(call).await
    }

    /// The description of the API in the version 1.`minor`: an OpenAPI 3.1 document, made from the table of operations
    /// and the model types.
    #[cfg(feature = "schema")]
    pub fn describe(minor: u16) -> serde_json::Value {
        crate::describe::document(&Table::new(routes::all()), version::ApiVersion::v1(minor))
    }
}

/// Failures of the engine are logged; what the client did wrong is only of interest to who debugs.
fn log_failure(error: &ApiError) {
    if error.status().is_server_error() {
        tracing::error!(error = error.message(), "request failed");
    } else {
        tracing::debug!(error = error.message(), "request refused");
    }
}

impl hyper::service::Service<Request<Incoming>> for Api {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move { Ok(api.handle(request).await) })
    }
}
