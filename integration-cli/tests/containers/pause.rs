//! Pause and unpause.

use integration_cli::{Test, cases};

cases![
    a_paused_container_stands_still_and_goes_on,
    pausing_what_cannot_be_paused_is_409,
    unpausing_what_is_not_paused_is_500,
    pause_and_unpause_are_told_as_events,
    a_paused_container_is_removed_only_by_force,
    a_paused_container_is_shown_as_running_and_paused,
    stop_of_a_paused_container_ends_it,
];

fn a_paused_container_stands_still_and_goes_on(t: &Test) {
    let container = t.start("busybox sh -c 'while true; do date +%s%N > /now; done'");
    let pid = t.inspect(&container)["State"]["Pid"].as_i64().unwrap();
    t.docker(&format!("pause {container}")).ok();
    let now = || std::fs::read_to_string(format!("/proc/{pid}/root/now")).unwrap();
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<String> =
            stat.rsplit(')').next().unwrap().split_whitespace().map(str::to_owned).collect();
        (fields[11].clone(), fields[12].clone())
    };
    let (first, cpu) = (now(), used());
    let standing = integration_cli::condition::poll(std::time::Duration::from_millis(300), &mut || {
        (now() != first || used() != cpu).then_some(())
    });
    assert_eq!(standing, None, "the container moved while paused");
    t.docker(&format!("unpause {container}")).ok();
    integration_cli::condition::eventually("the container goes on", || (now() != first).then_some(()));
}

fn pausing_what_cannot_be_paused_is_409(t: &Test) {
    let container = t.start("busybox park");
    t.post(&format!("/containers/{container}/pause")).expect(204);
    let reply = t.post(&format!("/containers/{container}/pause"));
    reply.expect_error_holding(409, "is already paused");
    t.post(&format!("/containers/{container}/unpause")).expect(204);
    let stopped = t.create("busybox true");
    t.post(&format!("/containers/{stopped}/pause")).expect_error_holding(409, "is not running");
    t.post("/containers/no-such-container/pause").expect(404);
}

fn unpausing_what_is_not_paused_is_500(t: &Test) {
    let container = t.start("busybox park");
    let reply = t.post(&format!("/containers/{container}/unpause"));
    reply.expect_error(500, &format!("Container {} is not paused", container.id));
}

fn pause_and_unpause_are_told_as_events(t: &Test) {
    let container = t.start("busybox park");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    t.docker(&format!("pause {container}")).ok();
    t.docker(&format!("unpause {container}")).ok();
    recording.wait_for("container unpause");
    assert_eq!(recording.labels(), ["container pause", "container unpause"]);
}

fn a_paused_container_is_removed_only_by_force(t: &Test) {
    let container = t.start("busybox park");
    t.docker(&format!("pause {container}")).ok();
    let reply = t.delete(&format!("/containers/{container}"));
    // The reference has one text for running and paused, with the id in it.
    let text =
        t.by_age("container is paused and must be unpaused first", "You cannot remove a paused container");
    reply.expect_error_holding(409, text);
    t.delete(&format!("/containers/{container}?force=1")).expect(204);
}

fn a_paused_container_is_shown_as_running_and_paused(t: &Test) {
    let container = t.start("busybox park");
    t.docker(&format!("pause {container}")).ok();
    let state = t.inspect(&container)["State"].clone();
    assert_eq!(state["Status"], "paused");
    assert_eq!((state["Running"].as_bool(), state["Paused"].as_bool()), (Some(true), Some(true)));
    let listed = t
        .docker_args(&["ps", "--filter", &format!("name={container}"), "--format", "{{.State}}|{{.Status}}"])
        .ok();
    assert!(listed.starts_with("paused|Up ") && listed.ends_with(" (Paused)"), "{listed}");
    t.docker(&format!("unpause {container}")).ok();
}

fn stop_of_a_paused_container_ends_it(t: &Test) {
    let container = t.start("busybox park");
    t.docker(&format!("pause {container}")).ok();
    t.docker(&format!("stop -t 2 {container}")).ok();
    let state = t.inspect(&container)["State"].clone();
    assert_eq!((state["Running"].as_bool(), state["Paused"].as_bool()), (Some(false), Some(false)));
}
