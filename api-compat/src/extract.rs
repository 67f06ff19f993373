//! Takes requests apart: path parameters, query, headers, bodies; with Docker's truth tables and error texts.
//!
//! Start reading at [`Call`]. Filters are in `filters`, JSON in `json`. Nothing is validated here beyond its form.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, BodyStream, LengthLimitError, Limited};
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use node_agent::api::ByteSource;
use registry_client::{AuthConfig, Credentials};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::ApiError;
use crate::json::{self, JsonError};
use crate::reply::{Body, BodyError};
use crate::route::Param;
use crate::service::Shared;
use crate::version::ApiVersion;

/// The largest JSON body that is read. The largest that clients send are configs of the cluster, 1.4 MB in base64.
const MAX_JSON: usize = 8 << 20;

/// What a missing body is answered with where there has to be one.
pub(crate) const EMPTY_BODY: &str = "invalid JSON: got EOF while reading request body";

/// The header with credentials for one registry.
pub(crate) const REGISTRY_AUTH: &str = "x-registry-auth";

/// A body that is being read to its end. Boxed because the compiler cannot see through the error's conversion when it
/// proves that a handler may move between threads.
type Collected =
    std::pin::Pin<Box<dyn Future<Output = Result<http_body_util::Collected<Bytes>, BodyError>> + Send>>;

/// One request, as handlers see it.
pub(crate) struct Call {
    /// The node, the daemon, caches.
    pub(crate) shared: Arc<Shared>,
    /// The version that the client speaks.
    pub(crate) version: ApiVersion,
    /// The method.
    pub(crate) method: Method,
    /// Values of the path's parameters.
    pub(crate) names: Vec<String>,
    /// The query.
    pub(crate) query: Query,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Body,
    /// The connection, if the client wants to take it over.
    pub(crate) upgrade: Option<OnUpgrade>,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("version", &self.version)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Call {
    /// The path's parameter.
    pub(crate) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The path's further parameter, of those that have one.
    pub(crate) fn second_name(&self) -> &str {
        self.names.get(1).map_or("", String::as_str)
    }

    /// The body's length, if the client has told it.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
    }

    /// Whether the client sends a body whose length it has not told.
    pub(crate) fn is_chunked(&self) -> bool {
        self.headers.contains_key(TRANSFER_ENCODING)
    }

    /// Whether there is no body at all, as opposed to one that may turn out to be empty.
    fn has_no_body(&self) -> bool {
        !self.is_chunked() && self.content_length().is_none_or(|length| length == 0)
    }

    /// A header's text; empty when it is absent or not a text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Credentials for the registry. A header that cannot be read counts as none, as Docker has it.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        match AuthConfig::from_header(self.header(REGISTRY_AUTH)).ok()?.credentials() {
            Credentials::Anonymous => None,
            credentials => Some(credentials),
        }
    }

    /// Reads the body as JSON; no body is the default.
    pub(crate) async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T, ApiError> {
        match self.optional_json_value().await? {
            None => Ok(T::default()),
            Some(value) => shape(&value),
        }
    }

    /// Reads the body as JSON of any shape; `None` without a body.
    pub(crate) async fn optional_json_value(&mut self) -> Result<Option<Value>, ApiError> {
        if self.has_no_body() {
            if self.headers.contains_key(CONTENT_TYPE) {
                self.check_content_type()?;
            }
            return Ok(None);
        }
        self.json_value().await.map(Some)
    }

    /// Reads the body as JSON of any shape; no body is an error.
    pub(crate) async fn json_value(&mut self) -> Result<Value, ApiError> {
        // Nothing needs no type; what is missing is then told as such.
        if !self.has_no_body() || self.headers.contains_key(CONTENT_TYPE) {
            self.check_content_type()?;
        }
        let text = self.bytes(MAX_JSON).await?;
        json::parse(&text).map_err(|error| match error {
            JsonError::Empty => ApiError::invalid(EMPTY_BODY),
            JsonError::Trailing => ApiError::invalid(error.to_string()),
            JsonError::Syntax(_) | JsonError::Shape(_) => ApiError::invalid(format!("invalid JSON: {error}")),
        })
    }

    /// Reads the whole body, at most so many bytes. One that is announced to be longer is not read at all.
    async fn bytes(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        let too_large =
            || ApiError::invalid(format!("request body too large: at most {limit} bytes are read"));
        if self.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let body = std::mem::take(&mut self.body);
        let collecting: Collected = Box::pin(Limited::new(body, limit).collect());
        match collecting.await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(error) => Err(ApiError::invalid(format!("read the request body: {error}"))),
        }
    }

    /// The body as it comes.
    pub(crate) fn stream(&mut self) -> ByteSource {
        let body = std::mem::take(&mut self.body);
        Box::pin(BodyStream::new(body).filter_map(async |frame| match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(std::io::Error::other(error))),
        }))
    }

    fn check_content_type(&self) -> Result<(), ApiError> {
        let written = self.header(CONTENT_TYPE.as_str());
        let media_type = written.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/json") {
            return Ok(());
        }
        let (kind, fault) = match media_type {
            "" => ("malformed", "mime: no media type"),
            other if !is_media_type(other) => ("malformed", "mime: expected token after slash"),
            _ => ("unsupported", "must be 'application/json'"),
        };
        Err(ApiError::invalid(format!("{kind} Content-Type header ({written}): {fault}")))
    }
}

/// Reads parsed JSON as `T`.
pub(crate) fn shape<T: DeserializeOwned>(value: &Value) -> Result<T, ApiError> {
    json::decode_value(value).map_err(|error| ApiError::invalid(format!("invalid JSON: {error}")))
}

/// Whether a text is a media type: a token, or two with a slash between them.
fn is_media_type(text: &str) -> bool {
    let is_token = |token: &str| {
        !token.is_empty()
            && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    match text.split_once('/') {
        Some((kind, subtype)) => is_token(kind) && is_token(subtype),
        None => is_token(text),
    }
}

/// The query of a request. Of a parameter that is given several times, the first counts, unless all are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    /// Names that the list of operations declares; checked where debug assertions are on, so that a handler cannot
    /// read what the description does not tell.
    declared: Option<Vec<&'static str>>,
}

impl Query {
    /// Reads the text after the question mark. Pairs with a bare semicolon are dropped, as Go does.
    pub(crate) fn parse(text: &str) -> Self {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
            pairs.extend(form_urlencoded::parse(pair.as_bytes()).into_owned());
        }
        Self { pairs, declared: None }
    }

    /// The same query, for an operation with these parameters.
    pub(crate) fn declared_by(mut self, params: &[Param]) -> Self {
        if cfg!(debug_assertions) {
            self.declared = Some(params.iter().map(|param| param.name).collect());
        }
        self
    }

    fn check_declared(&self, name: &str) {
        debug_assert!(
            self.declared.as_ref().is_none_or(|names| names.contains(&name)),
            "the query parameter {name} is read but not declared"
        );
    }

    /// The value of a parameter, if it is given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.check_declared(name);
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter; empty when it is absent.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The value of a parameter, if it is given and not empty.
    pub(crate) fn some_text(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// All values of a parameter.
    pub(crate) fn texts(&self, name: &str) -> Vec<&str> {
        self.check_declared(name);
        self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The truth of a parameter: false when absent or `0`, `no`, `false`, `none`; true for anything else.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(is_true)
    }

    /// The truth of a parameter that counts as true when it is absent.
    pub(crate) fn flag_unless_absent(&self, name: &str) -> bool {
        self.get(name).is_none_or(is_true)
    }

    /// A whole number, if the parameter is given and not empty; the error is Go's.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.get(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(text) => parse_integer(text).map(Some).map_err(ApiError::invalid),
        }
    }
}

/// Docker's truth of a query parameter's value.
fn is_true(value: &str) -> bool {
    !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
}

/// Reads a whole number; the error is the text of Go's `strconv.Atoi`.
pub(crate) fn parse_integer(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse::<i64>().map_err(|error| {
        let fault = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {text:?}: {fault}")
    })
}

/// Reads a time as clients send it: seconds since 1970, optionally with a fraction of up to nine digits.
///
/// The text is whatever `docker logs --since` and `docker events --since` have computed from dates and durations.
pub(crate) fn parse_unix_time(text: &str) -> Result<Timestamp, ApiError> {
    let wrong =
        |part: &str, fault: &str| ApiError::invalid(format!("strconv.ParseInt: parsing {part:?}: {fault}"));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().map_err(|_| wrong(seconds, "invalid syntax"))?;
    let nanoseconds: i32 = match fraction {
        "" => 0,
        digits if digits.len() <= 9 && digits.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{digits:0<9}").parse().map_err(|_| wrong(digits, "invalid syntax"))?
        }
        other => return Err(wrong(other, "invalid syntax")),
    };
    Timestamp::new(seconds, nanoseconds).map_err(|_| wrong(text, "value out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_values_follow_dockers_odd_table() {
        let query = Query::parse("a=&b=0&c=no&d=False&e=%20none%20&f=1&g=banana&h=2&i");
        let truths: Vec<bool> =
            ["a", "b", "c", "d", "e", "f", "g", "h", "i", "absent"].iter().map(|n| query.flag(n)).collect();
        assert_eq!(truths, [false, false, false, false, false, true, true, true, false, false]);
        assert!(query.flag_unless_absent("absent"));
        assert!(!query.flag_unless_absent("a"));
    }

    #[test]
    fn queries_are_decoded_and_the_first_value_counts() {
        let query = Query::parse("n=a%2Fb+c&n=second&t=x;y&&=z");
        assert_eq!(query.text("n"), "a/b c");
        assert_eq!(query.texts("n"), ["a/b c", "second"]);
        assert_eq!(query.get("t"), None);
    }

    #[test]
    fn numbers_that_are_none_have_gos_error() {
        let query = Query::parse("a=x&b=5&c=-1&d=99999999999999999999");
        let error = |name: &str| query.integer(name).unwrap_err().message().to_owned();
        assert_eq!(error("a"), "strconv.Atoi: parsing \"x\": invalid syntax");
        assert_eq!(error("d"), "strconv.Atoi: parsing \"99999999999999999999\": value out of range");
        assert_eq!(query.integer("b"), Ok(Some(5)));
        assert_eq!(query.integer("c"), Ok(Some(-1)));
        assert_eq!(query.integer("absent"), Ok(None));
    }

    #[test]
    fn times_are_seconds_with_an_optional_fraction() {
        let time = |text: &str| parse_unix_time(text).map(|time| time.as_nanosecond());
        assert_eq!(time("1"), Ok(1_000_000_000));
        assert_eq!(time("1.5"), Ok(1_500_000_000));
        assert_eq!(time("1.000000001"), Ok(1_000_000_001));
        assert_eq!(time("1."), Ok(1_000_000_000));
        for wrong in ["", "x", "1.x", "1.0000000001", "99999999999999999999", "999999999999999"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
