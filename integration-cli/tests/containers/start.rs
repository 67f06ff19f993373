//! `POST /containers/{id}/start` and how starting fails.

use integration_cli::condition::eventually;
use integration_cli::http::Request;
use integration_cli::{Container, Test, cases};
use serde_json::json;

cases![
    start_answers_204_once_the_process_runs,
    starting_a_running_container_answers_304,
    starting_a_missing_container_answers_404,
    starting_a_paused_container_answers_409,
    a_command_that_does_not_exist_fails_with_127,
    a_command_that_may_not_be_executed_fails_with_126,
    a_mount_whose_ends_are_not_of_one_kind_fails_with_127_and_advice,
    a_failed_start_leaves_the_message_in_the_state,
    a_failed_start_leaves_nothing_mounted_and_no_address_taken,
    a_body_on_start_is_refused,
    a_stopped_container_starts_again_with_its_files,
    start_resets_the_old_exit_code_and_error,
    ids_names_and_prefixes_find_a_container,
    an_ambiguous_prefix_is_refused,
    start_attached_prints_output_and_returns_the_exit_code,
    many_containers_start_at_once,
];

fn start(t: &Test, container: &Container) -> integration_cli::Reply {
    t.post(&format!("/containers/{container}/start"))
}

fn start_answers_204_once_the_process_runs(t: &Test) {
    let container = t.create("busybox park");
    let reply = start(t, &container).expect(204);
    assert_eq!(reply.text(), "");
    let state = t.inspect(&container)["State"].clone();
    assert_eq!(state["Running"], true);
    assert!(state["Pid"].as_i64().unwrap() > 0, "{state}");
    assert!(state["StartedAt"].as_str().unwrap() > "2020", "{state}");
    assert_eq!(state["FinishedAt"], "0001-01-01T00:00:00Z");
    // Answered after exec, not after fork: the process is the command already.
    assert!(t.docker(&format!("top {container}")).ok().contains("park"));
}

fn starting_a_running_container_answers_304(t: &Test) {
    let container = t.start("busybox park");
    let reply = start(t, &container).expect(304);
    assert_eq!(reply.text(), "");
    assert_eq!(t.docker(&format!("start {container}")).ok(), container.name);
}

fn starting_a_missing_container_answers_404(t: &Test) {
    t.post("/containers/no-such-container/start").expect_error(404, "No such container: no-such-container");
}

fn starting_a_paused_container_answers_409(t: &Test) {
    let container = t.start("busybox park");
    t.docker(&format!("pause {container}")).ok();
    start(t, &container).expect_error(409, "cannot start a paused container, try unpause instead");
    t.docker(&format!("unpause {container}")).ok();
}

fn a_command_that_does_not_exist_fails_with_127(t: &Test) {
    let container = t.create("busybox no-such-command");
    start(t, &container).expect_error_holding(400, "executable file not found in $PATH");
    assert_eq!(t.inspect(&container)["State"]["ExitCode"], 127);
    let container = t.create("busybox /no/such/file");
    start(t, &container).expect_error_holding(400, "no such file or directory");
    assert_eq!(t.inspect(&container)["State"]["ExitCode"], 127);
}

fn a_command_that_may_not_be_executed_fails_with_126(t: &Test) {
    let container = t.create("busybox /etc/passwd");
    start(t, &container).expect_error_holding(400, "permission denied");
    assert_eq!(t.inspect(&container)["State"]["ExitCode"], 126);
    let container = t.create("busybox /etc");
    let reply = start(t, &container).expect(400);
    // runc of the reference says "permission denied" for a directory, newer ones "is a directory".
    assert!(
        reply.message().contains("permission denied") || reply.message().contains("is a directory"),
        "{reply:?}"
    );
    assert_eq!(t.inspect(&container)["State"]["ExitCode"], 126);
}

fn a_mount_whose_ends_are_not_of_one_kind_fails_with_127_and_advice(t: &Test) {
    let directory = t.directory("wrong");
    let container = t.create(&format!("-v {}:/etc/passwd/x busybox true", directory.display()));
    let reply = start(t, &container);
    reply.expect_error_holding(400, "Are you trying to mount a directory onto a file (or vice-versa)?");
    assert!(reply.message().contains("not a directory"), "{reply:?}");
    assert_eq!(t.inspect(&container)["State"]["ExitCode"], 127);
}

fn a_failed_start_leaves_the_message_in_the_state(t: &Test) {
    let container = t.create("busybox no-such-command");
    let message = start(t, &container).message();
    let state = t.inspect(&container)["State"].clone();
    assert_eq!(state["Error"], message.as_str());
    assert_eq!(state["Running"], false);
    assert_eq!(state["Status"], "created");
    assert!(message.contains("exec: \"no-such-command\""), "{message}");
}

fn a_failed_start_leaves_nothing_mounted_and_no_address_taken(t: &Test) {
    let network = t.name("net");
    t.docker(&format!("network create --subnet 10.99.0.0/29 {network}")).ok();
    // Six addresses beside the gateway's: seven failures would use them up.
    for _ in 0..7 {
        let container = t.create(&format!("--network {network} busybox no-such-command"));
        start(t, &container).expect(400);
        t.docker(&format!("rm {container}")).ok();
    }
    let container = t.start(&format!("--network {network} busybox park"));
    assert_eq!(t.status(&container), "running");
    let mounts = t.host("cat /proc/self/mounts").ok();
    assert!(!mounts.contains("no-such-command"), "{mounts}");
}

fn a_body_on_start_is_refused(t: &Test) {
    let container = t.create("busybox true");
    let path = format!("/containers/{container}/start");
    let body = json!({"Binds": ["/tmp:/tmp"]});
    t.send(Request::new("POST", &path).json(&body)).expect_error(
        400,
        "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
    );
    // Old clients send an empty object or null.
    t.send(Request::new("POST", &path).json(&json!({}))).expect(204);
}

fn a_stopped_container_starts_again_with_its_files(t: &Test) {
    let container = t.start("busybox sh -c 'echo run >> /count; cat /count'");
    t.wait(&container);
    t.docker(&format!("start {container}")).ok();
    t.wait(&container);
    t.await_log(&container, "run\nrun\nrun");
}

fn start_resets_the_old_exit_code_and_error(t: &Test) {
    let container = t.start("busybox sh -c 'test -e /again && exec park; touch /again; exit 9'");
    assert_eq!(t.wait(&container), 9);
    let before = t.inspect(&container)["State"].clone();
    assert_eq!(before["ExitCode"], 9);
    start(t, &container).expect(204);
    let after = t.inspect(&container)["State"].clone();
    assert_eq!(after["Running"], true);
    assert_eq!(after["ExitCode"], 0);
    assert!(after["StartedAt"].as_str() > before["StartedAt"].as_str());
    assert_eq!(after["FinishedAt"], before["FinishedAt"]);
}

fn ids_names_and_prefixes_find_a_container(t: &Test) {
    let container = t.create("busybox true");
    for reference in [
        container.id.clone(),
        container.short().to_owned(),
        container.name.clone(),
        container.id[..20].to_owned(),
    ] {
        let found = t.get(&format!("/containers/{reference}/json")).expect(200).json();
        assert_eq!(found["Id"], container.id.as_str(), "{reference}");
    }
    // A name that reads like the beginning of an id wins over the id.
    let lure = container.id[..16].to_owned();
    let path = format!("/containers/create?name={lure}");
    let other = t.post_json(&path, &t.body(&["true"])).expect(201).json()["Id"].as_str().unwrap().to_owned();
    let found = t.get(&format!("/containers/{lure}/json")).expect(200).json()["Id"].clone();
    t.delete(&format!("/containers/{other}")).expect(204);
    assert_eq!(found, other.as_str());
}

fn an_ambiguous_prefix_is_refused(t: &Test) {
    // With more than sixteen containers two of them share their first digit.
    let ids: Vec<String> = (0..17).map(|_| t.create_json(&t.body(&["true"])).id).collect();
    let shared =
        ids.iter().map(|id| &id[..1]).find(|digit| ids.iter().filter(|id| id.starts_with(digit)).count() > 1);
    let prefix = shared.unwrap();
    let reply = t.get(&format!("/containers/{prefix}/json"));
    // The reference gives the search no class of error and answers 404 to most of these calls.
    let status = t.by_age(400, reply.status);
    reply.expect_error_holding(
        status,
        &t.by_age(format!("multiple IDs found with provided prefix: {prefix}"), prefix.to_owned()),
    );
}

fn start_attached_prints_output_and_returns_the_exit_code(t: &Test) {
    let container = t.create("busybox sh -c 'echo out; echo err >&2; exit 5'");
    let outcome = t.docker(&format!("start -a {container}"));
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (5, "out\n", "err\n"));
    let container = t.create("-i busybox cat");
    let outcome = t.docker_with_input(&format!("start -ai {container}"), b"typed\n");
    assert_eq!(outcome.ok(), "typed");
}

fn many_containers_start_at_once(t: &Test) {
    let containers: Vec<Container> = std::thread::scope(|scope| {
        let starters: Vec<_> = (0..10).map(|_| scope.spawn(|| t.start_json(&t.body(&["park"])))).collect();
        starters.into_iter().map(|starter| starter.join().unwrap()).collect()
    });
    for container in &containers {
        assert_eq!(t.status(container), "running");
    }
    let mut addresses: Vec<String> =
        containers.iter().map(|container| t.address(container, "bridge")).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), containers.len(), "every container has an address of its own");
    eventually("they are gone", || {
        containers
            .iter()
            .all(|container| t.delete(&format!("/containers/{container}?force=1")).status == 404)
            .then_some(())
    });
}
