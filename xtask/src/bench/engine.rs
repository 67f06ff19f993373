//! One engine under measurement: its namespace, its control group, its daemon.
//!
//! Start reading at [`Engine::start`]. Every engine has a network namespace of its own, because two engines in one would fight
//! over bridges and firewall chains; the namespaces meet at a bridge of the sandbox, where the registry is.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::accounting::Account;
use super::api::{Api, IMAGE, Network, State};
use super::http::{Address, Client};
use super::options::{Kind, Options};
use super::samples::{Clock, Milliseconds};
use super::sandbox::{HUB_BRIDGE, HUB_NETWORK};
use super::{podman, program};
use crate::setup;

/// A daemon that has not answered or ended by then has failed.
const PATIENCE: Duration = Duration::from_secs(180);
/// Seconds after which a client has failed, as timeout(1) wants them. Far more than the slowest engine takes.
const CLIENT_PATIENCE: &str = "300";
/// How often a starting daemon is asked. Below what any engine needs to start.
const ASK_EVERY: Duration = Duration::from_millis(1);
/// Workers of bulk operations.
pub(super) const WORKERS: usize = 8;

/// An engine and what was made for it.
#[derive(Debug)]
pub(super) struct Engine {
    kind: Kind,
    index: usize,
    binary: PathBuf,
    docker: PathBuf,
    /// Its data, on a disk.
    data: PathBuf,
    /// Its sockets and state, on a tmpfs as on a real machine.
    state: PathBuf,
    network: File,
    account: Account,
    daemon: Mutex<Option<Child>>,
}

impl Engine {
    /// Prepares everything but the daemon.
    pub(super) fn new(kind: Kind, index: usize, options: &Options) -> Result<Self> {
        let name = kind.name();
        let find =
            |program: &str| setup::find(program).with_context(|| format!("{program} is not installed"));
        let binary = match kind {
            Kind::Shoal => options.shoald.clone().context("--shoald names no binary")?,
            Kind::Dockerd => find("dockerd")?,
            Kind::Podman => find("podman")?,
        };
        let engine = Self {
            kind,
            index,
            binary,
            docker: setup::docker_client()?,
            data: options.directory.join(name),
            state: Path::new("/run/shoal-bench").join(name),
            network: new_network_namespace()?,
            account: Account::open(name)?,
            daemon: Mutex::new(None),
        };
        std::fs::create_dir_all(&engine.data)?;
        std::fs::create_dir_all(&engine.state)?;
        engine.configure(&Self::usual_configuration())?;
        engine.connect_to_hub().context("connect the namespace of an engine")?;
        Ok(engine)
    }

    pub(super) fn name(&self) -> &'static str {
        self.kind.name()
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Its position in the tables.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// Where it listens.
    pub(super) fn address(&self) -> Address {
        Address::Unix(self.state.join("sock"))
    }

    /// A new connection.
    pub(super) fn api(&self) -> Api {
        Api::new(Client::new(self.address()), self.account.container_parent())
    }

    /// Starts the daemon, waits for the first good answer, and says how long that took.
    pub(super) fn start(&self) -> Result<Milliseconds> {
        let mut command = self.launch_command()?;
        let log = File::options().create(true).append(true).open(self.log())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut clock = Clock::start();
        let child = command.spawn().with_context(|| format!("start {}", self.name()))?;
        *self.daemon() = Some(child);
        self.wait_for_ping()?;
        Ok(clock.lap())
    }

    fn wait_for_ping(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.api().ping().is_err() {
            let ended = match self.daemon().as_mut() {
                Some(child) => child.try_wait()?,
                None => None,
            };
            if ended.is_some() || Instant::now() > deadline {
                bail!("{} does not answer; its log ends with:\n{}", self.name(), self.log_end());
            }
            // A daemon that starts has no other sign of life than its answer.
            std::thread::sleep(ASK_EVERY);
        }
        Ok(())
    }

    /// What daemons are told unless a case says otherwise: that containers outlive them. Always so with Shoal; dockerd must be told for the
    /// cases that end it.
    pub(super) fn usual_configuration() -> Value {
        json!({"live-restore": true})
    }

    /// What the daemon reads at its next start.
    pub(super) fn configure(&self, configuration: &Value) -> Result<()> {
        std::fs::write(self.state.join("daemon.json"), configuration.to_string())?;
        Ok(())
    }

    /// Ends the daemon and waits until it is gone. Its containers may go on.
    pub(super) fn stop(&self, signal: Signal) -> Result<()> {
        let Some(mut child) = self.daemon().take() else { return Ok(()) };
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                child.kill()?;
                bail!("{} does not end on {signal}; its log ends with:\n{}", self.name(), self.log_end());
            }
            // The standard library waits for a child without a limit or not at all.
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Gives it the image that all cases use, and one container: the first of a daemon's life pays what no other does.
    pub(super) fn prepare(&self, archive: &Path) -> Result<()> {
        let mut api = self.api();
        api.import(archive).with_context(|| format!("import {IMAGE} into {}", self.name()))?;
        api.run_to_end(&["true"], Network::Bridge)
            .with_context(|| format!("first container of {}", self.name()))?;
        Ok(())
    }

    /// Removes every container that cases made.
    pub(super) fn clean(&self) -> Result<()> {
        let containers = self.api().ours(State::Any)?;
        self.in_parallel(&containers, |api, id| api.remove(id)).map(|_| ())
    }

    /// Does something for every item, by [`WORKERS`] workers with a connection each.
    pub(super) fn in_parallel<I: Sync, O: Send>(
        &self,
        items: &[I],
        act: impl Fn(&mut Api, &I) -> Result<O> + Sync,
    ) -> Result<Vec<O>> {
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            let mut api = self.api();
            let mut done = Vec::new();
            while let Some(item) = items.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                done.push(act(&mut api, item)?);
            }
            Ok(done)
        };
        let results: Vec<Result<Vec<O>>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
                .collect()
        });
        Ok(results.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// The stock docker client, talking to this engine. One that hangs is ended: a fault of an engine must not hang the run.
    pub(super) fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = program::command("timeout", [CLIENT_PATIENCE]);
        command
            .arg(&self.docker)
            .args(arguments)
            .env("DOCKER_HOST", format!("unix://{}", self.state.join("sock").display()))
            .env("DOCKER_CONFIG", self.state.join("client"))
            .env("DOCKER_CLI_HINTS", "false")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_API_VERSION");
        command
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Child>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> PathBuf {
        self.data.join("log")
    }

    fn log_end(&self) -> String {
        let log = self.log().display().to_string();
        program::run("tail", &["-n", "15", &log]).unwrap_or_default()
    }

    /// The daemon's command line, in its control group and network namespace. `exec` all the way: the process that we start is
    /// the daemon.
    fn launch_command(&self) -> Result<Command> {
        let enter = r#"echo $$ >"$0/cgroup.procs" || exit 1; exec "$@""#;
        let mut command = program::command("sh", ["-c", enter]);
        command.arg(self.account.daemon_group());
        if self.kind == Kind::Podman {
            podman::configure(&mut command, &self.state)?;
        }
        command.args(["nsenter", &format!("--net={}", self.namespace_path()), "--"]).arg(&self.binary);
        let path = |name: &str| self.state.join(name).display().to_string();
        let data = self.data.join("data").display().to_string();
        let socket = format!("unix://{}", path("sock"));
        match self.kind {
            Kind::Podman => command.args(podman::arguments(&data, &self.state, &socket)),
            Kind::Dockerd | Kind::Shoal => command
                .args([
                    "--config-file",
                    &path("daemon.json"),
                    "--data-root",
                    &data,
                    "--exec-root",
                    &path("exec"),
                ])
                .args(["--pidfile", &path("pid"), "--host", &socket, "--insecure-registry", HUB_NETWORK]),
        };
        Ok(command)
    }

    fn namespace_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.network.as_raw_fd())
    }

    /// A veth pair between the bridge of the sandbox and the namespace.
    fn connect_to_hub(&self) -> Result<()> {
        let (outside, inside) = (format!("engine{}", self.index), self.namespace_path());
        let address = self.index + 10;
        program::run_line(&format!("ip link add {outside} type veth peer name up0 netns {inside}"))?;
        program::run_line(&format!("ip link set {outside} master {HUB_BRIDGE} up"))?;
        for line in [
            "ip link set lo up",
            &format!("ip addr add 10.213.0.{address}/24 dev up0"),
            "ip link set up0 up",
            // Nothing is beyond the bridge: looking for the outside must fail at once instead of timing out.
            "ip route add unreachable default",
        ] {
            program::run_line(&format!("nsenter --net={inside} -- {line}"))?;
        }
        Ok(())
    }
}

/// A network namespace that exists as long as the returned file, or a process in it.
fn new_network_namespace() -> Result<File> {
    let make = || -> Result<File> {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        Ok(File::open("/proc/thread-self/ns/net")?)
    };
    std::thread::spawn(make).join().unwrap_or_else(|_| bail!("making a network namespace panicked"))
}
