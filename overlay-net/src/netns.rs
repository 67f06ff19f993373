//! Network namespaces: made, pinned to a path, entered, removed. The only file that enters one.
//!
//! Start reading at [`Netns::create`]. A namespace belongs to a thread, not to a task or a process, so whoever works
//! inside one does so in a closure on an OS thread that ends with it; no thread that runs anything else ever changes
//! its namespace. A pin is a bind mount of the namespace's file (ip-netns(8) does the same), so that it outlives
//! every process.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{NetError, Result};
use crate::sys;

/// Enough for netlink buffers (on the heap) and formatting; a page of it is ever touched twice.
const STACK_LEN: usize = 128 * 1024;
/// `NSFS_MAGIC`
const NSFS: u64 = 0x6e73_6673;

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    path: PathBuf,
}

impl Netns {
    /// Creates a namespace, runs `inside` in it, and pins it at `path` when that succeeded.
    ///
    /// Nothing is left when it fails. A pin that is there already is an error: ids are never used twice.
    pub fn create<T: Send>(
        path: &Path,
        inside: impl FnOnce(BorrowedFd<'_>) -> Result<T> + Send,
    ) -> Result<(Self, T)> {
        Self::pinned(path, sys::unshare_network, inside)
    }

    /// As [`Self::create`] with a namespace that somebody else has made and nothing holds but this descriptor.
    pub fn adopt<T: Send>(
        path: &Path,
        made: OwnedFd,
        inside: impl FnOnce(BorrowedFd<'_>) -> Result<T> + Send,
    ) -> Result<(Self, T)> {
        let enter = move || Ok(move_into_link_name_space(made.as_fd(), Some(LinkNameSpaceType::Network))?);
        Self::pinned(path, enter, inside)
    }

    fn pinned<T: Send>(
        path: &Path,
        enter: impl FnOnce() -> io::Result<()> + Send,
        inside: impl FnOnce(BorrowedFd<'_>) -> Result<T> + Send,
    ) -> Result<(Self, T)> {
        let failed = |source| NetError::Namespace { path: path.to_owned(), source };
        let (fd, value) = on_thread(|| {
            enter().map_err(failed)?;
            let fd = own_namespace().map_err(failed)?;
            let value = inside(fd.as_fd())?;
            pin(path).map_err(failed)?;
            Ok((fd, value))
        })
        .map_err(failed)??;
        Ok((Self { fd, path: path.to_owned() }, value))
    }

    /// Opens a pinned namespace. A path that is not one (the pin was lost in a reboot) is an error.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| NetError::Namespace { path: path.to_owned(), source };
        let fd =
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(io::Error::from);
        let fd = fd.map_err(failed)?;
        if !is_namespace(&fd).map_err(failed)? {
            return Err(failed(io::Error::from(io::ErrorKind::NotFound)));
        }
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Runs `inside` in the namespace on a thread of its own and waits for it.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T> {
        let failed = |source| NetError::Namespace { path: self.path.clone(), source };
        on_thread(|| {
            move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(inside())
        })
        .and_then(std::convert::identity)
        .map_err(failed)
    }

    /// The user namespace that it belongs to: who is root there may configure it.
    pub fn owner(&self) -> Result<OwnedFd> {
        sys::owner_of(&self.fd).map_err(|source| NetError::Namespace { path: self.path.clone(), source })
    }

    /// Where it is pinned.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Removes a pin; the namespace ends when its last process and socket are gone. A pin that is gone is fine.
pub fn remove(path: &Path) -> Result<()> {
    let failed = |source| NetError::Namespace { path: path.to_owned(), source };
    loop {
        // A crash between two attempts may have stacked mounts; each turn takes one off.
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(error) => return Err(failed(error.into())),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

/// The paths that are pinned, or were meant to be, in a directory.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| NetError::Namespace { path: dir.to_owned(), source };
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

fn own_namespace() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())?)
}

fn pin(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    let pinned = mount_bind("/proc/thread-self/ns/net", path);
    if pinned.is_err() {
        let _ = fs::remove_file(path);
    }
    Ok(pinned?)
}

fn is_namespace(fd: &OwnedFd) -> io::Result<bool> {
    Ok(u64::try_from(rustix::fs::fstatfs(fd)?.f_type).is_ok_and(|magic| magic == NSFS))
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("netns".to_owned()).stack_size(STACK_LEN);
        let worker = builder.spawn_scoped(scope, work)?;
        worker.join().map_err(|_| io::Error::other("the thread in the namespace panicked"))
    })
}
