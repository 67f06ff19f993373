//! Copies what a directory of the image holds into the tmpfs that is about to hide it (`tmpcopyup`).
//!
//! Start reading at [`copy_into`]. Works on directory descriptors and never follows a symbolic link, so nothing outside
//! the directory is read or written. Sockets are left out; there is nothing in them to copy.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};

use crate::error::{Context, Result};

/// Deeper trees than this are refused: the walk is recursive.
const DEEPEST: u32 = 128;

/// Copies the content of the directory `from` into the root of the detached mount `to`, and its owner and mode.
pub(crate) fn copy_into(from: &OwnedFd, to: &OwnedFd, destination: &Path) -> Result<()> {
    let describe = || format!("copy up {}", destination.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let from = rustix::fs::openat(from, ".", flags, Mode::empty()).step(describe)?;
    let to = rustix::fs::openat(to, ".", flags, Mode::empty()).step(describe)?;
    let status = rustix::fs::fstat(&from).step(describe)?;
    copy_directory(from.as_fd(), to.as_fd(), DEEPEST).step(describe)?;
    set_owner_and_mode(&to, &status).step(describe)
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, deepest: u32) -> rustix::io::Result<()> {
    let Some(deepest) = deepest.checked_sub(1) else { return Err(rustix::io::Errno::LOOP) };
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name, deepest)?;
        }
    }
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, deepest: u32) -> rustix::io::Result<()> {
    let status = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(status.st_mode);
    let reading = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match kind {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::RWXU)?;
            let source = rustix::fs::openat(from, name, reading | OFlags::DIRECTORY, Mode::empty())?;
            let target = rustix::fs::openat(to, name, reading | OFlags::DIRECTORY, Mode::empty())?;
            copy_directory(source.as_fd(), target.as_fd(), deepest)?;
            set_owner_and_mode(&target, &status)
        }
        FileType::RegularFile => {
            let source = rustix::fs::openat(from, name, reading, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
            copy_content(&source, &target)?;
            set_owner_and_mode(&target, &status)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(target.as_c_str(), to, name)?;
            let (owner, group) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
            rustix::fs::chownat(to, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        }
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {
            rustix::fs::mknodat(
                to,
                name,
                kind,
                Mode::from_raw_mode(status.st_mode & 0o7777),
                status.st_rdev,
            )?;
            let (owner, group) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
            rustix::fs::chownat(to, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        }
        _ => Ok(()),
    }
}

fn copy_content(source: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
    let mut buffer = vec![0_u8; 128 * 1024];
    loop {
        let length = rustix::io::read(source, &mut buffer)?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            let written = rustix::io::write(target, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}

fn set_owner_and_mode(target: &OwnedFd, status: &Stat) -> rustix::io::Result<()> {
    rustix::fs::fchown(target, Some(Uid::from_raw(status.st_uid)), Some(Gid::from_raw(status.st_gid)))?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(status.st_mode & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_links_and_modes_arrive_and_links_are_not_followed() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(from.path().join("d")).unwrap();
        std::fs::write(from.path().join("d/f"), "text").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.path().join("l")).unwrap();
        std::os::unix::fs::PermissionsExt::set_mode(
            &mut std::fs::metadata(from.path().join("d/f")).unwrap().permissions(),
            0o640,
        );
        let open =
            |path: &Path| rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        copy_into(&open(from.path()), &open(to.path()), Path::new("/x")).unwrap();
        assert_eq!(std::fs::read_to_string(to.path().join("d/f")).unwrap(), "text");
        assert_eq!(std::fs::read_link(to.path().join("l")).unwrap(), Path::new("/etc/passwd"));
    }

    #[test]
    fn a_tree_that_is_too_deep_is_refused() {
        let from = tempfile::tempdir().unwrap();
        let mut path = from.path().to_path_buf();
        for _ in 0..=DEEPEST {
            path.push("d");
        }
        std::fs::create_dir_all(&path).unwrap();
        let to = tempfile::tempdir().unwrap();
        let open =
            |path: &Path| rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let error = copy_into(&open(from.path()), &open(to.path()), Path::new("/x")).unwrap_err();
        assert!(error.chain().contains("copy up /x"));
    }
}
