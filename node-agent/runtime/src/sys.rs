//! The kernel interfaces that no safe library offers, each as one small safe function.
//!
//! This is the only file of the crate with `unsafe` in it. Everything here is a thin wrapper: no policy, no retries, no
//! error texts. The functions assume what the whole crate assumes: the calling process has one thread.
#![expect(unsafe_code, reason = "raw system calls without a safe wrapper in rustix")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// From `linux/sched.h`; the libc crate's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`clone_process`] the caller is on.
#[derive(Debug)]
pub(crate) enum Cloned {
    /// The calling process, with the new child.
    Parent {
        /// Its pid in the caller's pid namespace.
        pid: i32,
        /// Its pid descriptor, close-on-exec.
        pidfd: OwnedFd,
    },
    /// The new process.
    Child,
}

/// What clone3(2) is asked for besides a copy of the process.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct CloneRequest<'a> {
    /// `CLONE_NEW*` and other flags; `CLONE_PIDFD` is added.
    pub(crate) flags: u64,
    /// The cgroup v2 directory in which the child starts.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// Copies the process as fork(2) does, into new namespaces and a cgroup.
pub(crate) fn clone_process(request: CloneRequest<'_>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut flags = request.flags | libc::CLONE_PIDFD as u64;
    let mut cgroup = 0;
    if let Some(directory) = request.cgroup {
        flags |= CLONE_INTO_CGROUP;
        cgroup = u64::from(directory.as_raw_fd().unsigned_abs());
    }
    // With CLONE_PARENT the kernel refuses an exit signal of the child's own: it inherits the caller's.
    let inherits_signal = flags & libc::CLONE_PARENT as u64 != 0;
    let mut arguments = libc::clone_args {
        flags,
        pidfd: std::ptr::addr_of_mut!(pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: if inherits_signal { 0 } else { u64::from(libc::SIGCHLD.unsigned_abs()) },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup,
    };
    let size = size_of::<libc::clone_args>();
    // SAFETY: the argument block is valid for the call and of the stated size; no CLONE_VM is ever asked for, so the
    // child owns a copy of all memory, and the process has one thread, so no lock can be held by another.
    let result = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::addr_of_mut!(arguments), size) };
    match checked(result)? {
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel has stored a new descriptor that nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            Ok(Cloned::Parent { pid, pidfd })
        }
    }
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct MountAttributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns: u64,
}

/// Changes the attributes of the mount that `fd` is in, and of those below it with `AT_RECURSIVE`.
pub(crate) fn mount_setattr(fd: impl AsFd, flags: i32, attributes: MountAttributes) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    let size = size_of::<MountAttributes>();
    let flags = flags | libc::AT_EMPTY_PATH;
    // SAFETY: the path is an empty C string, the attribute block is valid and of the stated size.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw const attributes, size)
    };
    checked(result).map(drop)
}

/// Leaves the cgroup namespace for a new one rooted at the present cgroups.
pub(crate) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: only namespace flags are passed, never CLONE_FILES, so no descriptor changes its owner.
    checked(i64::from(unsafe { libc::unshare(flags) })).map(drop)
}

/// Joins the namespaces `flags` of the process behind `fd`, or the one namespace behind `fd`.
pub(crate) fn setns(fd: impl AsFd, flags: i32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    checked(i64::from(unsafe { libc::setns(fd.as_fd().as_raw_fd(), flags) })).map(drop)
}

/// One instruction of classic BPF, as seccomp(2) reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BpfInstruction {
    pub(crate) code: u16,
    pub(crate) jump_true: u8,
    pub(crate) jump_false: u8,
    pub(crate) operand: u32,
}

/// Loads a system call filter; returns the listener when `SECCOMP_FILTER_FLAG_NEW_LISTENER` is among the flags.
pub(crate) fn load_seccomp(instructions: &[BpfInstruction], flags: u64) -> io::Result<Option<OwnedFd>> {
    #[repr(C)]
    struct Header {
        length: u16,
        filter: *const BpfInstruction,
    }
    let length =
        u16::try_from(instructions.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let header = Header { length, filter: instructions.as_ptr() };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the header points to `length` instructions that live for the call; the kernel verifies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const header) };
    let result = checked(result)?;
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    let listener = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: with this flag the result is a new descriptor that nothing else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(listener) }))
}

/// Calls bpf(2) with an attribute block in native byte order; returns its result.
///
/// Addresses in the block must come from [`address_of`] of memory that outlives the call.
pub(crate) fn bpf(command: u32, attributes: &mut [u8]) -> io::Result<i64> {
    // SAFETY: the block is valid for its length; what the kernel reads through addresses inside it is kept alive by
    // the callers (`cgroup/bpf.rs`), which build the block from slices they hold.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), attributes.len()) };
    checked(result)
}

/// Gives the address of a buffer for [`bpf`].
pub(crate) fn address_of(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

/// Gives the address of a buffer that [`bpf`] fills.
pub(crate) fn address_of_mut(bytes: &mut [u8]) -> u64 {
    bytes.as_mut_ptr() as u64
}

/// Takes over a descriptor number that a system call of this module has just returned, or that another process has
/// placed in the shared table for this one.
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass numbers that the kernel has just handed out and nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Joins a new session keyring of that name.
pub(crate) fn join_session_keyring(name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a C string that lives for the call.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    checked(result).map(drop)
}

/// `struct sched_attr` of sched_setattr(2), first version.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct SchedulerAttributes {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// Sets the scheduling policy of the calling process.
pub(crate) fn set_scheduler(attributes: SchedulerAttributes) -> io::Result<()> {
    // SAFETY: the block is valid and states its own size.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    checked(result).map(drop)
}

/// Sets the IO priority of the calling process.
pub(crate) fn set_io_priority(priority: i32) -> io::Result<()> {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: takes no pointers.
    checked(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) }).map(drop)
}

/// Sets the execution domain.
pub(crate) fn set_personality(persona: u64) -> io::Result<()> {
    // SAFETY: takes no pointers.
    checked(i64::from(unsafe { libc::personality(persona) })).map(drop)
}

/// Sets the NIS domain name of the UTS namespace.
pub(crate) fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: the buffer is valid for its length.
    checked(i64::from(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) })).map(drop)
}

/// Makes the kernel judge file access as that user and group, keeping all else; returns nothing, as the kernel does.
pub(crate) fn set_filesystem_ids(uid: u32, gid: u32) {
    // SAFETY: takes no pointers.
    unsafe { libc::setfsgid(gid) };
    // SAFETY: takes no pointers.
    unsafe { libc::setfsuid(uid) };
}

/// Sends a signal, by number, to the process behind a pid descriptor.
pub(crate) fn signal_process(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: without signal information the kernel makes its own.
    checked(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) }).map(drop)
}

/// Sends a signal, by number, to a process; never to a group.
pub(crate) fn signal_pid(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: takes no pointers.
    checked(i64::from(unsafe { libc::kill(pid, signal) })).map(drop)
}

/// What [`close_range`] does with the descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseMode {
    /// Closes them now.
    Now,
    /// Marks them to be closed by execve(2).
    OnExec,
}

/// Closes all descriptors from `first` to `last`, both included.
pub(crate) fn close_range(first: u32, last: u32, mode: CloseMode) -> io::Result<()> {
    let flags = match mode {
        CloseMode::Now => 0,
        CloseMode::OnExec => libc::CLOSE_RANGE_CLOEXEC,
    };
    // SAFETY: takes no pointers; callers exclude the descriptors that are still owned by live values.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// Gives every signal its default action and unblocks all of them.
///
/// Ignored signals survive execve(2): Rust programs ignore SIGPIPE, and a container must not inherit that.
pub(crate) fn reset_signals() {
    // The kernel's own form, handler, flags, restorer and mask: the C library's refuses two of the numbers.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        let old = std::ptr::null_mut::<u64>();
        // SAFETY: all zeroes is SIG_DFL with an empty mask of the stated size; numbers that cannot be changed are
        // refused by the kernel, which is fine.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, size_of::<u64>()) };
    }
    // SAFETY: an all-zero set is the empty set.
    let empty: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid, the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()) };
}

/// Blocks signals and makes them readable from a descriptor instead.
pub(crate) fn signal_descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: an all-zero set is a valid empty set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in signals {
        // SAFETY: the set is valid; bad numbers are refused.
        checked(i64::from(unsafe { libc::sigaddset(&raw mut set, *signal) }))?;
    }
    // SAFETY: the set is valid, the old one is not asked for.
    checked(i64::from(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) }))?;
    // SAFETY: the set is valid; -1 asks for a new descriptor.
    let fd = checked(i64::from(unsafe {
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    }))?;
    Ok(adopt(i32::try_from(fd).map_err(io::Error::other)?))
}

/// The length of what is read from [`signal_descriptor`] for each signal; its first word is the number.
pub(crate) const SIGNAL_INFO_LENGTH: usize = size_of::<libc::signalfd_siginfo>();

/// Arguments or environment in the form that execve(2) takes: built before the last descriptor is closed.
#[derive(Debug)]
pub(crate) struct StringVector {
    strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl StringVector {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self { strings, pointers }
    }

    pub(crate) fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// Replaces the program; returns only when that failed.
pub(crate) fn execute(path: &CStr, arguments: &StringVector, environment: &StringVector) -> io::Error {
    // SAFETY: path and both vectors are valid, NUL-terminated and null-terminated, and outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends the process without running anything of the copied parent (destructors, exit handlers, buffers).
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// Tells whether a descriptor number is open.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: takes no pointers.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Clears close-on-exec of a descriptor number that the caller's process inherited (`--preserve-fds`).
pub(crate) fn keep_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: takes no pointers.
    checked(i64::from(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })).map(drop)
}

fn checked(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
