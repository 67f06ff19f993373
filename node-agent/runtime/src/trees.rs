//! The files of a container as one tree of mounts that is attached nowhere: its root with its volumes in place.
//!
//! Start reading at [`assemble`] for a container that does not run and at [`copy_of`] for one that does. Both work on a
//! thread of their own, in a mount namespace that nobody else sees, and return a detached clone: it needs no clean-up
//! but the closing of its descriptor. Through it no device can be opened, whatever nodes the container has made. What is
//! done with the files is the caller's; paths below the tree are to be resolved with [`RootDirectory`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::error::{Context, Result};
use crate::mount_options::{Depth, NODEV, RDONLY};
use crate::mounts::{DetachedMount, set_propagation};
use crate::paths::{MountPoint, RootDirectory};
use crate::private_mounts::{in_private_mount_namespace, make_private, on_thread};
use crate::sys::{self, MountAttributes};

/// A path of the host that appears in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Where in the tree.
    pub destination: PathBuf,
    /// What, as the host sees it.
    pub source: PathBuf,
    /// Whether mounts below the source come along.
    pub depth: BranchDepth,
    /// Whether it can be written to.
    pub access: BranchAccess,
}

/// Whether mounts below a source come along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchDepth {
    /// They do.
    Tree,
    /// They do not.
    Single,
}

/// Whether a branch can be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchAccess {
    /// It can.
    ReadWrite,
    /// It cannot.
    ReadOnly,
}

/// What is done when the place of a branch does not exist in the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingPlace {
    /// It is made, as at a start of the container.
    Make,
    /// The tree is refused with `ENOENT`.
    Refuse,
}

/// Hangs branches into a detached root, parents before children whatever their order.
pub fn assemble(root: OwnedFd, branches: &[Branch], missing: MissingPlace) -> Result<OwnedFd> {
    if branches.is_empty() {
        without_devices(&root)?;
        return Ok(root);
    }
    in_private_mount_namespace(|| {
        let mut hung = Vec::with_capacity(branches.len());
        for branch in branches {
            let depth = match branch.depth {
                BranchDepth::Tree => Depth::Tree,
                BranchDepth::Single => Depth::One,
            };
            let mount = DetachedMount::clone_of(&branch.source, depth)?;
            if branch.access == BranchAccess::ReadOnly {
                let read_only = MountAttributes { set: RDONLY, ..MountAttributes::default() };
                sys::mount_setattr(&mount.fd, libc::AT_RECURSIVE, read_only)
                    .step(|| format!("make {} read-only", branch.destination.display()))?;
            }
            hung.push((branch.destination.clone(), mount));
        }
        grow(root, hung, missing)
    })
}

/// Copies what the process behind a pid descriptor has mounted at `/` and at these paths, and nothing else: not its
/// /proc, /sys and /dev. A path at which it has nothing mounted is left out. Nothing in its mount namespace changes;
/// that the process has ended is `ESRCH`.
pub fn copy_of(process: BorrowedFd<'_>, paths: &[PathBuf]) -> Result<OwnedFd> {
    on_thread(|| {
        sys::unshare(libc::CLONE_FS).step(|| "separate the thread")?;
        sys::setns(process, libc::CLONE_NEWNS).step(|| "enter the container's mounts")?;
        let place = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty())
            .step(|| "open the container's root")?;
        let root = clone_mount(&place, OpenTreeFlags::empty()).step(|| "copy the container's root")?;
        let place = RootDirectory::new(place);
        let mut hung = Vec::with_capacity(paths.len());
        for path in paths {
            if let Some(mount) = copy_mounted(&place, path)? {
                hung.push((path.clone(), mount));
            }
        }
        if hung.is_empty() {
            without_devices(&root)?;
            return Ok(root);
        }
        // From here on everything happens in a copy of the container's namespace.
        sys::unshare(libc::CLONE_NEWNS).step(|| "make a mount namespace")?;
        make_private()?;
        set_propagation(&root, &[]).step(|| "make the root private")?;
        grow(root, hung, MissingPlace::Refuse)
    })
}

/// A copy of the mount at a path, with what is mounted below it; `None` if nothing is mounted there (any more).
fn copy_mounted(root: &RootDirectory, path: &Path) -> Result<Option<DetachedMount>> {
    let describe = || format!("copy the mount at {}", path.display());
    let found = match root.open(path, OFlags::PATH) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(errno).step(describe),
    };
    let status =
        rustix::fs::statx(&found, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).step(describe)?;
    if !status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(None);
    }
    let fd = clone_mount(&found, OpenTreeFlags::AT_RECURSIVE).step(describe)?;
    Ok(Some(DetachedMount { fd, root: FileType::from_raw_mode(status.stx_mode.into()) }))
}

/// Attaches the root where only this thread sees it, hangs everything else into it, and clones the whole.
fn grow(root: OwnedFd, mut hung: Vec<(PathBuf, DetachedMount)>, missing: MissingPlace) -> Result<OwnedFd> {
    move_mount(&root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step(|| "attach the root file system")?;
    let root = RootDirectory::new(root);
    hung.sort_by_key(|(path, _)| path.components().count());
    for (path, mount) in hung {
        let describe = || format!("mount {} in the container's root", path.display());
        set_propagation(&mount.fd, &[]).step(describe)?;
        let make = if mount.root == FileType::Directory { MountPoint::Directory } else { MountPoint::File };
        let place = match missing {
            MissingPlace::Make => root.open_mount_point(&path, make)?,
            MissingPlace::Refuse => root.open(&path, OFlags::PATH).step(describe)?,
        };
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&mount.fd, c"", &place, c"", flags).step(describe)?;
    }
    let tree = clone_mount(root.as_fd(), OpenTreeFlags::AT_RECURSIVE)
        .step(|| "detach the container's file systems")?;
    without_devices(&tree)?;
    Ok(tree)
}

fn clone_mount(mount: impl AsFd, depth: OpenTreeFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(mount, c"", flags | OpenTreeFlags::AT_EMPTY_PATH | depth)
}

fn without_devices(tree: &OwnedFd) -> Result<()> {
    let attributes = MountAttributes { set: NODEV, ..MountAttributes::default() };
    sys::mount_setattr(tree, libc::AT_RECURSIVE, attributes).step(|| "take the devices out of the tree")
}
