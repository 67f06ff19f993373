//! The one raw call of listening, for which there is no safe binding. The only file of this crate with `unsafe`.
//!
//! Start reading at [`unread`].
#![expect(unsafe_code, reason = "one system call without a safe binding: ioctl SIOCOUTQ")]

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// `SIOCOUTQ` of linux/sockios.h.
const SIOCOUTQ: Opcode = 0x5411;

/// How much of what was written into this unix socket the other side has not read, with what the kernel adds for itself.
pub(super) fn unread(socket: impl AsFd) -> io::Result<usize> {
    // SAFETY: `unix_ioctl` of the kernel writes one `int` for this number.
    let question = unsafe { Getter::<SIOCOUTQ, i32>::new() };
    // SAFETY: the call does nothing but that.
    let bytes = unsafe { ioctl(socket, question) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}
