//! The raw calls of project quotas, for which there is no safe binding. One of the few files with `unsafe`.
//!
//! Start reading at [`set_project`] and [`set_limits`]. By descriptors only (quotactl_fd(2), Linux 5.14): no device node is
//! looked for. Layouts and numbers: linux/fs.h, linux/quota.h, linux/dqblk_xfs.h.
#![expect(
    unsafe_code,
    reason = "two system calls without a safe binding: ioctl FS_IOC_FSSETXATTR and quotactl_fd"
)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

const FS_IOC_FSGETXATTR: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const FS_IOC_FSSETXATTR: libc::Ioctl = 0x401c_5820;
/// `FS_XFLAG_PROJINHERIT`: what is made in the directory belongs to its project too.
const INHERIT: u32 = 0x200;

const Q_GETQUOTA: u32 = 0x80_0007;
const Q_SETQUOTA: u32 = 0x80_0008;
const Q_XGETQSTAT: u32 = 0x5805;
const PRJQUOTA: u32 = 2;
/// `FS_QUOTA_PDQ_ENFD`: limits of projects are enforced.
const PROJECTS_ENFORCED: u16 = 1 << 5;
/// `QIF_BLIMITS`.
const BLOCK_LIMITS: u32 = 1;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct FileAttributes {
    flags: u32,
    extent_len: u32,
    n_extents: u32,
    project: u32,
    copy_extent_len: u32,
    padding: [u8; 8],
}

/// `struct if_dqblk`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct DiskQuota {
    block_hard_limit: u64,
    block_soft_limit: u64,
    bytes: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// Room for `struct fs_quota_stat` (80 bytes), and for what a later kernel may add.
#[repr(C, align(8))]
struct QuotaState {
    version: i8,
    flags: u16,
    rest: [u8; 252],
}

/// What a project may hold; 0 is anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Limits {
    /// In units of 1024 bytes.
    pub(super) blocks: u64,
}

/// The project that a file belongs to; 0 is none.
pub(super) fn project(file: BorrowedFd<'_>) -> io::Result<u32> {
    attributes(file).map(|attributes| attributes.project)
}

/// Makes a directory, and what will be made in it, part of a project.
pub(super) fn set_project(directory: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = attributes(directory)?;
    attributes.flags |= INHERIT;
    attributes.project = project;
    // SAFETY: the kernel reads exactly this structure, which lives for the duration of the call.
    checked(unsafe { libc::ioctl(directory.as_raw_fd(), FS_IOC_FSSETXATTR, &raw const attributes) }.into())
}

/// Sets the limits of a project.
pub(super) fn set_limits(on: BorrowedFd<'_>, project: u32, limits: Limits) -> io::Result<()> {
    let mut quota = DiskQuota {
        block_hard_limit: limits.blocks,
        block_soft_limit: limits.blocks,
        valid: BLOCK_LIMITS,
        ..DiskQuota::default()
    };
    quota_call(on, Q_SETQUOTA, project, (&raw mut quota).cast())
}

/// Whether a file system knows of a project: limits, or files that belong to it.
pub(super) fn is_used(on: BorrowedFd<'_>, project: u32) -> io::Result<bool> {
    let mut quota = DiskQuota::default();
    match quota_call(on, Q_GETQUOTA, project, (&raw mut quota).cast()) {
        Ok(()) => {
            let figures = [quota.block_hard_limit, quota.block_soft_limit, quota.bytes, quota.inodes];
            Ok(figures.iter().any(|figure| *figure != 0))
        }
        // xfs has no entry for what was never used.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether limits of projects are enforced.
pub(super) fn is_enforced(on: BorrowedFd<'_>) -> io::Result<bool> {
    let mut state = QuotaState { version: 1, flags: 0, rest: [0; 252] };
    quota_call(on, Q_XGETQSTAT, 0, (&raw mut state).cast())?;
    let QuotaState { flags, .. } = state;
    Ok(flags & PROJECTS_ENFORCED != 0)
}

fn attributes(file: BorrowedFd<'_>) -> io::Result<FileAttributes> {
    let mut attributes = FileAttributes::default();
    // SAFETY: the kernel writes exactly this structure, which lives for the duration of the call.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attributes) }.into())?;
    Ok(attributes)
}

/// quotactl_fd(2) about projects. `data` points to what the command reads or writes.
fn quota_call(on: BorrowedFd<'_>, command: u32, project: u32, data: *mut libc::c_void) -> io::Result<()> {
    let command = command << 8 | PRJQUOTA;
    // SAFETY: `data` points to a structure of the caller's that is at least as long as the command's and outlives the call.
    checked(unsafe { libc::syscall(libc::SYS_quotactl_fd, on.as_raw_fd(), command, project, data) })
}

fn checked(code: i64) -> io::Result<()> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
