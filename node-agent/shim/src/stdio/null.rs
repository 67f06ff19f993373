//! The null device, for streams that lead nowhere.
//!
//! Start reading at [`open`]. A runtime may give the standard streams of a process to the process' user, as crun does. Were such
//! a stream the machine's `/dev/null`, that user would own it, for everybody: hence one that nobody else sees.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chmodat, makedev, mknodat, openat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Whose null device a process gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NullDevice {
    /// The machine's: for a runtime that leaves it as it is.
    Machine,
    /// One of its own.
    Own,
}

/// Numbers of the null device (Documentation/admin-guide/devices.txt).
const NULL: (u32, u32) = (1, 3);
/// Everybody reads and writes it.
const MODE: Mode = Mode::from_raw_mode(0o666);

/// Opens it. `access` says for what.
pub(super) fn open(whose: NullDevice, access: OFlags) -> io::Result<OwnedFd> {
    match whose {
        NullDevice::Machine => open_machines(access),
        NullDevice::Own => match make(access) {
            // Who may not make a device, in a user namespace, may not give the machine's away either.
            Err(Errno::PERM) => open_machines(access),
            made => Ok(made?),
        },
    }
}

fn open_machines(access: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(CWD, "/dev/null", access | OFlags::CLOEXEC, Mode::empty())?)
}

/// Makes a device on a file system that is mounted nowhere, and goes when the device is closed.
fn make(access: OFlags) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let (major, minor) = NULL;
    mknodat(&mount, "null", FileType::CharacterDevice, MODE, makedev(major, minor))?;
    // The umask has taken something away.
    chmodat(&mount, "null", MODE, AtFlags::empty())?;
    openat(&mount, "null", access | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn an_own_null_device_is_like_the_machines_and_not_the_same() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: devices are made by root");
            return;
        }
        let mut own = File::from(open(NullDevice::Own, OFlags::RDWR).unwrap());
        let (made, machines) = (own.metadata().unwrap(), fs::metadata("/dev/null").unwrap());
        assert_eq!((made.rdev(), made.mode()), (machines.rdev(), machines.mode()));
        assert_ne!((made.dev(), made.ino()), (machines.dev(), machines.ino()));
        own.write_all(b"gone").unwrap();
        assert_eq!(own.read(&mut [0; 8]).unwrap(), 0);
        // A program may open its streams anew.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&own));
        File::options().write(true).open(path).unwrap().write_all(b"gone").unwrap();
    }
}
