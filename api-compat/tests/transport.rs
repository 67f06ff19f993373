//! Versions, headers, error bodies: what every answer has.
#![cfg(test)]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api_compat::{Api, ApiState, ApiVersion, DaemonInfo};
use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Request;
use http_body_util::Full;
use node_agent::NodeError;

use crate::client::{api, ask, ask_json, send};

#[tokio::test]
async fn every_answer_carries_the_headers_that_clients_negotiate_by() {
    let (api, _) = api();
    for (method, target, status) in [
        ("GET", "/_ping", 200),
        ("HEAD", "/_ping", 200),
        ("GET", "/nope", 404),
        ("POST", "/info", 404),
        ("GET", "/info/", 404),
        ("GET", "/v1.x/info", 404),
        ("GET", "/v1.23/info", 400),
        ("GET", "/v1.57/info", 400),
        ("OPTIONS", "/whatever", 200),
        ("GET", "/containers/nope/json", 404),
    ] {
        let answer = ask(&api, method, target).await;
        assert_eq!(answer.status, status, "{method} {target}");
        assert_eq!(answer.header("api-version"), "1.56");
        assert_eq!(answer.header("ostype"), "linux");
        assert_eq!(answer.header("docker-experimental"), "false");
        assert_eq!(answer.header("server"), "Docker/1.2.3 (linux)");
        if target.starts_with("/v1.23/") {
            // Clients of that age read errors as text.
            assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        } else if status >= 400 {
            assert_eq!(answer.header("content-type"), "application/json");
            assert!(answer.body.ends_with(b"\"}\n"), "{}", answer.text());
        }
    }
}

#[tokio::test]
async fn ping_says_what_the_command_line_asks_for() {
    let (api, _) = api();
    let get = ask(&api, "GET", "/_ping").await;
    let head = ask(&api, "HEAD", "/v1.41/_ping").await;
    assert_eq!((get.text().as_str(), head.text().as_str()), ("OK", ""));
    for answer in [get, head] {
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(answer.header("cache-control"), "no-cache, no-store, must-revalidate");
        assert_eq!(answer.header("pragma"), "no-cache");
        assert_eq!(answer.header("builder-version"), "2");
        assert_eq!(answer.header("swarm"), "inactive");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_pages_that_are_not_found() {
    let (api, _) = api();
    for (method, target) in [("GET", "/nope"), ("DELETE", "/info"), ("GET", "/v1.41/nope"), ("GET", "/")] {
        assert_eq!(ask(&api, method, target).await.text(), "{\"message\":\"page not found\"}\n");
    }
}

#[tokio::test]
async fn what_is_refused_unread_is_taken_from_the_client_all_the_same() {
    let (api, _) = api();
    for (method, target, status) in [
        ("POST", "/images/create?fromSrc=-&repo=UPPER", 400),
        ("POST", "/build?t=UPPER", 400),
        ("PUT", "/containers/one/archive", 400),
        ("POST", "/nope", 404),
    ] {
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&taken);
        let pieces = stream::iter(0..5).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from_static(b"piece"))
        });
        let request = Request::builder().method(method).uri(target).header("transfer-encoding", "chunked");
        let answer = send(&api, request.body(Body::from_stream(pieces)).unwrap()).await;
        assert_eq!((answer.status, taken.load(Ordering::Relaxed)), (status, 5), "{method} {target}");
    }
}

#[tokio::test]
async fn other_methods_of_a_path_are_not_found_either() {
    let (api, fake) = api();
    for (method, target) in [
        ("HEAD", "/info"),
        ("HEAD", "/v1.41/containers/one/json"),
        ("GET", "/containers/create"),
        ("PUT", "/containers/one"),
        ("TRACE", "/info"),
        ("PATCH", "/images/json"),
        ("BREW", "/info"),
    ] {
        let answer = ask(&api, method, target).await;
        assert_eq!(answer.status, 404, "{method} {target}");
        assert_eq!(answer.headers.get("allow"), None, "{method} {target}");
    }
    assert!(fake.calls().is_empty());
    for target in ["/", "/info", "/v1.41/containers/one/json", "*"] {
        let answer = ask(&api, "OPTIONS", target).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{target}");
        assert_eq!(answer.headers.get("allow"), None, "{target}");
    }
}

#[tokio::test]
async fn answers_that_have_no_body_announce_none() {
    let (api, fake) = api();
    fake.fail_next(NodeError::NotModified);
    let answer = ask(&api, "POST", "/containers/one/stop").await;
    assert_eq!((answer.status, answer.headers.get("content-length")), (304, None));
    let answer = ask(&api, "HEAD", "/_ping").await;
    assert_eq!(answer.header("content-length"), "0");
    let answer = ask(&api, "GET", "/containers/one/logs?stdout=1").await;
    assert_eq!((answer.status, answer.headers.get("content-length")), (200, None));
}

#[tokio::test]
async fn the_floor_can_be_raised() {
    let (_, fake) = api();
    let daemon = DaemonInfo { min_api_version: ApiVersion::v1(44), ..DaemonInfo::default() };
    let api = Api::new(ApiState {
        node: fake.node(),
        cluster: manager::NotAMember::bundle(),
        builder: Arc::new(builder::Unsupported),
        daemon,
    });
    let answer = ask(&api, "GET", "/v1.43/info").await;
    assert_eq!(
        answer.message(),
        "client version 1.43 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version"
    );
    assert_eq!(ask(&api, "GET", "/v1.44/info").await.status, 200);
}

#[tokio::test]
async fn operations_that_came_later_name_their_version() {
    let (api, _) = api();
    let answer = ask(&api, "GET", "/v1.54/images/busybox/attestations").await;
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (400, "GET /images/{name}/attestations requires minimum API version 1.55")
    );
}

#[tokio::test]
async fn kinds_of_failures_have_their_status_and_text() {
    let (api, fake) = api();
    for (error, status, message) in [
        (NodeError::invalid("a"), 400, "a"),
        (NodeError::forbidden("b"), 403, "b"),
        (NodeError::conflict("c"), 409, "c"),
        (NodeError::failed("d", std::io::Error::other("e")), 500, "d: e"),
    ] {
        fake.fail_next(error);
        let answer = ask(&api, "POST", "/containers/one/start").await;
        assert_eq!((answer.status, answer.message().as_str()), (status, message));
    }
    fake.fail_next(NodeError::NotModified);
    let answer = ask(&api, "POST", "/containers/one/start").await;
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    assert_eq!(answer.headers.get("content-type"), None);
}

#[tokio::test]
async fn bodies_that_are_no_json_are_told_in_gos_words() {
    let (api, _) = api();
    let post = |target: &str, content_type: Option<&str>, body: &'static str| {
        let mut request = Request::builder().method("POST").uri(target).header("content-length", body.len());
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        request.body(Full::from(body)).unwrap()
    };
    let json = Some("application/json");
    for target in ["/commit", "/containers/create", "/containers/one/exec", "/containers/one/update"] {
        for (content_type, body, message) in [
            (
                Some("text/plain"),
                "{}",
                "unsupported Content-Type header (text/plain): must be 'application/json'",
            ),
            (None, "{}", "malformed Content-Type header (): mime: no media type"),
            (
                json,
                "{invalid json",
                "invalid JSON: invalid character 'i' looking for beginning of object key string",
            ),
            (json, "{} trailing", "unexpected content after JSON"),
            (json, "{\"a\":", "invalid JSON: unexpected EOF"),
        ] {
            let answer = send(&api, post(target, content_type, body)).await;
            assert_eq!((answer.status, answer.message().as_str()), (400, message), "{target} {body}");
        }
        let accepted = send(&api, post(target, Some("application/json; charset=utf-8"), "{}")).await;
        assert!(!accepted.text().contains("Content-Type"), "{}", accepted.text());
        let empty = send(&api, post(target, json, "")).await;
        assert!(empty.status < 500, "{target}: {}", empty.text());
    }
    let answer = send(&api, post("/containers/create", json, "")).await;
    assert_eq!(answer.message(), "invalid JSON: EOF");
}

#[tokio::test]
async fn bodies_beyond_bounds_are_refused_and_change_nothing() {
    const LIMIT: usize = 8 << 20;
    let (api, fake) = api();
    let too_large = format!("request body too large: at most {LIMIT} bytes are read");
    for target in
        ["/containers/create", "/networks/create", "/volumes/create", "/containers/one/update", "/auth"]
    {
        let post =
            || Request::builder().method("POST").uri(target).header("content-type", "application/json");
        let announced = post().header("content-length", LIMIT + 1).body(Full::from("{}")).unwrap();
        let answer = send(&api, announced).await;
        assert_eq!((answer.status, answer.message()), (400, too_large.clone()), "{target}");
        let chunked =
            post().header("transfer-encoding", "chunked").body(Full::from(vec![b' '; LIMIT + 1])).unwrap();
        let answer = send(&api, chunked).await;
        assert_eq!((answer.status, answer.message()), (400, too_large.clone()), "{target}");
        let nested = vec![b'['; 1 << 20];
        let nested = post().header("content-length", nested.len()).body(Full::from(nested)).unwrap();
        let answer = send(&api, nested).await;
        assert_eq!(
            (answer.status, answer.message().as_str()),
            (400, "invalid JSON: exceeded max depth"),
            "{target}"
        );
    }
    assert!(fake.calls().is_empty());
}

#[tokio::test]
async fn names_in_paths_are_decoded() {
    let (api, fake) = api();
    ask(&api, "POST", "/images/quay.io%2Fa%2Fb/tag?repo=x").await;
    ask(&api, "POST", "/images/quay.io/a/b/tag?repo=x").await;
    assert_eq!(fake.calls(), ["tag quay.io/a/b docker.io/library/x:latest"; 2]);
    ask(&api, "DELETE", "/v1.41/images/quay.io/a/json").await;
    assert!(fake.calls().pop().unwrap().contains("quay.io/a/json"));
    ask(&api, "DELETE", "/containers/parent/alias?link=1").await;
    assert!(fake.calls().pop().unwrap().contains("parent/alias"));
    let answer = ask(&api, "GET", "/images/%ff/json").await;
    assert_eq!((answer.status, answer.message().as_str()), (400, "the path is not UTF-8"));
    let answer = ask(&api, "GET", "/%69nfo").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn nothing_is_escaped_for_html() {
    let (api, _) = api();
    let answer =
        ask_json(&api, "POST", "/containers/create", &serde_json::json!({"Image": "a", "WorkingDir": "<&>"}))
            .await;
    assert!(answer.text().contains("'<&>'"), "{}", answer.text());
}
