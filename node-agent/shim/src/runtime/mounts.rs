//! Mounts a container's root file system for runtimes that do not, in a mount namespace that only the shim and its
//! children share, so that the host never sees the mount and nothing has to be unmounted after a crash.
//!
//! Start reading at [`mount_rootfs`]. Used for external runtimes only: the embedded one mounts inside the container.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::error::ProcessError;
use crate::protocol::{ROOTFS_DIR, RootfsSource};
use crate::sys;

/// Mounts the root file system on [`ROOTFS_DIR`] in the current directory, in a new mount namespace.
pub(crate) fn mount_rootfs(source: &RootfsSource) -> Result<(), ProcessError> {
    sys::unshare_mounts().map_err(|error| ProcessError::step("make a mount namespace", error))?;
    detach_surrounding_mount().map_err(|error| ProcessError::step("keep mounts from the host", error))?;
    match fs::create_dir(ROOTFS_DIR) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(ProcessError::step(format!("make {ROOTFS_DIR}"), error));
        }
        Ok(()) | Err(_) => {}
    }
    match source {
        RootfsSource::Overlay { lowers, upper, work, options } => mount_overlay(lowers, upper, work, options),
        RootfsSource::Directory { path } => rustix::mount::mount_bind_recursive(path, ROOTFS_DIR)
            .map_err(|error| ProcessError::step(format!("bind {} on {ROOTFS_DIR}", path.display()), error)),
    }
}

/// Makes the one mount that the bundle lies on a slave, so that what is mounted below it does not appear on the host.
///
/// All other mounts stay shared: volumes with shared propagation need it, and so does every unmount on the host, which
/// would otherwise fail for as long as a copy of the mount lives here.
fn detach_surrounding_mount() -> io::Result<()> {
    let status = rustix::fs::statx(CWD, ".", AtFlags::empty(), StatxFlags::MNT_ID)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount_point = mount_point(&mounts, status.stx_mnt_id)
        .ok_or_else(|| io::Error::other("the bundle's mount is not in mountinfo"))?;
    Ok(rustix::mount::mount_change(&mount_point, MountPropagationFlags::DOWNSTREAM)?)
}

/// Where the mount with this id is, according to mountinfo: `id parent major:minor root mountpoint ...`.
fn mount_point(mountinfo: &str, id: u64) -> Option<PathBuf> {
    let line = mountinfo
        .lines()
        .find(|line| line.split(' ').next().and_then(|text| text.parse().ok()) == Some(id))?;
    Some(PathBuf::from(unescape(line.split(' ').nth(4)?)))
}

/// Undoes mountinfo's octal escapes of blanks and backslashes.
fn unescape(text: &str) -> String {
    let mut pieces = text.split('\\');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&piece[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(piece);
            }
        }
    }
    out
}

/// Mounts an overlay whose directories are named by descriptors: a page of options then has room for any number of
/// layers with paths of any length, and no character of a path has a meaning.
fn mount_overlay(
    lowers: &[PathBuf],
    upper: &Path,
    work: &Path,
    extra: &[String],
) -> Result<(), ProcessError> {
    let mut opened: Vec<OwnedFd> = Vec::with_capacity(lowers.len() + 2);
    let mut name = |path: &Path| -> Result<String, ProcessError> {
        let directory = open_directory(path)
            .map_err(|error| ProcessError::step(format!("open {}", path.display()), error))?;
        let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
        opened.push(directory.into());
        Ok(name)
    };
    let lower_names = lowers.iter().map(|path| name(path)).collect::<Result<Vec<_>, _>>()?.join(":");
    let mut options = format!("lowerdir={lower_names},upperdir={},workdir={}", name(upper)?, name(work)?);
    for option in extra {
        options.push(',');
        options.push_str(option);
    }
    let options = std::ffi::CString::new(options)
        .map_err(|error| ProcessError::step("mount an overlay", io::Error::other(error)))?;
    rustix::mount::mount("overlay", ROOTFS_DIR, "overlay", MountFlags::empty(), &*options)
        .map_err(|error| ProcessError::step(format!("mount an overlay of {} layers", lowers.len()), error))
}

fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_id_and_its_path_unescaped() {
        let mountinfo = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                         222 22 0:5 / /run/a\\040b\\134c rw shared:2 - tmpfs tmpfs rw\n";
        assert_eq!(mount_point(mountinfo, 22), Some(PathBuf::from("/")));
        assert_eq!(mount_point(mountinfo, 222), Some(PathBuf::from("/run/a b\\c")));
        assert_eq!(mount_point(mountinfo, 2), None);
    }
}
