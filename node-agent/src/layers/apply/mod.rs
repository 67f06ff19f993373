//! Unpacks a layer into an empty directory, in overlayfs form.
//!
//! Start reading at [`apply`]. The archive is hostile until proven otherwise, and proven it is only at its end: nothing
//! outside the directory is ever touched, whatever the archive holds, because every step goes from one open directory
//! to one name in it, without following links (`trail.rs`). Links that the archive itself made are followed by hand,
//! inside the directory. What is made of an entry is `place.rs`. Verifying digests, removing what a refused archive
//! left, and what depends on the layers below (`graft.rs`) is done by the callers.
//!
//! The rules are Docker's, where it has some: later entries replace earlier ones, a directory keeps what is in it, a
//! whiteout hides what is below this layer and never what this layer brings itself.

mod data;
mod place;
mod trail;

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use self::place::Stage;
use super::archive::path::{LayerPath, Meaning, meaning};
use super::archive::{ArchiveError, ArchiveReader, Entry, EntryKind};
use super::{LayerError, Usage};
use crate::userns::IdMapping;

/// What no honest layer exceeds. Beyond it an archive is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories and links, those included that the archive only implies.
    pub entries: u64,
    /// Sum of the lengths of files, holes included.
    pub bytes: u64,
    /// Free bytes that must be left on the file system.
    pub free_bytes: u64,
}

impl Default for Limits {
    /// Eight million files and a tebibyte; 64 MiB stay free, so that the daemon can still write its state.
    fn default() -> Self {
        Self { entries: 8_000_000, bytes: 1 << 40, free_bytes: 64 << 20 }
    }
}

/// What was unpacked, and what must still be done when the layers below are there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// What the directory holds.
    pub usage: Usage,
    /// Directories that the archive did not contain although it has files in them, parents first. They take the
    /// attributes of the directories that they cover. The empty path is the root.
    pub implied: BTreeSet<Vec<u8>>,
    /// Hard links (path and target) whose target is not in this layer.
    pub deferred_links: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Writes the bytes of one entry to an empty file; holes of a sparse one stay holes.
pub(crate) fn write_file(file: &OwnedFd, entry: &Entry, data: &mut dyn BufRead) -> Result<(), LayerError> {
    data::write_data(file, entry, data).map_err(|error| error.at(entry.display()))
}

/// Unpacks an uncompressed archive into the empty directory `stage`, for containers with these ids. On an error the directory holds rubbish, which the
/// caller removes. Blocks.
pub fn apply(
    archive: &mut dyn BufRead,
    stage: &Path,
    limits: Limits,
    ids: &IdMapping,
) -> Result<Applied, LayerError> {
    let io = |source: rustix::io::Errno| LayerError::io("open", stage)(source);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(stage, flags, Mode::empty()).map_err(io)?;
    let in_stage = |error: PlaceError| error.at(stage.display().to_string());
    let mut stage = Stage::new(root, limits, ids.root()).map_err(in_stage)?;
    let mut reader = ArchiveReader::new(archive);
    while let Some(mut entry) = reader.next_entry()? {
        stage.count_entry()?;
        translate(&mut entry, ids)
            .and_then(|()| apply_entry(&mut stage, &entry, &mut reader))
            .map_err(|error| error.at(entry.display()))?;
    }
    stage.finish().map_err(in_stage)
}

/// Gives an entry the ids that its owner has on the host. A link has none of its own.
fn translate(entry: &mut Entry, ids: &IdMapping) -> Result<(), PlaceError> {
    if ids.is_identity() || entry.kind == EntryKind::HardLink {
        return Ok(());
    }
    let unmapped = |_| PlaceError::Refused("has an owner that cannot be mapped to a host ID");
    (entry.uid, entry.gid) = ids.to_host(entry.uid, entry.gid).map_err(unmapped)?;
    for (name, value) in &mut entry.xattrs {
        ids.attribute_to_host(name, value);
    }
    Ok(())
}

fn apply_entry<R: BufRead>(
    stage: &mut Stage,
    entry: &Entry,
    reader: &mut ArchiveReader<R>,
) -> Result<(), PlaceError> {
    let path = LayerPath::parse(&entry.path)?;
    let Some((parents, name)) = path.split_last() else {
        return match entry.kind {
            EntryKind::Directory => stage.set_root_attributes(entry),
            _ => Err(PlaceError::Refused("is not a directory, but the root")),
        };
    };
    match meaning(parents, name)? {
        Meaning::Plain(name) => {
            stage.enter(parents)?;
            match entry.kind {
                EntryKind::File => stage.place_file(name, entry, &mut reader.data()),
                EntryKind::Directory => stage.place_directory(name, entry),
                EntryKind::Symlink => stage.place_symlink(name, entry),
                EntryKind::HardLink => stage.place_hard_link(name, &LayerPath::parse(&entry.link)?),
                // Written by programs that packed an upper directory as it was.
                EntryKind::CharDevice if entry.device == (0, 0) => stage.place_whiteout(name),
                EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                    stage.place_node(name, entry)
                }
            }
        }
        Meaning::Whiteout(hidden) => {
            stage.enter(parents)?;
            stage.place_whiteout(hidden)
        }
        Meaning::Opaque => {
            stage.enter(parents)?;
            stage.make_opaque()
        }
        Meaning::Ignored => Ok(()),
    }
}

/// Why one entry was not unpacked; which one it was is added by [`PlaceError::at`].
#[derive(Debug, thiserror::Error)]
enum PlaceError {
    /// The entry makes no sense.
    #[error("{0}")]
    Refused(&'static str),
    /// The archive cannot be read on, or something that knows its own path is wrong.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The kernel refused.
    #[error("{0}")]
    Kernel(&'static str, #[source] std::io::Error),
}

impl PlaceError {
    fn kernel<E: Into<std::io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Kernel(doing, source.into())
    }

    fn at(self, path: String) -> LayerError {
        match self {
            Self::Refused(problem) => ArchiveError::Entry { path, problem }.into(),
            Self::Archive(error) => error.into(),
            Self::Kernel(doing, source) => LayerError::Io { doing, path: path.into(), source },
        }
    }
}

#[cfg(test)]
mod tests;
