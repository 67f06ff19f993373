//! What a directory tree holds: as an OCI layer, and as a size.
//!
//! Start reading at [`write_layer`]. The tree may be a container's upper directory, made by hostile processes and changing
//! while it is read: no link is followed, depth is bounded, what vanishes is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::archive::path::{OPAQUE_MARKER, WHITEOUT_PREFIX};
use super::archive::{ArchiveWriter, Entry, EntryKind, Time};
use super::attributes::{self, At};
use super::merged::{MAX_DEPTH, dir_flags, names};
use super::{LayerError, Stack, Usage, whiteout};
use crate::userns::IdMapping;

/// Attributes by which overlayfs says that a file's name or content is elsewhere.
const REDIRECTS: [&[u8]; 2] = [b"trusted.overlay.redirect", b"trusted.overlay.metacopy"];

/// Writes the content of a stack's upper directory as the tar of an OCI layer: whiteouts as `.wh.` files, names in byte
/// order, so that the same directory gives the same bytes. The root has an entry only if its attributes differ from
/// those of the image. The container may run; a file that shrinks while it is read is an error.
pub fn write_layer<W: Write>(stack: &Stack, out: W) -> Result<W, LayerError> {
    let upper = &stack.upper;
    let root = rustix::fs::open(upper, dir_flags(), Mode::empty()).map_err(LayerError::io("open", upper))?;
    let mut packer = Packer { archive: ArchiveWriter::new(out), links: BTreeMap::new(), ids: &stack.ids };
    if !has_attributes_of_image(stack, root.as_fd()).map_err(LayerError::io("look at", upper))? {
        packer.pack_root(root.as_fd()).map_err(LayerError::io("pack", upper))?;
    }
    packer
        .pack_dir(root.as_fd(), &mut Vec::new(), 0)
        .map_err(|(path, source)| LayerError::io("pack", Path::new(OsStr::from_bytes(&path)))(source))?;
    packer.archive.finish().map_err(LayerError::io("pack", upper))
}

fn has_attributes_of_image(stack: &Stack, root: BorrowedFd<'_>) -> Result<bool, Errno> {
    // The topmost lower directory is the base of containers; the image is below it.
    let Some(image) = stack.lowers.get(1) else { return Ok(true) };
    let image = rustix::fs::stat(image)?;
    let root = rustix::fs::fstat(root)?;
    Ok((root.st_mode, root.st_uid, root.st_gid) == (image.st_mode, image.st_uid, image.st_gid))
}

struct Packer<'a, W> {
    archive: ArchiveWriter<W>,
    /// Where files with several names were packed first.
    links: BTreeMap<(u64, u64), Vec<u8>>,
    ids: &'a IdMapping,
}

type Failed = (Vec<u8>, io::Error);

impl<W: Write> Packer<'_, W> {
    fn pack_root(&mut self, root: BorrowedFd<'_>) -> Result<(), io::Error> {
        let at = At { dir: root, name: b"." };
        let entry = entry(b"./".to_vec(), at, &at.stat()?, self.ids)?;
        entry.map_or(Ok(()), |entry| self.archive.append(&entry, &mut io::empty()))
    }

    fn pack_dir(&mut self, dir: BorrowedFd<'_>, path: &mut Vec<u8>, depth: usize) -> Result<(), Failed> {
        if depth > MAX_DEPTH {
            return Err((path.clone(), Errno::NAMETOOLONG.into()));
        }
        for name in names(dir).map_err(|errno| (path.clone(), errno.into()))? {
            let length = path.len();
            path.extend_from_slice(&name);
            match self.pack(dir, &name, path, depth) {
                // Vanished while we looked.
                Err((_, error)) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
                other => other?,
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn pack(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Failed> {
        let here = path.clone();
        let at = |error: io::Error| (here.clone(), error);
        let node = At { dir, name };
        let stat = node.stat().map_err(|errno| at(errno.into()))?;
        if whiteout::is_whiteout(&stat) {
            return self
                .pack_marker(&path[..path.len() - name.len()], &[WHITEOUT_PREFIX, name].concat())
                .map_err(at);
        }
        if name.starts_with(WHITEOUT_PREFIX) {
            // A layer cannot contain such a file: it would mean something else.
            tracing::warn!(path = %String::from_utf8_lossy(path), "a file with the name of a whiteout is left out");
            return Ok(());
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            path.push(b'/');
            let child = rustix::fs::openat(dir, name, dir_flags(), Mode::empty())
                .map_err(|errno| at(errno.into()))?;
            if let Some(entry) = entry(path.clone(), node, &stat, self.ids).map_err(at)? {
                self.archive.append(&entry, &mut io::empty()).map_err(at)?;
            }
            if whiteout::is_opaque(child.as_fd()).map_err(|errno| at(errno.into()))? {
                self.pack_marker(path, OPAQUE_MARKER).map_err(at)?;
            }
            return self.pack_dir(child.as_fd(), path, depth + 1);
        }
        self.pack_leaf(node, &stat, path).map_err(at)
    }

    fn pack_leaf(&mut self, node: At<'_>, stat: &Stat, path: &[u8]) -> Result<(), io::Error> {
        let Some(mut entry) = entry(path.to_vec(), node, stat, self.ids)? else { return Ok(()) };
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity) {
                entry.kind = EntryKind::HardLink;
                entry.link = first.clone();
                entry.size = 0;
                entry.xattrs.clear();
                return self.archive.append(&entry, &mut io::empty());
            }
            self.links.insert(identity, path.to_vec());
        }
        if entry.kind != EntryKind::File {
            return self.archive.append(&entry, &mut io::empty());
        }
        // Not to be kept waiting should a named pipe have taken the file's place.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(node.dir, node.name, flags, Mode::empty())?);
        self.archive.append(&entry, &mut file)
    }

    /// Markers have neither time nor owner: they are no files.
    fn pack_marker(&mut self, dir: &[u8], name: &[u8]) -> Result<(), io::Error> {
        let entry = Entry { path: [dir, name].concat(), ..Entry::default() };
        self.archive.append(&entry, &mut io::empty())
    }
}

/// What an archive says of a file of containers with these ids; `None` for a socket, which archives do not have.
pub(crate) fn entry(
    path: Vec<u8>,
    node: At<'_>,
    stat: &Stat,
    ids: &IdMapping,
) -> Result<Option<Entry>, io::Error> {
    let (kind, size) = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => (EntryKind::File, u64::try_from(stat.st_size).unwrap_or(0)),
        FileType::Directory => (EntryKind::Directory, 0),
        FileType::Symlink => (EntryKind::Symlink, 0),
        FileType::CharacterDevice => (EntryKind::CharDevice, 0),
        FileType::BlockDevice => (EntryKind::BlockDevice, 0),
        FileType::Fifo => (EntryKind::Fifo, 0),
        _ => return Ok(None),
    };
    let mut xattrs = node.xattrs()?;
    if xattrs.iter().any(|(name, _)| REDIRECTS.contains(&name.as_slice())) {
        return Err(io::Error::other("the overlay was mounted with redirect_dir or metacopy"));
    }
    let link = match kind {
        EntryKind::Symlink => rustix::fs::readlinkat(node.dir, node.name, Vec::new())?.into_bytes(),
        _ => Vec::new(),
    };
    xattrs.retain(|(name, _)| attributes::travels(name));
    xattrs.iter_mut().for_each(|(name, value)| ids.attribute_to_container(name, value));
    let (uid, gid) = ids.to_container(stat.st_uid, stat.st_gid);
    let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
    let device = |number: u64| (rustix::fs::major(number), rustix::fs::minor(number));
    Ok(Some(Entry {
        path,
        link,
        kind,
        mode: stat.st_mode & 0o7777,
        uid,
        gid,
        size,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) },
        device: if is_device { device(stat.st_rdev) } else { (0, 0) },
        xattrs,
        sparse: None,
    }))
}

/// The size of a directory tree, by the rules of [`Usage`]. The root itself does not count.
pub fn usage(root: &Path) -> Result<Usage, LayerError> {
    let dir = rustix::fs::open(root, dir_flags() - OFlags::NOFOLLOW, Mode::empty())
        .map_err(LayerError::io("open", root))?;
    let mut usage = Usage::default();
    let mut seen = BTreeSet::new();
    add_usage(dir.as_fd(), &mut usage, &mut seen, 0).map_err(LayerError::io("measure", root))?;
    Ok(usage)
}

fn add_usage(
    dir: BorrowedFd<'_>,
    usage: &mut Usage,
    seen: &mut BTreeSet<(u64, u64)>,
    depth: usize,
) -> Result<(), Errno> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    for name in names(dir)? {
        let stat = match (At { dir, name: &name }).stat() {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 && !seen.insert((stat.st_dev, stat.st_ino)) {
            continue;
        }
        usage.inodes += 1;
        match kind {
            FileType::RegularFile | FileType::Symlink => {
                usage.bytes += u64::try_from(stat.st_size).unwrap_or(0);
            }
            FileType::Directory => match rustix::fs::openat(dir, name.as_slice(), dir_flags(), Mode::empty())
            {
                Ok(child) => add_usage(child.as_fd(), usage, seen, depth + 1)?,
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(errno),
            },
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
