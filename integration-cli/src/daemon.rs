//! Starts, stops, kills and reloads one daemon on a machine of its own.
//!
//! Which program that is, the environment says (see [`Implementation`]). A daemon is given only flags that both
//! dockerd and shoald know. What a test does with a running daemon is in [`crate::session`].

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::condition::poll;
use crate::http::{Client, Request};
use crate::machine::Machine;
use crate::process::{Outcome, code_of, command, pid_of, run_within, wait_within};
use crate::session::ApiVersion;
use crate::{leftovers, log_audit, skip};

/// How long a daemon may take to answer its first ping, and to end after it was told to.
const START_STOP_LIMIT: Duration = Duration::from_secs(60);

/// The program under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Implementation {
    /// Shoal's daemon at this path.
    Shoald(PathBuf),
    /// A reference dockerd at this path, which starts a containerd of its own.
    Dockerd(PathBuf),
    /// A daemon somebody else started, listening on this socket; cases that need its machine are skipped.
    External(PathBuf),
}

impl Implementation {
    /// Reads the choice: `SHOAL_TEST_HOST=unix://SOCKET`, `SHOAL_TEST_DAEMON=dockerd`, `SHOAL_TEST_DAEMON=/path`;
    /// without either, the shoald beside the test binary, built first when it is missing.
    #[must_use]
    pub fn from_environment() -> Self {
        if let Ok(host) = std::env::var("SHOAL_TEST_HOST") {
            let socket = host.strip_prefix("unix://").expect("SHOAL_TEST_HOST is unix://SOCKET");
            return Self::External(PathBuf::from(socket));
        }
        std::env::var("SHOAL_TEST_DAEMON")
            .map_or_else(|_| Self::Shoald(built_shoald()), |name| Self::named(&name))
    }

    /// The implementation a name, a path or `unix://SOCKET` stands for.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "dockerd" => Self::Dockerd(PathBuf::from("/usr/sbin/dockerd")),
            "shoald" => Self::Shoald(built_shoald()),
            host if host.starts_with("unix://") => Self::External(PathBuf::from(&host["unix://".len()..])),
            path if path.ends_with("/dockerd") => Self::Dockerd(PathBuf::from(path)),
            path => Self::Shoald(PathBuf::from(path)),
        }
    }

    /// Whether this is the reference and not Shoal.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        matches!(self, Self::Dockerd(_))
    }

    fn program(&self) -> &Path {
        match self {
            Self::Shoald(path) | Self::Dockerd(path) => path,
            Self::External(_) => skip("needs a daemon that the suite starts itself"),
        }
    }
}

/// The shoald of the profile this test binary was built with; built on demand.
fn built_shoald() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| {
        let profile = profile_directory();
        let path = profile.join("shoald");
        if !path.exists() {
            let mut build = command("cargo");
            for key in ["HOME", "PATH", "CARGO_HOME", "CARGO_TARGET_DIR", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
                build.envs(std::env::var_os(key).map(|value| (key, value)));
            }
            build.args(["build", "--quiet", "-p", "shoald"]).current_dir(env!("CARGO_MANIFEST_DIR"));
            build.args(profile.ends_with("release").then_some("--release"));
            run_within(build, b"", Duration::from_secs(1800)).ok();
        }
        path
    });
    path.clone()
}

/// The directory `target/<profile>` that holds this test binary.
#[must_use]
pub fn profile_directory() -> PathBuf {
    let executable = std::env::current_exe().expect("the path of the test binary");
    let directory = executable.parent().expect("an executable lies in a directory");
    let directory = if directory.ends_with("deps") { directory.parent() } else { Some(directory) };
    directory.expect("deps lies in the profile's directory").to_owned()
}

/// How a daemon is started beyond its roots and socket.
#[derive(Debug, Clone, Default)]
pub struct DaemonOptions {
    /// Further flags.
    pub flags: Vec<String>,
    /// Text of the configuration file; `{}` when none is given.
    pub config: Option<String>,
    /// Further environment.
    pub environment: Vec<(String, String)>,
    /// A program with arguments that starts the daemon in its own place, e.g. one that hands sockets over.
    pub wrapper: Vec<String>,
    /// What the program shall do instead of being the daemon; see [`Daemon::run_verb`].
    pub verb: Option<String>,
}

impl DaemonOptions {
    /// Options with flags only, written as on a command line.
    #[must_use]
    pub fn flags(line: &str) -> Self {
        Self { flags: crate::words::split(line), ..Self::default() }
    }

    /// Options with a configuration file only.
    #[must_use]
    pub fn config(config: &Value) -> Self {
        Self { config: Some(config.to_string()), ..Self::default() }
    }
}

/// A daemon and the machine it runs on.
#[derive(Debug)]
pub struct Daemon {
    implementation: Implementation,
    machine: Option<Machine>,
    socket: PathBuf,
    process: Mutex<Option<Child>>,
    announced: Mutex<Vec<String>>,
    api: OnceLock<ApiVersion>,
}

impl Daemon {
    /// Starts a daemon on a machine of its own and waits until it answers.
    #[track_caller]
    #[must_use]
    pub fn start(implementation: Implementation, options: &DaemonOptions) -> Arc<Self> {
        let daemon = match implementation {
            Implementation::External(socket) => {
                Self::of(Implementation::External(socket.clone()), None, socket)
            }
            implementation => {
                let machine = Machine::create();
                let socket = machine.root().join("docker.sock");
                Self::of(implementation, Some(machine), socket)
            }
        };
        let daemon = Arc::new(daemon);
        if daemon.machine.is_some() {
            daemon.start_again(options);
        }
        daemon
    }

    fn of(implementation: Implementation, machine: Option<Machine>, socket: PathBuf) -> Self {
        Self {
            implementation,
            machine,
            socket,
            process: Mutex::new(None),
            announced: Mutex::new(Vec::new()),
            api: OnceLock::new(),
        }
    }

    /// Runs a daemon that is expected to refuse its options; returns what it said.
    #[track_caller]
    #[must_use]
    pub fn refuse_to_start(implementation: Implementation, options: &DaemonOptions) -> Outcome {
        let machine = Machine::create();
        let socket = machine.root().join("docker.sock");
        let daemon = Self::of(implementation, Some(machine), socket);
        let outcome = run_within(daemon.start_command(options), b"", START_STOP_LIMIT);
        daemon.machine().destroy().clear();
        outcome
    }

    /// Starts a second daemon on the files of this one, which it is expected to refuse; returns what it said.
    #[track_caller]
    #[must_use]
    pub fn start_beside(&self) -> Outcome {
        run_within(self.start_command(&DaemonOptions::default()), b"", START_STOP_LIMIT)
    }

    /// Runs another verb of the daemon's program (`shoald VERB`) on the files of this one; returns what it said.
    #[track_caller]
    #[must_use]
    pub fn run_verb(&self, verb: &str) -> Outcome {
        self.run_verb_with(verb, "")
    }

    /// The same with further flags, written as on a command line.
    #[track_caller]
    #[must_use]
    pub fn run_verb_with(&self, verb: &str, flags: &str) -> Outcome {
        let options = DaemonOptions { verb: Some(verb.to_owned()), ..DaemonOptions::flags(flags) };
        run_within(self.start_command(&options), b"", START_STOP_LIMIT)
    }

    /// Starts the daemon again on the same roots, e.g. after [`Daemon::kill`].
    #[track_caller]
    pub fn start_again(&self, options: &DaemonOptions) {
        if !self.try_start(options) {
            panic!("the daemon did not come up; its log ends:\n{}", tail(&self.log_text()));
        }
    }

    /// Starts the daemon again; returns whether it came up, and not ended before it answered.
    #[track_caller]
    pub fn try_start(&self, options: &DaemonOptions) -> bool {
        let log =
            OpenOptions::new().create(true).append(true).open(self.log_path()).expect("the daemon's log");
        let mut command = self.start_command(options);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle of the log")).stderr(log);
        let child =
            command.spawn().unwrap_or_else(|error| panic!("starting {:?}: {error}", self.implementation));
        *self.process() = Some(child);
        let client = Client::new(&self.socket);
        let answered = poll(START_STOP_LIMIT, &mut || {
            let exited = self.process().as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))));
            let pinged =
                !exited && client.send(&Request::new("GET", "/_ping")).is_ok_and(|reply| reply.status == 200);
            (exited || pinged).then_some(pinged)
        });
        if answered == Some(false) {
            self.process().take();
        }
        answered == Some(true)
    }

    fn start_command(&self, options: &DaemonOptions) -> Command {
        let machine = self.machine();
        let root = machine.root();
        let config = root.join("daemon.json");
        fs::write(&config, options.config.as_deref().unwrap_or("{}")).expect("the configuration file");
        let program = self.implementation.program();
        let mut command = machine.daemon(options.wrapper.first().map_or(program, Path::new));
        if let [_, arguments @ ..] = &options.wrapper[..] {
            command.args(arguments).arg(program);
        }
        command.args(&options.verb);
        command.arg("--config-file").arg(config);
        command.arg("--data-root").arg(root.join("data")).arg("--exec-root").arg(root.join("exec"));
        command.arg("--pidfile").arg(root.join("daemon.pid"));
        command.arg("--host").arg(format!("unix://{}", self.socket.display()));
        // A test may choose another parent; the flag may be given only once.
        if !options.flags.iter().any(|flag| flag.starts_with("--cgroup-parent")) {
            command.arg(format!("--cgroup-parent=/{}/containers", machine.name()));
        }
        command.args(&options.flags).envs(options.environment.iter().cloned());
        command
    }

    /// The machine; cases that need it are skipped when the daemon is not the suite's own.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        self.machine.as_ref().unwrap_or_else(|| skip("needs a daemon that the suite starts itself"))
    }

    /// The machine, if the daemon is the suite's own.
    #[must_use]
    pub fn own_machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// The program under test.
    #[must_use]
    pub fn implementation(&self) -> &Implementation {
        &self.implementation
    }

    /// The socket the daemon listens on.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The newest API version the daemon announces.
    #[must_use]
    pub fn api(&self) -> ApiVersion {
        *self.api.get_or_init(|| {
            let ping = Client::new(&self.socket).send(&Request::new("GET", "/_ping")).expect("a ping");
            ApiVersion::parse(ping.header("Api-Version").expect("Api-Version on a ping"))
        })
    }

    /// The daemon's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process().as_ref().map_or(0, Child::id)
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = self.process().as_ref() {
            kill_process(pid_of(child), signal).expect("a signal for the daemon");
        }
    }

    /// Kills the daemon as a crash would, and only it; containers go on or not as they are built to.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.wait();
        // The reference's containerd ends shortly after it by itself; a dockerd that starts meanwhile waits for the
        // old one in vain. Nobody restarts a service that fast but a test.
        let file = self.machine().root().join("exec/containerd/containerd.pid");
        let Ok(pid) = fs::read_to_string(file) else { return };
        poll(START_STOP_LIMIT, &mut || (!Path::new("/proc").join(pid.trim()).exists()).then_some(()));
    }

    /// Cuts the power of the machine; the daemon is not started again.
    #[track_caller]
    pub fn lose_power(&self) {
        self.kill();
        self.machine().lose_power();
    }

    /// Tells the daemon to stop and waits until it has; returns its exit code.
    pub fn stop(&self) -> i32 {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits until the daemon has ended by itself.
    #[track_caller]
    pub fn wait(&self) -> i32 {
        let Some(mut child) = self.process().take() else { return 0 };
        let status = wait_within(&mut child, START_STOP_LIMIT);
        let status = status
            .unwrap_or_else(|| panic!("the daemon does not end; its log ends:\n{}", tail(&self.log_text())));
        code_of(status)
    }

    /// Waits for the end of a daemon that is dying; returns whether it was.
    #[track_caller]
    pub fn wait_if_dying(&self) -> bool {
        let dying = poll(Duration::from_millis(50), &mut || (!self.is_running()).then_some(())).is_some();
        if dying {
            // Asking has collected it already.
            self.process().take();
        }
        dying
    }

    /// Whether the daemon's process is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process().as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The file with everything the daemon printed.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.machine().root().join("daemon.log")
    }

    /// Everything the daemon printed so far.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read(self.log_path()).map(|raw| String::from_utf8_lossy(&raw).into_owned()).unwrap_or_default()
    }

    /// Announces that a WARN or ERROR line with `text` may appear in the daemon's log.
    pub fn announce(&self, text: &str) {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }

    /// Stops the daemon, compares what it left, and removes its machine. Returns everything that was not as it should be.
    #[must_use]
    pub fn teardown(&self) -> Vec<String> {
        let Some(machine) = &self.machine else { return Vec::new() };
        let mut problems = Vec::new();
        if self.is_running() {
            let code = self.stop();
            if code != 0 {
                problems.push(format!("the daemon ended with {code} when told to stop"));
            }
            problems.extend(settled_leftovers(machine));
        }
        if matches!(self.implementation, Implementation::Shoald(_)) {
            let announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
            problems.extend(log_audit::unannounced(&self.log_text(), &announced));
        }
        problems.extend(machine.destroy());
        problems
    }

    /// Copies the daemon's log to where it outlives the machine; returns the place.
    #[must_use]
    pub fn keep_log(&self) -> Option<PathBuf> {
        let machine = self.machine.as_ref()?;
        let directory = profile_directory().join("integration-logs");
        fs::create_dir_all(&directory).ok()?;
        let kept = directory.join(format!("{}.log", machine.name()));
        std::io::copy(&mut File::open(self.log_path()).ok()?, &mut File::create(&kept).ok()?).ok()?;
        Some(kept)
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leftovers after a moment of grace: the reference's containerd ends a little after dockerd itself.
fn settled_leftovers(machine: &Machine) -> Vec<String> {
    let mut last = Vec::new();
    poll(Duration::from_secs(5), &mut || {
        last = leftovers::on(machine);
        last.is_empty().then_some(())
    });
    last
}

/// The last lines of a log, for messages.
#[must_use]
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
