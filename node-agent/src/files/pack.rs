//! From a container's tree to an archive.
//!
//! Start reading at [`pack`]. The tree changes while it is read and whoever changes it is hostile: every step goes from
//! one open directory to one name in it and follows no link, the mounts let no device be opened, what vanishes is left
//! out, and a file that shrinks is filled up with zeros, as GNU tar does, so that the archive stays whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use node_runtime::RootDirectory;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::path::Wanted;
use super::stat::Found;
use crate::layers::archive::{ArchiveWriter, Entry, EntryKind};
use crate::layers::attributes::At;
use crate::layers::diff;
use crate::layers::merged::{MAX_DEPTH, dir_flags, names};
use crate::userns::IdMapping;

/// The most memory that names of files with several names may take; beyond it each name is packed as a file.
const MAX_LINK_BYTES: usize = 64 << 20;

/// What is packed.
#[derive(Debug)]
pub(super) enum Top {
    /// A directory with everything in it.
    Directory {
        /// Open for reading.
        dir: OwnedFd,
        /// The name of its own entry; empty leaves it out.
        prefix: Vec<u8>,
    },
    /// Anything else.
    Node {
        /// The directory that it is in.
        dir: OwnedFd,
        /// Its name there.
        name: Vec<u8>,
    },
}

impl Top {
    /// What a client asked for.
    pub(super) fn of(root: &RootDirectory, wanted: &Wanted, found: &Found) -> Result<Self, Errno> {
        if found.kind() == FileType::Directory {
            let dir = rustix::fs::openat(&found.fd, c".", dir_flags(), Mode::empty())?;
            return Ok(Self::Directory { dir, prefix: wanted.prefix() });
        }
        let (directory, name) = wanted.split().ok_or(Errno::NOTDIR)?;
        let dir = root.open(directory.as_ref(), OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Self::Node { dir, name: name.as_bytes().to_vec() })
    }

    /// Everything in the root.
    pub(super) fn everything(root: &RootDirectory) -> Result<Self, Errno> {
        let dir = root.open("/".as_ref(), dir_flags())?;
        Ok(Self::Directory { dir, prefix: Vec::new() })
    }
}

/// Writes the archive, of a container with these ids.
pub(super) fn pack<W: Write>(top: &Top, ids: &IdMapping, out: W) -> io::Result<()> {
    let archive = ArchiveWriter::new(out);
    let mut packer = Packer { archive, links: BTreeMap::new(), link_bytes: 0, ids };
    match top {
        Top::Node { dir, name } => packer.pack(dir.as_fd(), name, &mut name.clone(), 0)?,
        Top::Directory { dir, prefix } => {
            let mut path = prefix.clone();
            if !path.is_empty() {
                let at = At { dir: dir.as_fd(), name: b"." };
                packer.append(path.clone(), at, &at.stat()?)?;
            }
            packer.pack_children(dir.as_fd(), &mut path, 0)?;
        }
    }
    packer.archive.finish().map(drop)
}

struct Packer<'a, W> {
    archive: ArchiveWriter<W>,
    ids: &'a IdMapping,
    /// Where files with several names were packed first.
    links: BTreeMap<(u64, u64), Vec<u8>>,
    link_bytes: usize,
}

impl<W: Write> Packer<'_, W> {
    fn pack_children(&mut self, dir: BorrowedFd<'_>, path: &mut Vec<u8>, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG.into());
        }
        for name in names(dir)? {
            let length = path.len();
            path.extend_from_slice(&name);
            let packed = self.pack(dir, &name, path, depth);
            path.truncate(length);
            match packed {
                // Vanished while we looked, or became something else.
                Err(error) if is_vanished(&error) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn pack(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &mut Vec<u8>, depth: usize) -> io::Result<()> {
        let at = At { dir, name };
        let stat = at.stat()?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let child = rustix::fs::openat(dir, name, dir_flags(), Mode::empty())?;
                path.push(b'/');
                let own = At { dir: child.as_fd(), name: b"." };
                self.append(path.clone(), own, &own.stat()?)?;
                self.pack_children(child.as_fd(), path, depth + 1)
            }
            FileType::RegularFile => self.pack_file(at, &stat, path),
            _ => self.append(path.clone(), at, &stat),
        }
    }

    fn pack_file(&mut self, at: At<'_>, stat: &Stat, path: &[u8]) -> io::Result<()> {
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&identity)
        {
            let link = first.clone();
            let Some(entry) = diff::entry(path.to_vec(), at, stat, self.ids)? else { return Ok(()) };
            let entry = Entry { kind: EntryKind::HardLink, link, size: 0, xattrs: Vec::new(), ..entry };
            return self.archive.append(&entry, &mut io::empty());
        }
        // Not to be kept waiting should a named pipe have taken the file's place.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(at.dir, at.name, flags, Mode::empty())?);
        let now = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(now.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let Some(entry) = diff::entry(path.to_vec(), at, &now, self.ids)? else { return Ok(()) };
        if now.st_nlink > 1 && self.link_bytes < MAX_LINK_BYTES {
            self.link_bytes += path.len() + size_of::<(u64, u64)>();
            self.links.insert((now.st_dev, now.st_ino), path.to_vec());
        }
        self.archive.append(&entry, &mut file.chain(io::repeat(0)))
    }

    /// Everything that is no file with bytes of its own; sockets are left out.
    fn append(&mut self, path: Vec<u8>, at: At<'_>, stat: &Stat) -> io::Result<()> {
        match diff::entry(path, at, stat, self.ids)? {
            Some(entry) => self.archive.append(&entry, &mut io::empty()),
            None => Ok(()),
        }
    }
}

fn is_vanished(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NXIO];
    gone.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
