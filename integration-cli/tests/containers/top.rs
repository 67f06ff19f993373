//! `GET /containers/{id}/top`.

use integration_cli::{Test, cases};
use serde_json::Value;

cases![
    top_lists_the_processes_with_host_pids,
    top_takes_arguments_of_ps,
    top_without_a_pid_column_fails,
    top_of_a_stopped_container_is_409,
    top_of_a_missing_container_is_404,
    top_is_told_as_an_event,
];

fn top_lists_the_processes_with_host_pids(t: &Test) {
    let container = t.start("busybox sh -c 'sleep 1000 & exec park'");
    let top = integration_cli::condition::eventually("all processes are there", || {
        let top = t.get(&format!("/containers/{container}/top")).expect(200).json();
        (top["Processes"].as_array().unwrap().len() == 3).then_some(top)
    });
    let titles: Vec<&str> =
        top["Titles"].as_array().unwrap().iter().map(|title| title.as_str().unwrap()).collect();
    assert_eq!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let processes = top["Processes"].as_array().unwrap();
    assert!(processes.iter().all(|process| process.as_array().unwrap().len() == 8), "{top}");
    let pid = t.inspect(&container)["State"]["Pid"].to_string();
    assert!(processes.iter().any(|process| process[1] == pid.as_str()), "{top}");
    assert!(processes.iter().any(|process| process[7] == "sleep 1000"), "{top}");
}

fn top_takes_arguments_of_ps(t: &Test) {
    let container = t.start("busybox park");
    let top = t.get(&format!("/containers/{container}/top?ps_args=-o%20pid,args")).expect(200).json();
    assert_eq!(top["Titles"], serde_json::json!(["PID", "COMMAND"]));
    assert!(top["Processes"].to_string().contains("park"), "{top}");
    let shown = t.docker(&format!("top {container} -o pid,user")).ok();
    assert!(shown.lines().next().unwrap().contains("USER"), "{shown}");
}

fn top_without_a_pid_column_fails(t: &Test) {
    let container = t.start("busybox park");
    let reply = t.get(&format!("/containers/{container}/top?ps_args=-o%20args"));
    reply.expect_error(500, "Couldn't find PID field in ps output");
}

fn top_of_a_stopped_container_is_409(t: &Test) {
    let container = t.create("busybox true");
    let reply = t.get(&format!("/containers/{container}/top"));
    let text = t.by_age(
        format!("container {} is not running", container.id),
        format!("Container {} is not running", container.id),
    );
    reply.expect_error(409, &text);
}

fn top_of_a_missing_container_is_404(t: &Test) {
    t.get("/containers/no-such-container/top").expect(404);
}

fn top_is_told_as_an_event(t: &Test) {
    let container = t.start("busybox park");
    t.docker(&format!("top {container}")).ok();
    let told: Vec<Value> =
        t.past_events(&t.container_filter(&container.id)).into_iter().map(|event| event.raw).collect();
    assert!(told.iter().any(|event| event["Action"] == "top"), "{told:?}");
}
