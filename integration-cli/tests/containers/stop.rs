//! `POST /containers/{id}/stop`: signal, patience, then SIGKILL.

use std::time::{Duration, Instant};

use integration_cli::http::Request;
use integration_cli::{Test, cases};

cases![
    stop_of_a_running_container_answers_204_when_it_has_ended,
    stop_of_a_stopped_container_answers_304,
    stop_of_a_missing_container_answers_404,
    a_process_that_ignores_the_signal_is_killed_after_the_time_limit,
    a_time_limit_of_zero_kills_at_once,
    the_stop_signal_of_the_container_is_used,
    the_stop_timeout_of_the_container_is_used,
    a_bad_time_limit_is_refused,
    a_client_that_leaves_does_not_cancel_the_stop,
    a_stopped_container_gives_its_address_back,
    several_containers_are_stopped_by_one_command,
    a_signal_may_be_chosen_per_stop,
];

const DEAF: &str = "busybox sh -c 'trap \"\" TERM INT; echo ready; while true; do sleep 1; done'";

fn stop_of_a_running_container_answers_204_when_it_has_ended(t: &Test) {
    let container = t.start("busybox park");
    let reply = t.post(&format!("/containers/{container}/stop")).expect(204);
    assert_eq!(reply.text(), "");
    let state = t.inspect(&container)["State"].clone();
    assert_eq!((state["Running"].as_bool(), state["ExitCode"].as_i64()), (Some(false), Some(0)));
    assert_eq!(state["Status"], "exited");
    assert_eq!(state["Pid"], 0);
    assert!(state["FinishedAt"].as_str() > state["StartedAt"].as_str(), "{state}");
}

fn stop_of_a_stopped_container_answers_304(t: &Test) {
    let container = t.create("busybox true");
    t.post(&format!("/containers/{container}/stop")).expect(304);
    t.docker(&format!("start -a {container}")).ok();
    let reply = t.post(&format!("/containers/{container}/stop")).expect(304);
    assert_eq!(reply.text(), "");
    t.docker(&format!("stop {container}")).ok();
}

fn stop_of_a_missing_container_answers_404(t: &Test) {
    t.post("/containers/no-such-container/stop").expect_error(404, "No such container: no-such-container");
}

fn a_process_that_ignores_the_signal_is_killed_after_the_time_limit(t: &Test) {
    let container = t.start(DEAF);
    t.await_log(&container, "ready");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    let before = Instant::now();
    t.docker(&format!("stop -t 1 {container}")).ok();
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(t.inspect(&container)["State"]["ExitCode"], 137);
    recording.wait_for("container stop");
    let signals: Vec<String> = recording
        .seen()
        .iter()
        .filter(|event| event.action == "kill")
        .map(|event| event.attribute("signal").to_owned())
        .collect();
    assert_eq!(signals, ["15", "9"]);
}

fn a_time_limit_of_zero_kills_at_once(t: &Test) {
    let container = t.start(DEAF);
    t.await_log(&container, "ready");
    let before = Instant::now();
    t.docker(&format!("stop -t 0 {container}")).ok();
    assert!(before.elapsed() < Duration::from_secs(5));
    assert_eq!(t.inspect(&container)["State"]["ExitCode"], 137);
}

fn the_stop_signal_of_the_container_is_used(t: &Test) {
    let container =
        t.start("--stop-signal USR1 busybox sh -c 'trap \"exit 31\" USR1; echo ready; sleep 1000 & wait'");
    t.await_log(&container, "ready");
    t.docker(&format!("stop {container}")).ok();
    assert_eq!(t.inspect(&container)["State"]["ExitCode"], 31);
}

fn the_stop_timeout_of_the_container_is_used(t: &Test) {
    let container = t.start(&format!("--stop-timeout 1 {DEAF}"));
    t.await_log(&container, "ready");
    let before = Instant::now();
    t.docker(&format!("stop {container}")).ok();
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
}

fn a_bad_time_limit_is_refused(t: &Test) {
    let container = t.start("busybox park");
    let reply = t.post(&format!("/containers/{container}/stop?t=banana"));
    // The reference passes the number parser's error on without a class.
    reply.expect_error_holding(t.by_age(400, 500), "banana");
    assert_eq!(t.status(&container), "running");
}

fn a_client_that_leaves_does_not_cancel_the_stop(t: &Test) {
    t.newer_than_reference(1, 42, "the reference ties the stop to the client's connection");
    let container = t.start(DEAF);
    t.await_log(&container, "ready");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    let mut stream = t.http().connect().unwrap();
    let request = format!("POST /v1.41/containers/{container}/stop?t=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    // A request that nobody has read yet may go with its connection.
    recording.wait_for("container kill");
    drop(stream);
    recording.wait_for("container die");
    t.await_status(&container, "exited");
}

fn a_stopped_container_gives_its_address_back(t: &Test) {
    let container = t.start("-p 127.0.0.1::80 busybox park");
    assert_ne!(t.address(&container, "bridge"), "");
    t.docker(&format!("stop {container}")).ok();
    let settings = t.inspect(&container)["NetworkSettings"].clone();
    assert_eq!(settings["Networks"]["bridge"]["IPAddress"], "");
    assert_eq!(settings["Networks"]["bridge"]["IPPrefixLen"], 0);
    assert_eq!(settings["Networks"]["bridge"]["EndpointID"], "");
    assert_ne!(settings["Networks"]["bridge"]["NetworkID"], "");
    assert_eq!(settings["Ports"], serde_json::json!({}));
}

fn several_containers_are_stopped_by_one_command(t: &Test) {
    let (first, second) = (t.start("busybox park"), t.start("busybox park"));
    let printed = t.docker(&format!("stop {first} {second}")).ok();
    assert_eq!(printed, format!("{first}\n{second}"));
    assert_eq!((t.status(&first), t.status(&second)), ("exited".to_owned(), "exited".to_owned()));
}

fn a_signal_may_be_chosen_per_stop(t: &Test) {
    t.newer_than_reference(1, 42, "the parameter signal of stop");
    let container = t.start("busybox sh -c 'trap \"exit 32\" USR2; echo ready; sleep 1000 & wait'");
    t.await_log(&container, "ready");
    t.send(Request::new("POST", &format!("/v1.42/containers/{container}/stop?signal=SIGUSR2"))).expect(204);
    assert_eq!(t.inspect(&container)["State"]["ExitCode"], 32);
}
