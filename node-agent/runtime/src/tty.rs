//! The terminal of a container's process.
//!
//! Start reading at [`open`]. The pseudo terminal is made in the container's own devpts, which is checked to be one, and
//! its other side comes from the kernel by ioctl, never by a path below `/dev/pts` (CVE-2025-52565): no link or mount of
//! the image or of another process can take its place.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, OFlags, makedev};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::attach::attach;
use crate::container::TerminalSize;
use crate::error::{Context, Result, RuntimeError};
use crate::paths::{MountPoint, RootDirectory};

/// Both sides of a pseudo terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// For the caller, who shows it to a person.
    pub(crate) master: OwnedFd,
    /// For the process.
    pub(crate) slave: OwnedFd,
}

/// `DEVPTS_SUPER_MAGIC` of `linux/magic.h`.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Makes a pseudo terminal in the devpts that is mounted at `/dev/pts` below the root.
pub(crate) fn open(root: &RootDirectory, size: TerminalSize) -> Result<Terminal> {
    let master = root
        .open_without_links(Path::new("/dev/pts/ptmx"), OFlags::RDWR | OFlags::NOCTTY)
        .step(|| "open /dev/pts/ptmx (is a devpts mounted at /dev/pts?)")?;
    let status = rustix::fs::fstat(&master).step(|| "stat /dev/pts/ptmx")?;
    let file_system = rustix::fs::fstatfs(&master).step(|| "stat the file system of /dev/pts/ptmx")?;
    let is_ptmx = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && status.st_rdev == makedev(5, 2)
        && file_system.f_type == DEVPTS_MAGIC;
    if !is_ptmx {
        return Err(RuntimeError::InvalidSpec(
            "/dev/pts/ptmx of the container is not a devpts multiplexer".to_owned(),
        ));
    }
    unlockpt(&master).step(|| "unlock the pseudo terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).step(|| "open the other side of the pseudo terminal")?;
    if size != TerminalSize::default() {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).step(|| "set the size of the terminal")?;
    }
    Ok(Terminal { master, slave })
}

/// Attaches the terminal at `/dev/console` of the root.
pub(crate) fn attach_console(root: &RootDirectory, terminal: &Terminal) -> Result<()> {
    let console = Path::new("/dev/console");
    let dev = root.open(Path::new("/dev"), OFlags::PATH | OFlags::DIRECTORY).step(|| "open /dev")?;
    // A link here would choose where the terminal appears: it goes, whatever it was.
    match rustix::fs::statat(&dev, "console", AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) if FileType::from_raw_mode(status.st_mode) == FileType::Symlink => {
            rustix::fs::unlinkat(&dev, "console", AtFlags::empty())
                .step(|| "remove the image's /dev/console")?;
        }
        _ => {}
    }
    let place = match root.open_without_links(console, OFlags::PATH) {
        Ok(place) => place,
        Err(rustix::io::Errno::NOENT) => root.open_mount_point(console, MountPoint::File)?,
        Err(other) => return Err(RuntimeError::step("open /dev/console", other)),
    };
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(&terminal.slave, "", flags).step(|| "clone the terminal for /dev/console")?;
    attach(&mount, &place, console)
}

/// Makes the terminal the controlling one and descriptors 0, 1 and 2, and gives it to the user.
pub(crate) fn take(slave: &OwnedFd, uid: u32) -> Result<()> {
    rustix::process::ioctl_tiocsctty(slave).step(|| "make the terminal the controlling one")?;
    let owner = rustix::fs::Uid::from_raw(uid);
    if uid != 0 {
        rustix::fs::fchown(slave, Some(owner), None).step(|| "give the terminal to the user")?;
    }
    rustix::stdio::dup2_stdin(slave).step(|| "connect stdin")?;
    rustix::stdio::dup2_stdout(slave).step(|| "connect stdout")?;
    rustix::stdio::dup2_stderr(slave).step(|| "connect stderr")
}

/// Gives the non-terminal descriptors 0, 1 and 2 to the user, so that `/dev/stderr` can be opened again by it.
pub(crate) fn give_stdio(uid: u32) -> Result<()> {
    if uid == 0 {
        // Whoever started the runtime is root, and so are its files.
        return Ok(());
    }
    let owner = rustix::fs::Uid::from_raw(uid);
    for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let Ok(status) = rustix::fs::fstat(fd) else { continue };
        let is_null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
            && status.st_rdev == makedev(1, 3);
        if status.st_uid == uid || is_null {
            continue;
        }
        match rustix::fs::fchown(fd, Some(owner), None) {
            // Sockets, read-only file systems and ids without a mapping keep their owner, as in runc.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM | rustix::io::Errno::ROFS) => {}
            Err(other) => return Err(RuntimeError::step("give stdio to the user", other)),
        }
    }
    Ok(())
}
