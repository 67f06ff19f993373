//! What the tests of layers share: archives made by hand, trees looked at.
//!
//! Start reading at [`pack`] and [`tree`].

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{FileType, Mode};

use super::archive::{ArchiveWriter, Entry, EntryKind, Time};
use super::attributes::At;
use super::merged::{dir_flags, names};
use super::{diff, whiteout};
use crate::userns::IdMapping;

/// Whether the test may make devices and set owners; says so loudly if not.
pub(crate) fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("SKIPPED: {test} needs root");
    }
    is_root
}

/// An entry with usual attributes.
pub(crate) fn entry(kind: EntryKind, path: &str) -> Entry {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    Entry {
        path: path.into(),
        kind,
        mode,
        mtime: Time { seconds: 1_700_000_000, nanoseconds: 0 },
        ..Entry::default()
    }
}

/// A file and its content.
pub(crate) fn file(path: &str, content: &str) -> (Entry, Vec<u8>) {
    let size = content.len() as u64;
    (Entry { size, ..entry(EntryKind::File, path) }, content.as_bytes().to_vec())
}

/// A directory.
pub(crate) fn dir(path: &str) -> (Entry, Vec<u8>) {
    (entry(EntryKind::Directory, path), Vec::new())
}

/// A symbolic or hard link.
pub(crate) fn link(kind: EntryKind, path: &str, target: &str) -> (Entry, Vec<u8>) {
    (Entry { link: target.into(), ..entry(kind, path) }, Vec::new())
}

/// An archive of these entries.
pub(crate) fn pack(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ArchiveWriter::new(Vec::new());
    for (entry, data) in entries {
        archive.append(entry, &mut data.as_slice()).unwrap();
    }
    archive.finish().unwrap()
}

/// What one path of a tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) entry: Entry,
    pub(crate) content: Vec<u8>,
    pub(crate) is_whiteout: bool,
    pub(crate) is_opaque: bool,
    /// First path of the same inode, if there are several.
    pub(crate) same_as: Option<String>,
}

/// Everything below a directory, by path.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, Seen> {
    let mut seen = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    look(root, "", &mut seen, &mut inodes);
    seen
}

fn look(root: &Path, path: &str, seen: &mut BTreeMap<String, Seen>, inodes: &mut BTreeMap<u64, String>) {
    let here = rustix::fs::open(root.join(path), dir_flags(), Mode::empty()).unwrap();
    for name in names(here.as_fd()).unwrap() {
        let text = String::from_utf8(name.clone()).unwrap();
        let child = if path.is_empty() { text } else { format!("{path}/{text}") };
        let at = At { dir: here.as_fd(), name: &name };
        let stat = at.stat().unwrap();
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_dir = kind == FileType::Directory;
        let same_as = (!is_dir && stat.st_nlink > 1)
            .then(|| inodes.entry(stat.st_ino).or_insert_with(|| child.clone()).clone());
        let mut entry =
            diff::entry(child.clone().into_bytes(), at, &stat, &IdMapping::default()).unwrap().unwrap();
        if whiteout::is_whiteout(&stat) {
            // Markers have neither owner nor time.
            entry = Entry { path: entry.path, kind: entry.kind, ..Entry::default() };
        }
        let content = if kind == FileType::RegularFile {
            std::fs::read(root.join(&child)).unwrap()
        } else {
            Vec::new()
        };
        let is_opaque = is_dir && {
            let dir = rustix::fs::openat(&here, name.as_slice(), dir_flags(), Mode::empty()).unwrap();
            whiteout::is_opaque(dir.as_fd()).unwrap()
        };
        let is_whiteout = whiteout::is_whiteout(&stat);
        seen.insert(child.clone(), Seen { entry, content, is_whiteout, is_opaque, same_as });
        if is_dir {
            look(root, &child, seen, inodes);
        }
    }
}
