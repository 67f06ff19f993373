//! How overlayfs writes down that something below is hidden.
//!
//! Start reading at [`is_whiteout`] (kernel documentation, filesystems/overlayfs.rst, "whiteouts and opaque directories").

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, Stat};
use rustix::io::Errno;

/// Name of the attribute of a directory that hides everything below it.
pub(super) const OPAQUE_XATTR: &[u8] = b"trusted.overlay.opaque";
/// Its value.
pub(super) const OPAQUE_VALUE: &[u8] = b"y";

/// Whether a file is a whiteout: a character device 0:0.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes a whiteout.
pub(super) fn make(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Whether a directory hides everything below it.
pub(super) fn is_opaque(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut value = [0u8; 2];
    match rustix::fs::fgetxattr(dir, OPAQUE_XATTR, &mut value) {
        Ok(length) => Ok(&value[..length] == OPAQUE_VALUE),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        // A longer value has another meaning ("x": some of the files below are whiteouts of another form).
        Err(Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}
