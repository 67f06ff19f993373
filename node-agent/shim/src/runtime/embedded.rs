//! The embedded runtime: the crate node-runtime in this process, which has one thread as that crate requires.
//!
//! Start reading at [`Embedded`]. The OCI spec is read anew for each verb that needs it: kept in memory it would be
//! the largest thing in the process, for the whole life of the container.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use node_runtime::cgroup::Cgroup;
use node_runtime::{
    Container, ContainerRecord, CreateRequest, ExecRequest as RuntimeExec, ExecutableReason, OverlayRootfs,
    RuntimeError, SeccompSource, Stdio, TerminalSize,
};
use oci_spec::runtime::{Process, Spec};
use rustix::io::Errno;
use rustix::process::Pid;

use super::command_line::RunningCommand;
use super::{NewProcess, OciRuntime, ProcessStdio, Progress};
use crate::bundle::{self, Bundle, Durability};
use crate::error::ProcessError;
use crate::protocol::{
    AfterCheckpoint, CONFIG_FILE, ConsoleSize, ExecRequest, Failure, FailureKind, RootfsSource,
};

/// What has to be known to find the container again; written by this runtime into the bundle.
const RECORD_FILE: &str = "runtime.json";

/// The container, once it was created.
#[derive(Debug)]
pub(crate) struct Embedded {
    id: String,
    bundle: PathBuf,
    /// Let go of once the container is made.
    empty_mounts: Option<OwnedFd>,
    container: Option<Container>,
}

impl Embedded {
    /// A container that does not exist yet.
    pub(crate) fn new(id: String, bundle: PathBuf, empty_mounts: Option<OwnedFd>) -> Self {
        Self { id, bundle, empty_mounts, container: None }
    }
}

impl OciRuntime for Embedded {
    fn create(&mut self, bundle: &Bundle, stdio: ProcessStdio) -> Result<Progress<NewProcess>, Failure> {
        let spec = read_spec()?;
        let mut request = CreateRequest::new(&self.id, &self.bundle, &spec);
        request.rootfs = rootfs(&bundle.launch.rootfs);
        request.stdio = borrow(&stdio);
        let empty_mounts = self.empty_mounts.take();
        request.empty_mounts = empty_mounts.as_ref().map(AsFd::as_fd);
        let created = node_runtime::create(request).map_err(|error| failure(&error))?;
        for warning in &created.warnings {
            crate::report(&warning.to_string());
        }
        let pid = pid(created.container.pid())?;
        bundle::write_json(RECORD_FILE, created.container.record(), Durability::Kernel)
            .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?;
        self.container = Some(created.container);
        drop(spec);
        crate::memory::let_go_of_heap();
        Ok(Progress::Done(NewProcess { pid, terminal: created.terminal }))
    }

    fn start(&mut self) -> Result<Progress<()>, Failure> {
        let spec = read_spec()?;
        existing(self.container.as_mut())?.start(&spec).map_err(|error| failure(&error))?;
        Ok(Progress::Done(()))
    }

    fn exec(&mut self, exec: &ExecRequest, stdio: ProcessStdio) -> Result<Progress<NewProcess>, Failure> {
        let spec = read_spec()?;
        let process: Process = serde_json::from_str(exec.process.get())
            .map_err(|error| Failure::new(FailureKind::Invalid, format!("the process to run: {error}")))?;
        let request = RuntimeExec {
            container: existing(self.container.as_mut())?,
            spec: &spec,
            process: &process,
            stdio: borrow(&stdio),
            seccomp: SeccompSource::FromSpec,
            preserved_fds: 0,
        };
        let started = node_runtime::exec(&request).map_err(|error| failure(&error))?;
        Ok(Progress::Done(NewProcess { pid: pid(started.pid)?, terminal: started.terminal }))
    }

    /// The daemon does not ask: it says which runtime can do it.
    fn checkpoint(&mut self, _: &Path, _: AfterCheckpoint) -> Result<RunningCommand, Failure> {
        Err(Failure::new(FailureKind::Invalid, "the built-in runtime makes no checkpoints"))
    }

    fn cgroup(&self, _init: Pid) -> Result<Cgroup, Failure> {
        match &self.container {
            Some(container) => Ok(container.cgroup().clone()),
            None => Err(Failure::new(FailureKind::WrongPhase, "the container was not created")),
        }
    }

    fn delete(&mut self) -> Result<Progress<()>, Failure> {
        if let Some(container) = self.container.take() {
            container.delete(&read_spec()?).map_err(|error| failure(&error))?;
        }
        Ok(Progress::Done(()))
    }
}

/// Forgets a container whose shim has died and whose processes have been killed. One that was never made is forgotten
/// already: without a record there was no container, or only one that ended with its maker.
pub(crate) fn forget() -> Result<(), Failure> {
    let Some(record) = bundle::read_json_if_any::<ContainerRecord>(RECORD_FILE) else { return Ok(()) };
    let spec = read_spec().ok();
    node_runtime::clean_up(&record, spec.as_ref()).map_err(|error| failure(&error))
}

fn existing(container: Option<&mut Container>) -> Result<&mut Container, Failure> {
    container.ok_or_else(|| Failure::new(FailureKind::WrongPhase, "the container was not created"))
}

fn read_spec() -> Result<Spec, Failure> {
    let invalid = |error: ProcessError| Failure::new(FailureKind::Invalid, error.to_string());
    let text = fs::read(CONFIG_FILE)
        .map_err(|error| invalid(ProcessError::step(format!("read {CONFIG_FILE}"), error)))?;
    serde_json::from_slice(&text)
        .map_err(|source| invalid(ProcessError::Malformed { path: PathBuf::from(CONFIG_FILE), source }))
}

fn rootfs(source: &RootfsSource) -> node_runtime::RootfsSource {
    match source {
        RootfsSource::Directory { path } => node_runtime::RootfsSource::Path(path.clone()),
        RootfsSource::Overlay { lowers, upper, work, options } => {
            let split = |option: &String| match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (option.clone(), None),
            };
            node_runtime::RootfsSource::Overlay(OverlayRootfs {
                lower: lowers.clone(),
                upper: Some(upper.clone()),
                work: Some(work.clone()),
                options: options.iter().map(split).collect(),
            })
        }
    }
}

fn borrow(stdio: &ProcessStdio) -> Stdio<'_> {
    match stdio {
        ProcessStdio::Ends(ends) => {
            Stdio::Fds { stdin: ends.stdin.as_fd(), stdout: ends.stdout.as_fd(), stderr: ends.stderr.as_fd() }
        }
        ProcessStdio::Terminal(size) => {
            Stdio::Terminal(size.map_or_else(TerminalSize::default, terminal_size))
        }
    }
}

fn terminal_size(size: ConsoleSize) -> TerminalSize {
    TerminalSize { rows: size.height, columns: size.width }
}

fn pid(raw: i32) -> Result<Pid, Failure> {
    Pid::from_raw(raw).ok_or_else(|| Failure::new(FailureKind::Internal, "the runtime made process 0"))
}

fn failure(error: &RuntimeError) -> Failure {
    let kind = match error {
        RuntimeError::Executable(executable) => match executable.reason {
            ExecutableReason::NotFoundInPath
            | ExecutableReason::NoSuchFile
            | ExecutableReason::NotADirectory => FailureKind::CommandNotFound,
            ExecutableReason::PermissionDenied | ExecutableReason::IsADirectory => FailureKind::NotExecutable,
            ExecutableReason::Other => FailureKind::Runtime,
        },
        RuntimeError::InvalidSpec(_) => FailureKind::Invalid,
        // What dockerd derives from these words of the kernel, wherever in the start they were said.
        RuntimeError::Init { source, .. } => match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NOTDIR) => FailureKind::CommandNotFound,
            Some(Errno::ACCESS | Errno::ISDIR) => FailureKind::NotExecutable,
            _ => FailureKind::Runtime,
        },
        RuntimeError::Unsupported(_)
        | RuntimeError::Step { .. }
        | RuntimeError::Vanished { .. }
        | RuntimeError::Hook { .. }
        | RuntimeError::NoSuchContainer { .. }
        | RuntimeError::AlreadyExists { .. }
        | RuntimeError::WrongState { .. } => FailureKind::Runtime,
    };
    Failure::new(kind, error.chain())
}
