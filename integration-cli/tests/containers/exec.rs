//! Exec: create, start, inspect, resize, and what the process inside sees.

use integration_cli::condition::eventually;
use integration_cli::http::{Exchange, Request};
use integration_cli::stdcopy::{read_all, read_frame};
use integration_cli::{Container, Test, cases};
use serde_json::{Value, json};

cases![
    exec_runs_a_command_and_returns_its_code,
    exec_sees_environment_user_and_workdir_as_asked,
    exec_starts_from_the_environment_of_the_container,
    exec_in_a_container_that_does_not_run_is_409,
    exec_in_a_paused_container_is_409,
    exec_without_a_command_is_refused,
    exec_in_a_missing_container_is_404,
    an_unknown_exec_is_404,
    a_second_start_of_one_exec_is_409,
    start_upgrades_with_101_and_the_usual_headers,
    the_exit_code_is_there_when_the_stream_ends,
    inspect_describes_a_running_and_a_finished_exec,
    a_detached_exec_answers_at_once_and_runs_on,
    half_closing_stdin_reaches_the_command,
    a_command_that_does_not_exist_ends_with_127,
    a_command_that_may_not_be_executed_ends_with_126,
    a_terminal_is_given_on_request,
    privileged_exec_has_all_capabilities,
    exec_keeps_the_containers_capability_bounds,
    exec_joins_the_containers_namespaces_and_cgroup,
    the_container_lists_its_running_execs,
    a_client_that_leaves_does_not_end_the_command,
    execs_end_with_their_container,
    an_exec_is_known_until_its_container_is_removed,
    many_execs_run_at_once,
    output_of_an_exec_is_not_in_the_log,
];

fn create(t: &Test, container: &Container, body: &Value) -> String {
    let reply = t.post_json(&format!("/containers/{container}/exec"), body).expect(201);
    let id = reply.json()["Id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 64);
    id
}

fn begin(t: &Test, exec: &str) -> Exchange {
    let request = Request::new("POST", &format!("/exec/{exec}/start"));
    t.open(request.upgrade().json(&json!({"Detach": false, "Tty": false})))
}

fn inspect(t: &Test, exec: &str) -> Value {
    t.get(&format!("/exec/{exec}/json")).expect(200).json()
}

fn exec_runs_a_command_and_returns_its_code(t: &Test) {
    let container = t.start("busybox park");
    let outcome = t.exec(&container, "sh -c 'echo out; echo err >&2; exit 42'");
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (42, "out\n", "err\n"));
    assert_eq!(t.exec(&container, "true").code, 0);
    assert_eq!(t.exec(&container, "sh -c 'kill -9 $$'").code, 137);
}

fn exec_sees_environment_user_and_workdir_as_asked(t: &Test) {
    let container = t.start("-e COLOUR=red busybox park");
    let line = format!(
        "exec -e COLOUR=blue -e NEW=1 -u alice:staff -w /tmp {container} sh -c 'echo $COLOUR $NEW; id -un; id -gn; pwd; echo $HOME'"
    );
    assert_eq!(t.docker(&line).ok(), "blue 1\nalice\nstaff\n/tmp\n/home/alice");
}

fn exec_starts_from_the_environment_of_the_container(t: &Test) {
    let container = t.start("-e COLOUR=red -u alice -w /home busybox park");
    let shown = t.shell(&container, "echo $COLOUR $PATH $HOSTNAME; id -un; pwd");
    assert_eq!(shown, format!("red /bin {}\nalice\n/home", container.short()));
}

fn exec_in_a_container_that_does_not_run_is_409(t: &Test) {
    let container = t.create("busybox true");
    let reply = t.post_json(&format!("/containers/{container}/exec"), &json!({"Cmd": ["true"]}));
    // The reference says `Container X is not running` with the id, newer ones in lower case.
    let text = t.by_age(
        format!("container {} is not running", container.id),
        format!("Container {} is not running", container.id),
    );
    reply.expect_error(409, &text);
}

fn exec_in_a_paused_container_is_409(t: &Test) {
    let container = t.start("busybox park");
    t.docker(&format!("pause {container}")).ok();
    let reply = t.post_json(&format!("/containers/{container}/exec"), &json!({"Cmd": ["true"]}));
    t.docker(&format!("unpause {container}")).ok();
    reply.expect_error_holding(409, "is paused, unpause the container before exec");
}

fn exec_without_a_command_is_refused(t: &Test) {
    let container = t.start("busybox park");
    let path = format!("/containers/{container}/exec");
    t.post_json(&path, &json!({})).expect_error(400, "No exec command specified");
    t.post_json(&path, &json!({"Cmd": []})).expect_error(400, "No exec command specified");
}

fn exec_in_a_missing_container_is_404(t: &Test) {
    let reply = t.post_json("/containers/no-such-container/exec", &json!({"Cmd": ["true"]}));
    reply.expect_error(404, "No such container: no-such-container");
}

fn an_unknown_exec_is_404(t: &Test) {
    let id = "0".repeat(64);
    t.get(&format!("/exec/{id}/json")).expect_error_holding(404, "No such exec instance");
    t.post_json(&format!("/exec/{id}/start"), &json!({})).expect_error_holding(404, "No such exec instance");
    t.post(&format!("/exec/{id}/resize?h=10&w=10")).expect_error_holding(404, "No such exec instance");
}

fn a_second_start_of_one_exec_is_409(t: &Test) {
    let container = t.start("busybox park");
    let exec = create(t, &container, &json!({"Cmd": ["true"], "AttachStdout": true}));
    read_all(begin(t, &exec).expect(101).hijack());
    let reply = t.post_json(&format!("/exec/{exec}/start"), &json!({"Detach": true}));
    reply.expect_error_holding(409, "has already run");
    let running = create(t, &container, &json!({"Cmd": ["park"]}));
    t.post_json(&format!("/exec/{running}/start"), &json!({"Detach": true})).expect(200);
    let reply = t.post_json(&format!("/exec/{running}/start"), &json!({"Detach": true}));
    reply.expect_error_holding(409, "is already running");
}

fn start_upgrades_with_101_and_the_usual_headers(t: &Test) {
    let container = t.start("busybox park");
    let exec = create(t, &container, &json!({"Cmd": ["echo", "hi"], "AttachStdout": true}));
    let answer = begin(t, &exec).expect(101);
    assert_eq!(answer.reason, "UPGRADED");
    assert_eq!(answer.header("Upgrade"), Some("tcp"));
    assert_eq!(answer.header("Connection"), Some("Upgrade"));
    assert_eq!(answer.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
    // Unlike attach, exec passes the daemon's headers on; the reference writes the head by hand here, too.
    if t.api_at_least(1, 42) {
        assert!(answer.header("Api-Version").is_some());
    }
    assert_eq!(read_all(answer.hijack()).stdout, "hi\n");
    let exec = create(t, &container, &json!({"Cmd": ["echo", "hi"], "AttachStdout": true}));
    let plain = t.open(Request::new("POST", &format!("/exec/{exec}/start")).json(&json!({}))).expect(200);
    assert_eq!(plain.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
    assert_eq!(read_all(plain).stdout, "hi\n");
}

fn the_exit_code_is_there_when_the_stream_ends(t: &Test) {
    let container = t.start("busybox park");
    for code in 1..=8 {
        let exec = create(
            t,
            &container,
            &json!({"Cmd": ["sh", "-c", format!("exit {code}")], "AttachStdout": true}),
        );
        read_all(begin(t, &exec).expect(101).hijack());
        // No waiting here: clients ask once, right after the end of the stream.
        assert_eq!(inspect(t, &exec)["ExitCode"], code);
    }
}

fn inspect_describes_a_running_and_a_finished_exec(t: &Test) {
    let container = t.start("busybox park");
    let body = json!({
        "Cmd": ["sh", "-c", "read line; exit 3"], "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
        "User": "alice",
    });
    let exec = create(t, &container, &body);
    let fresh = inspect(t, &exec);
    assert_eq!(
        (&fresh["Running"], &fresh["ExitCode"], &fresh["Pid"]),
        (&json!(false), &Value::Null, &json!(0))
    );
    let mut stream = begin(t, &exec).expect(101).hijack();
    let running = eventually("the exec runs", || {
        let now = inspect(t, &exec);
        (now["Running"] == true && now["Pid"] != 0).then_some(now)
    });
    assert_eq!(running["ID"], exec.as_str());
    assert_eq!(running["ContainerID"], container.id.as_str());
    assert_eq!(running["ExitCode"], Value::Null);
    let process = &running["ProcessConfig"];
    assert_eq!(process["entrypoint"], "sh");
    assert_eq!(process["arguments"], json!(["-c", "read line; exit 3"]));
    assert_eq!(process["tty"], false);
    assert_eq!(process["user"], "alice");
    for stream in ["OpenStdin", "OpenStdout", "OpenStderr"] {
        assert_eq!(running[stream], true, "{stream}");
    }
    stream.write(b"go\n");
    read_all(stream);
    let finished = inspect(t, &exec);
    assert_eq!((&finished["Running"], &finished["ExitCode"]), (&json!(false), &json!(3)));
}

fn a_detached_exec_answers_at_once_and_runs_on(t: &Test) {
    let container = t.start("busybox park");
    assert_eq!(t.docker(&format!("exec -d {container} sh -c 'echo made > /made'")).ok(), "");
    eventually("the detached command has run", || {
        (t.exec(&container, "cat /made").stdout == "made\n").then_some(())
    });
    let exec = create(t, &container, &json!({"Cmd": ["park"]}));
    let reply = t.post_json(&format!("/exec/{exec}/start"), &json!({"Detach": true})).expect(200);
    assert_eq!(reply.text(), "");
    assert_eq!(inspect(t, &exec)["Running"], true);
}

fn half_closing_stdin_reaches_the_command(t: &Test) {
    let container = t.start("busybox park");
    let outcome =
        t.docker_with_input(&format!("exec -i {container} sh -c 'wc -c; echo end'"), b"twelve bytes");
    assert_eq!(outcome.ok(), "12\nend");
    let body = json!({"Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true});
    let exec = create(t, &container, &body);
    let mut stream = begin(t, &exec).expect(101).hijack();
    stream.write(b"typed");
    assert_eq!(read_frame(&mut stream).unwrap().payload, b"typed");
    stream.close_write();
    assert_eq!(read_all(stream).stdout, "");
    assert_eq!(inspect(t, &exec)["ExitCode"], 0);
}

fn a_command_that_does_not_exist_ends_with_127(t: &Test) {
    let container = t.start("busybox park");
    let outcome = t.exec(&container, "no-such-command");
    assert_eq!(outcome.code, 127 - t.by_age(0, 1), "the reference reports 126 here: {outcome:?}");
    assert!(format!("{outcome:?}").contains("executable file not found in $PATH"), "{outcome:?}");
    let exec = create(t, &container, &json!({"Cmd": ["no-such-command"]}));
    let reply = t.post_json(&format!("/exec/{exec}/start"), &json!({"Detach": true}));
    reply.expect_error_holding(400, "executable file not found in $PATH");
}

fn a_command_that_may_not_be_executed_ends_with_126(t: &Test) {
    let container = t.start("busybox park");
    let outcome = t.exec(&container, "/etc/passwd");
    assert_eq!(outcome.code, 126, "{outcome:?}");
    assert!(format!("{outcome:?}").contains("permission denied"), "{outcome:?}");
}

fn a_terminal_is_given_on_request(t: &Test) {
    let container = t.start("busybox park");
    let script = "test -t 0 && test -t 1 && echo terminal; echo $TERM";
    let body = json!({"Cmd": ["sh", "-c", script], "AttachStdin": true, "AttachStdout": true, "Tty": true});
    let exec = create(t, &container, &body);
    let request = Request::new("POST", &format!("/exec/{exec}/start"));
    let answer = t.open(request.upgrade().json(&json!({"Tty": true}))).expect(101);
    let text = String::from_utf8(answer.hijack().read_rest()).unwrap();
    assert_eq!(text, "terminal\r\nxterm\r\n");
}

fn privileged_exec_has_all_capabilities(t: &Test) {
    let container = t.start("busybox park");
    let effective = |line: &str| {
        let status = t.docker(&format!("exec {line} {container} cat /proc/self/status")).ok();
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim().to_owned();
        u64::from_str_radix(&mask, 16).unwrap()
    };
    let plain = effective("");
    assert_eq!(plain, 0xa804_25fb, "the fourteen capabilities of a container");
    assert_eq!(effective("-u alice"), 0);
    super::skip_where_the_reference_cannot_be_privileged(t);
    assert_eq!(effective("--privileged"), super::all_capabilities());
}

fn exec_keeps_the_containers_capability_bounds(t: &Test) {
    let container =
        t.start("--cap-drop ALL --cap-add NET_ADMIN --security-opt no-new-privileges busybox park");
    let status = t.shell(&container, "cat /proc/self/status");
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(u64::from_str_radix(&field("CapEff:"), 16).unwrap(), 1 << 12);
    assert_eq!(u64::from_str_radix(&field("CapBnd:"), 16).unwrap(), 1 << 12);
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
}

fn exec_joins_the_containers_namespaces_and_cgroup(t: &Test) {
    let container = t.start("busybox park");
    let shown = t.shell(&container, "for n in net pid mnt uts ipc; do readlink /proc/self/ns/$n; readlink /proc/1/ns/$n; done; cat /proc/self/cgroup; echo -; cat /proc/1/cgroup");
    let lines: Vec<&str> = shown.lines().collect();
    for pair in lines[..10].chunks(2) {
        assert_eq!(pair[0], pair[1]);
    }
    let groups: Vec<&[&str]> = lines[10..].split(|line| *line == "-").collect();
    assert_eq!(groups[0], groups[1]);
    assert!(!groups[0].is_empty());
}

fn the_container_lists_its_running_execs(t: &Test) {
    let container = t.start("busybox park");
    assert_eq!(t.inspect(&container)["ExecIDs"], Value::Null);
    let exec = create(t, &container, &json!({"Cmd": ["park"]}));
    t.post_json(&format!("/exec/{exec}/start"), &json!({"Detach": true})).expect(200);
    assert_eq!(t.inspect(&container)["ExecIDs"], json!([exec]));
}

fn a_client_that_leaves_does_not_end_the_command(t: &Test) {
    let container = t.start("busybox park");
    let body = json!({"Cmd": ["sh", "-c", "echo begun; sleep 0.3; echo survived > /survived; exec park"], "AttachStdout": true});
    let exec = create(t, &container, &body);
    let mut stream = begin(t, &exec).expect(101).hijack();
    read_frame(&mut stream).unwrap();
    drop(stream);
    eventually("the command went on", || {
        (t.exec(&container, "cat /survived").stdout == "survived\n").then_some(())
    });
    assert_eq!(inspect(t, &exec)["Running"], true);
}

fn execs_end_with_their_container(t: &Test) {
    let container = t.start("busybox park");
    let exec = create(t, &container, &json!({"Cmd": ["sleep", "1000"], "AttachStdout": true}));
    let stream = begin(t, &exec).expect(101).hijack();
    eventually("the exec runs", || {
        t.get(&format!("/exec/{exec}/json")).json()["Pid"].as_i64().filter(|pid| *pid > 0)
    });
    t.docker(&format!("kill {container}")).ok();
    assert_eq!(read_all(stream).stdout, "");
    // No waiting here: the client asks for the code when the stream has ended.
    let ended = inspect(t, &exec);
    assert_eq!((&ended["Running"], &ended["ExitCode"]), (&json!(false), &json!(137)));
}

fn an_exec_is_known_until_its_container_is_removed(t: &Test) {
    let container = t.start("busybox park");
    let exec = create(t, &container, &json!({"Cmd": ["sh", "-c", "exit 3"], "AttachStdout": true}));
    read_all(begin(t, &exec).expect(101).hijack());
    let unstarted = create(t, &container, &json!({"Cmd": ["true"]}));
    t.docker(&format!("kill {container}")).ok();
    t.docker(&format!("wait {container}")).ok();
    assert_eq!(inspect(t, &exec)["ExitCode"], 3);
    assert_eq!(t.inspect(&container)["ExecIDs"], Value::Null);
    let resized = t.post(&format!("/exec/{exec}/resize?h=10&w=10"));
    if t.implementation().is_reference() {
        // It gives the state, and a failure of its own for the status; newer ones do as Shoal.
        resized.expect_error_holding(500, "is not running");
    } else {
        resized.expect_error(409, &format!("container {} is not running", container.id));
    }
    eventually("an exec that was not started is forgotten", || {
        (t.get(&format!("/exec/{unstarted}/json")).status == 404).then_some(())
    });
    t.docker(&format!("rm {container}")).ok();
    t.get(&format!("/exec/{exec}/json")).expect_error_holding(404, "No such exec instance");
}

fn many_execs_run_at_once(t: &Test) {
    let container = t.start("busybox park");
    let outputs: Vec<String> = std::thread::scope(|scope| {
        let container = &container;
        let runners: Vec<_> =
            (0..8).map(|n| scope.spawn(move || t.exec(container, &format!("echo {n}")).ok())).collect();
        runners.into_iter().map(|runner| runner.join().unwrap()).collect()
    });
    assert_eq!(outputs, ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

fn output_of_an_exec_is_not_in_the_log(t: &Test) {
    let container = t.start("busybox park");
    t.exec(&container, "echo secret").ok();
    assert_eq!(t.logs(&container), "");
}
