//! From a request to an answer: version, router, and the headers that every answer has.
//!
//! Start reading at [`Api`], a service that can sit behind any listener. A request's future may be dropped at any await;
//! nothing here changes state. Routing is axum's (`router`); listening and TLS are shoald's.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{CONTENT_LENGTH, HeaderName, SERVER};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tower_service::Service;
use tracing::Instrument as _;

use crate::authorization::Authorization;
use crate::error::ApiError;
use crate::names::Names;
use crate::reply::{self, Body, BodyError, Reply};
use crate::router::{self, Spoken};
use crate::routes;
use crate::state::ApiState;
use crate::upload;
use crate::version::{self, MAX_VERSION};

/// What all handlers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: ApiState,
    pub(crate) lists: routes::containers::ListCache,
}

/// The Docker Engine API of one node. Cheap to clone.
///
/// It is hyper's service, to be given to a connection with upgrades as it is, and tower's, to be wrapped in layers.
#[derive(Debug, Clone)]
pub struct Api {
    router: Router,
    edge: Arc<Edge>,
    authorization: Option<Authorization>,
}

/// What is around the router.
#[derive(Debug)]
struct Edge {
    floor: version::ApiVersion,
    names: Names,
    headers: CommonHeaders,
    requests: AtomicU64,
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
        let routes = routes::all();
        let edge = Edge {
            floor: state.daemon.min_api_version,
            names: Names::of(&routes),
            headers: CommonHeaders::of(&state),
            requests: AtomicU64::new(1),
        };
        let shared = Shared { state, lists: routes::containers::ListCache::default() };
        Self { router: router::build(routes, Arc::new(shared)), edge: Arc::new(edge), authorization: None }
    }

    /// Has plugins decide about each request from now on.
    #[must_use]
    pub fn authorized_by(self, authorization: Authorization) -> Self {
        Self { authorization: Some(authorization), ..self }
    }

    /// Answers one request. Never fails: what goes wrong is told in the answer.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let span = tracing::info_span!(
            "request",
            request.id = self.edge.requests.fetch_add(1, Ordering::Relaxed),
            request.method = %request.method(),
            request.path = request.uri().path(),
        );
        let asked = self.authorization.as_ref().map(|authorization| (authorization, authorization.names()));
        let answer = async {
            match asked {
                Some((authorization, names)) if !names.is_empty() => {
                    self.answer_if_allowed(authorization, names, request).await
                }
                _ => {
                    let mut reply = self.answer(request).await;
                    self.edge.finish(&mut reply);
                    reply
                }
            }
        };
        let answer = AssertUnwindSafe(answer.instrument(span.clone())).catch_unwind();
        answer.await.unwrap_or_else(|_| {
            span.in_scope(|| tracing::error!("a handler panicked"));
            self.refuse(ApiError::internal("internal error: the request's handler has panicked"))
        })
    }

    /// Answers what plugins allow, if they allow the answer too.
    async fn answer_if_allowed<B>(
        &self,
        authorization: &Authorization,
        names: Arc<[String]>,
        request: Request<B>,
    ) -> Reply
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (request, allowed) = match authorization.of_request(names, request).await {
            Ok(allowed) => allowed,
            Err(error) => return self.refuse(error),
        };
        let mut reply = self.answer(request).await;
        self.edge.finish(&mut reply);
        authorization.of_reply(allowed, reply).await.unwrap_or_else(|error| self.refuse(error))
    }

    fn refuse(&self, error: ApiError) -> Reply {
        let mut reply = error.into_response();
        self.edge.finish(&mut reply);
        reply
    }

    async fn answer<B>(&self, mut request: Request<B>) -> Reply
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let reads_json = version::reads_json_errors(version::split_prefix(request.uri().path()).0);
        if let Err(error) = self.edge.aim(&mut request) {
            return error.into_response();
        }
        if !reads_json && let Some(Spoken(Err(error))) = request.extensions().get() {
            return reply::text_failure(&error.clone().into());
        }
        let (request, rest) = upload::lend(request.map(Body::new));
        let reply = match self.router.clone().call(request).await {
            Ok(reply) => reply,
            Err(never) => match never {},
        };
        match rest {
            Some(rest) => rest.before_end_of(reply).await,
            None => reply,
        }
    }

    /// The description of the API in the version 1.`minor`: an OpenAPI 3.1 document, made from the list of operations
    /// and the model types.
    #[cfg(feature = "schema")]
    pub fn describe(minor: u16) -> serde_json::Value {
        crate::describe::document(&routes::all(), version::ApiVersion::v1(minor))
    }
}

impl Edge {
    /// Takes the version off the path, and makes every name in it one segment, as the router knows them.
    fn aim<B>(&self, request: &mut Request<B>) -> Result<(), ApiError> {
        let (asked, path) = version::split_prefix(request.uri().path());
        let spoken = Spoken(version::negotiate(asked, self.floor));
        let folded = self.names.fold(request.method(), path)?;
        if asked.is_some() || matches!(folded, Cow::Owned(_)) {
            *request.uri_mut() = with_path(request.uri(), &folded)?;
        }
        request.extensions_mut().insert(spoken);
        Ok(())
    }

    /// Adds what every answer has, and takes away what axum adds and Docker does not send.
    fn finish(&self, reply: &mut Reply) {
        if reply.extensions().get::<reply::Bare>().is_none() {
            self.headers.add_to(reply);
        }
        let status = reply.status();
        if status == StatusCode::NOT_MODIFIED || status.is_informational() {
            reply.headers_mut().remove(CONTENT_LENGTH);
        }
    }
}

/// The same target with another path.
fn with_path(uri: &Uri, path: &str) -> Result<Uri, ApiError> {
    let target = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    let invalid = || ApiError::invalid("the path cannot be read");
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.map_err(|_| invalid())?);
    Uri::from_parts(parts).map_err(|_| invalid())
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl hyper::service::Service<Request<Incoming>> for Api {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let api = self.clone();
        Box::pin(async move { Ok(api.handle(request).await) })
    }
}

impl<B> Service<Request<B>> for Api
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let api = self.clone();
        Box::pin(async move { Ok(api.handle(request).await) })
    }
}
