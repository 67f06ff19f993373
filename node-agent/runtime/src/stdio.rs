//! Descriptors 0, 1 and 2 of a process, and the closing of all that it must not inherit.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::container::Stdio;
use crate::error::{Context, Result};
use crate::sys::{self, CloseMode};

/// Puts the wanted descriptors at 0, 1 and 2.
pub(crate) fn connect(stdio: Stdio<'_>) -> Result<()> {
    let Stdio::Fds { stdin, stdout, stderr } = stdio else { return Ok(()) };
    // Copies out of the way first: one of them may stand where another has to go.
    let copy = |fd: BorrowedFd<'_>| -> Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(fd, 3).step(|| "copy a stdio descriptor")
    };
    let in_place = stdin.as_raw_fd() > 2 && stdout.as_raw_fd() > 2 && stderr.as_raw_fd() > 2;
    if in_place {
        return place(stdin, stdout, stderr);
    }
    let (stdin, stdout, stderr) = (copy(stdin)?, copy(stdout)?, copy(stderr)?);
    use std::os::fd::AsFd as _;
    place(stdin.as_fd(), stdout.as_fd(), stderr.as_fd())
}

fn place(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> Result<()> {
    rustix::stdio::dup2_stdin(stdin).step(|| "connect stdin")?;
    rustix::stdio::dup2_stdout(stdout).step(|| "connect stdout")?;
    rustix::stdio::dup2_stderr(stderr).step(|| "connect stderr")
}

/// Closes every descriptor but stdio, those preserved for the program, and those listed.
///
/// Done first in every clone, so that nothing of the caller's (sockets, logs, other containers) is ever in a process
/// that a container could look at.
pub(crate) fn close_all_but(kept: &[i32], preserved: u32) -> Result<()> {
    let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    let mut next = 3 + preserved;
    for fd in kept {
        if fd > next {
            sys::close_range(next, fd - 1, CloseMode::Now).step(|| "close descriptors")?;
        }
        next = next.max(fd + 1);
    }
    sys::close_range(next, u32::MAX, CloseMode::Now).step(|| "close descriptors")
}
