//! Running this program so that no container can overwrite it (CVE-2019-5736).
//!
//! Start reading at [`open`]. A container that makes the runtime execute `/proc/self/exe` (as its program or as the
//! interpreter of a script) gets a process whose `/proc/<pid>/exe` leads to the host's binary, and could write to it.
//! The remedy is to run from a mount on which nobody can write: an overlay of the binary's directory without an upper
//! layer, attached nowhere. Even a process that could change the mount's flags finds no layer to write to.
//!
//! Against the older remedy, a sealed copy in memory: nothing is copied (a copy of this program costs several
//! milliseconds at each start, or as many megabytes of memory for ever), and the pages are shared with the file's.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, SealFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use crate::error::{Context, Result, RuntimeError};
use crate::sys::{self, StringVector};

/// Opens this program on a read-only mount of its own, to be spawned through `/proc/self/fd/N`.
///
/// A daemon opens it once and spawns all its shims from it. The descriptor is close-on-exec.
pub fn open() -> Result<OwnedFd> {
    let program = std::fs::read_link("/proc/self/exe").step(|| "find this program's file")?;
    let directory = program.parent().unwrap_or_else(|| Path::new("/"));
    let name = program.file_name().unwrap_or_default();
    let root = mount_read_only(directory)?;
    let sealed = rustix::fs::openat(&root, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("open the sealed {}", program.display()))?;
    Ok(sealed)
}

/// Mounts an overlay that has no layer to write to.
fn mount_read_only(directory: &Path) -> Result<OwnedFd> {
    let describe = || format!("make a read-only mount of {}", directory.display());
    let make = |option: &str| -> rustix::io::Result<OwnedFd> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        // The kernel wants two layers that do not overlap; nothing of the second is ever looked at.
        let second = Path::new("/sys");
        if option == "lowerdir+" {
            fsconfig_set_string(context.as_fd(), option, directory)?;
            fsconfig_set_string(context.as_fd(), option, second)?;
        } else {
            let mut layers = directory.as_os_str().to_owned();
            layers.push(":");
            layers.push(second);
            fsconfig_set_string(context.as_fd(), option, layers)?;
        }
        fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make("lowerdir+").or_else(|_| make("lowerdir")).step(describe)
}

/// `OVERLAYFS_SUPER_MAGIC` of `linux/magic.h`.
const OVERLAY_MAGIC: i64 = 0x794c_7630;

/// Tells whether the calling process was started from such a descriptor, or from a sealed file in memory.
#[must_use]
pub fn is_sealed() -> bool {
    let Ok(program) = rustix::fs::open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    else {
        return false;
    };
    let on_read_only_overlay = rustix::fs::fstatvfs(&program)
        .is_ok_and(|status| status.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
        && rustix::fs::fstatfs(&program).is_ok_and(|status| status.f_type == OVERLAY_MAGIC);
    let sealed_in_memory =
        rustix::fs::fcntl_get_seals(&program).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    on_read_only_overlay || sealed_in_memory
}

/// Starts this program anew from its sealed descriptor, with the same arguments and environment; returns only on failure.
pub fn run_again(arguments: impl Iterator<Item = OsString>) -> RuntimeError {
    match try_run_again(arguments) {
        Ok(error) => RuntimeError::step("start the sealed program", error),
        Err(error) => error,
    }
}

fn try_run_again(arguments: impl Iterator<Item = OsString>) -> Result<std::io::Error> {
    let sealed = open()?;
    let c_string = |text: OsString| {
        CString::new(text.into_encoded_bytes())
            .map_err(|_| RuntimeError::InvalidSpec("an argument contains a NUL byte".to_owned()))
    };
    let arguments = StringVector::new(arguments.map(c_string).collect::<Result<_>>()?);
    let environment = std::env::vars_os().map(|(mut key, value)| {
        key.push("=");
        key.push(value);
        c_string(key)
    });
    let environment = StringVector::new(environment.collect::<Result<_>>()?);
    let path = c_string(OsString::from(format!("/proc/self/fd/{}", sealed.as_raw_fd())))?;
    Ok(sys::execute(&path, &arguments, &environment))
}
