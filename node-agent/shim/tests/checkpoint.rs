//! The promises about checkpoints: found when they are whole, seen through without a daemon, and the exit that says so.
//!
//! CRIU does not work with every kernel, so a script stands for runc: what CRIU would do is done by it, everything else by runc.
//! The real thing is the suite `process::checkpoint` of integration-cli.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use node_shim::protocol::{
    AfterCheckpoint, Answer, Call, EXIT_FILE, Event, ExitRecord, FailureKind, Phase, RuntimeChoice,
};

use crate::support::{Container, Daemon, Machine, Runtime, is_privileged, process_is_alive, wait_until};

/// Called as `--root ROOT --log LOG --log-format json VERB ...`, see `CommandLine`.
const STAND_IN: &str = r#"#!/bin/sh
here=$(dirname "$0")
root=$2 log=$4 verb=$7
case $verb in
checkpoint)
    shift 7
    after=kill
    while [ $# -gt 1 ]; do
        case $1 in
        --image-path) images=$2; shift 2 ;;
        --work-path) work=$2; shift 2 ;;
        --leave-running) after=run; shift ;;
        *) exit 9 ;;
        esac
    done
    echo state >"$images/pages.img"
    while [ -e "$here/wait" ]; do sleep 0.02; done
    if [ -e "$here/fail" ]; then
        # Killed, CRIU would leave the container as it needs it.
        runc --root "$root" pause "$1"
        mkdir "$work"
        echo '(00.01) Error (criu/files.c:1): this file cannot be dumped' >"$work/dump.log"
        exit 1
    fi
    [ $after = run ] || runc --root "$root" delete --force "$1"
    ;;
restore)
    shift 7
    [ "$1" = --detach ] && [ "$2" = --image-path ] && [ -e "$3/pages.img" ] && [ "$4" = --work-path ] || exit 9
    shift 5
    exec runc --root "$root" --log "$log" --log-format json run --detach "$@"
    ;;
*)
    exec runc "$@"
    ;;
esac
"#;

/// A machine with the stand-in for runc.
struct Bench {
    machine: Machine,
}

impl Bench {
    fn new() -> Option<Self> {
        if !is_privileged() || !Runtime::available().contains(&Runtime::Runc) {
            println!("SKIPPED: checkpoints need runc");
            return None;
        }
        let machine = Machine::new();
        let program = machine.path("stand-in");
        fs::write(&program, STAND_IN).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(machine.path("checkpoints")).unwrap();
        Some(Self { machine })
    }

    fn container(&self, script: &str) -> Container {
        let mut container = self.machine.container(Runtime::Runc, script);
        let RuntimeChoice::CommandLine { program, .. } = &mut container.launch.runtime else {
            unreachable!()
        };
        *program = self.machine.path("stand-in");
        container
    }

    /// A container that has nothing to do, and a daemon that has started it.
    fn running(&self) -> (Container, Daemon) {
        let mut container = self.container("exec sleep 1000");
        let mut daemon = container.spawn();
        daemon.run();
        (container, daemon)
    }

    fn place(&self) -> PathBuf {
        self.machine.path("checkpoints/first")
    }

    fn checkpoint(&self, after: AfterCheckpoint) -> Call {
        Call::Checkpoint { place: self.place(), after }
    }

    /// Lets checkpoints wait, or go on, before they are complete.
    fn hold(&self) {
        fs::write(self.machine.path("wait"), "").unwrap();
    }

    fn go_on(&self) {
        fs::remove_file(self.machine.path("wait")).unwrap();
    }

    /// Waits until the runtime is at work on a checkpoint.
    fn await_work(&self) {
        let half = self.machine.path("checkpoints/.first.unfinished/pages.img");
        wait_until("the runtime writes", || half.exists());
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.machine.path("checkpoints")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn exit_on_disk(container: &Container) -> ExitRecord {
    serde_json::from_slice(&fs::read(container.bundle.join(EXIT_FILE)).unwrap()).unwrap()
}

#[test]
fn a_checkpoint_appears_when_it_is_whole_and_the_container_runs_on() {
    let Some(bench) = Bench::new() else { return };
    let mut container = bench.container("exec sleep 1000");
    let mut daemon = container.spawn();
    let pid = daemon.create();
    let early = daemon.call(bench.checkpoint(AfterCheckpoint::Run));
    assert_eq!(early.unwrap_err().kind, FailureKind::WrongPhase);
    daemon.start();
    bench.hold();
    daemon.send(bench.checkpoint(AfterCheckpoint::Run));
    bench.await_work();
    assert!(!bench.place().exists());
    drop(daemon);
    let mut daemon = Daemon::connect(container.bundle.clone());
    for refused in [bench.checkpoint(AfterCheckpoint::Run), Call::Pause] {
        assert_eq!(daemon.call(refused).unwrap_err().kind, FailureKind::WrongPhase);
    }
    bench.go_on();
    wait_until("the checkpoint is there", || bench.place().join("pages.img").exists());
    assert_eq!(bench.names(), ["first"]);
    let again = daemon.call(bench.checkpoint(AfterCheckpoint::Run));
    assert_eq!(again.unwrap_err().kind, FailureKind::AlreadyExists);
    assert!(process_is_alive(pid));
    daemon.done(Call::Pause);
    daemon.done(Call::Resume);
}

#[test]
fn the_exit_is_told_after_the_checkpoint_and_says_that_it_holds_the_state() {
    let Some(bench) = Bench::new() else { return };
    let (mut container, mut daemon) = bench.running();
    daemon.done(bench.checkpoint(AfterCheckpoint::Exit));
    assert!(bench.place().exists());
    let exit = daemon.exit();
    assert_eq!((exit.code, exit.signal, exit.checkpointed), (137, Some(9), true));
    assert_eq!(exit_on_disk(&container), exit);
    daemon.done(Call::Shutdown);
    container.expect_shim_to_end();
}

#[test]
fn a_checkpoint_is_seen_through_without_a_daemon() {
    let Some(bench) = Bench::new() else { return };
    let (mut container, mut daemon) = bench.running();
    bench.hold();
    daemon.send(bench.checkpoint(AfterCheckpoint::Exit));
    bench.await_work();
    drop(daemon);
    bench.go_on();
    container.expect_shim_to_end();
    assert_eq!(bench.names(), ["first"]);
    assert!(exit_on_disk(&container).checkpointed);
}

#[test]
fn a_checkpoint_that_fails_leaves_nothing_and_says_what_criu_says() {
    let Some(bench) = Bench::new() else { return };
    let (container, mut daemon) = bench.running();
    fs::write(bench.machine.path("fail"), "").unwrap();
    let failure = daemon.call(bench.checkpoint(AfterCheckpoint::Exit)).unwrap_err();
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Runtime, "criu: this file cannot be dumped")
    );
    assert_eq!(bench.names(), [""; 0]);
    let leftovers = fs::read_dir(&container.bundle).unwrap();
    let has_work = leftovers.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("criu-"));
    assert!(!has_work, "the directory in which CRIU worked is left");
    daemon.done(Call::Kill { signal: 9, scope: node_shim::protocol::KillScope::Init });
    assert!(!daemon.exit().checkpointed, "it was killed by somebody else");
}

#[test]
fn a_container_goes_on_after_a_checkpoint_that_failed_midway() {
    let Some(bench) = Bench::new() else { return };
    let mut container = bench.container("while :; do echo on; sleep 0.05; done");
    let mut daemon = container.spawn();
    daemon.run();
    fs::write(bench.machine.path("fail"), "").unwrap();
    daemon.call(bench.checkpoint(AfterCheckpoint::Exit)).unwrap_err();
    let before = container.logged_text("stdout").len();
    wait_until("the container goes on", || container.logged_text("stdout").len() > before);
    daemon.done(Call::Pause);
    daemon.call(bench.checkpoint(AfterCheckpoint::Exit)).unwrap_err();
    let before = container.logged_text("stdout").len();
    daemon.done(Call::Resume);
    wait_until("the container goes on", || container.logged_text("stdout").len() > before);
}

#[test]
fn a_container_killed_while_its_state_is_written_has_no_checkpoint() {
    let Some(bench) = Bench::new() else { return };
    let (container, mut daemon) = bench.running();
    bench.hold();
    fs::write(bench.machine.path("fail"), "").unwrap();
    daemon.send(bench.checkpoint(AfterCheckpoint::Exit));
    bench.await_work();
    drop(daemon);
    let mut daemon = Daemon::connect(container.bundle.clone());
    daemon.done(Call::Kill { signal: 9, scope: node_shim::protocol::KillScope::Init });
    bench.go_on();
    assert!(!daemon.exit().checkpointed);
    assert_eq!(bench.names(), [""; 0]);
}

#[test]
fn a_cleanup_ends_a_checkpoint_whose_shim_has_died() {
    let Some(bench) = Bench::new() else { return };
    let (mut container, mut daemon) = bench.running();
    bench.hold();
    daemon.send(bench.checkpoint(AfterCheckpoint::Exit));
    bench.await_work();
    assert!(works_in(&container.bundle));
    drop(daemon);
    container.kill_shim();
    container.clean_up();
    assert!(!works_in(&container.bundle), "the runtime is still at work");
    assert!(!bench.place().exists());
    assert!(!exit_on_disk(&container).checkpointed);
}

/// Whether a process has this directory for its current one.
fn works_in(directory: &std::path::Path) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok()).any(|at| at == directory)
}

#[test]
fn a_restored_container_runs_from_the_moment_it_is_made() {
    let Some(bench) = Bench::new() else { return };
    fs::create_dir(bench.place()).unwrap();
    fs::write(bench.place().join("pages.img"), "state").unwrap();
    let mut container = bench.container("echo here; read line; exit 5");
    container = container.with_stdin(node_shim::protocol::StdinMode::Open);
    container.launch.restore_from = Some(bench.place());
    let mut daemon = container.spawn();
    daemon.create();
    wait_until("the program runs", || container.logged_text("stdout") == "here\n");
    assert_eq!(daemon.call(Call::State).map(|answer| is_created(&answer)), Ok(true));
    daemon.start();
    daemon.attach(crate::support::ALL_STREAMS).write(b"go\n");
    assert_eq!(daemon.exit().code, 5);
    assert!(bench.place().join("pages.img").exists());
}

fn is_created(answer: &Answer) -> bool {
    matches!(answer, Answer::State(state) if matches!(state.phase, Phase::Created { .. }))
}

#[test]
fn a_restore_that_fails_says_what_criu_says() {
    let Some(bench) = Bench::new() else { return };
    let mut container = bench.container("exit 0");
    container.launch.restore_from = Some(bench.place());
    let mut daemon = container.spawn();
    let failure = daemon.call(Call::Create).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Runtime);
    let mut is_told = false;
    while !is_told {
        is_told = matches!(daemon.event(), Event::Phase(Phase::Failed(_)));
    }
}
