//! The promises about execs: their streams, their exits, their independence.

use node_shim::protocol::{
    AttachRequest, Call, ConsoleSize, ExecMode, FailureKind, Framing, KillScope, Target,
};
use serde_json::json;

use crate::support::{
    ALL_STREAMS, Daemon, exec_request, exec_request_of, process_is_alive, under_every_runtime, wait_until,
};

fn kill(daemon: &mut Daemon) {
    daemon.done(Call::Kill { signal: 9, scope: KillScope::Init });
    assert_eq!(daemon.exit().code, 137);
}

#[test]
fn an_exec_has_streams_and_an_exit_of_its_own() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        let request = exec_request("cat; echo oops >&2; exit 9");
        let exec_id = request.exec_id;
        let (pid, mut stream) = daemon.exec(request).unwrap();
        assert!(process_is_alive(pid));
        stream.write(b"words");
        stream.end_input();
        assert_eq!(stream.read_streams(), ("words".to_owned(), "oops\n".to_owned()));
        // The stream has ended, so the exit is on its way already.
        assert_eq!(daemon.exec_exit(exec_id).code, 9);
        kill(&mut daemon);
        assert_eq!(container.logged(), [], "an exec's output is not the container's");
    });
}

#[test]
fn many_execs_at_once_keep_apart() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        let bundle = &container.bundle;
        let daemon_ref = &daemon;
        let exits: Vec<_> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..8)
                .map(|n| {
                    scope.spawn(move || {
                        let request = exec_request(&format!("cat; echo {n}; exit {n}"));
                        let exec_id = request.exec_id;
                        let (_, mut stream) = daemon_ref.exec(request).unwrap();
                        stream.write(b"in ");
                        stream.end_input();
                        assert_eq!(stream.read_streams().0, format!("in {n}\n"), "{}", bundle.display());
                        (exec_id, n)
                    })
                })
                .collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        });
        let mut expected: std::collections::BTreeMap<_, _> = exits.into_iter().collect();
        while !expected.is_empty() {
            if let node_shim::protocol::Event::ExecExited { exec_id, exit } = daemon.event() {
                assert_eq!(expected.remove(&exec_id), Some(exit.code));
            }
        }
    });
}

#[test]
fn an_exec_that_cannot_run_says_why() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        for (program, kind) in
            [("nope", FailureKind::CommandNotFound), ("/etc/plain", FailureKind::NotExecutable)]
        {
            let process =
                json!({"args": [program], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
            let failure = daemon.exec(exec_request_of(&process)).unwrap_err();
            assert_eq!(failure.kind, kind, "{failure}");
        }
        // The container and further execs do not suffer.
        let request = exec_request("exit 0");
        let exec_id = request.exec_id;
        daemon.exec(request).unwrap();
        assert_eq!(daemon.exec_exit(exec_id).code, 0);
    });
}

#[test]
fn a_detached_exec_runs_without_a_client() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        let mut request = exec_request("echo lost; wc -c > /tmp/n; exit 4");
        request.mode = ExecMode::Detached;
        let exec_id = request.exec_id;
        let (_, mut stream) = daemon.exec(request).unwrap();
        assert_eq!(stream.read_to_end(), b"");
        assert_eq!(daemon.exec_exit(exec_id).code, 4);
        let (_, mut stream) = daemon.exec(exec_request("cat /tmp/n")).unwrap();
        stream.end_input();
        assert_eq!(stream.read_streams().0, "0\n");
    });
}

#[test]
fn an_exec_goes_on_when_its_client_and_the_daemon_go() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        // Its input ends, its output goes nowhere: neither may hurt it.
        let request = exec_request("cat; seq 100000; echo done > /tmp/done; exit 6");
        let exec_id = request.exec_id;
        let (_, stream) = daemon.exec(request).unwrap();
        drop((stream, daemon));
        let mut daemon = Daemon::connect(container.bundle.clone());
        let exit = match daemon.state.execs.iter().find(|exec| exec.exec_id == exec_id).unwrap().exit {
            Some(exit) => exit,
            None => daemon.exec_exit(exec_id),
        };
        assert_eq!(exit.code, 6);
        // It is repeated until it is acknowledged.
        drop(daemon);
        let mut daemon = Daemon::connect(container.bundle.clone());
        assert_eq!(daemon.state.execs[0].exit, Some(exit));
        daemon.done(Call::AcknowledgeExec { exec_id });
        drop(daemon);
        let daemon = Daemon::connect(container.bundle.clone());
        assert_eq!(daemon.state.execs, []);
    });
}

#[test]
fn an_exec_can_have_a_terminal() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        let mut request = exec_request_of(&json!({
            "terminal": true, "consoleSize": {"height": 20, "width": 30},
            "args": ["/bin/sh", "-c", "read a; stty size; read b; exit 8"],
            "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
        }));
        request.streams = AttachRequest { framing: Framing::Raw, ..ALL_STREAMS };
        let exec_id = request.exec_id;
        let (_, mut stream) = daemon.exec(request).unwrap();
        let size = ConsoleSize { height: 21, width: 31 };
        daemon.done(Call::Resize { target: Target::Exec(exec_id), size });
        stream.write(b"a\n");
        stream.read_until("21 31\r\n");
        stream.write(b"b\n");
        assert_eq!(stream.read_to_end(), b"b\r\n");
        assert_eq!(daemon.exec_exit(exec_id).code, 8);
    });
}

#[test]
fn an_exec_can_be_signalled_and_only_while_it_runs() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        let request = exec_request("exec sleep 1000");
        let exec_id = request.exec_id;
        let (_, mut stream) = daemon.exec(request).unwrap();
        daemon.done(Call::SignalExec { exec_id, signal: 9 });
        assert_eq!(stream.read_to_end(), b"");
        let exit = daemon.exec_exit(exec_id);
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        let late = daemon.call(Call::SignalExec { exec_id, signal: 9 });
        assert_eq!(late.unwrap_err().kind, FailureKind::NotRunning);
        daemon.done(Call::AcknowledgeExec { exec_id });
        wait_until("the exec is forgotten", || {
            daemon.call(Call::SignalExec { exec_id, signal: 9 }).unwrap_err().kind == FailureKind::NoSuchExec
        });
    });
}

#[test]
fn execs_are_refused_while_the_container_does_not_run() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        assert_eq!(daemon.exec(exec_request("exit 0")).unwrap_err().kind, FailureKind::WrongPhase);
        daemon.create();
        assert_eq!(daemon.exec(exec_request("exit 0")).unwrap_err().kind, FailureKind::WrongPhase);
        daemon.start();
        let request = exec_request("sleep 1000");
        let mut twice = exec_request("sleep 1000");
        twice.exec_id = request.exec_id;
        let (pid, _stream) = daemon.exec(request).unwrap();
        assert_eq!(daemon.exec(twice).unwrap_err().kind, FailureKind::Invalid);
        kill(&mut daemon);
        wait_until("the exec has died with its container", || !process_is_alive(pid));
        assert_eq!(daemon.exec(exec_request("exit 0")).unwrap_err().kind, FailureKind::WrongPhase);
    });
}
