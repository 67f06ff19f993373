//! What a stack of directories shows, as overlayfs would, without a mount.
//!
//! Start reading at [`MergedDir`]. Used where a mount would have to be made, seen by others and cleaned up after crashes:
//! filling a volume, comparing a container with its image, repairing implied directories. Redirects and metadata-only
//! copies are not understood; our layers have none, and containers are mounted without these features.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::attributes::At;
use super::whiteout;

/// Deeper trees are refused: every level holds descriptors, and a container can make a tree of any depth.
pub(crate) const MAX_DEPTH: usize = 1024;
/// As in the kernel's own path walk.
const MAX_LINKS: usize = 40;

/// One directory of the merged view: the directories that it consists of, topmost first. At least one.
#[derive(Debug)]
pub(super) struct MergedDir {
    parts: Vec<OwnedFd>,
}

/// What the merged view shows under a name.
#[derive(Debug)]
pub(super) struct Found {
    part: usize,
    /// Of the topmost part that has it.
    pub(super) stat: Stat,
}

impl Found {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

impl MergedDir {
    /// The root of a stack, topmost first. `None` for an empty stack.
    pub(super) fn open(stack: &[PathBuf]) -> Result<Option<Self>, Errno> {
        let mut parts = Vec::with_capacity(stack.len());
        for path in stack {
            parts.push(rustix::fs::open(path, dir_flags(), Mode::empty())?);
        }
        Ok((!parts.is_empty()).then_some(Self { parts }))
    }

    /// The topmost part, whose attributes are those of the merged directory.
    pub(super) fn top(&self) -> BorrowedFd<'_> {
        self.parts[0].as_fd()
    }

    /// What is under a name; `None` if nothing is, or a whiteout.
    pub(super) fn child(&self, name: &[u8]) -> Result<Option<Found>, Errno> {
        for (part, dir) in self.parts.iter().enumerate() {
            match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if whiteout::is_whiteout(&stat) => return Ok(None),
                Ok(stat) => return Ok(Some(Found { part, stat })),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }

    /// Where the bytes and attributes of a child are.
    pub(super) fn locate<'a>(&'a self, found: &Found, name: &'a [u8]) -> At<'a> {
        At { dir: self.parts[found.part].as_fd(), name }
    }

    /// A child that is a directory; `None` if there is none or it is something else.
    pub(super) fn enter(&self, name: &[u8]) -> Result<Option<Self>, Errno> {
        let mut parts = Vec::new();
        for dir in &self.parts {
            match rustix::fs::openat(dir, name, dir_flags(), Mode::empty()) {
                Ok(child) => {
                    let is_opaque = whiteout::is_opaque(child.as_fd())?;
                    parts.push(child);
                    if is_opaque {
                        break;
                    }
                }
                Err(Errno::NOENT) => {}
                // A whiteout or another file: it hides what is below, and is itself hidden by what is above.
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok((!parts.is_empty()).then_some(Self { parts }))
    }

    /// Everything in the directory, by name.
    pub(super) fn children(&self) -> Result<BTreeMap<Vec<u8>, Found>, Errno> {
        let mut shown = BTreeMap::new();
        let mut hidden = std::collections::BTreeSet::new();
        for (part, dir) in self.parts.iter().enumerate() {
            for name in names(dir.as_fd())? {
                if shown.contains_key(&name) || hidden.contains(&name) {
                    continue;
                }
                let stat = match rustix::fs::statat(dir, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    // Removed while we look: the top may belong to a running container.
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno),
                };
                if whiteout::is_whiteout(&stat) {
                    hidden.insert(name);
                } else {
                    shown.insert(name, Found { part, stat });
                }
            }
        }
        Ok(shown)
    }

    /// The directory at an absolute path, symbolic links followed as if this were the root; `None` if the path does not
    /// exist or is no directory.
    pub(super) fn resolve(self, path: &[u8]) -> Result<Option<Self>, Errno> {
        let steps = |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let mut trail = vec![self];
        let mut ahead: VecDeque<Vec<u8>> = steps(path).into();
        let mut n_links = 0;
        while let Some(name) = ahead.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    // The root is its own parent.
                    trail.truncate((trail.len() - 1).max(1));
                    continue;
                }
                _ if trail.len() > MAX_DEPTH => return Err(Errno::NAMETOOLONG),
                _ => {}
            }
            let here = &trail[trail.len() - 1];
            let Some(found) = here.child(&name)? else { return Ok(None) };
            match found.kind() {
                FileType::Directory => match here.enter(&name)? {
                    Some(dir) => trail.push(dir),
                    None => return Ok(None),
                },
                FileType::Symlink => {
                    n_links += 1;
                    if n_links > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = rustix::fs::readlinkat(&here.parts[found.part], &name, Vec::new())?;
                    if target.as_bytes().starts_with(b"/") {
                        trail.truncate(1);
                    }
                    for step in steps(target.as_bytes()).into_iter().rev() {
                        ahead.push_front(step);
                    }
                }
                _ => return Ok(None),
            }
        }
        Ok(trail.pop())
    }
}

/// How directories are opened everywhere in this module.
pub(crate) fn dir_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// The names in one directory, without `.` and `..`, in byte order.
pub(crate) fn names(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}
