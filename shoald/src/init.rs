//! The init process of containers that want one (`--init`): starts the container's command, passes signals on to it,
//! buries the dead, and ends as the command ends.
//!
//! Start reading at [`run`]. It is what `/sbin/docker-init` is inside a container: a copy of this program. No threads but the first,
//! no allocation in the loop: it stays as long as the container does.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, tcsetpgrp};

/// Exit codes of shells: the command is there but cannot be run, the command is not there.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended a command.
const SIGNAL_BASE: i32 = 128;

/// Runs as init: `[--] COMMAND [ARGUMENT...]`.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.skip_while(|argument| argument == "--");
    let Some(command) = arguments.next() else {
        return crate::fail(&"docker-init: a command is needed");
    };
    // From here on signals wait until they are asked for, so that none is lost before the command runs.
    let all = SigSet::all();
    if let Err(error) = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&all), None) {
        return crate::fail(&format!("docker-init: block signals: {error}"));
    }
    let child = match spawn(&command, arguments) {
        Ok(child) => child,
        Err(error) => {
            let _ = crate::fail(&format!("docker-init: exec {}: {error}", command.to_string_lossy()));
            let is_missing = error.kind() == std::io::ErrorKind::NotFound;
            return ExitCode::from(if is_missing { NOT_FOUND } else { NOT_EXECUTABLE });
        }
    };
    // The command gets the terminal, if there is one; we are no longer in the group that the keyboard reaches.
    if std::io::stdin().is_terminal() {
        let _ = tcsetpgrp(std::io::stdin(), child);
        // It may have been stopped for reading too early.
        let _ = kill(child, Signal::SIGCONT);
    }
    loop {
        match all.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = bury(child) {
                    return ExitCode::from(code);
                }
            }
            Ok(signal) => {
                let _ = kill(child, signal);
            }
            Err(_) => {}
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "starting the container's command is what an init process is for"
)]
fn spawn(command: &OsString, arguments: impl Iterator<Item = OsString>) -> std::io::Result<Pid> {
    // The library gives the child an empty signal mask and a default SIGPIPE.
    let child = std::process::Command::new(command).args(arguments).process_group(0).spawn()?;
    Ok(Pid::from_raw(i32::try_from(child.id()).map_err(std::io::Error::other)?))
}

/// Reaps whoever has died. Returns the exit code once it was the command.
fn bury(child: Pid) -> Option<u8> {
    let mut code = None;
    loop {
        let ended = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => (pid, status),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, SIGNAL_BASE + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return code,
            Ok(_) | Err(_) => continue,
        };
        if ended.0 == child {
            code = Some(u8::try_from(ended.1 & 0xff).unwrap_or(u8::MAX));
        }
    }
}
