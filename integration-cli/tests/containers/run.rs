//! `docker run`: the core of the command line, with every client at hand.

use integration_cli::process::Running;
use integration_cli::session::DockerClient;
use integration_cli::{Session, Test, cases};

cases![
    output_and_exit_code_are_those_of_the_command,
    exit_code_125_is_the_daemons_refusal,
    exit_code_126_is_a_command_that_may_not_run,
    exit_code_127_is_a_command_that_is_not_there,
    exit_code_137_is_a_kill,
    standard_input_reaches_the_command,
    run_detached_prints_the_id_and_leaves_it_running,
    the_client_passes_signals_on,
    rm_leaves_no_container,
    twenty_kinds_of_code_come_back,
    a_missing_image_is_pulled_and_the_failure_is_told,
    hostname_and_environment_are_set,
    large_output_arrives_complete_and_in_order,
    run_many_side_by_side,
];

/// Runs a case with every docker client at hand.
fn with_each_client(t: &Test, case: impl Fn(&Session)) {
    for client in DockerClient::all() {
        case(&t.with_client(&client));
    }
}

fn output_and_exit_code_are_those_of_the_command(t: &Test) {
    with_each_client(t, |s| {
        let outcome = s.run("busybox sh -c 'echo out; echo err >&2; exit 3'");
        assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (3, "out\n", "err\n"));
    });
}

fn exit_code_125_is_the_daemons_refusal(t: &Test) {
    with_each_client(t, |s| {
        s.run("--memory 1m busybox true").fails_saying(125, "Minimum memory limit allowed is 6MB");
        s.run("--network no-such-network busybox true")
            .fails_saying(125, "network no-such-network not found");
    });
}

fn exit_code_126_is_a_command_that_may_not_run(t: &Test) {
    with_each_client(t, |s| s.run("busybox /etc/passwd").fails_saying(126, "permission denied"));
}

fn exit_code_127_is_a_command_that_is_not_there(t: &Test) {
    with_each_client(t, |s| {
        s.run("busybox no-such-command").fails_saying(127, "executable file not found in $PATH");
        s.run("busybox /no/such/command").fails_saying(127, "no such file or directory");
    });
}

fn exit_code_137_is_a_kill(t: &Test) {
    with_each_client(t, |s| {
        let name = s.name("c");
        let running = s.docker_start(&format!("run --name {name} busybox sh -c 'echo ready; exec park'"));
        let running = after_ready(running);
        s.docker(&format!("kill {name}")).ok();
        assert_eq!(running.finish().code, 137);
    });
}

fn after_ready(mut running: Running) -> Running {
    running.wait_for("ready");
    running
}

fn standard_input_reaches_the_command(t: &Test) {
    with_each_client(t, |s| {
        let name = s.name("c");
        let outcome = s.docker_with_input(
            &format!("run -i --rm --name {name} busybox sh -c 'cat; echo end'"),
            b"one\ntwo\n",
        );
        assert_eq!(outcome.ok(), "one\ntwo\nend");
        // Without -i there is nothing to read.
        let outcome =
            s.docker_with_input(&format!("run --rm --name {name} busybox sh -c 'cat; echo end'"), b"one\n");
        assert_eq!(outcome.ok(), "end");
    });
}

fn run_detached_prints_the_id_and_leaves_it_running(t: &Test) {
    with_each_client(t, |s| {
        let container = s.start("busybox park");
        assert_eq!(container.id.len(), 64);
        assert_eq!(s.status(&container), "running");
    });
}

fn the_client_passes_signals_on(t: &Test) {
    let script = "trap \"echo got; exit 9\" INT; echo ready; while true; do sleep 0.05; done";
    let running = t.docker_start(&format!("run --rm --name {} busybox sh -c '{script}'", t.name("c")));
    let running = after_ready(running);
    running.signal(rustix::process::Signal::INT);
    let outcome = running.finish();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (9, "ready\ngot\n"));
}

fn rm_leaves_no_container(t: &Test) {
    with_each_client(t, |s| {
        let name = s.name("c");
        s.docker(&format!("run --rm --name {name} busybox true")).ok();
        s.get(&format!("/containers/{name}/json")).expect(404);
    });
}

fn twenty_kinds_of_code_come_back(t: &Test) {
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let runs: Vec<_> = [0, 1, 2, 77, 124, 128, 129, 200, 254, 255]
            .map(|code| scope.spawn(move || (code, t.run(&format!("busybox sh -c 'exit {code}'")).code)))
            .into();
        runs.into_iter()
            .map(|run| run.join().unwrap())
            .map(|(asked, got)| if asked == got { 0 } else { got })
            .collect()
    });
    assert!(codes.iter().all(|code| *code == 0), "{codes:?}");
}

fn a_missing_image_is_pulled_and_the_failure_is_told(t: &Test) {
    let outcome = t.run("127.0.0.1:1/no/such/image true");
    assert!(
        outcome.stderr.contains("Unable to find image '127.0.0.1:1/no/such/image:latest' locally"),
        "{outcome:?}"
    );
    assert!(outcome.stderr.contains("connection refused"), "{outcome:?}");
    assert_eq!(outcome.code, 125);
}

fn hostname_and_environment_are_set(t: &Test) {
    let shown = t.run("--hostname box --domainname example.test -e A=1 -e B busybox sh -c 'hostname; hostname -f; echo $A-$HOSTNAME; cat /etc/hostname'").ok();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "box");
    assert_eq!(lines[1], "box.example.test");
    assert_eq!(lines[2], "1-box");
    assert_eq!(lines[3], "box");
}

fn large_output_arrives_complete_and_in_order(t: &Test) {
    let shown = t.run("busybox seq 1 200000").ok();
    assert_eq!(shown.lines().count(), 200_000);
    assert!(shown.lines().zip(1_u32..).all(|(line, number)| line == number.to_string()));
}

fn run_many_side_by_side(t: &Test) {
    std::thread::scope(|scope| {
        let runs: Vec<_> =
            (0..12).map(|n| scope.spawn(move || (n, t.run(&format!("busybox echo {n}")).ok()))).collect();
        for run in runs {
            let (number, shown) = run.join().unwrap();
            assert_eq!(shown, number.to_string());
        }
    });
}
