//! `POST /containers/{id}/restart`.

use integration_cli::{Test, cases};

cases![
    restart_of_a_running_container_gives_a_new_process,
    restart_of_a_stopped_container_starts_it,
    restart_of_a_missing_container_answers_404,
    restart_that_cannot_start_answers_500_with_its_words,
    restart_of_a_container_that_removes_itself_keeps_it,
    restart_keeps_files_volumes_and_the_requested_address,
    restart_uses_the_time_limit,
];

fn restart_of_a_running_container_gives_a_new_process(t: &Test) {
    let container = t.start("busybox park");
    let before = t.inspect(&container);
    t.post(&format!("/containers/{container}/restart")).expect(204);
    let after = t.inspect(&container);
    assert_eq!(after["State"]["Running"], true);
    assert_ne!(after["State"]["Pid"], before["State"]["Pid"]);
    assert!(after["State"]["StartedAt"].as_str() > before["State"]["StartedAt"].as_str());
    // Only a policy counts restarts.
    assert_eq!(after["RestartCount"], 0);
}

fn restart_of_a_stopped_container_starts_it(t: &Test) {
    let container = t.create("busybox park");
    t.post(&format!("/containers/{container}/restart")).expect(204);
    assert_eq!(t.status(&container), "running");
    t.docker(&format!("stop {container}")).ok();
    assert_eq!(t.docker(&format!("restart {container}")).ok(), container.name);
    assert_eq!(t.status(&container), "running");
}

fn restart_of_a_missing_container_answers_404(t: &Test) {
    t.post("/containers/no-such-container/restart").expect_error(404, "No such container: no-such-container");
}

fn restart_that_cannot_start_answers_500_with_its_words(t: &Test) {
    let container = t.create("busybox no-such-command");
    let reply = t.post(&format!("/containers/{container}/restart"));
    assert!(reply.status == 500 || reply.status == 400, "{reply:?}");
    assert!(reply.message().starts_with(&format!("Cannot restart container {container}: ")), "{reply:?}");
    assert!(reply.message().contains("executable file not found"), "{reply:?}");
}

fn restart_of_a_container_that_removes_itself_keeps_it(t: &Test) {
    let container = t.start("--rm busybox park");
    t.docker(&format!("restart {container}")).ok();
    assert_eq!(t.status(&container), "running");
    t.docker(&format!("stop {container}")).ok();
    integration_cli::condition::eventually("it removes itself", || {
        (t.get(&format!("/containers/{container}/json")).status == 404).then_some(())
    });
}

fn restart_keeps_files_volumes_and_the_requested_address(t: &Test) {
    let (network, volume) = (t.name("net"), t.name("vol"));
    t.docker(&format!("network create --subnet 10.98.0.0/24 {network}")).ok();
    let container = t.start(&format!("--network {network} --ip 10.98.0.77 -v {volume}:/data busybox park"));
    t.shell(&container, "echo kept > /file; echo kept > /data/file");
    t.docker(&format!("restart {container}")).ok();
    assert_eq!(t.shell(&container, "cat /file /data/file"), "kept\nkept");
    assert_eq!(t.address(&container, &network), "10.98.0.77");
}

fn restart_uses_the_time_limit(t: &Test) {
    let container = t.start("busybox sh -c 'trap \"\" TERM; echo ready; while true; do sleep 1; done'");
    t.await_log(&container, "ready");
    let before = std::time::Instant::now();
    t.docker(&format!("restart -t 0 {container}")).ok();
    assert!(before.elapsed() < std::time::Duration::from_secs(6));
    assert_eq!(t.status(&container), "running");
}
