//! What a container has changed, as `docker diff` lists it.
//!
//! Start reading at [`changes`].

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, Stat};
use rustix::io::Errno;

use super::attributes::At;
use super::merged::{Found, MAX_DEPTH, MergedDir, dir_flags, names};
use super::{LayerError, Stack, whiteout};
use crate::api::files::{ChangeKind, PathChange};

/// What a stack's upper directory changes of its lower ones, sorted by path. A directory of the image is listed as
/// modified if its own attributes differ or something in it is listed, as Docker does. `hidden` are absolute paths that
/// are left out with everything below them, such as mount points.
pub fn changes(stack: &Stack, hidden: &[PathBuf]) -> Result<Vec<PathChange>, LayerError> {
    let io = |errno: Errno| LayerError::io("compare", &stack.upper)(errno);
    let upper = rustix::fs::open(&stack.upper, dir_flags(), Mode::empty()).map_err(io)?;
    let lower = MergedDir::open(&stack.lowers).map_err(io)?;
    let mut listing = Listing { hidden, changes: Vec::new() };
    listing.compare(upper.as_fd(), lower.as_ref(), Path::new("/"), 0).map_err(io)?;
    listing.changes.sort();
    Ok(listing.changes)
}

struct Listing<'a> {
    hidden: &'a [PathBuf],
    changes: Vec<PathChange>,
}

impl Listing<'_> {
    fn compare(
        &mut self,
        upper: BorrowedFd<'_>,
        lower: Option<&MergedDir>,
        path: &Path,
        depth: usize,
    ) -> Result<(), Errno> {
        if depth > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        for name in names(upper)? {
            let child = path.join(OsStr::from_bytes(&name));
            if self.hidden.iter().any(|root| child.starts_with(root)) {
                continue;
            }
            let stat = match (At { dir: upper, name: &name }).stat() {
                Ok(stat) => stat,
                // Vanished while we looked: the container may run.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            };
            let before = lower.map_or(Ok(None), |lower| lower.child(&name))?;
            match (before, whiteout::is_whiteout(&stat)) {
                (Some(_), true) => self.push(&child, ChangeKind::Deleted),
                (None, true) => {}
                (before, false) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    let below = lower.map_or(Ok(None), |lower| lower.enter(&name))?;
                    self.compare_dir(upper, &name, (&stat, before.as_ref(), below.as_ref()), &child, depth)?;
                }
                (Some(_), false) => self.push(&child, ChangeKind::Modified),
                (None, false) => self.push(&child, ChangeKind::Added),
            }
        }
        Ok(())
    }

    fn compare_dir(
        &mut self,
        upper: BorrowedFd<'_>,
        name: &[u8],
        (stat, before, below): (&Stat, Option<&Found>, Option<&MergedDir>),
        path: &Path,
        depth: usize,
    ) -> Result<(), Errno> {
        let dir = match rustix::fs::openat(upper, name, dir_flags(), Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let n_before = self.changes.len();
        if let Some(below) = below
            && whiteout::is_opaque(dir.as_fd())?
        {
            self.list_hidden_children(dir.as_fd(), below, path)?;
        }
        self.compare(dir.as_fd(), below, path, depth + 1)?;
        match before {
            None => self.push(path, ChangeKind::Added),
            Some(before) if self.changes.len() > n_before || !is_same(stat, &before.stat) => {
                self.push(path, ChangeKind::Modified);
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// A directory was removed and made again: what it does not have any more is deleted.
    fn list_hidden_children(
        &mut self,
        dir: BorrowedFd<'_>,
        below: &MergedDir,
        path: &Path,
    ) -> Result<(), Errno> {
        for name in below.children()?.into_keys() {
            let child = path.join(OsStr::from_bytes(&name));
            let is_gone = (At { dir, name: &name }).stat().is_err_and(|errno| errno == Errno::NOENT);
            if is_gone && !self.hidden.iter().any(|root| child.starts_with(root)) {
                self.push(&child, ChangeKind::Deleted);
            }
        }
        Ok(())
    }

    fn push(&mut self, path: &Path, kind: ChangeKind) {
        self.changes.push(PathChange { path: path.to_string_lossy().into_owned(), kind });
    }
}

/// Whether a directory that was copied up is otherwise untouched.
fn is_same(now: &Stat, before: &Stat) -> bool {
    let attributes =
        |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec);
    attributes(now) == attributes(before)
}

#[cfg(test)]
mod tests;
