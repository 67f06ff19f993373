//! Owner, mode, times and extended attributes of files, read and set without following links.
//!
//! Start reading at [`copy`]. Attributes that steer overlayfs or belong to the host's security module stay behind.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// An extended attribute: name and value.
pub(super) type Xattr = (Vec<u8>, Vec<u8>);

/// The longest list of names and the longest value that the kernel gives (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const XATTR_MAX: usize = 64 << 10;

/// One name in one open directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    /// A single name, or `.`.
    pub(crate) name: &'a [u8],
}

impl At<'_> {
    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        rustix::fs::statat(self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// A path for calls that take no directory.
    pub(super) fn host_path(&self) -> PathBuf {
        let dir = self.dir.as_raw_fd().to_string();
        Path::new("/proc/self/fd").join(dir).join(OsStr::from_bytes(self.name))
    }

    /// All extended attributes, sorted by name.
    pub(super) fn xattrs(&self) -> Result<Vec<Xattr>, Errno> {
        let path = self.host_path();
        let mut names = vec![0u8; 512];
        let length = match rustix::fs::llistxattr(&path, &mut names[..]) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(Errno::RANGE) => {
                names.resize(XATTR_MAX, 0);
                rustix::fs::llistxattr(&path, &mut names[..])?
            }
            other => other?,
        };
        let mut found = Vec::new();
        for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0u8; 256];
            let length = match rustix::fs::lgetxattr(&path, name, &mut value[..]) {
                Err(Errno::RANGE) => {
                    value.resize(XATTR_MAX, 0);
                    rustix::fs::lgetxattr(&path, name, &mut value[..])?
                }
                other => other?,
            };
            value.truncate(length);
            found.push((name.to_vec(), value));
        }
        found.sort();
        Ok(found)
    }
}

/// Whether an attribute belongs to the file rather than to this host: file capabilities, access control lists, and what
/// users wrote. `trusted.*` is overlayfs's; labels of security modules mean nothing elsewhere.
pub(crate) fn travels(name: &[u8]) -> bool {
    name == b"security.capability"
        || name.starts_with(b"system.posix_acl_")
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Gives `to` the owner, mode, travelling attributes and time of `from`, in the order in which none undoes another.
pub(super) fn copy(from: At<'_>, stat: &Stat, to: At<'_>) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to.dir, to.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::chmodat(to.dir, to.name, mode, AtFlags::empty())?;
    }
    for (name, value) in from.xattrs()?.into_iter().filter(|(name, _)| travels(name)) {
        match rustix::fs::lsetxattr(to.host_path(), name.as_slice(), &value, XattrFlags::empty()) {
            // The other file system may know fewer kinds.
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    copy_time(stat, to)
}

/// Gives `to` the times of `stat`. Done last to directories, whose time changes with their content.
pub(super) fn copy_time(stat: &Stat, to: At<'_>) -> Result<(), Errno> {
    let nanoseconds = |value: u64| i64::try_from(value).unwrap_or(0);
    let times = Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: nanoseconds(stat.st_atime_nsec) },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds(stat.st_mtime_nsec) },
    };
    rustix::fs::utimensat(to.dir, to.name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
