//! How the test registry answers: routes, the gate, and what faults do to answers.
//!
//! Start reading at [`answer`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::json;
use shoal_types::Digest;

use super::fault::Fault;
use super::gate::{Gate, Verdict, read_basic};
use super::server::{SeenRequest, Shared, lock};
use super::store::StoredManifest;
use crate::manifest::{Manifest, digest_of, media_type};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// An answer before faults.
struct Plain {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    is_blob: bool,
}

/// What a request is about.
struct Inquiry {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
}

impl Inquiry {
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Answers one request; an error closes the connection.
pub(super) async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let path_and_query = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let fault = take_fault(&shared, &head.method, &path_and_query);
    let limit = match &fault {
        Some(Fault::CutUploadAfter(n)) => *n,
        _ => usize::MAX,
    };
    let body = read_body(body, limit).await;
    lock(&shared.seen).push(SeenRequest {
        method: head.method.clone(),
        path: path_and_query,
        headers: head.headers.clone(),
        body_len: body.len(),
    });
    let query =
        form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let path = head.uri.path().to_owned();
    let mut inquiry = Inquiry { method: head.method, path, query, headers: head.headers, body };
    match &fault {
        Some(Fault::Hangup) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(Fault::Silence) => std::future::pending::<()>().await,
        Some(Fault::IgnoreRange) => {
            inquiry.headers.remove("range");
        }
        _ => {}
    }
    let plain = route(&inquiry, &shared);
    if matches!(fault, Some(Fault::CutUploadAfter(_))) {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    Ok(spoil(plain, fault.as_ref(), &inquiry, &shared))
}

fn take_fault(shared: &Shared, method: &Method, path: &str) -> Option<Fault> {
    let mut rules = lock(&shared.rules);
    let rule = rules.iter_mut().find(|rule| rule.applies_to(method, path))?;
    rule.remaining = rule.remaining.saturating_sub(1);
    Some(rule.fault.clone())
}

async fn read_body(mut body: Incoming, limit: usize) -> Bytes {
    let mut all = Vec::new();
    while all.len() < limit
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Ok(chunk) = frame.into_data() {
            all.extend_from_slice(&chunk);
        }
    }
    all.truncate(limit);
    Bytes::from(all)
}

fn spoil(mut plain: Plain, fault: Option<&Fault>, inquiry: &Inquiry, shared: &Arc<Shared>) -> Response<Body> {
    match fault {
        Some(Fault::Status { code, headers, body }) => {
            plain = reply(StatusCode::from_u16(*code).unwrap(), &[], body.clone());
            for (name, value) in headers {
                plain.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
            }
        }
        Some(Fault::Redirect(base)) => {
            plain = reply(
                StatusCode::TEMPORARY_REDIRECT,
                &[("location", &format!("{base}{}", inquiry.path))],
                "",
            );
        }
        Some(Fault::Corrupt) if !plain.body.is_empty() => {
            let mut bytes = plain.body.to_vec();
            bytes[0] ^= 1;
            plain.body = Bytes::from(bytes);
        }
        Some(Fault::Replace(bytes)) => plain.body = bytes.clone(),
        Some(Fault::WrongRange) if plain.status == StatusCode::PARTIAL_CONTENT => {
            let len = plain.body.len();
            let text = format!("bytes 0-{}/{len}", len.saturating_sub(1));
            plain.headers.insert("content-range", HeaderValue::from_str(&text).unwrap());
        }
        Some(Fault::Header(name, value)) => {
            plain.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        Some(Fault::NoHeader(name)) => {
            plain.headers.remove(*name);
        }
        _ => {}
    }
    let mut response = Response::new(body_for(&plain, fault, inquiry, shared));
    *response.status_mut() = plain.status;
    *response.headers_mut() = plain.headers;
    if !matches!(fault, Some(Fault::Endless)) && !response.headers().contains_key("content-length") {
        response.headers_mut().insert("content-length", HeaderValue::from(plain.body.len()));
    }
    response
}

fn body_for(plain: &Plain, fault: Option<&Fault>, inquiry: &Inquiry, shared: &Arc<Shared>) -> Body {
    let whole = if inquiry.method == Method::HEAD { Bytes::new() } else { plain.body.clone() };
    let piece = match fault {
        Some(Fault::Slow(n)) => *n,
        _ => 64 << 10,
    };
    let end = match fault {
        Some(Fault::CutAfter(n) | Fault::StallAfter(n)) => (*n).min(whole.len()),
        _ => whole.len(),
    };
    let sent = whole.slice(..end);
    let pieces =
        (0..end).step_by(piece.max(1)).map(|at| sent.slice(at..(at + piece).min(end))).collect::<Vec<_>>();
    let pause = matches!(fault, Some(Fault::Slow(_))).then_some(Duration::from_millis(5));
    let frames = stream::iter(pieces).then(move |piece| async move {
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => tokio::task::yield_now().await,
        }
        Ok(Frame::data(piece))
    });
    let counted = plain.is_blob.then(|| BodyCount::new(Arc::clone(shared)));
    let frames = frames.map(move |frame| {
        let _ = &counted;
        frame
    });
    match fault {
        // A pause first, so that what was sent reaches the client before the connection is torn down.
        Some(Fault::CutAfter(_)) => StreamBody::new(frames.chain(stream::once(async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(io::ErrorKind::ConnectionReset.into())
        })))
        .boxed_unsync(),
        Some(Fault::StallAfter(_)) => StreamBody::new(frames.chain(stream::pending())).boxed_unsync(),
        Some(Fault::Endless) => {
            StreamBody::new(stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b' '; 4096])))))
                .boxed_unsync()
        }
        _ => StreamBody::new(frames).boxed_unsync(),
    }
}

/// Counts bodies of blobs while they are being sent.
struct BodyCount(Arc<Shared>);

impl BodyCount {
    fn new(shared: Arc<Shared>) -> Self {
        let mut active = lock(&shared.active);
        active.0 += 1;
        active.1 = active.1.max(active.0);
        drop(active);
        Self(shared)
    }
}

impl Drop for BodyCount {
    fn drop(&mut self) {
        lock(&self.0.active).0 -= 1;
    }
}

fn reply(status: StatusCode, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Plain {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    Plain { status, headers: map, body: body.into(), is_blob: false }
}

fn json_reply(status: StatusCode, value: &serde_json::Value) -> Plain {
    reply(status, &[("content-type", "application/json")], value.to_string())
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Plain {
    json_reply(status, &json!({"errors": [{"code": code, "message": message, "detail": {}}]}))
}

fn route(inquiry: &Inquiry, shared: &Shared) -> Plain {
    let path = inquiry.path.as_str();
    if path == "/token" {
        return token(inquiry, shared);
    }
    if path == "/v1/search" {
        let results = lock(&shared.search_results).clone();
        return json_reply(StatusCode::OK, &json!({"query": inquiry.query("q"), "results": results}));
    }
    // Mirrors may have the API below some path.
    let Some((_, rest)) = path.split_once("/v2") else {
        return reply(StatusCode::NOT_FOUND, &[], "404 page not found");
    };
    let rest = rest.trim_start_matches('/');
    let (name, kind, reference) = split_route(rest);
    if let Some(refusal) = guard(inquiry, shared, name, kind) {
        return refusal;
    }
    match kind {
        "" => json_reply(StatusCode::OK, &json!({})),
        "manifests" if inquiry.method == Method::PUT => put_manifest(inquiry, shared, name, reference),
        "manifests" => get_manifest(shared, name, reference),
        "uploads" => upload(inquiry, shared, name, reference),
        "blobs" => get_blob(inquiry, shared, name, reference),
        "tags" => list_tags(inquiry, shared, name),
        "referrers" if *lock(&shared.with_referrers) => referrers(shared, name, reference),
        _ => reply(StatusCode::NOT_FOUND, &[], "404 page not found"),
    }
}

/// Repository, kind of thing, and which.
fn split_route(rest: &str) -> (&str, &str, &str) {
    for (marker, kind) in [
        ("/blobs/uploads", "uploads"),
        ("/manifests/", "manifests"),
        ("/blobs/", "blobs"),
        ("/tags/", "tags"),
        ("/referrers/", "referrers"),
    ] {
        if let Some((name, reference)) = rest.split_once(marker) {
            return (name, kind, reference.trim_start_matches('/'));
        }
    }
    ("", if rest.is_empty() { "" } else { "unknown" }, "")
}

/// What stands between the request and its answer, if anything.
fn guard(inquiry: &Inquiry, shared: &Shared, name: &str, kind: &str) -> Option<Plain> {
    let gate = lock(&shared.gate).clone();
    let header = inquiry.header("authorization");
    let unauthorized = |challenge: &str| {
        let mut plain = refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        plain.headers.insert("www-authenticate", HeaderValue::from_str(challenge).unwrap());
        Some(plain)
    };
    match gate {
        Gate::Open => None,
        Gate::Basic { username, password } => match read_basic(header) == Some((username, password)) {
            true => None,
            false => unauthorized(r#"Basic realm="test""#),
        },
        Gate::Token(policy) => {
            let is_write = !matches!(inquiry.method, Method::GET | Method::HEAD) || kind == "uploads";
            let action = if is_write { "push" } else { "pull" };
            let mut needed = Vec::new();
            if !kind.is_empty() {
                needed.push((name.to_owned(), action));
            }
            if let Some(from) = inquiry.query("from") {
                needed.push((from.to_owned(), "pull"));
            }
            let realm = policy.realm.unwrap_or_else(|| format!("{}/token", shared.url));
            let scope = if kind.is_empty() {
                String::new()
            } else {
                format!(r#",scope="repository:{name}:{action}""#)
            };
            let error = match lock(&shared.tokens).allow(header, &needed) {
                Verdict::Allowed => return None,
                Verdict::Unknown if header.is_some() => r#",error="invalid_token""#,
                Verdict::Unknown => "",
                Verdict::Insufficient => r#",error="insufficient_scope""#,
            };
            unauthorized(&format!(r#"Bearer realm="{realm}",service="test"{scope}{error}"#))
        }
    }
}

/// The token server. Denies unknown users; grants less to those who may less, as Docker Hub's does.
fn token(inquiry: &Inquiry, shared: &Shared) -> Plain {
    let Gate::Token(policy) = lock(&shared.gate).clone() else {
        return reply(StatusCode::NOT_FOUND, &[], "");
    };
    let form: Vec<(String, String)> = form_urlencoded::parse(&inquiry.body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let denied =
        || json_reply(StatusCode::UNAUTHORIZED, &json!({"details": "incorrect username or password"}));
    let is_post = inquiry.method == Method::POST;
    let wanted: Vec<String> = if is_post {
        field("scope").unwrap_or_default().split(' ').map(str::to_owned).collect()
    } else {
        inquiry.query.iter().filter(|(key, _)| key == "scope").map(|(_, value)| value.clone()).collect()
    };
    let is_user = if is_post {
        let is_known = field("grant_type") == Some("refresh_token")
            && field("refresh_token").is_some_and(|token| policy.refresh_tokens.contains(token));
        if !is_known {
            return denied();
        }
        true
    } else {
        match read_basic(inquiry.header("authorization")) {
            Some((name, password)) if policy.users.get(&name) == Some(&password) => true,
            Some(_) => return denied(),
            None => false,
        }
    };
    let granted = if is_user {
        wanted
    } else if policy.allows_anonymous_pull {
        wanted
            .into_iter()
            .map(|scope| scope.replace("pull,push", "pull"))
            .filter(|scope| scope.ends_with("pull"))
            .collect()
    } else {
        Vec::new()
    };
    let name = if is_post { "access_token" } else { "token" };
    let mut answer = json!({ name: lock(&shared.tokens).issue(granted) });
    if let Some(life) = policy.announced_life {
        answer["expires_in"] = json!(life);
    }
    if inquiry.query("offline_token").is_some() && is_user {
        answer["refresh_token"] = json!(policy.refresh_tokens.first());
    }
    json_reply(StatusCode::OK, &answer)
}

fn get_manifest(shared: &Shared, name: &str, reference: &str) -> Plain {
    let store = lock(&shared.store);
    if !store.repositories.contains_key(name) {
        return refuse(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry");
    }
    match store.manifest(name, reference) {
        Some((digest, stored)) => reply(
            StatusCode::OK,
            &[("content-type", &stored.media_type), ("docker-content-digest", &digest.to_string())],
            stored.bytes,
        ),
        None => refuse(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

fn put_manifest(inquiry: &Inquiry, shared: &Shared, name: &str, reference: &str) -> Plain {
    let digest = digest_of(&inquiry.body);
    if reference.parse::<Digest>().is_ok_and(|named| named != digest) {
        return refuse(
            StatusCode::BAD_REQUEST,
            "DIGEST_INVALID",
            "provided digest did not match uploaded content",
        );
    }
    let mut store = lock(&shared.store);
    let repository = store.repository(name);
    if let Ok(manifest) = Manifest::parse(inquiry.header("content-type"), inquiry.body.clone())
        && let Some(image) = manifest.as_image()
    {
        let is_there = |digest: &Digest| repository.blobs.contains_key(digest);
        if !image.layers.iter().chain([&image.config]).all(|blob| is_there(&blob.digest)) {
            return refuse(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry");
        }
    }
    let media_type = inquiry.header("content-type").unwrap_or_default().to_owned();
    repository.manifests.insert(digest, StoredManifest { media_type, bytes: inquiry.body.clone() });
    if reference.parse::<Digest>().is_err() {
        repository.tags.insert(reference.to_owned(), digest);
    }
    reply(StatusCode::CREATED, &[("docker-content-digest", &digest.to_string())], "")
}

fn get_blob(inquiry: &Inquiry, shared: &Shared, name: &str, reference: &str) -> Plain {
    let digest = reference.parse::<Digest>().ok();
    let blob =
        digest.and_then(|digest| lock(&shared.store).repositories.get(name)?.blobs.get(&digest).cloned());
    let Some(blob) = blob else {
        return refuse(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    let len = blob.len();
    let end = len.saturating_sub(1);
    let range = inquiry.header("range").and_then(|text| text.strip_prefix("bytes="));
    let range = range.and_then(|text| {
        let (first, last) = text.split_once('-')?;
        let last = last.parse::<usize>().map_or(end, |last| last.min(end));
        Some((first.parse::<usize>().ok()?, last))
    });
    let digest = reference.to_owned();
    let mut plain = match range {
        Some((first, last)) if first < len && first <= last => reply(
            StatusCode::PARTIAL_CONTENT,
            &[("content-range", &format!("bytes {first}-{last}/{len}")), ("docker-content-digest", &digest)],
            blob.slice(first..=last),
        ),
        Some(_) => {
            return reply(
                StatusCode::RANGE_NOT_SATISFIABLE,
                &[("content-range", &format!("bytes */{len}"))],
                "",
            );
        }
        None => reply(StatusCode::OK, &[("docker-content-digest", &digest)], blob),
    };
    plain.is_blob = inquiry.method == Method::GET;
    plain
}

fn upload(inquiry: &Inquiry, shared: &Shared, name: &str, reference: &str) -> Plain {
    let mut store = lock(&shared.store);
    if inquiry.method == Method::POST {
        if let (Some(digest), Some(from)) = (inquiry.query("mount"), inquiry.query("from"))
            && let Ok(digest) = digest.parse::<Digest>()
            && let Some(blob) = store.repository(from).blobs.get(&digest).cloned()
        {
            store.repository(name).blobs.insert(digest, blob);
            return reply(StatusCode::CREATED, &[("location", &format!("/v2/{name}/blobs/{digest}"))], "");
        }
        let id = store.begin_upload();
        return reply(
            StatusCode::ACCEPTED,
            &[("location", &format!("/v2/{name}/blobs/uploads/{id}?_state=0"))],
            "",
        );
    }
    let Some(id) = reference.parse::<u64>().ok().filter(|id| store.uploads.contains_key(id)) else {
        return refuse(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
    };
    let received = store.uploads.entry(id).or_default();
    let expected =
        inquiry.header("content-range").and_then(|text| text.split('-').next()?.parse::<usize>().ok());
    if expected.is_some_and(|expected| expected != received.len()) {
        return refuse(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", "blob upload invalid");
    }
    if inquiry.method == Method::PATCH || inquiry.method == Method::PUT {
        received.extend_from_slice(&inquiry.body);
    }
    let len = received.len();
    let location = format!("/v2/{name}/blobs/uploads/{id}?_state={len}");
    let range = format!("0-{}", len.saturating_sub(1));
    match inquiry.method {
        Method::PATCH => reply(StatusCode::ACCEPTED, &[("location", &location), ("range", &range)], ""),
        Method::GET => reply(StatusCode::NO_CONTENT, &[("location", &location), ("range", &range)], ""),
        Method::DELETE => {
            store.uploads.remove(&id);
            reply(StatusCode::NO_CONTENT, &[], "")
        }
        _ => {
            let bytes = Bytes::from(store.uploads.remove(&id).unwrap_or_default());
            let digest = digest_of(&bytes);
            if inquiry.query("digest") != Some(&digest.to_string()) {
                return refuse(
                    StatusCode::BAD_REQUEST,
                    "DIGEST_INVALID",
                    "provided digest did not match uploaded content",
                );
            }
            store.repository(name).blobs.insert(digest, bytes);
            reply(StatusCode::CREATED, &[("docker-content-digest", &digest.to_string())], "")
        }
    }
}

fn list_tags(inquiry: &Inquiry, shared: &Shared, name: &str) -> Plain {
    let mut store = lock(&shared.store);
    if !store.repositories.contains_key(name) {
        return refuse(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry");
    }
    let after = inquiry.query("last").unwrap_or_default();
    let mut tags: Vec<String> =
        store.repository(name).tags.keys().filter(|tag| tag.as_str() > after).cloned().collect();
    let size = lock(&shared.page_size).unwrap_or(usize::MAX);
    let has_more = tags.len() > size;
    tags.truncate(size);
    let mut plain = json_reply(StatusCode::OK, &json!({"name": name, "tags": tags}));
    if let Some(last) = tags.last().filter(|_| has_more) {
        let link = format!(r#"</v2/{name}/tags/list?n={size}&last={last}>; rel="next""#);
        plain.headers.insert("link", HeaderValue::from_str(&link).unwrap());
    }
    plain
}

fn referrers(shared: &Shared, name: &str, subject: &str) -> Plain {
    let mut store = lock(&shared.store);
    let mut found = Vec::new();
    for stored in store.repository(name).manifests.values() {
        let Ok(manifest) = Manifest::parse(Some(&stored.media_type), stored.bytes.clone()) else { continue };
        let Some(image) = manifest.as_image() else { continue };
        if image.subject.as_ref().is_some_and(|it| it.digest.to_string() == subject) {
            let mut descriptor = json!(manifest.descriptor);
            descriptor["artifactType"] = json!(image.artifact_type);
            found.push(descriptor);
        }
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": found});
    reply(StatusCode::OK, &[("content-type", media_type::OCI_INDEX)], index.to_string())
}
