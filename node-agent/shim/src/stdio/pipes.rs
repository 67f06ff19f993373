//! Makes the ends of a process' standard streams.
//!
//! Start reading at [`make`]. Ours are non-blocking, the process' are as a program expects them. Nothing is watched or
//! read here.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::pty::OpenptFlags;

use super::null::{self, NullDevice};

/// How much output the kernel keeps for us: the most that it grants without asking for privileges. It is taken only
/// when it is used, and lets a process write on while we write its log.
const PIPE_LEN: usize = 1024 * 1024;

/// Which of a process' streams lead to us; the others are the null device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// User and group of the process' ends; ours when left out.
    pub(crate) owner: Option<(u32, u32)>,
    /// Whose null device the others are.
    pub(crate) null: NullDevice,
}

/// What becomes descriptors 0, 1 and 2 of a process.
#[derive(Debug)]
pub(crate) struct ChildEnds {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// The ends that we keep.
#[derive(Debug)]
pub(super) struct OurEnds {
    pub(super) input: Option<OwnedFd>,
    /// Standard output and standard error.
    pub(super) outputs: [Option<OwnedFd>; 2],
}

/// Makes both sides.
pub(super) fn make(plan: Plan) -> io::Result<(OurEnds, ChildEnds)> {
    let (stdin, input) = if plan.stdin {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&ours)?;
        give(&theirs, plan.owner)?;
        (theirs, Some(ours))
    } else {
        (null::open(plan.null, OFlags::RDONLY)?, None)
    };
    let (stdout, our_stdout) = output(plan.stdout, plan)?;
    let (stderr, our_stderr) = output(plan.stderr, plan)?;
    Ok((OurEnds { input, outputs: [our_stdout, our_stderr] }, ChildEnds { stdin, stdout, stderr }))
}

fn output(is_wanted: bool, plan: Plan) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    if !is_wanted {
        return Ok((null::open(plan.null, OFlags::WRONLY)?, None));
    }
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&ours)?;
    // Refused when the user has too many pipes; the usual size works as well, only slower.
    let _ = fcntl_setpipe_size(&ours, PIPE_LEN);
    give(&theirs, plan.owner)?;
    Ok((theirs, Some(ours)))
}

/// Lets the owner open the end anew, by `/dev/stdout` and the like.
fn give(end: &OwnedFd, owner: Option<(u32, u32)>) -> io::Result<()> {
    match owner {
        Some((uid, gid)) => std::os::unix::fs::fchown(end, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

/// Makes reads and writes return at once.
pub(super) fn set_nonblocking(end: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&end)?;
    Ok(fcntl_setfl(&end, flags | OFlags::NONBLOCK)?)
}

/// Opens the other side of a terminal, without making it ours.
pub(super) fn open_slave(master: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    Ok(rustix::pty::ioctl_tiocgptpeer(master, flags)?)
}
