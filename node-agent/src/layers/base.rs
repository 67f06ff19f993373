//! The base of containers: mount points and files that every container finds, on top of its image.
//!
//! Start reading at [`ensure`]. Docker calls it the init layer. It belongs to a committed snapshot (or to the empty
//! image), is made when the first container stands on it, and goes with it. Because it lies below the container's own
//! layer, a diff of the container shows nothing of it, and a read-only root has all its mount points.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::LayerError;
use super::attributes::{self, At};
use super::merged::{MergedDir, dir_flags};

const BASE: &str = "base";
/// Where a base is built before it gets its name.
const UNFINISHED: &str = "base.new";

/// What stands at a path of the base.
#[derive(Debug, Clone, Copy)]
enum Placeholder {
    Directory,
    File,
    Symlink(&'static str),
}

/// Paths that the engine and the runtime mount something on, and what programs look for; the list is Docker's.
const PLACEHOLDERS: [(&[&str], Placeholder); 10] = [
    (&["dev", "pts"], Placeholder::Directory),
    (&["dev", "shm"], Placeholder::Directory),
    (&["dev", "console"], Placeholder::File),
    (&["proc"], Placeholder::Directory),
    (&["sys"], Placeholder::Directory),
    (&["etc", "hosts"], Placeholder::File),
    (&["etc", "hostname"], Placeholder::File),
    (&["etc", "resolv.conf"], Placeholder::File),
    (&["etc", "mtab"], Placeholder::Symlink("/proc/mounts")),
    (&[".dockerenv"], Placeholder::File),
];

/// Makes the base in `place` (the directory of the topmost layer, `…/<n>`) for an image with these layers, if it is not
/// there, and returns it. What has no counterpart in the image belongs to `owner`. Two at once are no harm: the first to
/// finish wins.
pub(super) fn ensure(place: &Path, image: &[PathBuf], owner: (u32, u32)) -> Result<PathBuf, LayerError> {
    let base = place.join(BASE);
    if base.is_dir() {
        return Ok(base);
    }
    fs::create_dir_all(place).map_err(LayerError::io("create", place))?;
    let unfinished = place.join(format!("{UNFINISHED}.{:?}", std::thread::current().id()));
    let built = build(&unfinished, image, owner).map_err(LayerError::io("create", &base));
    let named = built.and_then(|()| match fs::rename(&unfinished, &base) {
        Err(source) if !base.is_dir() => Err(LayerError::io("create", &base)(source)),
        _ => Ok(base),
    });
    // What lost the race, or failed, or was left by a crash in the same thread of an earlier run.
    let _ = fs::remove_dir_all(&unfinished);
    named
}

fn build(at: &Path, image: &[PathBuf], owner: (u32, u32)) -> io::Result<()> {
    match fs::remove_dir_all(at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir(at)?;
    std::os::unix::fs::chown(at, Some(owner.0), Some(owner.1))?;
    let root = rustix::fs::open(at, dir_flags(), Mode::empty())?;
    let image = MergedDir::open(image)?;
    for (path, placeholder) in PLACEHOLDERS {
        if let Some((name, parents)) = path.split_last() {
            let from = Image { root: image.as_ref(), owner };
            place(&root, &from, parents, (name, placeholder))?;
        }
    }
    Ok(())
}

/// What a base lies on.
struct Image<'a> {
    /// `None` if it has no layers.
    root: Option<&'a MergedDir>,
    /// User and group of what it does not have.
    owner: (u32, u32),
}

impl Image<'_> {
    /// Hands something new to its owner.
    fn give(&self, dir: impl AsFd, name: &str) -> Result<(), Errno> {
        if self.owner == (0, 0) {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Puts one placeholder where the image has nothing of that kind. Where a parent is a symbolic link, the runtime has to
/// find its own way.
fn place(
    root: &OwnedFd,
    image: &Image<'_>,
    parents: &[&str],
    (name, placeholder): (&str, Placeholder),
) -> Result<(), Errno> {
    let mut covered: Option<MergedDir> = None;
    let mut dirs: Vec<OwnedFd> = Vec::new();
    for (depth, parent) in parents.iter().enumerate() {
        let below = if depth == 0 { image.root } else { covered.as_ref() };
        let found = below.map_or(Ok(None), |below| below.child(parent.as_bytes()))?;
        if found.is_some_and(|found| found.kind() != FileType::Directory) {
            return Ok(());
        }
        let entered = below.map_or(Ok(None), |below| below.enter(parent.as_bytes()))?;
        let here = dirs.last().unwrap_or(root);
        let dir = make_parent(here, parent, entered.as_ref(), image)?;
        covered = entered;
        dirs.push(dir);
    }
    let below = if parents.is_empty() { image.root } else { covered.as_ref() };
    let found = below.map_or(Ok(None), |below| below.child(name.as_bytes()))?.map(|found| found.kind());
    let here = dirs.last().unwrap_or(root).as_fd();
    let made = match (placeholder, found) {
        // A directory in the place of a file is the image's own wish; everything else that is no file is replaced, as in
        // Docker, or a mount would follow a link.
        (
            Placeholder::File,
            Some(FileType::RegularFile | FileType::CharacterDevice | FileType::Directory),
        )
        | (Placeholder::Directory, Some(FileType::Directory))
        | (Placeholder::Symlink(_), Some(FileType::Symlink | FileType::Directory)) => None,
        (Placeholder::File, _) => Some(make_file(here, name)),
        (Placeholder::Directory, _) => Some(rustix::fs::mkdirat(here, name, Mode::from_raw_mode(0o755))),
        (Placeholder::Symlink(target), _) => Some(rustix::fs::symlinkat(target, here, name)),
    };
    if let Some(made) = made {
        made.and_then(|()| image.give(here, name))?;
    }
    // The directory looks as the image's does, as if nothing had been put into it.
    if let Some(covered) = &covered {
        let from = At { dir: covered.top(), name: b"." };
        attributes::copy(from, &from.stat()?, At { dir: here, name: b"." })?;
    }
    Ok(())
}

fn make_parent(
    here: &OwnedFd,
    name: &str,
    covered: Option<&MergedDir>,
    image: &Image<'_>,
) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(here, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => image.give(here, name)?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let dir = rustix::fs::openat(here, name, dir_flags(), Mode::empty())?;
    if let Some(covered) = covered {
        let from = At { dir: covered.top(), name: b"." };
        attributes::copy(from, &from.stat()?, At { dir: dir.as_fd(), name: b"." })?;
    }
    Ok(dir)
}

fn make_file(here: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(here, name, flags, Mode::from_raw_mode(0o755)).map(drop)
}

#[cfg(test)]
mod tests;
