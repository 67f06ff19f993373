//! No hole: every operation of Docker's API 1.56, described or not, leads to a handler, and nothing else does.
//!
//! Start reading at [`OPERATIONS`].
#![cfg(test)]

use api_compat::Api;
use http::Request;
use http_body_util::{BodyExt as _, Full};

use crate::client::{api, ask};

/// Methods and paths that dockerd serves; `{}` is a name. OPTIONS of anything is tested with the transport.
#[rustfmt::skip]
const OPERATIONS: [&str; 110] = [
    "GET /configs", "POST /configs/create", "DELETE GET /configs/{}", "POST /configs/{}/update",
    "POST /containers/create", "GET /containers/json", "POST /containers/prune", "DELETE /containers/{}",
    "GET HEAD PUT /containers/{}/archive", "POST /containers/{}/attach", "GET /containers/{}/attach/ws",
    "GET /containers/{}/changes", "GET /containers/{}/export", "GET /containers/{}/json", "POST /containers/{}/kill",
    "GET /containers/{}/logs", "POST /containers/{}/pause", "POST /containers/{}/rename",
    "POST /containers/{}/resize", "POST /containers/{}/restart", "POST /containers/{}/start",
    "GET /containers/{}/stats", "POST /containers/{}/stop", "GET /containers/{}/top", "POST /containers/{}/unpause",
    "POST /containers/{}/update", "POST /containers/{}/wait", "GET /distribution/{}/json", "POST /containers/{}/exec",
    "GET /exec/{}/json", "POST /exec/{}/resize", "POST /exec/{}/start", "POST /build", "POST /build/prune",
    "POST /commit", "POST /images/create", "GET /images/get", "GET /images/json", "POST /images/load",
    "POST /images/prune", "GET /images/search", "DELETE /images/{}", "GET /images/{}/attestations",
    "GET /images/{}/get", "GET /images/{}/history", "GET /images/{}/json", "POST /images/{}/push",
    "POST /images/{}/tag", "GET /networks", "POST /networks/create", "POST /networks/prune",
    "DELETE GET /networks/{}", "POST /networks/{}/connect", "POST /networks/{}/disconnect", "GET /nodes",
    "DELETE GET /nodes/{}", "POST /nodes/{}/update", "GET /plugins", "POST /plugins/create",
    "GET /plugins/privileges", "POST /plugins/pull", "DELETE /plugins/{}", "POST /plugins/{}/disable",
    "POST /plugins/{}/enable", "GET /plugins/{}/json", "POST /plugins/{}/push", "POST /plugins/{}/set",
    "POST /plugins/{}/upgrade", "GET /secrets", "POST /secrets/create", "DELETE GET /secrets/{}",
    "POST /secrets/{}/update", "GET /services", "POST /services/create", "DELETE GET /services/{}",
    "GET /services/{}/logs", "POST /services/{}/update", "POST /session", "GET /swarm", "POST /swarm/init",
    "POST /swarm/join", "POST /swarm/leave", "POST /swarm/unlock", "GET /swarm/unlockkey", "POST /swarm/update",
    "GET HEAD /_ping", "POST /auth", "GET /events", "GET /info", "GET /system/df", "GET /version", "GET /tasks",
    "GET /tasks/{}", "GET /tasks/{}/logs", "GET /volumes", "POST /volumes/create", "POST /volumes/prune",
    "DELETE GET PUT /volumes/{}", "POST /grpc", "GET /debug/vars", "GET /debug/pprof/", "GET /debug/pprof/cmdline",
    "GET /debug/pprof/profile", "GET /debug/pprof/symbol", "GET /debug/pprof/trace", "GET /debug/pprof/{}",
    "POST /build/cancel", "GET POST /containers/{}/checkpoints", "DELETE /containers/{}/checkpoints/{}",
    "GET /networks/",
];
/// How many operations that makes: the 108 that are described, and 13 that are not.
const COUNT: usize = 121;

/// Whether a method and path lead to a handler. What it answers does not matter, so its stream is not read.
async fn is_routed(api: &Api, method: &str, target: &str) -> bool {
    let request =
        Request::builder().method(method).uri(target).body(Full::<bytes::Bytes>::default()).unwrap();
    let reply = api.handle(request).await;
    if reply.status() != 404 {
        return true;
    }
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    method != "HEAD" && body != "{\"message\":\"page not found\"}\n"
}

#[tokio::test]
async fn every_operation_has_a_handler_whatever_its_names() {
    let (api, _) = api();
    let mut count = 0;
    for operation in OPERATIONS {
        let (methods, pattern) = operation.rsplit_once(' ').unwrap();
        for method in methods.split(' ') {
            count += 1;
            for name in ["one", "a.b:5000", "with/slash", "with%2Fslash"] {
                let path = pattern.replacen("{}", name, 1).replace("{}", "last");
                let is_plain = name == "one" || name == "a.b:5000";
                if !is_plain && (method == "HEAD" || pattern.starts_with("/debug")) {
                    // Without a body nothing tells one "not found" from the other; profiles have no slashes.
                    continue;
                }
                for target in [path.clone(), format!("/v1.56{path}")] {
                    assert!(is_routed(&api, method, &target).await, "{method} {target}");
                }
            }
        }
    }
    assert_eq!(count, COUNT);
}

#[tokio::test]
async fn what_dockerd_serves_elsewhere_or_nowhere_is_not_found() {
    let (api, _) = api();
    for (method, target) in [
        ("GET", "/metrics"),
        ("GET", "/debug"),
        ("GET", "/images"),
        ("POST", "/images/one"),
        ("GET", "/containers"),
        ("GET", "/containers/one"),
        ("GET", "/volumes/"),
        ("GET", "/v1.56"),
        ("GET", "/v1.56/"),
        ("GET", "/v1.56/v1.56/info"),
    ] {
        let answer = ask(&api, method, target).await;
        assert_eq!((answer.status, answer.message().as_str()), (404, "page not found"), "{method} {target}");
    }
}
