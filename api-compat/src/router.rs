//! From the list of operations to axum's router, and from a matched request to a handler.
//!
//! Start reading at [`build`]. The paths that arrive here have no version in front and names of one segment, which
//! `service` and `names` see to. Docker knows no *method not allowed*: a path without an operation for the method is a
//! page that is not found, HEAD included, and OPTIONS is answered whatever the path.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequest, RawPathParams, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, any};
use http::{Method, StatusCode};

use crate::error::{ApiError, Cause};
use crate::extract::{Call, Query};
use crate::hijack;
use crate::reply::{self, Outcome};
use crate::route::Route;
use crate::service::Shared;
use crate::version::{ApiVersion, VersionError};

/// The version that a request speaks, or why it cannot be spoken. It is told only once there is an operation: an unknown
/// path is not found in any version.
#[derive(Debug, Clone)]
pub(crate) struct Spoken(pub(crate) Result<ApiVersion, VersionError>);

/// The router of these operations.
pub(crate) fn build(routes: Vec<Route>, shared: Arc<Shared>) -> Router {
    let mut paths: BTreeMap<&'static str, Vec<Route>> = BTreeMap::new();
    for route in routes {
        paths.entry(route.pattern).or_default().push(route);
    }
    let mut router = Router::new();
    for (pattern, routes) in paths {
        let mut methods = any(no_operation);
        if !routes.iter().any(|route| route.method == Method::HEAD) {
            // Else axum would answer HEAD by what answers GET.
            methods = methods.on(MethodFilter::HEAD, no_operation);
        }
        for route in routes {
            let Ok(filter) = MethodFilter::try_from(route.method.clone()) else { continue };
            let route = Arc::new(route);
            methods = methods.on(filter, move |call: Call| operate(Arc::clone(&route), call));
        }
        router = router.route(pattern, methods);
    }
    router.fallback(no_operation).with_state(shared)
}

/// Runs an operation, if the version has it.
async fn operate(route: Arc<Route>, mut call: Call) -> Outcome {
    if !route.is_in(call.version) {
        let needed = route.about.since.unwrap_or_default();
        let (method, pattern) = (&route.method, route.pattern);
        return Err(ApiError::invalid(format!("{method} {pattern} requires minimum API version 1.{needed}")));
    }
    call.query = call.query.declared_by(&route.about.params);
    route.call(call).await
}

/// Answers where no operation is.
async fn no_operation(method: Method) -> Outcome {
    if method == Method::OPTIONS { Ok(reply::empty(StatusCode::OK)) } else { Err(ApiError::page_not_found()) }
}

impl FromRequest<Arc<Shared>> for Call {
    type Rejection = ApiError;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        let (mut head, body) = request.into_parts();
        let version = match head.extensions.remove::<Spoken>() {
            Some(Spoken(version)) => version?,
            None => return Err(ApiError::internal("the request's version has not been read")),
        };
        let names =
            <RawPathParams as axum::extract::FromRequestParts<()>>::from_request_parts(&mut head, &())
                .await
                .map_err(|_| ApiError::invalid("the path is not UTF-8"))?;
        let names = names.iter().map(|(_, value)| value.to_owned()).collect();
        let upgrade = hijack::wanted(&mut head);
        Ok(Self {
            shared: Arc::clone(shared),
            version,
            names,
            query: Query::parse(head.uri.query().unwrap_or_default()),
            method: head.method,
            headers: head.headers,
            body,
            upgrade,
        })
    }
}

impl IntoResponse for ApiError {
    /// Tells the client, and logs: the engine's failures for the operator, the client's mistakes for who debugs.
    fn into_response(self) -> Response {
        if self.cause() == Cause::Fault {
            tracing::error!(error = self.message(), "request failed");
        } else {
            tracing::debug!(error = self.message(), "request refused");
        }
        reply::failure(&self)
    }
}
