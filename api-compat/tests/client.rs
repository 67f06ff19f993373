//! Sends requests to the API without a connection, and checks every reply against the description.
//!
//! Start reading at [`send`].
#![cfg(test)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use api_compat::{Api, ApiState, BodyError, DaemonInfo};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use swagger::Validator;

use crate::fake::Fake;
use crate::objects;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The message of a failure.
    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The API in front of a node with one running container, `one`, and one that never ran, `two`.
pub(crate) fn api() -> (Api, Arc<Fake>) {
    let fake = Fake::with(vec![objects::running("one"), objects::created("two")]);
    (api_of(&fake), fake)
}

/// The API in front of this node.
pub(crate) fn api_of(fake: &Arc<Fake>) -> Api {
    api_with(fake, DaemonInfo { version: "1.2.3".into(), ..DaemonInfo::default() })
}

/// The API of this daemon, in front of this node.
pub(crate) fn api_with(fake: &Arc<Fake>, daemon: DaemonInfo) -> Api {
    Api::new(ApiState {
        node: fake.node(),
        cluster: manager::NotAMember::bundle(),
        builder: Arc::new(builder::Unsupported),
        daemon,
    })
}

/// Asks without a body.
pub(crate) async fn ask(api: &Api, method: &str, target: &str) -> Answer {
    send(api, Request::builder().method(method).uri(target).body(Full::default()).unwrap()).await
}

/// Asks with JSON.
pub(crate) async fn ask_json(api: &Api, method: &str, target: &str, body: &Value) -> Answer {
    let body = serde_json::to_vec(body).unwrap();
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("content-type", "application/json")
        .header("content-length", body.len());
    send(api, request.body(Full::from(body)).unwrap()).await
}

/// Sends a request, reads the answer to its end, and checks it against the description of its version.
pub(crate) async fn send<B>(api: &Api, request: Request<B>) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    let (method, target) = (request.method().clone(), request.uri().clone());
    let (head, body) = api.handle(request).await.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let answer = Answer { status: head.status.as_u16(), headers: head.headers, body };
    check(method.as_str(), target.path(), &answer);
    answer
}

/// Checks an answer: the status is described, and so is every field of its JSON.
fn check(method: &str, path: &str, answer: &Answer) {
    let (minor, path) = match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
        Some((minor, rest)) => (minor.parse().unwrap_or(0), format!("/{rest}")),
        None => (swagger::NEWEST, path.to_owned()),
    };
    if !(swagger::OLDEST..=swagger::NEWEST).contains(&minor) {
        return;
    }
    let refusals = ["{\"message\":\"client version ", "{\"message\":\"the path is not UTF-8\""];
    if answer.status == 400 && refusals.iter().any(|refusal| answer.text().starts_with(refusal)) {
        // Not an answer of this operation in this version, but the refusal to speak the version or to read the path.
        return;
    }
    let validator = validator(minor);
    let Some(pattern) = pattern(&validator, method, &path) else { return };
    let place = format!("{method} {pattern} in 1.{minor}");
    assert!(
        validator.allows_status(method, &pattern, answer.status),
        "{place}: {} is not described",
        answer.status
    );
    if answer.headers.get("content-type").is_none_or(|value| value != "application/json") {
        return;
    }
    let schema = validator.reply_schema(method, &pattern, answer.status);
    let schema =
        schema.unwrap_or_else(|| panic!("{place}: {} has JSON that is not described", answer.status));
    for value in serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>() {
        let value = value.unwrap_or_else(|error| panic!("{place}: {error}: {}", answer.text()));
        let violations = validator.check(schema, &value);
        let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
        assert!(texts.is_empty(), "{place}: {}\n{value:#}", texts.join("; "));
    }
}

/// The description of a version; made once.
fn validator(minor: u16) -> Arc<Validator> {
    static VALIDATORS: OnceLock<Mutex<HashMap<u16, Arc<Validator>>>> = OnceLock::new();
    let mut validators = VALIDATORS.get_or_init(Mutex::default).lock().unwrap();
    validators.entry(minor).or_insert_with(|| Arc::new(Validator::new(swagger::document(minor)))).clone()
}

/// The pattern that a path without a version belongs to in the newest description.
pub(crate) fn pattern_of(method: &str, path: &str) -> Option<String> {
    pattern(&validator(swagger::NEWEST), method, path)
}

/// The pattern that a path belongs to: of several the one that names most of its segments.
fn pattern(validator: &Validator, method: &str, path: &str) -> Option<String> {
    let fits = validator.patterns().into_iter().filter(|pattern| {
        let segments: Vec<&str> = pattern.split('/').collect();
        let parts: Vec<&str> = path.split('/').collect();
        matches(&segments, &parts)
            && (200..600).any(|status| validator.allows_status(method, pattern, status))
    });
    fits.max_by_key(|pattern| pattern.split('/').filter(|segment| !segment.starts_with('{')).count())
        .map(str::to_owned)
}

fn matches(segments: &[&str], parts: &[&str]) -> bool {
    match (segments.split_first(), parts.split_first()) {
        (None, None) => true,
        (Some((segment, others)), Some((part, rest))) if segment.starts_with('{') => {
            !part.is_empty() && (matches(others, rest) || matches(segments, rest))
        }
        (Some((segment, others)), Some((part, rest))) => segment == part && matches(others, rest),
        _ => false,
    }
}
