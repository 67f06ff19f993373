//! `POST /containers/{id}/wait` with its three conditions.

use std::time::Duration;

use integration_cli::condition::eventually;
use integration_cli::http::{Exchange, Request};
use integration_cli::{Container, Test, cases};
use serde_json::json;

cases![
    headers_come_at_once_and_the_code_with_the_exit,
    not_running_returns_at_once_for_a_container_that_does_not_run,
    next_exit_waits_even_for_a_container_that_has_not_started,
    next_exit_of_a_stopped_container_waits_for_the_next_run,
    removed_waits_for_the_removal_and_reports_the_last_code,
    next_exit_fires_at_each_exit_of_a_restarting_container,
    an_unknown_condition_is_refused,
    waiting_for_a_missing_container_is_404,
    a_fast_exit_is_never_missed,
    waiters_that_leave_are_forgotten,
    the_client_prints_the_code,
];

fn wait(t: &Test, container: &Container, condition: &str) -> Exchange {
    t.open(Request::new("POST", &format!("/containers/{container}/wait?condition={condition}"))).expect(200)
}

fn code(exchange: Exchange) -> i64 {
    let body = exchange.into_reply().unwrap().json();
    assert!(body.get("Error").is_none_or(serde_json::Value::is_null), "{body}");
    body["StatusCode"].as_i64().unwrap()
}

fn is_silent(exchange: &mut Exchange) -> bool {
    use std::io::Read;
    exchange.read_limit(Duration::from_millis(150));
    let silent = exchange.read(&mut [0u8; 1]).is_err();
    exchange.read_limit(Duration::from_secs(60));
    silent
}

fn headers_come_at_once_and_the_code_with_the_exit(t: &Test) {
    let container = t.start("busybox sh -c 'trap \"exit 6\" TERM; sleep 1000 & wait'");
    let mut waiting = wait(t, &container, "not-running");
    assert_eq!(waiting.header("Content-Type"), Some("application/json"));
    assert!(is_silent(&mut waiting));
    eventually("the trap is set", || {
        t.docker(&format!("top {container}")).ok().contains("sleep").then_some(())
    });
    t.docker(&format!("kill -s TERM {container}")).ok();
    assert_eq!(code(waiting), 6);
}

fn not_running_returns_at_once_for_a_container_that_does_not_run(t: &Test) {
    let container = t.create("busybox sh -c 'exit 3'");
    assert_eq!(code(wait(t, &container, "not-running")), 0);
    t.docker(&format!("start -a {container}")).fails(3);
    assert_eq!(code(wait(t, &container, "not-running")), 3);
    assert_eq!(code(wait(t, &container, "")), 3);
}

fn next_exit_waits_even_for_a_container_that_has_not_started(t: &Test) {
    let container = t.create("busybox sh -c 'exit 3'");
    let mut waiting = wait(t, &container, "next-exit");
    assert!(is_silent(&mut waiting));
    t.docker(&format!("start {container}")).ok();
    assert_eq!(code(waiting), 3);
}

fn next_exit_of_a_stopped_container_waits_for_the_next_run(t: &Test) {
    let container = t.start("busybox sh -c 'test -e /again && exit 2; touch /again; exit 1'");
    assert_eq!(t.wait(&container), 1);
    let waiting = wait(t, &container, "next-exit");
    t.docker(&format!("start {container}")).ok();
    assert_eq!(code(waiting), 2);
}

fn removed_waits_for_the_removal_and_reports_the_last_code(t: &Test) {
    let container = t.start("busybox sh -c 'exit 8'");
    t.wait(&container);
    let mut waiting = wait(t, &container, "removed");
    assert!(is_silent(&mut waiting));
    t.docker(&format!("rm {container}")).ok();
    assert_eq!(code(waiting), 8);
    let container = t.create("--rm busybox sh -c 'exit 9'");
    let waiting = wait(t, &container, "removed");
    t.docker(&format!("start {container}")).ok();
    assert_eq!(code(waiting), 9);
    t.get(&format!("/containers/{container}/json")).expect(404);
}

fn next_exit_fires_at_each_exit_of_a_restarting_container(t: &Test) {
    let container = t.create("--restart always busybox sh -c 'exit 5'");
    let first = wait(t, &container, "next-exit");
    t.docker(&format!("start {container}")).ok();
    assert_eq!(code(first), 5);
    // The policy starts it again, and this one is a later exit.
    assert_eq!(code(wait(t, &container, "next-exit")), 5);
}

fn an_unknown_condition_is_refused(t: &Test) {
    t.newer_than_reference(1, 42, "the reference takes an unknown condition for the default one");
    let container = t.create("busybox true");
    let reply = t.post(&format!("/containers/{container}/wait?condition=banana"));
    reply.expect_error(400, "invalid condition: \"banana\"");
}

fn waiting_for_a_missing_container_is_404(t: &Test) {
    let reply = t.post("/containers/no-such-container/wait");
    reply.expect_error(404, "No such container: no-such-container");
}

fn a_fast_exit_is_never_missed(t: &Test) {
    for round in 0..8 {
        let container = t.create_json(&t.body(&["sh", "-c", "exit 7"]));
        let waiting = wait(t, &container, "next-exit");
        t.post(&format!("/containers/{container}/start")).expect(204);
        assert_eq!(code(waiting), 7, "round {round}");
    }
}

fn waiters_that_leave_are_forgotten(t: &Test) {
    let container = t.start("busybox park");
    for _ in 0..30 {
        drop(wait(t, &container, "next-exit"));
    }
    let last = wait(t, &container, "next-exit");
    t.docker(&format!("stop {container}")).ok();
    assert_eq!(code(last), 0);
}

fn the_client_prints_the_code(t: &Test) {
    let container = t.start("busybox sh -c 'exit 11'");
    assert_eq!(t.docker(&format!("wait {container}")).ok(), "11");
    assert_eq!(
        t.post_json(&format!("/containers/{container}/wait"), &json!({})).expect(200).json()["StatusCode"],
        11
    );
}
