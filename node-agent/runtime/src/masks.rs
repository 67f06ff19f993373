//! Hiding paths of the kernel's own trees from a container, and protecting others from being written.
//!
//! Start reading at [`hide`] and [`protect`]. A hidden file gets the *host's* null device over it, opened and checked
//! before the container's root was in sight, never the container's own `/dev/null`, which an image could have replaced
//! (CVE-2025-31133). Everything is done on descriptors resolved within the root.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

use crate::attach::attach;
use crate::error::{Context, Result, RuntimeError};
use crate::mount_options::RDONLY;
use crate::mounts::set_propagation;
use crate::paths::RootDirectory;
use crate::sys::{self, MountAttributes};

/// Opens the host's null device as a detached mount and checks that it is the null device.
pub(crate) fn open_null() -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let null = open_tree(CWD, "/dev/null", flags).step(|| "open the host's /dev/null")?;
    check_null(&null)?;
    set_propagation(&null, &[]).step(|| "make the null device's mount private")?;
    Ok(null)
}

fn check_null(fd: &OwnedFd) -> Result<()> {
    let status = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH).step(|| "stat the null device")?;
    let is_null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && status.st_rdev == makedev(1, 3);
    if is_null {
        Ok(())
    } else {
        Err(RuntimeError::Unsupported("a host whose /dev/null is not the null device".to_owned()))
    }
}

/// What hidden paths are covered with; the first use attaches it, the others clone what is attached.
#[derive(Debug)]
struct Cover {
    detached: Option<OwnedFd>,
    attached: Option<OwnedFd>,
}

impl Cover {
    fn put(&mut self, place: &OwnedFd, path: &Path) -> Result<()> {
        let next = match (&self.attached, self.detached.take()) {
            // A mount that is attached nowhere can be cloned only since 6.15, an attached one always.
            (Some(attached), _) => {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_EMPTY_PATH;
                open_tree(attached, "", flags).step(|| format!("clone the cover of {}", path.display()))?
            }
            (None, Some(detached)) => detached,
            (None, None) => return Err(RuntimeError::step("cover a path", Errno::BADF)),
        };
        attach(&next, place, path)?;
        self.attached.get_or_insert(next);
        Ok(())
    }
}

/// Hides the paths; those that do not exist need no hiding.
pub(crate) fn hide(root: &RootDirectory, paths: &[String], null: Option<OwnedFd>) -> Result<()> {
    let mut file_cover = Cover { detached: null, attached: None };
    let mut directory_cover: Option<Cover> = None;
    for path in paths.iter().map(Path::new) {
        let Some((place, kind)) = find(root, path)? else { continue };
        if kind == FileType::Directory {
            let cover = match &mut directory_cover {
                Some(cover) => cover,
                None => directory_cover.insert(Cover { detached: Some(empty_directory()?), attached: None }),
            };
            cover.put(&place, path)?;
        } else {
            file_cover.put(&place, path)?;
        }
    }
    Ok(())
}

/// Makes the paths read-only, with all that is mounted below them; those that do not exist need no protection.
pub(crate) fn protect(root: &RootDirectory, paths: &[String]) -> Result<()> {
    for path in paths.iter().map(Path::new) {
        let Some((place, _)) = find(root, path)? else { continue };
        let describe = || format!("make {} read-only", path.display());
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let clone = open_tree(&place, "", flags).step(describe)?;
        let read_only = MountAttributes { set: RDONLY, ..MountAttributes::default() };
        sys::mount_setattr(&clone, libc::AT_RECURSIVE, read_only).step(describe)?;
        attach(&clone, &place, path)?;
    }
    Ok(())
}

fn find(root: &RootDirectory, path: &Path) -> Result<Option<(OwnedFd, FileType)>> {
    let place = match root.open(path, OFlags::PATH) {
        Ok(place) => place,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(other) => return Err(RuntimeError::step(format!("open {}", path.display()), other)),
    };
    let status =
        rustix::fs::statat(&place, "", AtFlags::EMPTY_PATH).step(|| format!("stat {}", path.display()))?;
    Ok(Some((place, FileType::from_raw_mode(status.st_mode))))
}

/// Makes an empty, read-only file system, as small as the kernel allows.
fn empty_directory() -> Result<OwnedFd> {
    let make = || -> rustix::io::Result<OwnedFd> {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(context.as_fd(), "source", "tmpfs")?;
        fsconfig_set_string(context.as_fd(), "mode", "555")?;
        fsconfig_set_string(context.as_fd(), "nr_blocks", "1")?;
        fsconfig_set_string(context.as_fd(), "nr_inodes", "1")?;
        fsconfig_set_flag(context.as_fd(), "ro")?;
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
    };
    make().step(|| "make the empty directory that covers hidden ones")
}

/// Opens the host's procfs: where the container's processes write their own attributes and sysctls.
///
/// Opened in the host's mount namespace, so nothing that the container mounts or links can redirect a write
/// (CVE-2025-52881); [`write_proc`] crosses no mount below it.
pub(crate) fn open_host_proc() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty()).step(|| "open /proc")?;
    let status = rustix::fs::fstatfs(&proc).step(|| "stat /proc")?;
    if status.f_type != rustix::fs::PROC_SUPER_MAGIC {
        return Err(RuntimeError::Unsupported("a host whose /proc is not procfs".to_owned()));
    }
    Ok(proc)
}

/// Writes a file below the host's procfs.
pub(crate) fn write_proc(proc: &OwnedFd, path: &Path, value: &str) -> rustix::io::Result<()> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(proc, path, flags, Mode::empty(), resolve)?;
    rustix::io::write(&file, value.as_bytes()).map(drop)
}
