//! The client with real shims and real containers, of busybox, under the embedded runtime. Needs root; says so loudly
//! where it is missing.
//!
//! What a shim promises is tested beside it; here it is only that the client passes it on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use node_shim::protocol::{
    AttachRequest, CONFIG_FILE, ExecMode, ExecRequest, Framing, LAUNCH_FILE, Launch, LogConfig,
    PROTOCOL_VERSION, Phase, RootfsSource, RuntimeChoice, StdinMode,
};
use serde_json::json;
use shoal_types::{ContainerId, ErrorKind};
use tokio::io::AsyncWriteExt as _;

use super::*;

const RAW: AttachRequest = AttachRequest { stdin: true, stdout: true, stderr: true, framing: Framing::Raw };

/// The shim's own binary, which cargo does not build for the tests of another package.
#[expect(clippy::disallowed_methods, reason = "builds the program under test")]
fn shims() -> ProcessShims {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let program = own.parent().and_then(Path::parent).unwrap().join("node-shim");
        let cargo = std::process::Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "node-shim", "--bin", "node-shim"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(
            cargo.is_ok_and(|status| status.success()) && program.exists(),
            "cannot build {}",
            program.display()
        );
        program
    });
    ProcessShims::new(ShimProgram::new(program.clone(), Vec::new()))
}

fn is_privileged() -> bool {
    let can_run = rustix::process::geteuid().is_root() && Path::new("/bin/busybox").exists();
    if !can_run {
        println!("SKIPPED: containers need root and /bin/busybox");
    }
    can_run
}

/// A bundle of a container that runs a shell script. Cleaned up when dropped.
struct Bundle {
    dir: tempfile::TempDir,
}

impl Bundle {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join("root");
        for sub in ["bin", "proc", "dev"] {
            fs::create_dir_all(rootfs.join(sub)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        for applet in ["sh", "cat", "sleep"] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        let id = ContainerId::random();
        let launch = Launch {
            version: PROTOCOL_VERSION,
            container_id: id,
            runtime: RuntimeChoice::Embedded { root: dir.path().join("state") },
            rootfs: RootfsSource::Directory { path: rootfs },
            stdin: StdinMode::Once,
            log: LogConfig::None,
            oom_score_adj: None,
            stdio_owner: None,
            restore_from: None,
        };
        let namespaces = ["pid", "mount", "ipc", "uts", "network"].map(|kind| json!({"type": kind}));
        let config = json!({
            "ociVersion": "1.0.2",
            "process": process(script),
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"cgroupsPath": format!("/shim-client-test-{}", id.short()), "namespaces": namespaces},
        });
        let bundle = Self { dir };
        fs::create_dir(bundle.path()).unwrap();
        fs::write(bundle.path().join(LAUNCH_FILE), serde_json::to_vec(&launch).unwrap()).unwrap();
        fs::write(bundle.path().join(CONFIG_FILE), serde_json::to_vec(&config).unwrap()).unwrap();
        bundle
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }
}

fn process(script: &str) -> serde_json::Value {
    json!({"args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}})
}

fn exec(script: &str) -> ExecRequest {
    ExecRequest {
        exec_id: ExecId::random(),
        process: serde_json::value::to_raw_value(&process(script)).unwrap(),
        streams: RAW,
        mode: ExecMode::Attached,
    }
}

async fn exit_of(events: &mut ShimEvents) -> ExitRecord {
    loop {
        match events.next().await {
            Some(Event::Phase(Phase::Exited(exit))) => return exit,
            Some(_) => {}
            None => panic!("the events ended before the exit"),
        }
    }
}

#[tokio::test]
async fn a_run_from_spawn_to_shutdown() {
    if !is_privileged() {
        return;
    }
    let bundle = Bundle::new("cat; exit 7");
    let FoundShim { shim, state, mut events } = shims().spawn(&bundle.path()).await.unwrap();
    assert_eq!(state.phase, Phase::Idle);
    let mut stream = shim.attach(RAW).await.unwrap();
    assert!(shim.create().await.unwrap() > 1);
    shim.start().await.unwrap();
    stream.write_all(b"through and back").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed).await.unwrap();
    assert_eq!(echoed, "through and back");
    assert_eq!(exit_of(&mut events).await.code, 7);
    shim.shut_down().await.unwrap();
    assert_eq!(events.next().await, None);
    assert!(matches!(shim.state().await, Err(ShimError::Gone)));
    assert!(shims().find(&bundle.path()).await.unwrap().is_none());
}

#[tokio::test]
async fn another_daemon_finds_the_container_and_its_exit() {
    if !is_privileged() {
        return;
    }
    let bundle = Bundle::new("sleep 1000");
    let first = shims().spawn(&bundle.path()).await.unwrap();
    first.shim.create().await.unwrap();
    first.shim.start().await.unwrap();
    drop(first);
    let mut second = shims().find(&bundle.path()).await.unwrap().unwrap();
    assert!(matches!(second.state.phase, Phase::Running { .. }));
    second.shim.kill(9, KillScope::Init).await.unwrap();
    assert_eq!(exit_of(&mut second.events).await.code, 137);
    let refused = second.shim.kill(9, KillScope::Init).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    second.shim.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_probe_is_captured_within_its_bound() {
    if !is_privileged() {
        return;
    }
    let bundle = Bundle::new("sleep 1000");
    let mut found = shims().spawn(&bundle.path()).await.unwrap();
    found.shim.create().await.unwrap();
    found.shim.start().await.unwrap();
    let probe = found.shim.exec(exec("echo 0123456789; exit 3")).await.unwrap();
    let captured = probe.capture(4).await.unwrap();
    assert_eq!((captured.output.as_slice(), captured.truncated, captured.exit.code), (&b"0123"[..], true, 3));
    let missing = ExecRequest {
        process: serde_json::value::to_raw_value(
            &json!({"args": ["nope"], "cwd": "/", "user": {"uid": 0, "gid": 0}}),
        )
        .unwrap(),
        ..exec("")
    };
    let failure = found.shim.exec(missing).await.unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::InvalidArgument, "{failure}");
    found.shim.kill(9, KillScope::Init).await.unwrap();
    exit_of(&mut found.events).await;
    found.shim.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_killed_shim_ends_its_events_and_is_cleaned_up_after() {
    if !is_privileged() {
        return;
    }
    let bundle = Bundle::new("sleep 1000");
    let mut found = shims().spawn(&bundle.path()).await.unwrap();
    found.shim.create().await.unwrap();
    found.shim.start().await.unwrap();
    let running = found.shim.exec(exec("sleep 1000")).await.unwrap();
    let record: node_shim::protocol::ProcessRecord =
        serde_json::from_slice(&fs::read(bundle.path().join("shim.pid")).unwrap()).unwrap();
    let shim = rustix::process::Pid::from_raw(i32::try_from(record.pid).unwrap()).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    while found.events.next().await.is_some() {}
    assert!(matches!(running.exit.wait().await, Err(ShimError::Gone)));
    assert!(matches!(found.shim.start().await, Err(ShimError::Gone)));
    assert!(matches!(found.shim.exec(exec("")).await, Err(ShimError::Gone)));
    for _repeated in 0..2 {
        assert_eq!(shims().clean_up(&bundle.path()).await.unwrap().code, 137);
    }
}

#[tokio::test]
async fn a_shim_that_cannot_begin_says_why() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(LAUNCH_FILE), "nonsense").unwrap();
    let Err(ShimError::StillBorn { said, .. }) = shims().spawn(dir.path()).await else { panic!("it began") };
    assert!(said.contains(LAUNCH_FILE), "{said}");
    let missing = ProcessShims::new(ShimProgram::new(PathBuf::from("/does/not/exist"), Vec::new()));
    assert!(matches!(missing.spawn(dir.path()).await, Err(ShimError::Spawn { .. })));
}

#[tokio::test]
async fn a_bundle_with_a_long_path_can_be_found() {
    if !is_privileged() {
        return;
    }
    let bundle = Bundle::new("sleep 1000");
    let long = bundle.dir.path().join("d".repeat(120));
    fs::create_dir(&long).unwrap();
    let path = long.join("bundle");
    fs::rename(bundle.path(), &path).unwrap();
    drop(shims().spawn(&path).await.unwrap());
    let found = shims().find(&path).await.unwrap().unwrap();
    assert_eq!(found.state.phase, Phase::Idle);
    found.shim.shut_down().await.unwrap();
}
