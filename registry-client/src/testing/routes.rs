//! What the test registry answers: its routes, its gate, its token server.
//!
//! Start reading at [`route`]. Answers are made whole in memory; what faults do to them is `answer.rs`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::json;
use shoal_types::Digest;

use super::gate::{Gate, Verdict, read_basic};
use super::server::{Shared, lock};
use super::store::StoredManifest;
use crate::manifest::{Manifest, digest_of, media_type};

/// An answer before faults.
pub(super) struct Plain {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) is_blob: bool,
}

/// What a request is about.
pub(super) struct Inquiry {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Inquiry {
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

pub(super) fn reply(status: StatusCode, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Plain {
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

pub(super) fn route(inquiry: &Inquiry, shared: &Shared) -> Plain {
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
