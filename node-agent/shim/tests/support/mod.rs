//! What the tests stand on: a machine with a busybox root file system, bundles, shims, and a daemon's connections.
//!
//! Start reading at [`Machine`]; [`Daemon`] is in `daemon.rs`.

#![expect(clippy::disallowed_methods, reason = "the tests start shims as a daemon does")]

mod daemon;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use node_shim::protocol::{
    CONFIG_FILE, LAUNCH_FILE, Launch, LogConfig, LogFileConfig, PROTOCOL_VERSION, RootfsSource,
    RuntimeChoice, SHIM_LOG_FILE, StdinMode,
};
use serde_json::{Value, json};
use shoal_types::ContainerId;

pub(crate) use self::daemon::{ALL_STREAMS, Daemon, exec_request, exec_request_of};

/// How long anything may take on a machine under load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at that cannot be waited for otherwise.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The runtimes that a test may run under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Embedded,
    Runc,
    Crun,
}

impl Runtime {
    /// Those that this machine has.
    pub(crate) fn available() -> Vec<Self> {
        let mut found = Vec::new();
        if std::env::var_os("SHIM_TEST_EMBEDDED").is_some_and(|value| value == "0") {
            println!("LEFT OUT: the embedded runtime, by request");
        } else {
            found.push(Self::Embedded);
        }
        for (runtime, name) in [(Self::Runc, "runc"), (Self::Crun, "crun")] {
            if find_program(name).is_some() {
                found.push(runtime);
            } else {
                println!("LEFT OUT: {name} is not installed");
            }
        }
        found
    }
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.exists())
}

/// Whether this process may make containers. Says so when it may not.
pub(crate) fn is_privileged() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let has_busybox = find_program("busybox").is_some();
    if !is_root || !has_busybox {
        println!("SKIPPED: containers need root and busybox (root: {is_root}, busybox: {has_busybox})");
    }
    is_root && has_busybox
}

/// A place for bundles, with a root file system that they share as a lower layer.
#[derive(Debug)]
pub(crate) struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        let rootfs = machine.path("rootfs");
        for dir in ["bin", "proc", "sys", "dev", "etc", "tmp", "root"] {
            fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        fs::copy(find_program("busybox").unwrap(), rootfs.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "echo", "sleep", "true", "false", "wc", "stty", "tty", "kill", "seq", "yes", "head",
            "dd", "ps", "id", "printf", "test", "grep", "tr", "setsid",
        ] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        fs::write(rootfs.join("etc/plain"), "not a program").unwrap();
        machine
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Prepares a container that runs a shell script.
    pub(crate) fn container(&self, runtime: Runtime, script: &str) -> Container {
        self.container_of(runtime, &["/bin/sh", "-c", script])
    }

    /// Prepares a container that runs a program.
    pub(crate) fn container_of(&self, runtime: Runtime, args: &[&str]) -> Container {
        let id = ContainerId::random();
        let dir = self.path(&id.to_string());
        let bundle = dir.join("bundle");
        for sub in ["bundle", "upper", "work"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let launch = Launch {
            version: PROTOCOL_VERSION,
            container_id: id,
            runtime: self.runtime(runtime),
            rootfs: RootfsSource::Overlay {
                lowers: vec![self.path("rootfs")],
                upper: dir.join("upper"),
                work: dir.join("work"),
                options: Vec::new(),
            },
            stdin: StdinMode::Closed,
            log: LogConfig::JsonFile(LogFileConfig {
                path: dir.join("log.json"),
                max_size: None,
                max_files: 1,
                compress: false,
                attrs: std::collections::BTreeMap::new(),
            }),
            oom_score_adj: None,
            stdio_owner: None,
            restore_from: None,
        };
        Container { dir, bundle, launch, config: config(id, args), shims: Vec::new() }
    }

    fn runtime(&self, runtime: Runtime) -> RuntimeChoice {
        let root = self.path("runtime");
        let program = match runtime {
            Runtime::Embedded => return RuntimeChoice::Embedded { root },
            Runtime::Runc => PathBuf::from("runc"),
            Runtime::Crun => self.crun(),
        };
        RuntimeChoice::CommandLine { program, arguments: Vec::new(), root }
    }

    /// crun refuses hosts with cgroup v1 and v2 side by side; it gets a view of the machine without the latter.
    fn crun(&self) -> PathBuf {
        if !Path::new("/sys/fs/cgroup/unified").exists() {
            return PathBuf::from("crun");
        }
        let script = self.path("crun");
        if !script.exists() {
            let text = "#!/bin/sh\nexec unshare -m --propagation unchanged sh -c \
                        'mount --make-rslave / && umount /sys/fs/cgroup/unified; exec crun \"$@\"' crun \"$@\"\n";
            let unfinished = self.path(&format!("crun-{}", ContainerId::random()));
            fs::write(&unfinished, text).unwrap();
            fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(&unfinished, &script).unwrap();
        }
        script
    }
}

/// A container in preparation, and whatever was started for it.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) dir: PathBuf,
    pub(crate) bundle: PathBuf,
    pub(crate) launch: Launch,
    pub(crate) config: Value,
    shims: Vec<Child>,
}

impl Container {
    /// Asks for a terminal.
    pub(crate) fn with_terminal(mut self) -> Self {
        self.config["process"]["terminal"] = json!(true);
        self
    }

    pub(crate) fn with_stdin(mut self, stdin: StdinMode) -> Self {
        self.launch.stdin = stdin;
        self
    }

    /// Writes the bundle and starts a shim, connected as by a daemon.
    pub(crate) fn spawn(&mut self) -> Daemon {
        fs::write(self.bundle.join(CONFIG_FILE), serde_json::to_vec(&self.config).unwrap()).unwrap();
        fs::write(self.bundle.join(LAUNCH_FILE), serde_json::to_vec(&self.launch).unwrap()).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let log =
            fs::File::options().create(true).append(true).open(self.bundle.join(SHIM_LOG_FILE)).unwrap();
        let child = Command::new(shim_program())
            .arg(&self.bundle)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.shims.push(child);
        Daemon::introduce(self.bundle.clone(), ours)
    }

    /// What was logged, entry by entry: stream and text.
    pub(crate) fn logged(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.dir.join("log.json")).unwrap();
        text.lines()
            .map(|line| {
                let entry: Value = serde_json::from_str(line).unwrap();
                (entry["stream"].as_str().unwrap().to_owned(), entry["log"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    /// What was logged of one stream, joined.
    pub(crate) fn logged_text(&self, stream: &str) -> String {
        self.logged().into_iter().filter(|(of, _)| of == stream).map(|(_, text)| text).collect()
    }

    /// Waits for the shim to end by itself, successfully.
    pub(crate) fn expect_shim_to_end(&mut self) {
        let mut child = self.shims.pop().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "the shim ended with {status}: {}", self.shim_log());
                return;
            }
            assert!(Instant::now() < deadline, "the shim does not end: {}", self.shim_log());
            // A process that is not waited for tells nobody of its end.
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Kills the shim as the kernel would.
    pub(crate) fn kill_shim(&mut self) {
        let mut child = self.shims.pop().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Runs the cleanup.
    pub(crate) fn clean_up(&self) {
        let status = Command::new(shim_program()).arg("--cleanup").arg(&self.bundle).status().unwrap();
        assert!(status.success(), "the cleanup failed: {status}");
    }

    /// Starts another shim for the same bundle and returns its last words.
    pub(crate) fn try_another_shim(&self) -> String {
        let output = Command::new(shim_program()).arg(&self.bundle).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn shim_pid(&self) -> u32 {
        self.shims.last().unwrap().id()
    }

    pub(crate) fn shim_log(&self) -> String {
        fs::read_to_string(self.bundle.join(SHIM_LOG_FILE)).unwrap_or_default()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the shim's log: {}", self.shim_log());
        }
        // A test that failed half-way, or one that has no use for the rest of the life: nothing may stay behind.
        for shim in &mut self.shims {
            let _ = shim.kill();
            let _ = shim.wait();
        }
        if self.bundle.join(LAUNCH_FILE).exists() {
            let _ = Command::new(shim_program()).arg("--cleanup").arg(&self.bundle).status();
        }
    }
}

fn shim_program() -> OsString {
    std::env::var_os("SHIM_PROGRAM").unwrap_or_else(|| OsString::from(env!("CARGO_BIN_EXE_node-shim")))
}

/// A small OCI configuration, with everything of its own that can be its own.
fn config(id: ContainerId, args: &[&str]) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
            "oomScoreAdj": 0,
        },
        "root": {"path": "rootfs"},
        "hostname": "test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        ],
        "linux": {
            "cgroupsPath": format!("/shim-test-{}", id.short()),
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"},
            ],
            "resources": {"devices": [{"allow": true, "access": "rwm"}]},
        },
    })
}

/// Waits until a condition holds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long for: {what}");
        // What is waited for here are files and foreign processes, which tell nobody.
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Runs a check under every runtime of this machine.
pub(crate) fn under_every_runtime(check: impl Fn(&Machine, Runtime)) {
    if !is_privileged() {
        return;
    }
    let machine = Machine::new();
    for runtime in Runtime::available() {
        println!("under {runtime:?}");
        check(&machine, runtime);
    }
}

/// Whether a process exists and is not a zombie.
pub(crate) fn process_is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|fields| !fields.is_empty() && !fields.starts_with('Z'))
}
