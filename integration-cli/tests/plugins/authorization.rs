//! `--authorization-plugin`: who decides about requests, and what they are told.

use integration_cli::plugin::FakePlugin;
use integration_cli::{DaemonOptions, OwnDaemon, Test, cases};
use serde_json::{Value, json};

cases![
    what_a_plugin_allows_is_done_and_what_it_denies_is_not,
    plugins_are_shown_requests_and_answers,
    an_answer_can_be_denied,
    a_plugin_that_fails_lets_nobody_in,
    streams_and_terminals_pass,
    a_plugin_that_is_not_there_keeps_the_daemon_from_starting,
];

/// A daemon whose plugin `judge` decides by `verdict`, which is told the call's name and the request's.
fn judged(
    t: &Test,
    verdict: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
) -> (OwnDaemon, FakePlugin) {
    let d = t.own_daemon(&DaemonOptions::default());
    let plugin = FakePlugin::start(d.daemon().machine(), "judge", "authz", verdict);
    d.daemon().stop();
    d.daemon()
        .start_again(&DaemonOptions::flags("--authorization-plugin judge --authorization-plugin judge"));
    (d, plugin)
}

fn allow() -> Value {
    json!({"Allow": true})
}

fn is_about(question: &Value, part: &str) -> bool {
    question["RequestUri"].as_str().is_some_and(|uri| uri.contains(part))
}

fn what_a_plugin_allows_is_done_and_what_it_denies_is_not(t: &Test) {
    let (d, _plugin) = judged(t, |method, question| {
        let is_denied = method == "AuthZPlugin.AuthZReq" && is_about(question, "/volumes/create");
        if is_denied { json!({"Allow": false, "Msg": "no volumes here"}) } else { allow() }
    });
    assert_eq!(d.docker("run --rm busybox echo hello").ok(), "hello");
    d.docker("volume create x1").fails_saying(1, "authorization denied by plugin judge: no volumes here");
    let refused = d.post_json("/volumes/create", &json!({"Name": "x1"}));
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (403, "authorization denied by plugin judge: no volumes here")
    );
    assert_eq!(d.docker("volume ls -q").ok(), "");
    // The reference tells what was asked for, newer ones what came of it.
    let told = d.by_age(json!(["judge"]), json!(["judge", "judge"]));
    assert_eq!(d.get("/info").json()["Plugins"]["Authorization"], told);
}

fn plugins_are_shown_requests_and_answers(t: &Test) {
    let (d, plugin) = judged(t, |_, _| allow());
    d.post_json("/v1.40/volumes/create?x=1", &json!({"Name": "x1"})).expect(201);
    let of = |name: &str| {
        let about =
            |(method, question): &(String, Value)| method == name && is_about(question, "/volumes/create");
        plugin.calls().into_iter().find(about).unwrap().1
    };
    let request = of("AuthZPlugin.AuthZReq");
    assert_eq!(
        (request["RequestMethod"].as_str(), request["RequestUri"].as_str()),
        (Some("POST"), Some("/v1.40/volumes/create?x=1"))
    );
    assert_eq!(request["RequestHeaders"]["Content-Type"], "application/json");
    // {"Name":"x1"} and whatever is around it.
    assert!(request["RequestBody"].as_str().is_some_and(|body| body.starts_with("eyJOYW1l")), "{request}");
    assert!(request.get("User").is_none(), "{request}");
    let answer = of("AuthZPlugin.AuthZRes");
    assert_eq!(answer["ResponseStatusCode"], 201);
    assert!(answer["ResponseBody"].as_str().is_some_and(|body| body.starts_with("ey")), "{answer}");
    assert_eq!(answer["RequestBody"], request["RequestBody"]);
    d.post_json("/auth", &json!({"username": "u", "password": "p", "serveraddress": "127.0.0.1:1"}));
    let login = plugin.calls().into_iter().find(|(_, question)| is_about(question, "/auth")).unwrap().1;
    // The reference means to hide them, but looks for the path without the version.
    let is_shown = login.get("RequestBody").is_some();
    assert!(!is_shown || t.implementation().is_reference(), "passwords are not shown: {login}");
}

fn an_answer_can_be_denied(t: &Test) {
    let (d, _plugin) = judged(t, |method, question| {
        let is_denied = method == "AuthZPlugin.AuthZRes" && is_about(question, "/version");
        if is_denied { json!({"Allow": false, "Msg": "secret"}) } else { allow() }
    });
    let refused = d.get("/version");
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (403, "authorization denied by plugin judge: secret")
    );
}

fn a_plugin_that_fails_lets_nobody_in(t: &Test) {
    let (d, _plugin) = judged(t, |_, question| {
        if is_about(question, "/version") { json!({"Allow": true, "Err": "out of order"}) } else { allow() }
    });
    d.daemon().announce("out of order");
    let refused = d.get("/version");
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (500, "plugin judge failed with error: AuthZPlugin.AuthZReq: out of order")
    );
}

fn streams_and_terminals_pass(t: &Test) {
    let (d, _plugin) = judged(t, |_, _| allow());
    let container = d.start("busybox sh -c 'echo hello; exec park'");
    assert_eq!(d.docker(&format!("exec {container} echo inside")).ok(), "inside");
    d.await_log(&container, "hello");
    let mut events = d.docker_start("events --filter type=volume");
    d.docker("volume create x1").ok();
    assert!(events.wait_for("volume create x1").contains("x1"));
}

fn a_plugin_that_is_not_there_keeps_the_daemon_from_starting(t: &Test) {
    let refused = t.refuse_to_start(&DaemonOptions::flags("--authorization-plugin nobody"));
    assert!(refused.stderr.contains("nobody") && refused.stderr.contains("not found"), "{refused:?}");
}
