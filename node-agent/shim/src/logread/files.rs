//! The files of one log: the current one and those rotated away, plain or compressed.
//!
//! Start reading at [`open_all`]. The writer renames files while they are opened here. They are opened from the newest
//! to the oldest, in the direction in which they are renamed, so that one may be met twice, which is noticed, but none is
//! missed; and once more if the current file has changed meanwhile.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use jiff::Timestamp;

use super::{Format, MAX_ENTRY_LEN, Parsed, Parser, json, local};
use crate::log::rotation::Origin;

/// A part of a buffer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extent {
    pub(super) begin: usize,
    pub(super) end: usize,
}

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Source {
    content: Content,
    /// Which file it is, or was made from; `None` for one that another program has compressed.
    origin: Option<Origin>,
    /// The time of the first entry, if there is one.
    first_time: Option<Timestamp>,
    /// Whether nothing can be added to it any more.
    is_final: bool,
}

#[derive(Debug)]
enum Content {
    Plain { file: File, offset: u64 },
    Compressed { path: File, decoder: Box<GzDecoder<File>> },
}

impl Source {
    fn plain(file: File, format: Format) -> io::Result<Self> {
        let origin = Some(Origin::of(&file)?);
        let mut source =
            Self { content: Content::Plain { file, offset: 0 }, origin, first_time: None, is_final: false };
        source.read_first_time(format)?;
        Ok(source)
    }

    fn compressed(file: File, format: Format) -> io::Result<Self> {
        let decoder = Box::new(GzDecoder::new(file.try_clone()?));
        let content = Content::Compressed { path: file, decoder };
        let mut source = Self { content, origin: None, first_time: None, is_final: true };
        source.read_first_time(format)?;
        Ok(source)
    }

    fn read_first_time(&mut self, format: Format) -> io::Result<()> {
        let mut parser = Parser::new(format);
        let mut bytes = Vec::new();
        let mut block = [0; 4096];
        while bytes.len() < MAX_ENTRY_LEN {
            let n_read = self.read(&mut block)?;
            bytes.extend_from_slice(&block[..n_read]);
            match parser.parse(&bytes) {
                Parsed::Entry(_, entry) => {
                    self.first_time = Some(entry.time);
                    break;
                }
                Parsed::Garbage(len) => drop(bytes.drain(..len)),
                Parsed::Incomplete if n_read == 0 => break,
                Parsed::Incomplete => {}
            }
        }
        if let Content::Compressed { decoder, .. } = &self.content {
            self.origin = decoder.header().and_then(|header| header.extra()).and_then(Origin::from_field);
        }
        self.rewind()
    }

    /// Where reading will begin.
    #[cfg(test)]
    pub(super) fn begins_at(&self) -> u64 {
        match &self.content {
            Content::Plain { offset, .. } => *offset,
            Content::Compressed { .. } => 0,
        }
    }

    /// Goes back to the beginning.
    fn rewind(&mut self) -> io::Result<()> {
        match &mut self.content {
            Content::Plain { offset, .. } => *offset = 0,
            Content::Compressed { path, decoder } => {
                io::Seek::rewind(path)?;
                **decoder = GzDecoder::new(path.try_clone()?);
            }
        }
        Ok(())
    }

    /// Reads on; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.content {
            Content::Plain { file, offset } => {
                let n_read = file.read_at(buffer, *offset)?;
                *offset += n_read as u64;
                Ok(n_read)
            }
            Content::Compressed { decoder, .. } => decoder.read(buffer),
        }
    }

    /// A file that was empty when it was opened has its first entry now.
    pub(super) fn note_first_time(&mut self, time: Timestamp) {
        self.first_time.get_or_insert(time);
    }

    /// Whether the log's current file is this one. A log without a current file is between two of them.
    pub(super) fn is_current(&self, path: &Path) -> io::Result<bool> {
        Ok(current_origin(path)?.is_none_or(|current| Some(current) == self.origin))
    }

    /// Whether both have the same entries: it is one file, which may have been compressed between two looks. The inode
    /// of a file that was compressed serves another one later, whose entries are of another time; without an origin
    /// the time alone has to do.
    fn is_same(&self, other: &Self) -> bool {
        let is_same_time = other.first_time.is_some() && other.first_time == self.first_time;
        match (self.origin, other.origin) {
            (Some(one), Some(two)) => one == two && (self.is_plain() && other.is_plain() || is_same_time),
            (None, _) | (_, None) => is_same_time,
        }
    }

    fn is_plain(&self) -> bool {
        matches!(self.content, Content::Plain { .. })
    }

    /// Whether nothing of the other file is news to whoever has read this one: it is this one, or was begun before it.
    /// An empty file is the one that was just begun, and one that was begun in the same moment a later one.
    fn covers(&self, other: &Self) -> bool {
        self.is_same(other) || other.first_time.is_some_and(|first| Some(first) < self.first_time)
    }

    /// Starts over if the writer has: a log of one file is emptied when it is full. `true` if it was.
    pub(super) fn restart_if_emptied(&mut self) -> io::Result<bool> {
        let Content::Plain { file, offset } = &mut self.content else { return Ok(false) };
        let is_emptied = file.metadata()?.len() < *offset;
        if is_emptied {
            *offset = 0;
            self.first_time = None;
        }
        Ok(is_emptied)
    }

    /// The writer has gone on to another file.
    pub(super) fn finish(&mut self) {
        self.is_final = true;
    }

    pub(super) fn is_final(&self) -> bool {
        self.is_final
    }
}

/// How often to begin anew when the writer goes on to another file meanwhile. Only a log of tiny files that is written
/// at full speed needs more than one or two.
const MOST_LOOKS: u32 = 100;

/// Opens all files of a log, the newest first.
pub(super) fn open_all(path: &Path, max_files: u32, format: Format) -> io::Result<Vec<Source>> {
    look_until_steady(path, || open_until(path, max_files, format, None))
}

/// Opens the files that were begun after this one, the newest first.
pub(super) fn open_newer(
    path: &Path,
    max_files: u32,
    format: Format,
    than: &Source,
) -> io::Result<Vec<Source>> {
    look_until_steady(path, || open_until(path, max_files, format, Some(than)))
}

/// Repeats a look at the files until the current one was the same before and after: then none was renamed past it.
fn look_until_steady(path: &Path, look: impl Fn() -> io::Result<Vec<Source>>) -> io::Result<Vec<Source>> {
    let mut before = current_origin(path)?;
    for _ in 1..MOST_LOOKS {
        let sources = look()?;
        let after = current_origin(path)?;
        // Without a current file the writer is between two, or there is no log.
        if before == after && (after.is_some() || sources.is_empty()) {
            return Ok(sources);
        }
        before = after;
        std::thread::yield_now();
    }
    look()
}

fn current_origin(path: &Path) -> io::Result<Option<Origin>> {
    match std::fs::metadata(path) {
        Ok(current) => Ok(Some(Origin::of_metadata(&current))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens the files down to the one that is known, or all.
fn open_until(
    path: &Path,
    max_files: u32,
    format: Format,
    known: Option<&Source>,
) -> io::Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    let mut n_missing = 0;
    for index in 0..max_files.max(1) {
        let Some(source) = open(path, index, format)? else {
            // While files are renamed one number is free; two in a row are the end.
            n_missing += 1;
            if n_missing == 2 {
                break;
            }
            continue;
        };
        n_missing = 0;
        if known.is_some_and(|known| known.covers(&source)) {
            break;
        }
        // Met before: it was renamed meanwhile, or compressed.
        if !sources.iter().any(|met| met.is_same(&source)) {
            sources.push(source);
        }
    }
    Ok(sources)
}

/// Opens the file with this number, 0 being the current one.
fn open(path: &Path, index: u32, format: Format) -> io::Result<Option<Source>> {
    let name = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let plain = if index == 0 { path.to_owned() } else { name(&format!(".{index}")) };
    match File::open(plain) {
        Ok(file) => return Source::plain(file, format).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if index == 0 {
        return Ok(None);
    }
    // Looked for second: the plain file is removed only when this one is complete.
    match File::open(name(&format!(".{index}.gz"))) {
        Ok(file) => Source::compressed(file, format).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Leaves only the last so many entries to be read; returns how many of the first file have to be passed over.
pub(super) fn keep_tail(sources: &mut Vec<Source>, n_wanted: u64, format: Format) -> io::Result<u64> {
    let mut n_missing = n_wanted;
    for (position, source) in sources.iter_mut().enumerate() {
        let n_skipped = match &mut source.content {
            Content::Plain { file, offset } => {
                let len = file.metadata()?.len();
                let (begin, n_found) = match format {
                    Format::Json => json::tail(file, len, n_missing)?,
                    Format::Local => local::tail(file, len, n_missing)?,
                };
                *offset = begin;
                n_missing -= n_found;
                0
            }
            Content::Compressed { .. } => {
                let n_entries = count_entries(source, format)?;
                let n_found = n_entries.min(n_missing);
                n_missing -= n_found;
                n_entries - n_found
            }
        };
        if n_missing == 0 {
            sources.truncate(position + 1);
            return Ok(n_skipped);
        }
    }
    Ok(0)
}

/// Counts the entries of a compressed file, which cannot be read from its end.
fn count_entries(source: &mut Source, format: Format) -> io::Result<u64> {
    let mut parser = Parser::new(format);
    let mut n_entries = 0;
    let mut bytes = Vec::new();
    let mut block = vec![0; 64 * 1024];
    loop {
        let n_read = source.read(&mut block)?;
        if n_read == 0 {
            break;
        }
        bytes.extend_from_slice(&block[..n_read]);
        let mut begin = 0;
        loop {
            match parser.parse(&bytes[begin..]) {
                Parsed::Entry(len, _) => {
                    n_entries += 1;
                    begin += len;
                }
                Parsed::Garbage(len) => begin += len,
                Parsed::Incomplete => break,
            }
        }
        bytes.drain(..begin);
    }
    source.rewind()?;
    Ok(n_entries)
}

/// What became of the oldest file that was to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Oldest {
    Kept,
    Dropped,
}

/// Leaves out the files, and the beginning of the first one, that lie before a moment. Entries are stored in the order
/// of time; should the clock have been set back, some early ones may remain, which are then passed over one by one.
pub(super) fn keep_since(sources: &mut Vec<Source>, since: Timestamp, format: Format) -> io::Result<Oldest> {
    // A file is needless when the next one begins before the moment.
    let first_needed = sources.iter().position(|source| source.first_time.is_some_and(|first| first < since));
    let n_sources = sources.len();
    if let Some(position) = first_needed {
        sources.truncate(position + 1);
    }
    let became = if sources.len() < n_sources { Oldest::Dropped } else { Oldest::Kept };
    let Some(oldest) = sources.last_mut() else { return Ok(became) };
    if let (Content::Plain { file, offset }, Format::Json) = (&mut oldest.content, format) {
        let len = file.metadata()?.len();
        *offset = json::seek(file, *offset, len, since)?;
    }
    Ok(became)
}
