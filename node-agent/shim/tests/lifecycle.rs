//! The promises about a container's life: phases, exit codes, signals, failures, and what is left behind.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use node_shim::protocol::{
    Answer, Call, EXIT_FILE, Event, ExecMode, ExitRecord, FailureKind, INIT_PID_FILE, KillScope, Phase,
    ProcessRecord, RuntimeChoice, SOCKET_FILE, StdinMode,
};

use crate::support::{
    Container, Machine, Runtime, exec_request_of, is_privileged, under_every_runtime, wait_until,
};

fn exit_on_disk(container: &Container) -> ExitRecord {
    serde_json::from_slice(&fs::read(container.bundle.join(EXIT_FILE)).unwrap()).unwrap()
}

#[test]
fn a_container_walks_through_its_phases_and_leaves_nothing() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "echo hello; echo oops >&2; exit 3");
        let mut daemon = container.spawn();
        assert_eq!(daemon.state.phase, Phase::Idle);
        let pid = daemon.create();
        let record: ProcessRecord =
            serde_json::from_slice(&fs::read(container.bundle.join(INIT_PID_FILE)).unwrap()).unwrap();
        assert_eq!(record.pid, pid);
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        daemon.start();
        let exit = daemon.exit();
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (3, None, false));
        assert_eq!(exit_on_disk(&container), exit);
        assert_eq!(container.logged_text("stdout"), "hello\n");
        assert_eq!(container.logged_text("stderr"), "oops\n");
        daemon.done(Call::Shutdown);
        assert!(!container.bundle.join(SOCKET_FILE).exists());
        container.expect_shim_to_end();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
            let cgroup = hierarchy
                .unwrap()
                .path()
                .join(format!("shim-test-{}", container.launch.container_id.short()));
            assert!(!cgroup.exists(), "{} is left", cgroup.display());
        }
    });
}

#[test]
fn events_come_in_the_order_of_the_phases() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "exit 0");
        let mut daemon = container.spawn();
        daemon.run();
        let mut names = Vec::new();
        loop {
            match daemon.event() {
                Event::Phase(Phase::Creating) => names.push("creating"),
                Event::Phase(Phase::Created { .. }) => names.push("created"),
                Event::Phase(Phase::Running { .. }) => names.push("running"),
                Event::Phase(Phase::Exited(exit)) => {
                    assert_eq!(exit.code, 0);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(names, ["creating", "created", "running"]);
    });
}

#[test]
fn a_signal_ends_the_container_with_128_and_its_number() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        daemon.done(Call::Kill { signal: 9, scope: KillScope::Init });
        let exit = daemon.exit();
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        let again = daemon.call(Call::Kill { signal: 9, scope: KillScope::Init });
        assert_eq!(again.unwrap_err().kind, FailureKind::NotRunning);
    });
}

#[test]
fn signals_reach_the_program_as_a_shell_sees_them() {
    under_every_runtime(|machine, runtime| {
        // A program must find no signal blocked or ignored: the trap, and the plain death by HUP, both need that.
        let mut container =
            machine.container(runtime, "trap 'exit 42' TERM; echo ready; while :; do sleep 0.01; done");
        let mut daemon = container.spawn();
        daemon.run();
        wait_until("the trap is set", || container.logged_text("stdout") == "ready\n");
        daemon.done(Call::Kill { signal: 15, scope: KillScope::Init });
        assert_eq!(daemon.exit().code, 42);

        let mut container =
            machine.container_of(runtime, &["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]);
        let mut daemon = container.spawn();
        daemon.run();
        daemon.exit();
        // Not 32 and 33: C libraries keep them for themselves, and cannot even reset them when their parent has ignored them.
        let own = 0b11 << 31;
        for line in container.logged_text("stdout").lines() {
            let (_, mask) = line.split_once('\t').unwrap();
            assert_eq!(u64::from_str_radix(mask, 16).unwrap() & !own, 0, "{line}");
        }
    });
}

#[test]
fn a_program_that_cannot_run_fails_with_its_kind() {
    under_every_runtime(|machine, runtime| {
        let table: [(&[&str], FailureKind); 4] = [
            (&["nope"], FailureKind::CommandNotFound),
            (&["/bin/nope"], FailureKind::CommandNotFound),
            (&["/etc/plain"], FailureKind::NotExecutable),
            (&["/etc"], FailureKind::NotExecutable),
        ];
        for (args, kind) in table {
            if runtime == Runtime::Crun && args == ["/etc"] {
                // crun's words for a directory name another errno than anybody else's.
                continue;
            }
            let mut container = machine.container_of(runtime, args);
            let mut daemon = container.spawn();
            let failure = match daemon.call(Call::Create) {
                Ok(Answer::Created { .. }) => daemon.call(Call::Start).unwrap_err(),
                Ok(other) => panic!("{other:?}"),
                Err(failure) => failure,
            };
            assert_eq!(failure.kind, kind, "{args:?}: {failure}");
            assert!(failure.message.contains(args[0]) || runtime == Runtime::Crun, "{failure}");
            assert_eq!(exit_on_disk(&container).code, kind.exit_code());
            let Ok(Answer::State(state)) = daemon.call(Call::State) else { panic!("no state") };
            assert_eq!(state.phase, Phase::Failed(failure));
            daemon.done(Call::Shutdown);
            container.expect_shim_to_end();
            assert_eq!(container.logged(), [], "the runtime's words are not the container's");
        }
    });
}

#[test]
fn calls_in_the_wrong_phase_are_refused() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "sleep 1000");
        let mut daemon = container.spawn();
        assert_eq!(daemon.call(Call::Start).unwrap_err().kind, FailureKind::WrongPhase);
        let kill = Call::Kill { signal: 15, scope: KillScope::Init };
        assert_eq!(daemon.call(kill).unwrap_err().kind, FailureKind::NotRunning);
        daemon.create();
        assert_eq!(daemon.call(Call::Create).unwrap_err().kind, FailureKind::WrongPhase);
        daemon.start();
        assert_eq!(daemon.call(Call::Start).unwrap_err().kind, FailureKind::WrongPhase);
        let nonsense = Call::Kill { signal: 65, scope: KillScope::Init };
        assert_eq!(daemon.call(nonsense).unwrap_err().kind, FailureKind::Invalid);
    });
}

#[test]
fn shutdown_ends_a_container_in_any_phase() {
    under_every_runtime(|machine, runtime| {
        for n_calls in 0..3 {
            let mut container = machine.container(runtime, "sleep 1000");
            let mut daemon = container.spawn();
            if n_calls > 0 {
                daemon.create();
            }
            if n_calls > 1 {
                daemon.start();
            }
            daemon.done(Call::Shutdown);
            container.expect_shim_to_end();
        }
    });
}

#[test]
fn output_is_complete_although_a_descendant_holds_the_pipes() {
    under_every_runtime(|machine, runtime| {
        // Without a pid namespace of its own the descendant outlives the init process, and is killed as a leftover.
        let mut container = machine.container(runtime, "setsid sleep 1000 & echo parent; exit 5");
        container.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid");
        let mut daemon = container.spawn();
        daemon.run();
        assert_eq!(daemon.exit().code, 5);
        assert_eq!(container.logged_text("stdout"), "parent\n");
        daemon.done(Call::Shutdown);
        container.expect_shim_to_end();
    });
}

#[test]
fn memory_kills_are_told_as_they_happen_and_remembered_in_the_exit() {
    under_every_runtime(|machine, runtime| {
        let script = "dd if=/dev/zero of=/dev/null bs=100M count=1; echo dd $?; read line; exit 0";
        let mut container = machine.container(runtime, script).with_stdin(StdinMode::Open);
        container.config["linux"]["resources"]["memory"] =
            serde_json::json!({"limit": 30_000_000, "swap": 30_000_000});
        let mut daemon = container.spawn();
        daemon.run();
        loop {
            if let Event::Oom { kills } = daemon.event() {
                assert_eq!(kills, 1);
                break;
            }
        }
        wait_until("the shell goes on", || container.logged_text("stdout") == "dd 137\n");
        let Ok(Answer::State(state)) = daemon.call(Call::State) else { panic!("no state") };
        assert_eq!(state.oom_kills, 1);
        daemon.done(Call::CloseStdin);
        let exit = daemon.exit();
        assert_eq!((exit.code, exit.oom_killed), (0, true));
    });
}

#[test]
fn a_container_killed_for_want_of_memory_says_so() {
    under_every_runtime(|machine, runtime| {
        let mut container =
            machine.container_of(runtime, &["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"]);
        container.config["linux"]["resources"]["memory"] =
            serde_json::json!({"limit": 30_000_000, "swap": 30_000_000});
        let mut daemon = container.spawn();
        daemon.run();
        let mut is_told = false;
        let exit = loop {
            match daemon.event() {
                Event::Oom { .. } => is_told = true,
                Event::Phase(Phase::Exited(exit)) => break exit,
                _ => {}
            }
        };
        assert!(is_told, "before the exit");
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, Some(9), true));
        daemon.done(Call::Shutdown);
        container.expect_shim_to_end();
    });
}

#[test]
fn every_process_can_be_signalled_at_once() {
    under_every_runtime(|machine, runtime| {
        let script = "sh -c 'trap \"echo child; exit\" USR1; echo ready; while :; do sleep 0.01; done' & \
                      trap 'wait; exit 21' USR1; while :; do sleep 0.01; done";
        let mut container = machine.container(runtime, script);
        let mut daemon = container.spawn();
        daemon.run();
        wait_until("both listen", || container.logged_text("stdout") == "ready\n");
        daemon.done(Call::Kill { signal: 10, scope: KillScope::All });
        assert_eq!(daemon.exit().code, 21);
        assert_eq!(container.logged_text("stdout"), "ready\nchild\n");
    });
}

#[test]
fn a_runtime_that_hangs_does_not_keep_the_shim_from_ending() {
    if !is_privileged() {
        return;
    }
    let machine = Machine::new();
    let mut container = machine.container(Runtime::Runc, "exit 0");
    let program = machine.path("hangs");
    fs::write(&program, "#!/bin/sh\ncase \" $* \" in *' create '*) exec sleep 1000;; esac\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let root = machine.path("runtime");
    container.launch.runtime = RuntimeChoice::CommandLine { program, arguments: Vec::new(), root };
    let mut daemon = container.spawn();
    daemon.send(Call::Create);
    daemon.send(Call::Shutdown);
    wait_until("the create has failed", || matches!(daemon.event(), Event::Phase(Phase::Failed(_))));
    drop(daemon);
    container.expect_shim_to_end();
}

/// Gives the machine its null device back, whatever a test finds.
struct NullDeviceGuard;

impl Drop for NullDeviceGuard {
    fn drop(&mut self) {
        let _ = std::os::unix::fs::chown("/dev/null", Some(0), Some(0));
    }
}

/// crun gives the standard streams of a process to the process' user.
#[test]
fn the_machines_null_device_stays_the_machines() {
    under_every_runtime(|machine, runtime| {
        let _guard = NullDeviceGuard;
        let user = serde_json::json!({"uid": 1000, "gid": 1000});
        let mut container =
            machine.container(runtime, "test -c /dev/stdin && echo >/dev/null; cat; exec sleep 1000");
        container.config["process"]["user"] = user.clone();
        let mut daemon = container.spawn();
        daemon.run();
        let process = serde_json::json!({
            "args": ["/bin/sh", "-c", "cat; echo gone"], "cwd": "/", "env": ["PATH=/bin"], "user": user,
        });
        let mut exec = exec_request_of(&process);
        exec.mode = ExecMode::Detached;
        let exec_id = exec.exec_id;
        daemon.exec(exec).unwrap();
        let exit = daemon.exec_exit(exec_id);
        let null = fs::metadata("/dev/null").unwrap();
        assert_eq!((null.uid(), null.gid()), (0, 0), "the container's user owns the machine's null device");
        assert_eq!(exit.code, 0, "an exec reads and writes the null device that it was given");
        daemon.done(Call::Kill { signal: 9, scope: KillScope::Init });
        daemon.exit();
    });
}
