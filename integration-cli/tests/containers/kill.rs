//! `POST /containers/{id}/kill`: any signal, by any of its names.

use integration_cli::condition::eventually;
use integration_cli::{Test, cases};

cases![
    kill_ends_the_container_with_137,
    kill_of_a_stopped_container_answers_409,
    kill_of_a_missing_container_answers_404,
    signals_are_known_by_number_and_name,
    an_unknown_signal_is_refused,
    a_signal_that_is_handled_does_not_end_the_container,
    kill_reports_the_signal_by_number,
    kill_ends_a_paused_container,
    sigkill_counts_as_a_wish_to_stop,
    any_killing_signal_counts_when_the_container_names_no_stop_signal,
    a_signal_other_than_the_stop_signal_leaves_the_policy_alive,
];

fn kill_ends_the_container_with_137(t: &Test) {
    let container = t.start("busybox park");
    t.post(&format!("/containers/{container}/kill")).expect(204);
    // Answered when the container has ended, not before.
    let state = t.inspect(&container)["State"].clone();
    assert_eq!((state["Running"].as_bool(), state["ExitCode"].as_i64()), (Some(false), Some(137)));
    assert_eq!(state["OOMKilled"], false);
}

fn kill_of_a_stopped_container_answers_409(t: &Test) {
    let container = t.create("busybox true");
    let reply = t.post(&format!("/containers/{container}/kill"));
    // The reference says Cannot and Container with capitals.
    let text = t.by_age(
        format!("cannot kill container: {container}: container {} is not running", container.id),
        format!("Cannot kill container: {container}: Container {} is not running", container.id),
    );
    reply.expect_error(409, &text);
}

fn kill_of_a_missing_container_answers_404(t: &Test) {
    let reply = t.post("/containers/no-such-container/kill");
    // The reference puts its own words before the usual ones.
    reply.expect_error_holding(404, "No such container: no-such-container");
}

fn signals_are_known_by_number_and_name(t: &Test) {
    let script = "trap 'echo one' USR1; echo ready; while true; do sleep 0.05; done";
    let container = t.start(&format!("busybox sh -c \"{script}\""));
    t.await_log(&container, "ready");
    for (round, signal) in ["USR1", "SIGUSR1", "usr1", "sigusr1", "10"].iter().enumerate() {
        t.post(&format!("/containers/{container}/kill?signal={signal}")).expect(204);
        eventually(&format!("{signal} arrives"), || {
            (t.logs(&container).matches("one").count() == round + 1).then_some(())
        });
    }
}

fn an_unknown_signal_is_refused(t: &Test) {
    let container = t.start("busybox park");
    for signal in ["banana", "SIGBANANA", "0"] {
        let reply = t.post(&format!("/containers/{container}/kill?signal={signal}"));
        // The reference capitalises, and answers 500.
        reply.expect_error_holding(t.by_age(400, reply.status), &format!("nvalid signal: {signal}"));
        assert!(reply.status >= 400);
    }
    let reply = t.post(&format!("/containers/{container}/kill?signal=999"));
    reply.expect_error_holding(t.by_age(400, 500), "linux daemon does not support signal 999");
    assert_eq!(t.status(&container), "running");
}

fn a_signal_that_is_handled_does_not_end_the_container(t: &Test) {
    let container =
        t.start("busybox sh -c 'trap \"echo reload\" HUP; echo ready; while true; do sleep 0.05; done'");
    t.await_log(&container, "ready");
    t.docker(&format!("kill -s HUP {container}")).ok();
    t.await_log(&container, "reload");
    assert_eq!(t.status(&container), "running");
}

fn kill_reports_the_signal_by_number(t: &Test) {
    let container = t.start("busybox park");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    t.docker(&format!("kill -s INT {container}")).ok();
    assert_eq!(recording.wait_for("container kill").attribute("signal"), "2");
    assert_eq!(recording.wait_for("container die").attribute("exitCode"), "0");
}

fn kill_ends_a_paused_container(t: &Test) {
    let container = t.start("busybox park");
    t.docker(&format!("pause {container}")).ok();
    t.docker(&format!("kill {container}")).ok();
    t.await_status(&container, "exited");
    assert_eq!(t.inspect(&container)["State"]["ExitCode"], 137);
    assert_eq!(t.inspect(&container)["State"]["Paused"], false);
}

fn sigkill_counts_as_a_wish_to_stop(t: &Test) {
    let container = t.start("--restart always busybox park");
    t.docker(&format!("kill {container}")).ok();
    let state = t.inspect(&container)["State"].clone();
    assert_eq!(
        (&state["Status"], state["Restarting"].as_bool()),
        (&serde_json::json!("exited"), Some(false))
    );
    assert_eq!(t.inspect(&container)["RestartCount"], 0);
}

fn any_killing_signal_counts_when_the_container_names_no_stop_signal(t: &Test) {
    let container = t.start(
        "--restart always busybox sh -c 'trap \"exit 0\" INT; echo ready; while true; do sleep 0.05; done'",
    );
    // Before its trap is set the kernel keeps the signal from a first process.
    t.await_log(&container, "ready");
    t.docker(&format!("kill -s INT {container}")).ok();
    t.await_status(&container, "exited");
    assert_eq!(t.inspect(&container)["RestartCount"], 0);
}

fn a_signal_other_than_the_stop_signal_leaves_the_policy_alive(t: &Test) {
    let container = t.start("--restart always --stop-signal TERM busybox park");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    t.docker(&format!("kill -s INT {container}")).ok();
    recording.wait_for("container start");
    t.await_status(&container, "running");
    assert_eq!(t.inspect(&container)["RestartCount"], 1);
    t.docker(&format!("kill -s TERM {container}")).ok();
    t.await_status(&container, "exited");
}
