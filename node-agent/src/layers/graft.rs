//! Does to an unpacked layer what depends on the layers below it.
//!
//! Start reading at [`graft`]. Layers are unpacked side by side; a layer that has `tmp/x` but not `tmp` itself must not
//! make `/tmp` look as it happened to be created. Nothing is visible before this is done.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, ResolveFlags};
use rustix::io::Errno;

use super::apply::Applied;
use super::archive::{ArchiveError, display};
use super::attributes::{self, At};
use super::merged::{MergedDir, dir_flags};
use super::{LayerError, Usage, copy, diff, whiteout};

/// Finishes a layer that stands on `lowers` (topmost first): implied directories take the attributes of those that they
/// cover, hard links to files of lower layers become copies of these. Returns what the layer holds now.
pub fn graft(layer: &Path, lowers: &[PathBuf], applied: &Applied) -> Result<Usage, LayerError> {
    let io = |errno: Errno| LayerError::io("finish", layer)(errno);
    let below = MergedDir::open(lowers).map_err(io)?;
    let root = rustix::fs::open(layer, dir_flags(), Mode::empty()).map_err(io)?;
    if !applied.deferred_links.is_empty() {
        resolve_links(&root, below.as_ref(), &applied.deferred_links)?;
    }
    if let Some(below) = &below {
        // Children first, because the time of a directory must be set after those of its children were made.
        for path in applied.implied.iter().rev() {
            cover(&root, below, path)
                .map_err(LayerError::io("finish", Path::new(OsStr::from_bytes(path))))?;
        }
    }
    if applied.deferred_links.is_empty() { Ok(applied.usage) } else { diff::usage(layer) }
}

/// Gives an implied directory the attributes of the one that it covers, if there is one.
fn cover(root: &OwnedFd, below: &MergedDir, path: &[u8]) -> Result<(), Errno> {
    let Some(dir) = open_dir(root, path)? else { return Ok(()) };
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
    let Some(covered) = enter_all(below, &names)? else { return Ok(()) };
    let from = At { dir: covered.as_ref().unwrap_or(below).top(), name: b"." };
    attributes::copy(from, &from.stat()?, At { dir: dir.as_fd(), name: b"." })
}

/// A directory of the layer; `None` if it is not there (any more). Links are not followed.
fn open_dir(root: &OwnedFd, path: &[u8]) -> Result<Option<OwnedFd>, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(root, path, dir_flags(), Mode::empty(), resolve) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The directory of these names, taken literally. The inner `None` is the start itself.
fn enter_all(start: &MergedDir, names: &[&[u8]]) -> Result<Option<Option<MergedDir>>, Errno> {
    let mut here: Option<MergedDir> = None;
    for name in names {
        match here.as_ref().unwrap_or(start).enter(name)? {
            Some(dir) => here = Some(dir),
            None => return Ok(None),
        }
    }
    Ok(Some(here))
}

fn resolve_links(
    root: &OwnedFd,
    below: Option<&MergedDir>,
    links: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<(), LayerError> {
    // Several names of one file stay names of one file.
    let mut copied: BTreeMap<(u64, u64), &[u8]> = BTreeMap::new();
    for (path, target) in links {
        let missing = || ArchiveError::Entry {
            path: display(path),
            problem: "is a hard link to a file that does not exist",
        };
        let io = |errno: Errno| LayerError::io("link", Path::new(OsStr::from_bytes(path)))(errno);
        let (parent, name) = split(path);
        let Some(dir) = open_dir(root, parent).map_err(io)? else { continue };
        let to = At { dir: dir.as_fd(), name };
        match to.stat() {
            // Something else has taken the name since.
            Ok(_) => continue,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(io(errno)),
        }
        let (target_parent, target_name) = split(target);
        let names: Vec<&[u8]> =
            target_parent.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        let below = below.ok_or_else(missing)?;
        let holder = enter_all(below, &names).map_err(io)?.ok_or_else(missing)?;
        let holder = holder.as_ref().unwrap_or(below);
        let found = holder.child(target_name).map_err(io)?.ok_or_else(missing)?;
        if found.kind() == FileType::Directory || whiteout::is_whiteout(&found.stat) {
            return Err(missing().into());
        }
        let identity = (found.stat.st_dev, found.stat.st_ino);
        if let Some(first) = copied.get(&identity) {
            rustix::fs::linkat(root, *first, to.dir, to.name, AtFlags::empty()).map_err(io)?;
        } else {
            copy::copy_node(holder.locate(&found, target_name), &found.stat, to).map_err(io)?;
            copied.insert(identity, path);
        }
    }
    Ok(())
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}
