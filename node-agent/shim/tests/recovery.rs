//! The promises about daemons and shims that die: nothing lost, nothing doubled, exit codes right.
//!
//! A daemon's kill -9 is, for a shim, the end of its sockets at any point of what they carry; that is how these tests
//! do it. A shim's kill -9 is real.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;

use node_shim::protocol::{
    Answer, Call, EXIT_FILE, Event, ExitRecord, INIT_PID_FILE, KillScope, Phase, ProcessRecord,
    SHIM_PID_FILE, SOCKET_FILE, StdinMode,
};

use crate::support::{
    ALL_STREAMS, Container, Daemon, exec_request, process_is_alive, under_every_runtime, wait_until,
};

fn exit_on_disk(container: &Container) -> Option<ExitRecord> {
    serde_json::from_slice(&fs::read(container.bundle.join(EXIT_FILE)).ok()?).ok()
}

fn cgroup_is_left(container: &Container) -> bool {
    let name = format!("shim-test-{}", container.launch.container_id.short());
    fs::read_dir("/sys/fs/cgroup").unwrap().any(|hierarchy| hierarchy.unwrap().path().join(&name).exists())
}

#[test]
fn a_daemon_killed_in_a_create_finds_the_container_created() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "exit 12");
        let mut daemon = container.spawn();
        daemon.send(Call::Create);
        drop(daemon);
        let mut daemon = Daemon::connect(container.bundle.clone());
        while !matches!(daemon.state.phase, Phase::Created { .. }) {
            // Told as an event, because the one who asked has gone.
            match daemon.event() {
                Event::Phase(phase) => daemon.state.phase = phase,
                other => panic!("{other:?}"),
            }
        }
        daemon.start();
        assert_eq!(daemon.exit().code, 12);
    });
}

#[test]
fn a_daemon_killed_in_a_start_finds_the_exit() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "echo once; exit 12");
        let mut daemon = container.spawn();
        daemon.create();
        daemon.send(Call::Start);
        drop(daemon);
        // The shim may outlive the container for as long as it has a daemon; without one the exit is on disk.
        wait_until("the exit is on disk", || exit_on_disk(&container).is_some());
        container.expect_shim_to_end();
        assert_eq!(exit_on_disk(&container).unwrap().code, 12);
        assert_eq!(container.logged_text("stdout"), "once\n");
        container.clean_up();
        assert_eq!(exit_on_disk(&container).unwrap().code, 12, "a cleanup does not change what is known");
        assert!(!cgroup_is_left(&container));
    });
}

#[test]
fn half_a_request_is_none() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "exit 0");
        let mut daemon = container.spawn();
        daemon.send_torn(&Call::Create);
        drop(daemon);
        let mut daemon = Daemon::connect(container.bundle.clone());
        assert_eq!(daemon.state.phase, Phase::Idle);
        daemon.run();
        assert_eq!(daemon.exit().code, 0);
    });
}

#[test]
fn output_and_log_go_on_without_a_daemon() {
    under_every_runtime(|machine, runtime| {
        let script = "seq 1 1000; read word; seq 1001 2000; exit 3";
        let mut container = machine.container(runtime, script).with_stdin(StdinMode::Open);
        let mut daemon = container.spawn();
        let client = daemon.attach(ALL_STREAMS);
        daemon.run();
        drop((client, daemon));
        let mut daemon = Daemon::connect(container.bundle.clone());
        assert!(matches!(daemon.state.phase, Phase::Running { .. }));
        let mut client = daemon.attach(ALL_STREAMS);
        client.write(b"go\n");
        assert_eq!(daemon.exit().code, 3);
        let expected: String = (1..=2000).map(|n| format!("{n}\n")).collect();
        assert_eq!(container.logged_text("stdout"), expected);
        let (received, _) = client.read_streams();
        assert!(expected.ends_with(&received) && received.contains("1001\n"));
    });
}

#[test]
fn a_new_control_connection_supersedes_the_old() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut old = container.spawn();
        old.run();
        let mut new = Daemon::connect(container.bundle.clone());
        while old.event() != Event::Superseded {}
        assert!(old.is_closed());
        new.done(Call::Kill { signal: 9, scope: KillScope::Init });
        assert_eq!(new.exit().code, 137);
    });
}

#[test]
fn a_connection_that_speaks_nonsense_hurts_only_itself() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        for nonsense in [&b"\0\0\0\x04nope"[..], b"\xff\xff\xff\xff", b"\0\0\0\x02{}", b"\0\0"] {
            let mut socket = UnixStream::connect(container.bundle.join(SOCKET_FILE)).unwrap();
            socket.write_all(nonsense).unwrap();
        }
        daemon.run();
        daemon.done(Call::Kill { signal: 9, scope: KillScope::Init });
        assert_eq!(daemon.exit().code, 137);
    });
}

#[test]
fn cleanup_after_a_killed_shim_kills_the_container_and_records_it() {
    under_every_runtime(|machine, runtime| {
        for n_calls in 0..3 {
            let mut container = machine.container(runtime, "sleep 1000 & sleep 1000");
            let mut daemon = container.spawn();
            let mut pid = None;
            if n_calls > 0 {
                pid = Some(daemon.create());
            }
            if n_calls > 1 {
                daemon.start();
            }
            container.kill_shim();
            for _repeated in 0..2 {
                container.clean_up();
                let exit = exit_on_disk(&container).unwrap();
                assert_eq!((exit.code, exit.signal), (137, Some(9)));
                assert!(pid.is_none_or(|pid| !process_is_alive(pid)));
                assert!(!cgroup_is_left(&container));
            }
        }
    });
}

#[test]
fn cleanup_kills_every_process_also_without_a_pid_namespace() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "setsid sleep 1000 & echo $!; exec sleep 1000");
        container.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid");
        let mut daemon = container.spawn();
        daemon.run();
        wait_until("the second process runs", || container.logged_text("stdout").ends_with('\n'));
        let second: u32 = container.logged_text("stdout").trim().parse().unwrap();
        assert!(process_is_alive(second));
        container.kill_shim();
        container.clean_up();
        wait_until("the second process is dead", || !process_is_alive(second));
        assert!(!cgroup_is_left(&container));
    });
}

#[test]
fn cleanup_ends_a_shim_that_still_lives() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        let shim = container.shim_pid();
        container.clean_up();
        wait_until("the shim is dead", || !process_is_alive(shim));
        assert_eq!(exit_on_disk(&container).unwrap().code, 137);
    });
}

#[test]
fn cleanup_does_not_kill_a_process_that_only_has_the_pid() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        container.kill_shim();
        // The record of another process: this one, with a start time that is not its own.
        let init: ProcessRecord =
            serde_json::from_slice(&fs::read(container.bundle.join(INIT_PID_FILE)).unwrap()).unwrap();
        let reused = ProcessRecord { pid: std::process::id(), start_time: init.start_time - 1 };
        fs::write(container.bundle.join(INIT_PID_FILE), serde_json::to_vec(&reused).unwrap()).unwrap();
        container.clean_up();
        assert!(!cgroup_is_left(&container), "found by the configured cgroup all the same");
    });
}

#[test]
fn a_bundle_is_served_once() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        assert!(container.try_another_shim().contains("is served by the shim"));
        assert!(container.bundle.join(SHIM_PID_FILE).exists());
        daemon.done(Call::Kill { signal: 9, scope: KillScope::Init });
        daemon.exit();
        daemon.done(Call::Shutdown);
        container.expect_shim_to_end();
        // The run is over: a shim that was started for it and comes late must not begin another.
        assert!(container.try_another_shim().contains("run is over"));
    });
}

#[test]
fn a_daemon_killed_in_an_exec_loses_nothing_of_it() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        let request = exec_request("echo done >> /tmp/done; exit 5");
        let exec_id = request.exec_id;
        daemon.exec_without_waiting(request);
        drop(daemon);
        let mut daemon = Daemon::connect(container.bundle.clone());
        let known = daemon.state.execs.iter().find(|exec| exec.exec_id == exec_id).and_then(|exec| exec.exit);
        let exit = known.unwrap_or_else(|| daemon.exec_exit(exec_id));
        assert_eq!(exit.code, 5);
        let (_, mut stream) = daemon.exec(exec_request("cat /tmp/done")).unwrap();
        stream.end_input();
        assert_eq!(stream.read_streams().0, "done\n", "once, not twice");
    });
}

#[test]
fn a_paused_container_is_known_as_such_and_can_be_ended() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        daemon.done(Call::Pause);
        daemon.done(Call::Pause);
        drop(daemon);
        let mut daemon = Daemon::connect(container.bundle.clone());
        assert!(daemon.state.paused);
        assert!(daemon.exec(exec_request("exit 0")).is_err());
        daemon.done(Call::Resume);
        let Ok(Answer::State(state)) = daemon.call(Call::State) else { panic!("no state") };
        assert!(!state.paused);
        daemon.done(Call::Pause);
        daemon.done(Call::Shutdown);
        container.expect_shim_to_end();
    });
}
