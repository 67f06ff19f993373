//! Terminals: interactive runs, window sizes, detaching by keys.

use integration_cli::http::Request;
use integration_cli::pty::Terminal;
use integration_cli::session::DockerClient;
use integration_cli::{Session, Test, cases, words};

cases![
    an_interactive_shell_answers_and_returns_its_code,
    the_window_size_reaches_the_container,
    detach_keys_leave_the_container_running,
    own_detach_keys_replace_the_usual_ones,
    keys_on_the_connection_detach_as_well,
    a_broken_detach_sequence_is_typed_through,
    an_attached_terminal_shows_what_follows,
    an_interactive_exec_has_a_terminal_of_its_own,
    control_c_reaches_the_process,
    resize_by_request_is_checked,
    a_terminal_without_tty_on_the_client_is_refused,
];

fn terminal(s: &Session, line: &str) -> Terminal {
    Terminal::start(&s.docker_command(&words::split(line)), 30, 100)
}

fn an_interactive_shell_answers_and_returns_its_code(t: &Test) {
    for client in DockerClient::all() {
        let s = t.with_client(&client);
        let mut shell = terminal(&s, &format!("run -it --rm --name {} busybox sh", s.name("c")));
        shell.wait_for("/ # ");
        shell.type_keys("echo $((20+3)); tty\n");
        shell.wait_for("23\r\n");
        shell.wait_for("/dev/pts/0\r\n");
        shell.type_keys("exit 12\n");
        assert_eq!(shell.finish(), 12, "{client:?}");
    }
}

fn the_window_size_reaches_the_container(t: &Test) {
    let mut shell = terminal(t, &format!("run -it --rm --name {} busybox sh", t.name("c")));
    shell.wait_for("/ # ");
    // The client sends the size after the start, so the shell may be a moment ahead of it.
    shell.type_keys("until [ \"$(stty size)\" = '30 100' ]; do :; done; echo first $(stty size)\n");
    shell.wait_for("first 30 100");
    shell.type_keys("until [ \"$(stty size)\" = '40 120' ]; do :; done; echo second $(stty size)\n");
    shell.resize_until(40, 120, "second 40 120");
    shell.type_keys("exit\n");
    assert_eq!(shell.finish(), 0);
}

fn detach_keys_leave_the_container_running(t: &Test) {
    let name = t.name("c");
    let mut shell = terminal(t, &format!("run -it --name {name} busybox sh"));
    shell.wait_for("/ # ");
    shell.type_keys("\x10\x11");
    assert_eq!(shell.finish(), 0);
    assert_eq!(t.get(&format!("/containers/{name}/json")).expect(200).json()["State"]["Running"], true);
}

fn own_detach_keys_replace_the_usual_ones(t: &Test) {
    let name = t.name("c");
    let mut shell = terminal(t, &format!("run -it --detach-keys ctrl-a,x --name {name} busybox sh"));
    shell.wait_for("/ # ");
    shell.type_keys("\x01x");
    assert_eq!(shell.finish(), 0);
    assert_eq!(t.get(&format!("/containers/{name}/json")).expect(200).json()["State"]["Running"], true);
}

fn keys_on_the_connection_detach_as_well(t: &Test) {
    // The stock client looks for the keys itself; others leave that to the daemon.
    let container = t.start("-it busybox sh");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    for (query, keys) in [("", "\x10\x11"), ("&detachKeys=ctrl-x,y", "\x18y")] {
        let path = format!("/containers/{container}/attach?stream=1&stdin=1&stdout=1{query}");
        let mut stream = t.open(Request::new("POST", &path).upgrade()).expect(101).hijack();
        stream.write(b"echo it''works\n");
        stream.read_until("itworks\r\n");
        stream.write(keys.as_bytes());
        stream.read_rest();
        recording.wait_for("container detach");
        recording.forget();
    }
    assert_eq!(t.status(&container), "running");
}

fn a_broken_detach_sequence_is_typed_through(t: &Test) {
    let mut shell = terminal(
        t,
        &format!(
            "run -it --rm --name {} busybox sh -c 'stty raw -echo; head -c 2 | hexdump -C'",
            t.name("c")
        ),
    );
    shell.type_keys("\x10b");
    shell.wait_for("10 62");
    assert_eq!(shell.finish(), 0);
}

fn an_attached_terminal_shows_what_follows(t: &Test) {
    let container = t.start("-it busybox sh");
    let mut shell = terminal(t, &format!("attach {container}"));
    shell.type_keys("echo att''ached\n");
    shell.wait_for("attached\r\n");
    shell.type_keys("exit 5\n");
    assert_eq!(shell.finish(), 5);
}

fn an_interactive_exec_has_a_terminal_of_its_own(t: &Test) {
    let container = t.start("busybox park");
    let mut shell = terminal(t, &format!("exec -it {container} sh"));
    shell.wait_for("/ # ");
    shell.type_keys("until [ \"$(stty size)\" = '30 100' ]; do :; done; echo size $(stty size)\n");
    shell.wait_for("size 30 100");
    shell.type_keys("exit 6\n");
    assert_eq!(shell.finish(), 6);
    assert_eq!(t.status(&container), "running");
}

fn control_c_reaches_the_process(t: &Test) {
    let script = "trap \"echo inter''rupted; exit 3\" INT; echo rea''dy; while true; do sleep 0.05; done";
    let mut shell = terminal(
        t,
        &format!("run -it --rm --name {} busybox sh -c '{}'", t.name("c"), script.replace("''", "")),
    );
    shell.wait_for("ready");
    shell.type_keys("\x03");
    shell.wait_for("interrupted");
    assert_eq!(shell.finish(), 3);
}

fn resize_by_request_is_checked(t: &Test) {
    let container = t.start("-it busybox sh");
    let resize = |query: &str| t.post(&format!("/containers/{container}/resize?{query}"));
    assert_eq!(resize("h=55&w=66").expect(200).text(), "");
    let reply = resize("h=banana&w=66");
    assert!(reply.status == 400 || !t.api_at_least(1, 42), "{reply:?}");
    assert!(reply.status >= 400 && reply.message().contains("banana"), "{reply:?}");
    let pid = t.inspect(&container)["State"]["Pid"].to_string();
    let shown =
        t.host(&format!("stty size -F /proc/{pid}/fd/0 2>/dev/null || stty size < /proc/{pid}/fd/0")).ok();
    assert_eq!(shown, "55 66");
    let stopped = t.create("-t busybox true");
    let reply = t.post(&format!("/containers/{stopped}/resize?h=1&w=1"));
    reply.expect_error_holding(409, "is not running");
}

fn a_terminal_without_tty_on_the_client_is_refused(t: &Test) {
    let outcome = t.run("-it busybox true");
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(
        outcome.stderr.contains("is not a TTY") || outcome.stderr.contains("not a terminal"),
        "{outcome:?}"
    );
}
