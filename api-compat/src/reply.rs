//! What goes back to a client: bodies and the few kinds of answer that Docker gives.
//!
//! Start reading at [`Reply`]. The headers that every answer has are added by `service`; streams that need a format of
//! their own are in `stream`; connections that are taken over are in `hijack`.

pub use axum::body::Body;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::error::ApiError;
use crate::json;

/// The exact content type of JSON: clients compare the whole text, so nothing may follow.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The content type of plain text.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Why a body ended before its time; the connection is cut, so that the client notices.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// An answer before the common headers are added.
pub(crate) type Reply = Response<Body>;

/// What a handler returns.
pub(crate) type Outcome = Result<Reply, ApiError>;

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = status;
    reply
}

/// The usual answer to a change: 204.
pub(crate) fn no_content() -> Reply {
    empty(StatusCode::NO_CONTENT)
}

/// A JSON answer with status 200.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Outcome {
    json_with(StatusCode::OK, value)
}

/// A JSON answer.
pub(crate) fn json_with<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Outcome {
    let text =
        json::encode(value).map_err(|error| ApiError::internal(format!("encode the answer: {error}")))?;
    Ok(json_bytes(status, text.into()))
}

/// A JSON answer that is encoded already.
pub(crate) fn json_bytes(status: StatusCode, text: Bytes) -> Reply {
    with_type(status, JSON, Body::from(text))
}

/// An answer with this content type.
pub(crate) fn with_type(status: StatusCode, content_type: HeaderValue, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// A plain text answer, as `/_ping` gives it.
pub(crate) fn text(status: StatusCode, text: &'static str) -> Reply {
    with_type(status, TEXT, Body::from(text))
}

/// Adds a header whose value is known to be fine.
pub(crate) fn set_header(reply: &mut Reply, name: HeaderName, value: &'static str) {
    reply.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// The answer to a failure: `{"message": …}`. *Not modified* has no body.
pub(crate) fn failure(error: &ApiError) -> Reply {
    #[derive(Serialize)]
    struct Failure<'a> {
        message: &'a str,
    }
    if error.status() == StatusCode::NOT_MODIFIED {
        return empty(StatusCode::NOT_MODIFIED);
    }
    // A struct of one text cannot fail to encode; an empty body would still carry the status.
    let text = json::encode(&Failure { message: error.message() }).unwrap_or_default();
    json_bytes(error.status(), text.into())
}

/// The answer to a failure for clients so old that they show the body as it is.
pub(crate) fn text_failure(error: &ApiError) -> Reply {
    with_type(error.status(), TEXT, Body::from(format!("{}\n", error.message())))
}

/// The answer to a failure on a connection that the client meant to take over: plain text, and the end.
pub(crate) fn raw_failure(error: &ApiError) -> Reply {
    let text = format!("{}\r\n", error.message());
    let content_type = HeaderValue::from_static(crate::hijack::RAW_STREAM);
    let mut reply = with_type(error.status(), content_type, Body::from(text));
    set_header(&mut reply, CONNECTION, "close");
    reply.extensions_mut().insert(Bare);
    reply
}

/// Marks an answer that goes without the headers that every other has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bare;
