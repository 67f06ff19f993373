//! Starts shim processes, finds those of an earlier daemon, and runs the cleanup after dead ones.
//!
//! Start reading at [`ProcessShims`]. Beside `command.rs` this is the only place that starts a process: a shim
//! differs from a helper program in that it outlives the daemon, keeps no captured output and is told nothing by its
//! command line but the bundle. It does not speak the protocol beyond the first frame.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use node_shim::protocol::{EXIT_FILE, ExitRecord, SHIM_LOG_FILE, SOCKET_FILE};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::connection::ShimConnection;
use super::{FoundShim, ShimError, Shims};

/// How long a shim may take to answer the first frame. It answers within milliseconds unless the machine is in deep
/// trouble or somebody has stopped it.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a cleanup may take: it waits for killed processes, which may sit in an uninterruptible system call.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest path that fits a socket address, without the final zero.
const SOCKET_PATH_MAX: usize = 107;

/// What process listings show in place of the path to the program, which may be a descriptor.
const PROCESS_NAME: &str = "shoald";

/// How much of a shim's log is quoted when it ended at once.
const LOG_TAIL_LEN: u64 = 2048;

/// The program that is a shim when it is given a bundle.
#[derive(Debug, Clone)]
pub struct ShimProgram {
    path: PathBuf,
    arguments: Vec<OsString>,
    /// What `path` and the arguments lead through, where that is a descriptor.
    _kept: Vec<Arc<OwnedFd>>,
}

impl ShimProgram {
    /// A program, with the arguments that come before the bundle.
    pub fn new(path: PathBuf, arguments: Vec<OsString>) -> Self {
        Self { path, arguments, _kept: Vec::new() }
    }

    /// The daemon's own executable, as it was when this daemon was started, on a mount that nobody can write to: a
    /// container that gets hold of its runtime's program could otherwise overwrite it. A host that refuses such a mount
    /// is warned about, and served by the plain file.
    pub fn own_executable() -> Self {
        let mut kept = Vec::new();
        let mut arguments = vec![OsString::from("shim")];
        let path = match node_runtime::sealed::open() {
            Ok(sealed) => {
                let path = PathBuf::from(format!("/proc/self/fd/{}", sealed.as_raw_fd()));
                kept.push(Arc::new(sealed));
                path
            }
            Err(error) => {
                tracing::warn!(error = %error.chain(), "running shims from a file that containers might overwrite");
                PathBuf::from("/proc/self/exe")
            }
        };
        match node_runtime::empty_mounts::open() {
            Ok(namespace) => {
                let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
                arguments.extend([node_shim::EMPTY_MOUNTS.into(), path.into()]);
                kept.push(Arc::new(namespace));
            }
            Err(error) => {
                tracing::warn!(error = %error.chain(), "containers start with a copy of all mounts");
            }
        }
        Self { path, arguments, _kept: kept }
    }
}

/// Shims as processes of this machine.
#[derive(Debug, Clone)]
pub struct ProcessShims {
    program: ShimProgram,
    /// Limit of open files; `None` is the daemon's own.
    descriptors: Option<Rlimit>,
}

impl ProcessShims {
    /// Shims made of this program.
    pub fn new(program: ShimProgram) -> Self {
        Self { program, descriptors: None }
    }

    /// Shims, and with them containers, get this limit of open files instead of the daemon's own, which it may have
    /// raised for itself.
    pub fn with_descriptor_limit(self, limit: Rlimit) -> Self {
        Self { descriptors: Some(limit), ..self }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a shim outlives the daemon and is no helper program; this is where shims start"
    )]
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program.path);
        command.arg0(PROCESS_NAME).args(&self.program.arguments).env_clear();
        // External runtimes and their hooks are looked up in PATH; nothing else of the daemon's environment is theirs.
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    async fn launch(&self, mut command: Command) -> Result<Child, ShimError> {
        // Starting a process stops the calling thread until the program is loaded.
        let spawned = spawn_blocking(move || command.spawn()).await;
        let program = self.program.path.clone();
        match spawned {
            Ok(Ok(child)) => {
                self.limit(&child);
                Ok(child)
            }
            Ok(Err(source)) => Err(ShimError::Spawn { program, source }),
            Err(stopped) => Err(ShimError::Spawn { program, source: io::Error::other(stopped) }),
        }
    }
}

impl ProcessShims {
    /// Gives a fresh shim its limit. It starts nothing before the daemon has spoken to it, so this is early enough.
    fn limit(&self, child: &Child) {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (Some(pid), Some(limit)) = (pid, self.descriptors) else { return };
        match prlimit(Some(pid), Resource::Nofile, limit) {
            // It has ended already, which is found out by those who wait for its answer.
            Ok(_) | Err(Errno::SRCH) => {}
            Err(error) => tracing::warn!(%error, "containers keep the daemon's limit of open files"),
        }
    }
}

#[async_trait]
impl Shims for ProcessShims {
    async fn spawn(&self, bundle: &Path) -> Result<FoundShim, ShimError> {
        let on_socket = |source| ShimError::Socket { bundle: bundle.to_owned(), source };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(on_socket)?;
        ours.set_nonblocking(true).map_err(on_socket)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(bundle.join(SHIM_LOG_FILE))
            .map_err(on_socket)?;
        let mut command = self.command();
        command.arg(bundle).stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(log);
        let child = self.launch(command).await?;
        let reaped = tokio::spawn(reap(child));
        let socket = UnixStream::from_std(ours).map_err(on_socket)?;
        let found = timeout(WELCOME_TIMEOUT, ShimConnection::establish(bundle.to_owned(), socket));
        match found.await {
            Ok(Ok(Some(shim))) => Ok(shim),
            Ok(Ok(None)) => {
                // It lets go of the connection before it writes why; only its end says that it has written.
                let _unsaid = timeout(WELCOME_TIMEOUT, reaped).await;
                Err(ShimError::StillBorn { bundle: bundle.to_owned(), said: tail_of_log(bundle) })
            }
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(ShimError::Unresponsive { bundle: bundle.to_owned() }),
        }
    }

    async fn find(&self, bundle: &Path) -> Result<Option<FoundShim>, ShimError> {
        let Some(socket) = connect(bundle).await? else { return Ok(None) };
        match timeout(WELCOME_TIMEOUT, ShimConnection::establish(bundle.to_owned(), socket)).await {
            Ok(found) => found,
            Err(_elapsed) => Err(ShimError::Unresponsive { bundle: bundle.to_owned() }),
        }
    }

    async fn clean_up(&self, bundle: &Path) -> Result<ExitRecord, ShimError> {
        let mut command = self.command();
        command
            .arg("--cleanup")
            .arg(bundle)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.kill_on_drop(true);
        let child = self.launch(command).await?;
        let failed = |said: String| ShimError::Cleanup { bundle: bundle.to_owned(), said };
        let output = match timeout(CLEANUP_TIMEOUT, child.wait_with_output()).await {
            Ok(output) => output.map_err(|error| failed(error.to_string()))?,
            Err(_elapsed) => return Err(failed(format!("it takes longer than {CLEANUP_TIMEOUT:?}"))),
        };
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let exit = std::fs::read(bundle.join(EXIT_FILE)).map_err(|error| failed(error.to_string()))?;
        serde_json::from_slice(&exit).map_err(|error| failed(format!("{EXIT_FILE}: {error}")))
    }
}

/// Collects the exit status of a shim, so that it does not stay behind as a zombie. The shim's end itself is noticed
/// by its connection.
async fn reap(mut child: Child) {
    let pid = child.id();
    match child.wait().await {
        Ok(status) if status.success() => tracing::debug!(shim.pid = pid, "shim ended"),
        Ok(status) => tracing::warn!(shim.pid = pid, %status, "shim ended badly"),
        Err(error) => tracing::warn!(shim.pid = pid, %error, "cannot wait for a shim"),
    }
}

/// Connects to the socket in a bundle; `None` when nobody listens.
pub(super) async fn connect(bundle: &Path) -> Result<Option<UnixStream>, ShimError> {
    let path = bundle.join(SOCKET_FILE);
    let connected = if path.as_os_str().as_bytes().len() <= SOCKET_PATH_MAX {
        UnixStream::connect(&path).await
    } else {
        connect_through_descriptor(bundle).await
    };
    match connected {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(source) => Err(ShimError::Socket { bundle: bundle.to_owned(), source }),
    }
}

/// A socket address has no room for a long path, but every open directory has a short one.
async fn connect_through_descriptor(bundle: &Path) -> io::Result<UnixStream> {
    let directory = File::open(bundle)?;
    let short = format!("/proc/self/fd/{}/{SOCKET_FILE}", directory.as_raw_fd());
    UnixStream::connect(short).await
}

/// The last words of a shim, for an error message; whatever of it can be read.
fn tail_of_log(bundle: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut log = File::open(bundle.join(SHIM_LOG_FILE))?;
        let skipped = log.metadata()?.len().saturating_sub(LOG_TAIL_LEN);
        log.seek(SeekFrom::Start(skipped))?;
        let mut tail = Vec::new();
        log.take(LOG_TAIL_LEN).read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).trim().to_owned())
    };
    read().unwrap_or_else(|error| format!("(its log cannot be read: {error})"))
}
