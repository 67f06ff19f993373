//! Copies parts of what a stack shows into a directory.
//!
//! Start reading at [`copy_tree`], for volumes that are filled at their first use. No mount is made, no link is followed
//! on the host, and the destination must not be reachable by anybody else meanwhile.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::LayerError;
use super::attributes::{self, At};
use super::merged::{MAX_DEPTH, MergedDir, dir_flags};

/// Whether there was something to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// The path is a directory; it was copied, with the attributes of the directory itself.
    Tree,
    /// The path does not exist or is no directory.
    Nothing,
}

/// Copies what the stack `lowers` (topmost first, as of [`super::Snapshotter::lowers`] or a container's upper directory
/// in front of them) shows at `path` into the existing directory `destination`: content, owner, mode, times, extended
/// attributes, links, devices. Symbolic links in `path` are followed inside the stack. On an error the destination holds
/// a part. Blocks; makes no mount.
pub fn copy_tree(lowers: &[PathBuf], path: &str, destination: &Path) -> Result<Copied, LayerError> {
    let failed = |errno: Errno| LayerError::io("copy to a volume", Path::new(path))(errno);
    let Some(source) = MergedDir::open(lowers)
        .and_then(|root| root.map_or(Ok(None), |root| root.resolve(path.as_bytes())))
        .map_err(failed)?
    else {
        return Ok(Copied::Nothing);
    };
    let to = rustix::fs::open(destination, dir_flags(), Mode::empty())
        .map_err(LayerError::io("open", destination))?;
    let mut copier = Copier { destination: to.as_fd(), links: BTreeMap::new() };
    copier
        .copy_dir(&source, to.as_fd(), &mut PathBuf::new(), 0)
        .map_err(|(path, errno)| LayerError::io("copy to a volume", &path)(errno))?;
    let top = At { dir: source.top(), name: b"." };
    let stat = top.stat().map_err(failed)?;
    attributes::copy(top, &stat, At { dir: to.as_fd(), name: b"." }).map_err(failed)?;
    Ok(Copied::Tree)
}

/// Remembers where files with several names went.
struct Copier<'a> {
    destination: BorrowedFd<'a>,
    /// By device and inode, as each layer may be elsewhere.
    links: BTreeMap<(u64, u64), PathBuf>,
}

type Failed = (PathBuf, Errno);

impl Copier<'_> {
    /// Copies the content of a directory. `path` is where we are, relative to the destination.
    fn copy_dir(
        &mut self,
        from: &MergedDir,
        to: BorrowedFd<'_>,
        path: &mut PathBuf,
        depth: usize,
    ) -> Result<(), Failed> {
        if depth > MAX_DEPTH {
            return Err((path.clone(), Errno::NAMETOOLONG));
        }
        for (name, found) in from.children().map_err(|errno| (path.clone(), errno))? {
            path.push(OsStr::from_bytes(&name));
            let here = path.clone();
            let at = |errno: Errno| (here.clone(), errno);
            let source = from.locate(&found, &name);
            let target = At { dir: to, name: &name };
            if found.kind() == FileType::Directory {
                rustix::fs::mkdirat(to, name.as_slice(), Mode::RWXU).map_err(at)?;
                let child =
                    rustix::fs::openat(to, name.as_slice(), dir_flags(), Mode::empty()).map_err(at)?;
                if let Some(dir) = from.enter(&name).map_err(at)? {
                    self.copy_dir(&dir, child.as_fd(), path, depth + 1)?;
                }
                attributes::copy(source, &found.stat, target).map_err(at)?;
            } else {
                self.copy_leaf(source, &found.stat, target, path).map_err(at)?;
            }
            path.pop();
        }
        Ok(())
    }

    fn copy_leaf(&mut self, from: At<'_>, stat: &Stat, to: At<'_>, path: &Path) -> Result<(), Errno> {
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity) {
                return rustix::fs::linkat(self.destination, first, to.dir, to.name, AtFlags::empty());
            }
            self.links.insert(identity, path.to_owned());
        }
        copy_node(from, stat, to)
    }
}

/// Copies one thing that is no directory, with its attributes. Sockets, which cannot be copied, are left out.
pub(super) fn copy_node(from: At<'_>, stat: &Stat, to: At<'_>) -> Result<(), Errno> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => copy_file(from, to)?,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from.dir, from.name, Vec::new())?;
            rustix::fs::symlinkat(target.as_c_str(), to.dir, to.name)?;
        }
        kind @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) => {
            rustix::fs::mknodat(to.dir, to.name, kind, Mode::RUSR, stat.st_rdev)?;
        }
        _ => return Ok(()),
    }
    attributes::copy(from, stat, to)
}

fn copy_file(from: At<'_>, to: At<'_>) -> Result<(), Errno> {
    // Not to be kept waiting should a named pipe have taken the file's place.
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut source = File::from(rustix::fs::openat(from.dir, from.name, read, Mode::empty())?);
    let mut target = File::from(rustix::fs::openat(to.dir, to.name, write, Mode::RUSR | Mode::WUSR)?);
    // Shares extents where the file system can, and copies inside the kernel otherwise.
    std::io::copy(&mut source, &mut target)
        .map(drop)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests;
