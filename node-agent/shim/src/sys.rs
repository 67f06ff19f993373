//! The few system calls and allocator settings that no safe crate offers.
//!
//! Start reading anywhere; every function is a thin wrapper that states its precondition. No policy here.

#![expect(
    unsafe_code,
    reason = "signal handling, close_range, fork, unshare and malloc settings have no safe wrapper"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::Pid;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The signals that a shim takes notice of (SIGCHLD) or must not die of. They are blocked rather than ignored: an
/// ignored signal would stay ignored in the container's program.
const HANDLED_SIGNALS: [libc::c_int; 9] = [
    libc::SIGCHLD,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGWINCH,
];

/// Gives every signal its default meaning, except SIGPIPE, which stays ignored here and is reset by whoever starts a
/// program. What the daemon's own parent had ignored would otherwise be ignored in every container.
pub(crate) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        if signal != libc::SIGPIPE {
            // SAFETY: the default action is always valid; for the two signals that have no other the call only fails.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// Makes a command start its program with no signal blocked.
pub(crate) fn unblock_signals_in(command: &mut Command) {
    let unblock = || {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set that it is given a valid pointer to.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: the set was just initialised; the old mask is not asked for.
        let changed = unsafe { libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) };
        if changed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: the closure runs in the child between fork and exec; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(unblock) };
}

/// Blocks the handled signals and returns a non-blocking descriptor that reads them.
pub(crate) fn signal_descriptor() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that it is given a valid pointer to.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised by the call above.
    let mut set = unsafe { set.assume_init() };
    for signal in HANDLED_SIGNALS {
        // SAFETY: the set is initialised and the number is that of a signal.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: the set is initialised; the old mask is not asked for.
    let blocked = unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if blocked != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the set is initialised; -1 asks for a new descriptor.
    let descriptor = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Closes every descriptor from `first` on, whoever opened it.
///
/// Only for the very start of the process (or of a forked child that lives on with raw numbers), when no value owns
/// any of them.
pub(crate) fn close_descriptors_from(first: u32) {
    // SAFETY: the caller guarantees that no owned descriptor lies in the range; a failure leaves them open, which is
    // harmless beyond their number.
    unsafe { libc::close_range(first, u32::MAX, 0) };
}

/// What [`fork`] returned.
pub(crate) enum Forked {
    /// In the parent: the child.
    Parent(Pid),
    /// In the child.
    Child,
}

/// Forks this process, which has one thread; the child must end with [`exit_now`].
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: the shim has exactly one thread, so the child may do whatever the parent might.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => Ok(Forked::Child),
        _ => Pid::from_raw(pid).filter(|_| pid > 0).map(Forked::Parent).ok_or_else(io::Error::last_os_error),
    }
}

/// Ends a forked child without running anything of its parent's.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: always sound; it runs no destructors, which is what is wanted.
    unsafe { libc::_exit(code) }
}

/// Sends a signal to one process. `Ok(false)`: the process is gone.
pub(crate) fn send_signal(pid: Pid, signal: i32) -> io::Result<bool> {
    // SAFETY: the call touches no memory; a wrong signal number is an error of its own.
    if unsafe { libc::kill(Pid::as_raw(Some(pid)), signal) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(false) } else { Err(error) }
}

/// Gives this process a mount namespace of its own.
pub(crate) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: the flag concerns mounts only; no descriptor table is shared or split by it.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?)
}

/// Tells the allocator to return big blocks to the kernel when they are freed, whatever it has learnt meanwhile.
pub(crate) fn keep_heap_small() {
    const BIG: libc::c_int = 32 * 1024;
    // SAFETY: sets a parameter of the allocator; any value is allowed.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, BIG) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, BIG) };
    // SAFETY: as above. The heap then grows by pages and not by 128 KiB steps.
    unsafe { libc::mallopt(libc::M_TOP_PAD, 0) };
}
