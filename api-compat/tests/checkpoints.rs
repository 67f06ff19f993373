//! Checkpoints: hidden unless the daemon is experimental, and what reaches the node when it is.
#![cfg(test)]

use std::sync::Arc;

use api_compat::{Api, DaemonInfo};
use serde_json::json;

use crate::client::{api, api_with, ask, ask_json};
use crate::fake::Fake;
use crate::objects;

fn experimental() -> (Api, Arc<Fake>) {
    let fake = Fake::with(vec![objects::running("one")]);
    (api_with(&fake, DaemonInfo { experimental: true, ..DaemonInfo::default() }), fake)
}

#[tokio::test]
async fn without_experimental_features_nothing_reaches_the_node() {
    let (api, fake) = api();
    for (method, target) in [
        ("GET", "/containers/one/checkpoints"),
        ("POST", "/containers/one/checkpoints"),
        ("DELETE", "/containers/one/checkpoints/first"),
    ] {
        let answer = ask(&api, method, target).await;
        assert_eq!(answer.status, 501, "{method} {target}");
        assert!(answer.message().starts_with("This experimental feature is disabled by default."));
    }
    let start = ask(&api, "POST", "/containers/one/start?checkpoint=first").await;
    assert_eq!(
        (start.status, start.message().as_str()),
        (400, "checkpoint is only supported in experimental mode")
    );
    assert!(fake.calls().is_empty());
}

#[tokio::test]
async fn clients_are_told_that_the_daemon_is_experimental() {
    let (api, _) = experimental();
    assert_eq!(ask(&api, "GET", "/_ping").await.header("docker-experimental"), "true");
    assert_eq!(ask(&api, "GET", "/version").await.json()["Experimental"], true);
    assert_eq!(ask(&api, "GET", "/info").await.json()["ExperimentalBuild"], true);
}

#[tokio::test]
async fn wishes_reach_the_node() {
    let (api, fake) = experimental();
    let path = "/containers/one/checkpoints";
    let body = json!({"CheckpointID": "first", "CheckpointDir": "", "Exit": true});
    assert_eq!(ask_json(&api, "POST", path, &body).await.status, 201);
    let body = json!({"CheckpointID": "first", "CheckpointDir": "/over/there"});
    assert_eq!(ask_json(&api, "POST", path, &body).await.status, 201);
    assert_eq!(ask(&api, "GET", path).await.json(), json!([{"Name": "first"}]));
    assert_eq!(ask(&api, "GET", &format!("{path}?dir=/over/there")).await.status, 200);
    assert_eq!(ask(&api, "DELETE", &format!("{path}/first?dir=/over/there")).await.status, 204);
    assert_eq!(ask(&api, "POST", "/containers/one/start?checkpoint=first").await.status, 204);
    let elsewhere = "/containers/one/start?checkpoint=first&checkpoint-dir=/over/there";
    assert_eq!(ask(&api, "POST", elsewhere).await.status, 204);
    assert_eq!(
        fake.calls(),
        [
            "checkpoint one first None Exit",
            "checkpoint one first Some(\"/over/there\") Run",
            "checkpoints one None",
            "checkpoints one Some(\"/over/there\")",
            "remove checkpoint one first Some(\"/over/there\")",
            "restore one first None",
            "restore one first Some(\"/over/there\")",
        ]
    );
}

#[tokio::test]
async fn what_is_no_name_or_no_place_is_refused() {
    let (api, fake) = experimental();
    let path = "/containers/one/checkpoints";
    for name in ["", "x", ".hidden", "../outside", "a/b", "ends."] {
        let answer = ask_json(&api, "POST", path, &json!({"CheckpointID": name})).await;
        let text = format!("invalid checkpoint ID {name:?}, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
        assert_eq!((answer.status, answer.message()), (400, text));
    }
    assert_eq!(ask(&api, "DELETE", &format!("{path}/.hidden")).await.status, 400);
    assert_eq!(ask(&api, "POST", "/containers/one/start?checkpoint=../outside").await.status, 400);
    let body = json!({"CheckpointID": "first", "CheckpointDir": "relative"});
    let answer = ask_json(&api, "POST", path, &body).await;
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (400, "checkpoint directory \"relative\" is not absolute")
    );
    let lost = ask(&api, "POST", "/containers/one/start?checkpoint-dir=/over/there").await;
    assert_eq!((lost.status, lost.message().as_str()), (403, "custom checkpointdir is not supported"));
    assert!(fake.calls().is_empty());
}
