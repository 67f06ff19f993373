//! The kernel behind [`HostMounter`].
//!
//! Start reading at [`KernelMounts`]. Root file systems are opened as detached mounts, which no mount table shows and which
//! end with their descriptor; only `/dev/shm` that containers share is really mounted on the host. Whatever lies in a
//! container's root is hostile: paths are resolved by the kernel inside the root, and nothing but regular files is
//! opened.

use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use node_runtime::{OverlayRootfs, RootDirectory, RuntimeError};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, PidfdFlags};

use super::ports::{HostMounter, Rootfs};
use super::run_blocking;
use crate::error::NodeError;

/// More than any file of accounts has; the rest is not read.
const MAX_FILE: u64 = 8 << 20;

/// Mounts made by this process. Without state: everything is asked of the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelMounts;

#[async_trait]
impl HostMounter for KernelMounts {
    async fn open_rootfs(&self, rootfs: &Rootfs) -> Result<OwnedFd, NodeError> {
        let rootfs = rootfs.clone();
        run_blocking(move || open_rootfs(&rootfs)).await?
    }

    async fn read_files(&self, rootfs: &Rootfs, paths: &[&str]) -> Result<Vec<Option<Vec<u8>>>, NodeError> {
        let rootfs = rootfs.clone();
        let paths = owned(paths);
        run_blocking(move || read_all(&RootDirectory::new(open_rootfs_for_reading(&rootfs)?), &paths)).await?
    }

    async fn read_files_of(&self, pid: u32, paths: &[&str]) -> Result<Vec<Option<Vec<u8>>>, NodeError> {
        let paths = owned(paths);
        run_blocking(move || read_all(&RootDirectory::new(open_root_of(pid)?), &paths)).await?
    }

    async fn make_directory(&self, rootfs: &OwnedFd, path: &str, owner: (u32, u32)) -> Result<(), NodeError> {
        let root = rootfs
            .try_clone()
            .map_err(|source| NodeError::failed("keep the root file system open", source))?;
        let path = path.to_owned();
        run_blocking(move || make_directory(root, &path, owner)).await?
    }

    async fn mount_shm(&self, target: &Path, size: u64, owner: (u32, u32)) -> Result<(), NodeError> {
        let target = target.to_owned();
        run_blocking(move || {
            mount_shm(&target, size, owner).map_err(|source| {
                NodeError::failed(format!("mount shared memory at {}", target.display()), source)
            })
        })
        .await?
    }

    async fn unmount(&self, target: &Path) -> Result<(), NodeError> {
        let target = target.to_owned();
        run_blocking(move || {
            unmount_all(&target)
                .map_err(|errno| NodeError::failed(format!("unmount {}", target.display()), errno))
        })
        .await?
    }
}

fn owned(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).collect()
}

/// Mounts a root file system, to be written to, where nobody sees it. Blocks. The kernel syncs the disk when it ends.
pub(crate) fn open_rootfs(rootfs: &Rootfs) -> Result<OwnedFd, NodeError> {
    open_overlay(&OverlayRootfs {
        lower: rootfs.lowers.clone(),
        upper: Some(rootfs.upper.clone()),
        work: Some(rootfs.work.clone()),
        options: options(rootfs),
    })
}

/// Mounts a root file system, not to be written to, where nobody sees it. Blocks. Many times cheaper than
/// [`open_rootfs`]: the writable layer is one more read-only layer, so there is neither scratch directory nor sync.
pub(crate) fn open_rootfs_for_reading(rootfs: &Rootfs) -> Result<OwnedFd, NodeError> {
    let lower = std::iter::once(&rootfs.upper).chain(&rootfs.lowers).cloned().collect();
    open_overlay(&OverlayRootfs { lower, upper: None, work: None, options: options(rootfs) })
}

fn options(rootfs: &Rootfs) -> Vec<(String, Option<String>)> {
    let split = |option: &String| match option.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (option.clone(), None),
    };
    rootfs.options.iter().map(split).collect()
}

fn open_overlay(overlay: &OverlayRootfs) -> Result<OwnedFd, NodeError> {
    node_runtime::open_overlay(overlay)
        .map_err(|source| NodeError::failed("mount the root file system", source))
}

/// Opens the root directory that a running process sees, with its mounts. The pid must be that of a container's
/// process; that it ended meanwhile is an error, whoever has the pid by now.
pub(crate) fn open_root_of(pid: u32) -> Result<OwnedFd, NodeError> {
    let failed = |errno: Errno| NodeError::failed(format!("open the root directory of process {pid}"), errno);
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| failed(Errno::SRCH))?;
    let held = rustix::process::pidfd_open(known, PidfdFlags::empty()).map_err(failed)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, format!("/proc/{pid}/root"), flags, Mode::empty()).map_err(failed)?;
    // As long as this process has not ended its pid is nobody else's, so the directory is its own.
    let mut ended = [PollFd::new(&held, PollFlags::IN)];
    if rustix::event::poll(&mut ended, Some(&Timespec::default())).map_err(failed)? > 0 {
        return Err(failed(Errno::SRCH));
    }
    // Had the pid gone to a process of the host before we came, this would be the host's root.
    let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let ours = rustix::fs::stat("/").map_err(failed)?;
    if identity(rustix::fs::fstat(&root).map_err(failed)?) == identity(ours) {
        return Err(failed(Errno::SRCH));
    }
    Ok(root)
}

pub(crate) fn read_all(root: &RootDirectory, paths: &[PathBuf]) -> Result<Vec<Option<Vec<u8>>>, NodeError> {
    let read = |path: &PathBuf| {
        read_regular(root, path).map_err(|source| {
            NodeError::failed(format!("read {} in the container's root", path.display()), source)
        })
    };
    paths.iter().map(read).collect()
}

/// Reads a regular file. Anything else is not even opened: a FIFO would block, a device may act.
fn read_regular(root: &RootDirectory, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let found = match root.open(path, OFlags::PATH) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let stat = rustix::fs::fstat(&found)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let file = std::fs::File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let mut content = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// Makes a directory below a root with its parents; what was missing belongs to this user and group.
pub(crate) fn make_directories(
    root: &RootDirectory,
    path: &Path,
    owner: (u32, u32),
) -> Result<OwnedFd, RuntimeError> {
    let missing = if owner == (0, 0) { Vec::new() } else { missing_directories(root, path) };
    let directory = root.make_directories(path)?;
    missing.iter().try_for_each(|path| give(root, path, owner))?;
    Ok(directory)
}

fn make_directory(root: OwnedFd, path: &str, owner: (u32, u32)) -> Result<(), NodeError> {
    match make_directories(&RootDirectory::new(root), Path::new(path), owner) {
        Ok(_) => Ok(()),
        Err(RuntimeError::Step { source, .. })
            if source.raw_os_error() == Some(Errno::NOTDIR.raw_os_error()) =>
        {
            Err(NodeError::invalid(format!("Cannot mkdir: {path} is not a directory")))
        }
        Err(error) => Err(NodeError::failed("make the working directory", error)),
    }
}

/// The path and its parents as far as they do not exist.
fn missing_directories(root: &RootDirectory, path: &Path) -> Vec<PathBuf> {
    let is_missing = |path: &&Path| matches!(root.open(path, OFlags::PATH), Err(Errno::NOENT));
    path.ancestors().take_while(is_missing).map(Path::to_owned).collect()
}

fn give(root: &RootDirectory, path: &Path, (uid, gid): (u32, u32)) -> Result<(), RuntimeError> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    root.open(path, OFlags::RDONLY | OFlags::DIRECTORY)
        .and_then(|directory| rustix::fs::fchown(directory, Some(uid), Some(gid)))
        .map_err(|errno| RuntimeError::Step {
            step: format!("set the owner of {}", path.display()),
            source: errno.into(),
        })
}

/// Mounts memory at `target`, which is made if it is missing; what a crash left mounted there is replaced.
fn mount_shm(target: &Path, size: u64, (uid, gid): (u32, u32)) -> io::Result<()> {
    unmount_all(target)?;
    std::fs::create_dir_all(target)?;
    let data = std::ffi::CString::new(format!("mode=1777,size={size},uid={uid},gid={gid}"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(rustix::mount::mount("shm", target, "tmpfs", flags, Some(data.as_c_str()))?)
}

/// Unmounts everything that is mounted at `target` itself; it may still be in use.
fn unmount_all(target: &Path) -> Result<(), Errno> {
    loop {
        match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point, or nothing at all.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests;
