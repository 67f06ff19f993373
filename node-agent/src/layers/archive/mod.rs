//! Tar archives, read and written the way layers need it.
//!
//! Start reading at [`Entry`], then [`ArchiveReader`] and [`ArchiveWriter`]. The formats are POSIX ustar with PAX records,
//! GNU's long names and old sparse files, and V7; the rules of doubt are those of Go's archive/tar, because Docker reads
//! with it. Names are bytes and not checked here: what may be done with a path is [`path`]'s business. Why this is not
//! a library's: docs/decisions/2026-11-21-archive-reader.md.

mod error;
mod header;
pub mod path;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use self::error::ArchiveError;
pub use self::reader::ArchiveReader;
pub use self::sparse::Extent;
pub use self::writer::ArchiveWriter;

/// Size of a header and of the unit to which data is padded.
const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntryKind {
    /// A regular file; its bytes follow.
    #[default]
    File,
    /// Another name of an earlier file.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A point in time as archives have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970; may be negative.
    pub seconds: i64,
    /// Nanoseconds after that, below 10⁹.
    pub nanoseconds: u32,
}

/// Everything that an archive says of one file, but its bytes. A claim, nothing of it is checked beyond its form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Name as it stands in the archive.
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of the file; with a sparse file more than the archive holds.
    pub size: u64,
    /// Time of the last change.
    pub mtime: Time,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, by full name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the archived bytes of a sparse file go; `None` of an ordinary one.
    pub sparse: Option<Vec<Extent>>,
}

impl Entry {
    /// The path for messages.
    pub fn display(&self) -> String {
        display(&self.path)
    }
}

/// Bytes of a name for messages: readable, bounded, without control characters.
pub(super) fn display(name: &[u8]) -> String {
    const LONGEST: usize = 256;
    let text = String::from_utf8_lossy(&name[..name.len().min(LONGEST)]);
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
