//! The namespaces that a run happens in, and the removal of everything it made.
//!
//! Start reading at [`supervise`]. The program starts itself again in new process, mount and network namespaces. When that
//! second self ends, for whatever reason, the kernel ends every process in there, and with them go mounts, interfaces, firewall
//! rules and network namespaces: none of them has a name. What has one, control groups and a directory, is removed here, at the
//! end of the run and, for a run that was killed, at the start of the next.

use std::io::Read as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use super::options::Options;
use super::{INSIDE, accounting, program};
use crate::{dist, setup};

/// Keeps two runs from removing each other's things: an abstract unix socket, which ends with its holder and leaves no file.
const LOCK: &str = "shoal-bench";
/// The address at which engines find the registry, and the network they all have an address in.
pub(super) const HUB: &str = "10.213.0.1";
pub(super) const HUB_NETWORK: &str = "10.213.0.0/24";
/// The bridge between engines and registry, inside the sandbox.
pub(super) const HUB_BRIDGE: &str = "bench0";

/// Runs the measurement in a sandbox and removes what it leaves.
pub(super) fn supervise(options: &Options, arguments: &[String]) -> Result<()> {
    setup::require_root()?;
    setup::for_bench()?;
    let _lock = SocketAddr::from_abstract_name(LOCK)
        .and_then(|address| UnixListener::bind_addr(&address))
        .context("another run is under way")?;
    let mut inner: Vec<String> = vec!["bench".to_owned(), INSIDE.to_owned()];
    inner.extend(arguments.iter().cloned());
    if options.is_shoal_measured {
        let binary = match &options.shoald {
            Some(path) => path.clone(),
            None => dist::build()?,
        };
        let binary = binary.canonicalize().with_context(|| format!("find {}", binary.display()))?;
        inner.extend(["--shoald".to_owned(), binary.display().to_string()]);
    }
    sweep(&options.directory)?;
    std::fs::create_dir_all(&options.directory)
        .with_context(|| format!("create {}", options.directory.display()))?;
    let outcome = run_sandboxed(&inner);
    let swept = sweep(&options.directory);
    outcome.and(swept)
}

/// Starts the second self and waits for it. Signals to us end it; we stay to clean up.
fn run_sandboxed(inner: &[String]) -> Result<()> {
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|signal| signals.add(signal));
    signals.thread_block().context("block signals")?;
    let flags = "--pid --fork --kill-child=KILL --mount --net --propagation private --mount-proc --";
    let mut command = program::command("unshare", flags.split_whitespace());
    // The shell is process 1 in there: it collects the orphans that nobody else waits for.
    command.args(["sh", "-c", "\"$0\" \"$@\"; exit $?"]);
    command.arg(std::env::current_exe()?).args(inner);
    // The pipe tells the second self when we are gone.
    let mut child = command.stdin(Stdio::piped()).spawn().context("start unshare")?;
    let pid = i32::try_from(child.id()).context("a process id")?;
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&has_ended);
    std::thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            if !ended.load(Ordering::SeqCst) {
                eprintln!("\n{signal}: ending the run and removing what it made");
                // It may have ended by itself meanwhile.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    });
    let stdin = child.stdin.take();
    let status = child.wait();
    has_ended.store(true, Ordering::SeqCst);
    drop(stdin);
    let status = status.context("wait for the run")?;
    if status.success() { Ok(()) } else { bail!("the run ended early: {status}") }
}

/// Makes the sandbox usable: a private /run, and the bridge that engines and the registry meet at.
pub(super) fn enter() -> Result<()> {
    SigSet::all().thread_unblock().context("unblock signals")?;
    std::thread::spawn(|| {
        // Ends when our supervisor has ended, however it did; then nobody wants this run.
        let _ = std::io::stdin().read(&mut [0]);
        let _ = kill(Pid::this(), Signal::SIGKILL);
    });
    let none: Option<&str> = None;
    // Shared again, as a host's mounts are, but with nobody outside.
    mount(none, "/", none, MsFlags::MS_SHARED | MsFlags::MS_REC, none).context("share mounts")?;
    let tmpfs = Some("tmpfs");
    mount(tmpfs, "/run", tmpfs, MsFlags::empty(), Some("mode=755")).context("mount a private /run")?;
    program::run_line("ip link set lo up")?;
    program::run_line(&format!("ip link add {HUB_BRIDGE} type bridge"))?;
    program::run_line(&format!("ip addr add {HUB}/24 dev {HUB_BRIDGE}"))?;
    program::run_line(&format!("ip link set {HUB_BRIDGE} up"))?;
    Ok(())
}

/// Removes control groups, with any process in them, and the directory.
fn sweep(directory: &Path) -> Result<()> {
    for hierarchy in accounting::hierarchies()? {
        let top = hierarchy.join(accounting::TOP);
        if top.is_dir() {
            remove_group(&top)?;
        }
    }
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Ends the processes below a group of ours and removes it, children first.
fn remove_group(group: &Path) -> Result<()> {
    for attempt in 0.. {
        for pid in accounting::members(group) {
            if let Ok(pid) = i32::try_from(pid) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        match remove_tree(group) {
            Err(error) if attempt >= 200 => {
                return Err(error).with_context(|| format!("remove {}", group.display()));
            }
            Err(_) => {
                // The kernel tells nobody when the last process has left a group.
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(()) => break,
        }
    }
    Ok(())
}

fn remove_tree(group: &Path) -> std::io::Result<()> {
    for child in accounting::children(group) {
        remove_tree(&child)?;
    }
    std::fs::remove_dir(group)
}
