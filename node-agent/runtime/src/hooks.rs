//! Running the hooks of a spec.
//!
//! Start reading at [`run`]. A hook is a program with the container's state on its stdin; it runs in the namespaces of whoever
//! calls, which is the runtime for some stages and the container's init process for others. Its stderr is kept, bounded, for
//! the error. This module starts processes itself, because the standard library's way would be a second one beside
//! the one that the crate has.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use oci_spec::runtime::{ContainerState, Hook, Hooks, Spec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::error::{Context, Result, RuntimeError};
use crate::sys::{self, CloneRequest, Cloned, CloseMode, StringVector};

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// The status that a hook of this stage finds in the state.
    fn status(self) -> ContainerState {
        match self {
            Self::Prestart | Self::CreateRuntime | Self::CreateContainer => ContainerState::Creating,
            Self::StartContainer => ContainerState::Created,
            Self::Poststart => ContainerState::Running,
            Self::Poststop => ContainerState::Stopped,
        }
    }
}

/// Picks the hooks of a stage.
pub(crate) fn of(spec: &Spec, stage: Stage) -> &[Hook] {
    let Some(hooks) = spec.hooks() else { return &[] };
    let list = match stage {
        Stage::Prestart => prestart(hooks),
        Stage::CreateRuntime => hooks.create_runtime(),
        Stage::CreateContainer => hooks.create_container(),
        Stage::StartContainer => hooks.start_container(),
        Stage::Poststart => hooks.poststart(),
        Stage::Poststop => hooks.poststop(),
    };
    list.as_deref().unwrap_or_default()
}

fn prestart(hooks: &Hooks) -> &Option<Vec<Hook>> {
    hooks.prestart()
}

/// Whom the hooks are told about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Path,
    /// In the pid namespace of the runtime; none once it has ended.
    pub(crate) pid: Option<i32>,
    pub(crate) spec: &'a Spec,
}

impl Subject<'_> {
    fn state(&self, stage: Stage) -> Result<Vec<u8>> {
        let mut state = oci_spec::runtime::State::default();
        state
            .set_version("1.0.2".to_owned())
            .set_id(self.id.to_owned())
            .set_status(stage.status())
            .set_pid(self.pid)
            .set_bundle(self.bundle.to_path_buf())
            .set_annotations(self.spec.annotations().clone().filter(|annotations| !annotations.is_empty()));
        serde_json::to_vec(&state).map_err(std::io::Error::from).step(|| "encode the state for hooks")
    }
}

/// Runs the hooks of a stage in order; the first failure ends it.
pub(crate) fn run(subject: Subject<'_>, stage: Stage) -> Result<()> {
    let hooks = of(subject.spec, stage);
    if hooks.is_empty() {
        return Ok(());
    }
    let state = subject.state(stage)?;
    hooks.iter().try_for_each(|hook| run_one(hook, stage, &state))
}

/// Runs the hooks of a stage whose failures do not matter to the container; gives all of them a chance.
pub(crate) fn run_all(subject: Subject<'_>, stage: Stage) -> Vec<RuntimeError> {
    let hooks = of(subject.spec, stage);
    let state = match subject.state(stage) {
        Ok(state) => state,
        Err(error) => return vec![error],
    };
    hooks.iter().filter_map(|hook| run_one(hook, stage, &state).err()).collect()
}

/// What a hook wrote to stderr is kept up to this length.
const LONGEST_OUTPUT: usize = 4096;

fn run_one(hook: &Hook, stage: Stage, state: &[u8]) -> Result<()> {
    let failed =
        |reason: String| RuntimeError::Hook { stage: stage.name(), path: hook.path().clone(), reason };
    if !hook.path().is_absolute() {
        return Err(failed("the path is not absolute".to_owned()));
    }
    let strings = |list: &[String]| {
        list.iter().map(|text| CString::new(text.as_str())).collect::<std::result::Result<Vec<_>, _>>()
    };
    let path = hook.path().to_string_lossy().into_owned();
    let program = CString::new(path.as_str()).map_err(|error| failed(error.to_string()))?;
    let own_name = [path];
    let arguments = hook.args().as_deref().filter(|arguments| !arguments.is_empty()).unwrap_or(&own_name);
    let arguments = StringVector::new(strings(arguments).map_err(|error| failed(error.to_string()))?);
    let environment =
        strings(hook.env().as_deref().unwrap_or_default()).map_err(|error| failed(error.to_string()))?;
    let environment = StringVector::new(environment);
    let (stdin, state_writer) = pipe_with(PipeFlags::CLOEXEC).step(|| "create a pipe for a hook")?;
    let (output, stderr) = pipe_with(PipeFlags::CLOEXEC).step(|| "create a pipe for a hook")?;
    match sys::clone_process(CloneRequest::default()).step(|| "start a hook")? {
        Cloned::Child => {
            let error = become_hook(&stdin, &stderr, &program, (&arguments, &environment));
            // The message of a failed start goes where the hook's own would.
            let _ = rustix::io::write(rustix::stdio::stderr(), error.to_string().as_bytes());
            sys::exit_now(127);
        }
        Cloned::Parent { pidfd, .. } => {
            drop((stdin, stderr));
            feed(&state_writer, state);
            drop(state_writer);
            let timeout =
                hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
            supervise(&pidfd, &output, timeout.map(Duration::from_secs)).map_err(failed)
        }
    }
}

fn become_hook(
    stdin: &OwnedFd,
    stderr: &OwnedFd,
    program: &CString,
    (arguments, environment): (&StringVector, &StringVector),
) -> std::io::Error {
    sys::reset_signals();
    let connected = rustix::stdio::dup2_stdin(stdin)
        .and_then(|()| rustix::stdio::dup2_stdout(stderr))
        .and_then(|()| rustix::stdio::dup2_stderr(stderr));
    if let Err(error) = connected {
        return error.into();
    }
    if let Err(error) = sys::close_range(3, u32::MAX, CloseMode::OnExec) {
        return error;
    }
    sys::execute(program, arguments, environment)
}

/// Writes the state; a state fits into a pipe's buffer, and a hook that does not read it must not stop the runtime.
fn feed(writer: &OwnedFd, state: &[u8]) {
    let _ = rustix::io::ioctl_fionbio(writer, true);
    let _ = rustix::io::write(writer, state);
}

/// Waits for the end of the hook and judges it.
fn supervise(
    pidfd: &OwnedFd,
    output: &OwnedFd,
    timeout: Option<Duration>,
) -> std::result::Result<(), String> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut text = Vec::new();
    let _ = rustix::io::ioctl_fionbio(output, true);
    loop {
        let mut events = [PollFd::new(pidfd, PollFlags::IN), PollFd::new(output, PollFlags::IN)];
        // Once the output is at its end, only the process is of interest.
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut events, left.as_ref()) {
            Ok(0) => {
                let _ = pidfd_send_signal(pidfd, Signal::KILL);
                let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
                return Err(format!("timed out after {} s", timeout.unwrap_or_default().as_secs()));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("cannot wait for it: {error}")),
        }
        let ended = events.first().is_some_and(|event| !event.revents().is_empty());
        let at_end = drain(output, &mut text);
        if ended {
            return judge(pidfd, &text);
        }
        if at_end && let Err(reason) = wait_for_process(pidfd, deadline) {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            return Err(reason);
        }
    }
}

/// Waits for the process alone; the closed output would make poll return at once for ever.
fn wait_for_process(pidfd: &OwnedFd, deadline: Option<Instant>) -> std::result::Result<(), String> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    let mut events = [PollFd::new(pidfd, PollFlags::IN)];
    match poll(&mut events, left.as_ref()) {
        Ok(0) => Err("timed out".to_owned()),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(format!("cannot wait for it: {error}")),
    }
}

/// Reads what is there; true at the end of the stream.
fn drain(output: &OwnedFd, text: &mut Vec<u8>) -> bool {
    let mut buffer = [0_u8; 1024];
    loop {
        match rustix::io::read(output, &mut buffer) {
            Ok(0) => return true,
            Ok(length) => {
                let room = LONGEST_OUTPUT.saturating_sub(text.len()).min(length);
                text.extend_from_slice(buffer.get(..room).unwrap_or_default());
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn judge(pidfd: &OwnedFd, output: &[u8]) -> std::result::Result<(), String> {
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
        .map_err(|error| format!("cannot reap it: {error}"))?;
    let output = String::from_utf8_lossy(output);
    let output = output.trim();
    match status.as_ref().map(|status| (status.exit_status(), status.terminating_signal())) {
        Some((Some(0), _)) => Ok(()),
        Some((Some(code), _)) => Err(format!("exit status {code}, output: {output}")),
        Some((None, Some(signal))) => Err(format!("killed by signal {signal}, output: {output}")),
        _ => Err("it ended in an unknown way".to_owned()),
    }
}
