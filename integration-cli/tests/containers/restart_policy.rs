//! Restart policies and their back-off.

use std::time::Duration;

use integration_cli::condition::{eventually, poll};
use integration_cli::{Test, cases};

cases![
    always_starts_again_after_success,
    on_failure_starts_again_only_after_failure,
    on_failure_gives_up_after_the_given_number,
    no_policy_means_no_restart,
    the_wait_between_restarts_grows,
    between_two_runs_the_state_is_restarting_and_running,
    stop_between_two_runs_gives_only_a_stop_event,
    exec_between_two_runs_is_409,
    a_stopped_container_stays_stopped,
    restarts_are_told_as_die_and_start,
    the_policy_may_be_updated,
    a_restarting_container_is_removed_by_force,
];

fn restarts(t: &Test, container: &integration_cli::Container) -> i64 {
    t.inspect(container)["RestartCount"].as_i64().unwrap()
}

fn always_starts_again_after_success(t: &Test) {
    let container = t.start("--restart always busybox sh -c 'echo run >> /runs'");
    eventually("it ran three times", || (restarts(t, &container) >= 2).then_some(()));
}

fn on_failure_starts_again_only_after_failure(t: &Test) {
    let good = t.start("--restart on-failure busybox true");
    assert_eq!(t.wait(&good), 0);
    let bad =
        t.start("--restart on-failure busybox sh -c 'test -e /second && exit 0; touch /second; exit 1'");
    eventually("the second run succeeds", || (t.status(&bad) == "exited").then_some(()));
    assert_eq!(restarts(t, &bad), 1);
    assert_eq!(restarts(t, &good), 0);
    assert_eq!(t.status(&good), "exited");
}

fn on_failure_gives_up_after_the_given_number(t: &Test) {
    let container = t.start("--restart on-failure:2 busybox sh -c 'echo run; exit 7'");
    eventually("it gives up", || (t.status(&container) == "exited").then_some(()));
    assert_eq!(restarts(t, &container), 2);
    assert_eq!(t.inspect(&container)["State"]["ExitCode"], 7);
    assert_eq!(t.logs(&container), "run\nrun\nrun");
}

fn no_policy_means_no_restart(t: &Test) {
    let container = t.start("busybox sh -c 'exit 1'");
    assert_eq!(t.wait(&container), 1);
    assert_eq!(t.status(&container), "exited");
}

fn the_wait_between_restarts_grows(t: &Test) {
    let container = t.start("--restart always busybox true");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    eventually("several restarts", || (restarts(t, &container) >= 5).then_some(()));
    recording.wait_until("the fifth start", |event| event.action == "start");
    let told = t.past_events(&t.container_filter(&container.id));
    let times = |action: &str| -> Vec<i64> {
        told.iter()
            .filter(|event| event.action == action)
            .map(|event| event.raw["timeNano"].as_i64().unwrap())
            .collect()
    };
    let (starts, dies) = (times("start"), times("die"));
    let waits: Vec<i64> =
        dies.iter().zip(&starts[1..]).map(|(die, start)| (start - die) / 1_000_000).collect();
    // 100, 200, 400, 800 ms, and what starting takes.
    for (wait, least) in waits.iter().zip([100, 200, 400, 800]) {
        assert!(*wait >= least - 5, "waits {waits:?}");
    }
}

fn between_two_runs_the_state_is_restarting_and_running(t: &Test) {
    let container = t.start("--restart always busybox sh -c 'exit 3'");
    let state = eventually("it waits for its next run", || {
        let state = t.inspect(&container)["State"].clone();
        (state["Restarting"] == true && restarts(t, &container) > 2).then_some(state)
    });
    assert_eq!(state["Status"], "restarting");
    assert_eq!(state["Running"], true);
    assert_eq!(state["ExitCode"], 3);
    assert_eq!(state["Pid"], 0);
}

/// Waits until the container is in a back-off of at least a second.
fn in_back_off(t: &Test) -> integration_cli::Container {
    let container = t.start("--restart always busybox sh -c 'exit 3'");
    eventually("a long wait between two runs", || {
        let inspected = t.inspect(&container);
        (inspected["RestartCount"].as_i64() >= Some(5) && inspected["State"]["Restarting"] == true)
            .then_some(())
    });
    // The state is there a moment before its event.
    eventually("the end of the last run is told", || {
        let told = t.past_events(&t.container_filter(&container.id));
        (told.last()?.label() == "container die").then_some(())
    });
    container
}

fn stop_between_two_runs_gives_only_a_stop_event(t: &Test) {
    let container = in_back_off(t);
    let mut recording = t.record_events(&t.container_filter(&container.id));
    t.docker(&format!("stop {container}")).ok();
    recording.wait_for("container stop");
    assert_eq!(recording.labels(), ["container stop"]);
    let state = t.inspect(&container)["State"].clone();
    assert_eq!(
        (&state["Status"], &state["Running"], &state["Restarting"]),
        (&"exited".into(), &false.into(), &false.into())
    );
    let count = restarts(t, &container);
    let again = poll(Duration::from_millis(2500), &mut || (restarts(t, &container) != count).then_some(()));
    assert_eq!(again, None, "the wait was not cancelled");
}

fn exec_between_two_runs_is_409(t: &Test) {
    let container = in_back_off(t);
    let reply = t.post_json(&format!("/containers/{container}/exec"), &serde_json::json!({"Cmd": ["true"]}));
    reply.expect_error_holding(409, "is restarting, wait until the container is running");
    // A start asked for now is no error either.
    assert!(matches!(t.post(&format!("/containers/{container}/start")).status, 204 | 304));
}

fn a_stopped_container_stays_stopped(t: &Test) {
    let container = t.start("--restart always busybox park");
    t.docker(&format!("stop {container}")).ok();
    let back = poll(Duration::from_millis(500), &mut || (t.status(&container) != "exited").then_some(()));
    assert_eq!(back, None);
    t.docker(&format!("start {container}")).ok();
    assert_eq!(t.status(&container), "running");
}

fn restarts_are_told_as_die_and_start(t: &Test) {
    let container = t.start("--restart on-failure:1 busybox sh -c 'exit 1'");
    eventually("it gives up", || (t.status(&container) == "exited").then_some(()));
    let labels = eventually("the last end is told", || {
        let told = t.past_events(&t.container_filter(&container.id));
        let labels: Vec<String> = told.iter().map(integration_cli::events::Event::label).collect();
        (labels.iter().filter(|label| *label == "container die").count() == 2).then_some(labels)
    });
    assert_eq!(
        labels,
        ["container create", "container start", "container die", "container start", "container die"]
    );
}

fn the_policy_may_be_updated(t: &Test) {
    let container = t.start("busybox park");
    let reply = t.docker(&format!("update --restart always {container}"));
    assert_eq!(reply.ok(), container.name);
    assert_eq!(t.inspect(&container)["HostConfig"]["RestartPolicy"]["Name"], "always");
    // The exec may end with the container that it ends.
    t.exec(&container, "kill -INT 1");
    eventually("the new policy acts", || (restarts(t, &container) == 1).then_some(()));
    let removing = t.start("--rm busybox park");
    t.docker(&format!("update --restart always {removing}"))
        .fails_saying(1, "estart policy cannot be updated because AutoRemove is enabled for the container");
}

fn a_restarting_container_is_removed_by_force(t: &Test) {
    let container = in_back_off(t);
    t.delete(&format!("/containers/{container}")).expect(409);
    t.delete(&format!("/containers/{container}?force=1")).expect(204);
    t.get(&format!("/containers/{container}/json")).expect(404);
}
