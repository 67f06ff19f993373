//! A mount namespace with nothing in it, from which containers' namespaces are copied.
//!
//! Start reading at [`open`]. A new mount namespace begins as a copy of its maker's: the kernel copies each mount of the
//! host, one for each running container among them, and takes all of them apart again when the container leaves the
//! host's tree. A container needs none, since everything that is mounted for it was opened beforehand. So its maker
//! enters an empty namespace for the time of the clone ([`Stay`]); and the host's tree was never there to be left.
//!
//! Not for containers with a user namespace: in one, proc and sysfs can be mounted only where a whole one is in sight.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsmount,
    fsopen, move_mount, unmount,
};

use crate::error::{Context, Result};
use crate::private_mounts::in_private_mount_namespace;
use crate::sys;

/// Makes the namespace, which lasts as long as the descriptor. May be called in a process with threads.
///
/// All there is in it is one empty directory that cannot be written to.
pub fn open() -> Result<OwnedFd> {
    in_private_mount_namespace(|| {
        let namespace =
            rustix::fs::open("/proc/thread-self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .step(|| "open the empty mount namespace")?;
        let root = empty_directory().step(|| "make the empty root")?;
        move_mount(&root, "", rustix::fs::CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .step(|| "attach the empty root")?;
        rustix::process::fchdir(&root).step(|| "enter the empty root")?;
        rustix::process::pivot_root(".", ".").step(|| "pivot_root to the empty root")?;
        unmount(".", UnmountFlags::DETACH).step(|| "leave the host's tree")?;
        Ok(namespace)
    })
}

fn empty_directory() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// The caller's stay in the empty namespace, around one clone. The caller must have one thread.
///
/// Dropping it returns; [`Stay::leave`] does so and reports a failure.
#[derive(Debug)]
pub(crate) struct Stay {
    home: Option<Home>,
}

#[derive(Debug)]
struct Home {
    namespace: OwnedFd,
    root: OwnedFd,
    directory: OwnedFd,
}

impl Stay {
    /// Enters the namespace.
    pub(crate) fn enter(namespace: BorrowedFd<'_>) -> Result<Self> {
        let directory = |path: &str| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).step(|| format!("open {path}"))
        };
        let own =
            rustix::fs::open("/proc/thread-self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .step(|| "open the caller's mount namespace")?;
        let home = Home { namespace: own, root: directory("/")?, directory: directory(".")? };
        sys::setns(namespace, libc::CLONE_NEWNS).step(|| "enter the empty mount namespace")?;
        Ok(Self { home: Some(home) })
    }

    /// Returns to the caller's own namespace, root and working directory.
    pub(crate) fn leave(mut self) -> Result<()> {
        self.return_home()
    }

    fn return_home(&mut self) -> Result<()> {
        let Some(home) = self.home.take() else { return Ok(()) };
        let describe = || "return from the empty mount namespace";
        sys::setns(&home.namespace, libc::CLONE_NEWNS).step(describe)?;
        // Joining a namespace means being at its root, which need not be the root that the caller had.
        rustix::process::fchdir(&home.root).step(describe)?;
        rustix::process::chroot(".").step(describe)?;
        rustix::process::fchdir(&home.directory).step(describe)
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        // A failure here follows another that is being reported; the caller's process ends with that one.
        let _ = self.return_home();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stay_sees_nothing_and_ends_where_it_began() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("skipped: mount namespaces need root");
        }
        let namespace = open().unwrap();
        // A thread with a root and a working directory of its own, as the only thread of a shim has.
        in_private_mount_namespace(|| {
            rustix::process::chdir("/proc/sys").step(|| "enter a directory")?;
            let own = std::fs::read_link("/proc/thread-self/ns/mnt").unwrap();
            for _ in 0..2 {
                let stay = Stay::enter(std::os::fd::AsFd::as_fd(&namespace))?;
                assert_eq!(std::fs::read_dir("/").unwrap().count(), 0);
                assert!(std::fs::create_dir("/new").is_err());
                stay.leave()?;
                assert_eq!(std::fs::read_link("/proc/thread-self/ns/mnt").unwrap(), own);
                assert!(std::env::current_dir().unwrap().starts_with("/proc"));
            }
            Ok(())
        })
        .unwrap();
    }
}
