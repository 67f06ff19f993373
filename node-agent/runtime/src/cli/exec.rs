//! `exec`: a process more in a running container, from a file or from options.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::PathBuf;

use oci_spec::runtime::{Capability, LinuxCapabilities, Process, Spec, User};

use super::Invocation;
use super::store::{Found, write_pid_file};
use super::terminal::{self, Session};
use crate::container::{ExecProcess, ExecRequest, SeccompSource, Stdio, TerminalSize};
use crate::error::{Context, Result, RuntimeError};
use crate::{listener, sys};

/// The options of `exec`.
#[derive(Debug, Default)]
struct ExecArguments {
    process: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    cwd: Option<PathBuf>,
    env: Vec<String>,
    user: Option<String>,
    additional_gids: Vec<u32>,
    capabilities: Vec<String>,
    apparmor: Option<String>,
    process_label: Option<String>,
    preserved_fds: u32,
    flags: HashSet<&'static str>,
}

impl ExecArguments {
    fn read(invocation: &mut Invocation) -> Result<Self> {
        let mut read = Self::default();
        let arguments = &mut invocation.arguments;
        while let Some(option) = arguments.next_option()? {
            match option.as_str() {
                "process" | "p" => read.process = Some(arguments.value()?.into()),
                "console-socket" => read.console_socket = Some(arguments.value()?.into()),
                "pid-file" => read.pid_file = Some(arguments.value()?.into()),
                "cwd" => read.cwd = Some(arguments.value()?.into()),
                "env" | "e" => read.env.push(arguments.text()?),
                "user" | "u" => read.user = Some(arguments.text()?),
                "additional-gids" | "g" => read.additional_gids.push(arguments.number()?),
                "cap" | "c" => read.capabilities.push(arguments.text()?),
                "apparmor" => read.apparmor = Some(arguments.text()?),
                "process-label" => read.process_label = Some(arguments.text()?),
                "preserve-fds" => read.preserved_fds = arguments.number()?,
                "tty" | "t" => drop(read.flags.insert("tty")),
                "detach" | "d" => drop(read.flags.insert("detach")),
                "no-new-privs" => drop(read.flags.insert("no-new-privs")),
                "ignore-paused" => drop(read.flags.insert("ignore-paused")),
                "no-subreaper" => {}
                "cgroup" => {
                    return Err(RuntimeError::Unsupported("exec --cgroup".to_owned()));
                }
                other => return Err(arguments.unknown(other)),
            }
        }
        Ok(read)
    }

    /// Makes the process: from the file, or the container's own with what the options change.
    fn process(&self, spec: &Spec, program: Vec<String>) -> Result<Process> {
        if let Some(path) = &self.process {
            let text = std::fs::read(path).step(|| format!("read {}", path.display()))?;
            return serde_json::from_slice(&text)
                .map_err(|error| RuntimeError::InvalidSpec(format!("{}: {error}", path.display())));
        }
        let mut process = spec.process().clone().unwrap_or_default();
        process.set_args(Some(program)).set_terminal(Some(self.flags.contains("tty")));
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        let mut environment = process.env().clone().unwrap_or_default();
        environment.extend(self.env.iter().cloned());
        process.set_env(Some(environment));
        if let Some(user) = &self.user {
            let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
            let number = |text: &str| {
                text.parse().map_err(|_| RuntimeError::InvalidSpec(format!("{text:?} is not a numeric id")))
            };
            let mut new_user = User::default();
            new_user.set_uid(number(uid)?).set_gid(number(gid)?);
            process.set_user(new_user);
        }
        if !self.additional_gids.is_empty() {
            let mut user = process.user().clone();
            user.set_additional_gids(Some(self.additional_gids.clone()));
            process.set_user(user);
        }
        self.set_security(&mut process)?;
        Ok(process)
    }

    fn set_security(&self, process: &mut Process) -> Result<()> {
        if self.flags.contains("no-new-privs") {
            process.set_no_new_privileges(Some(true));
        }
        if let Some(profile) = &self.apparmor {
            process.set_apparmor_profile(Some(profile.clone()));
        }
        if let Some(label) = &self.process_label {
            process.set_selinux_label(Some(label.clone()));
        }
        for name in &self.capabilities {
            let capability: Capability = serde_json::from_value(serde_json::Value::String(name.clone()))
                .map_err(|_| RuntimeError::InvalidSpec(format!("unknown capability {name:?}")))?;
            let mut sets = process.capabilities().clone().unwrap_or_else(empty_capabilities);
            let with = |set: &Option<HashSet<Capability>>| {
                let mut set = set.clone().unwrap_or_default();
                set.insert(capability);
                Some(set)
            };
            let (bounding, effective, permitted) =
                (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
            sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
            process.set_capabilities(Some(sets));
        }
        Ok(())
    }
}

fn empty_capabilities() -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(None).set_effective(None).set_permitted(None).set_inheritable(None).set_ambient(None);
    sets
}

/// Adds a process to a running container; in the foreground its exit status becomes the command's.
pub(super) fn exec(mut invocation: Invocation) -> Result<u8> {
    let arguments = ExecArguments::read(&mut invocation)?;
    let id = invocation.arguments.id()?;
    let program = invocation.arguments.rest()?;
    let entry = invocation.store.entry(&id)?;
    let spec = invocation.store.spec(&id)?;
    let container = match invocation.store.find(&entry.record)? {
        Found::Paused(_) if !arguments.flags.contains("ignore-paused") => {
            return Err(RuntimeError::WrongState { operation: "exec in", status: "paused" });
        }
        other => other.alive("exec in")?,
    };
    let process = arguments.process(&spec, program)?;
    let has_terminal = process.terminal().unwrap_or(false) || arguments.flags.contains("tty");
    let is_detached = arguments.flags.contains("detach");
    if is_detached && has_terminal && arguments.console_socket.is_none() {
        return Err(RuntimeError::InvalidSpec(
            "cannot allocate tty if runtime will detach without setting console socket".to_owned(),
        ));
    }
    let request = ExecRequest {
        container: &container,
        spec: &spec,
        process: &process,
        stdio: if has_terminal { Stdio::Terminal(size_of(&process)) } else { Stdio::Inherit },
        seccomp: SeccompSource::FromSpec,
        preserved_fds: arguments.preserved_fds,
    };
    let mut executed = crate::exec(&request)?;
    invocation.log.warnings(&executed.warnings);
    if let Some(path) = &arguments.pid_file {
        write_pid_file(path, executed.pid)?;
    }
    if let Some(socket) = &arguments.console_socket
        && let Some(master) = executed.terminal.take()
    {
        listener::send_descriptor(socket, b"/dev/pts/ptmx", master.as_fd())?;
    }
    if is_detached { Ok(0) } else { stay(executed) }
}

fn size_of(process: &Process) -> TerminalSize {
    let number = |number: u64| u16::try_from(number).unwrap_or(0);
    process.console_size().map_or_else(TerminalSize::default, |size| TerminalSize {
        rows: number(size.height()),
        columns: number(size.width()),
    })
}

fn stay(executed: ExecProcess) -> Result<u8> {
    let session = Session::open(executed.terminal)?;
    session.serve(executed.pidfd.as_fd(), |signal| {
        // The process may have ended meanwhile; that is seen next.
        let _ = sys::signal_process(&executed.pidfd, signal);
    })?;
    let status = rustix::process::waitid(
        rustix::process::WaitId::PidFd(executed.pidfd.as_fd()),
        rustix::process::WaitIdOptions::EXITED,
    )
    .step(|| "reap the exec process")?;
    let status = status.and_then(|status| {
        status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
    });
    Ok(terminal::exit_status(status.unwrap_or(0)))
}
