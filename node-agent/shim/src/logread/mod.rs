//! Reading a container's log back: from a point in time, the last so many entries, on and on across rotations.
//!
//! Start reading at [`LogReader`]. `files.rs` finds and opens the files of a log, `json.rs` and `local.rs` take their
//! bytes apart, `watch.rs` tells when there is more. All of it is synchronous and bounded in memory; it is meant for the
//! daemon's blocking threads. What Docker prints for an entry is not decided here.

mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod json;
mod local;
#[cfg(test)]
mod tests;
mod watch;

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use jiff::Timestamp;

use self::files::{Extent, Source};
pub use self::watch::{LogWatcher, WatchId};
use crate::protocol::{LogConfig, LogFileConfig};
use crate::stream::Stream;

/// How much is read from a file at once.
const READ_LEN: usize = 256 * 1024;

/// No entry is longer on disk: 16 KiB of text of which every byte is escaped, and attributes.
const MAX_ENTRY_LEN: usize = 1024 * 1024;

/// One stored entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Which stream it was written to.
    pub stream: Stream,
    /// When it was read from the container.
    pub time: Timestamp,
    /// What was written, with the newline if the line ends here.
    pub text: &'a [u8],
    /// The attributes, a JSON object of strings; empty when there are none.
    pub attrs: &'a [u8],
}

/// Which entries are wanted. As with dockerd, `tail` counts stored entries before the other conditions are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Only entries of this moment or later.
    pub since: Option<Timestamp>,
    /// Only entries of this moment or earlier.
    pub until: Option<Timestamp>,
    /// Only the last so many.
    pub tail: Option<u64>,
}

/// Where reading stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The receiver has asked for a break; there may be more.
    More,
    /// Everything that is stored was handed out. More may be stored later, until the container's log is closed.
    CaughtUp,
    /// Nothing that is stored later can be wanted: the time is beyond `until`.
    Finished,
}

/// How entries look on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Local,
}

/// What one look at bytes has found.
#[derive(Debug)]
enum Parsed<'a> {
    /// An entry of so many bytes.
    Entry(usize, Entry<'a>),
    /// So many bytes that are no entry, such as what a full disk left behind.
    Garbage(usize),
    /// The entry is not whole.
    Incomplete,
}

/// Takes bytes apart; keeps what can be used again for the next entry.
#[derive(Debug)]
enum Parser {
    Json(json::Parser),
    Local(local::Parser),
}

impl Parser {
    fn new(format: Format) -> Self {
        match format {
            Format::Json => Self::Json(json::Parser::default()),
            Format::Local => Self::Local(local::Parser::default()),
        }
    }

    fn parse<'a>(&'a mut self, bytes: &'a [u8]) -> Parsed<'a> {
        match self {
            Self::Json(parser) => parser.parse(bytes),
            Self::Local(parser) => parser.parse(bytes),
        }
    }
}

/// A position in the log of one container.
///
/// Entries come in the order in which they were stored. A reader that has caught up may be asked again at any time, for
/// example when a [`LogWatcher`] says so; it goes on across rotations without losing or repeating an entry, as long as
/// it is not so late that the entries' file is gone.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    max_files: u32,
    format: Format,
    query: LogQuery,
    /// Files still to be read, the newest first; the current file of the log comes last of all.
    ahead: Vec<Source>,
    source: Option<Source>,
    parser: Parser,
    buffer: Vec<u8>,
    /// What of the buffer has not been handed out.
    extent: Extent,
    /// Entries to pass over, for the tail of a compressed file.
    n_to_skip: u64,
}

impl LogReader {
    /// Places a reader at the first entry that may be wanted. `None`: this driver's logs cannot be read. A log that does
    /// not exist yet is empty.
    pub fn open(config: &LogConfig, query: LogQuery) -> io::Result<Option<Self>> {
        let (file, format) = match config {
            LogConfig::None => return Ok(None),
            LogConfig::JsonFile(file) => (file, Format::Json),
            LogConfig::Local(file) => (file, Format::Local),
        };
        Self::place(file, format, query).map(Some)
    }

    fn place(config: &LogFileConfig, format: Format, query: LogQuery) -> io::Result<Self> {
        let mut reader = Self {
            path: config.path.clone(),
            max_files: config.max_files,
            format,
            query,
            ahead: files::open_all(&config.path, config.max_files, format)?,
            source: None,
            parser: Parser::new(format),
            buffer: Vec::new(),
            extent: Extent::default(),
            n_to_skip: 0,
        };
        if let Some(n_wanted) = query.tail {
            reader.n_to_skip = files::keep_tail(&mut reader.ahead, n_wanted, format)?;
        }
        if let Some(since) = query.since
            && files::keep_since(&mut reader.ahead, since, format)? == files::Oldest::Dropped
        {
            reader.n_to_skip = 0;
        }
        Ok(reader)
    }

    /// Hands out entries until the receiver breaks off or nothing is left. A break comes after the entry that asked
    /// for it. May block on the disk, never on the container.
    pub fn read(&mut self, mut receive: impl FnMut(Entry<'_>) -> ControlFlow<()>) -> io::Result<Progress> {
        loop {
            if let Some(progress) = self.hand_out(&mut receive) {
                return Ok(progress);
            }
            if !self.fill()? && !self.advance()? {
                return Ok(Progress::CaughtUp);
            }
        }
    }

    /// Hands out what the buffer holds; `None` when it holds no whole entry any more.
    fn hand_out(&mut self, receive: &mut impl FnMut(Entry<'_>) -> ControlFlow<()>) -> Option<Progress> {
        loop {
            match self.parser.parse(&self.buffer[self.extent.begin..self.extent.end]) {
                Parsed::Incomplete => return None,
                Parsed::Garbage(len) => self.extent.begin += len,
                Parsed::Entry(len, entry) => {
                    if let Some(source) = &mut self.source {
                        source.note_first_time(entry.time);
                    }
                    if self.query.until.is_some_and(|until| entry.time > until) {
                        return Some(Progress::Finished);
                    }
                    self.extent.begin += len;
                    if self.n_to_skip > 0 {
                        self.n_to_skip -= 1;
                        continue;
                    }
                    let is_early = self.query.since.is_some_and(|since| entry.time < since);
                    if !is_early && receive(entry).is_break() {
                        return Some(Progress::More);
                    }
                }
            }
        }
    }

    /// Reads on in the same file; `false` at its end.
    fn fill(&mut self) -> io::Result<bool> {
        let Some(source) = &mut self.source else { return Ok(false) };
        self.buffer.copy_within(self.extent.begin..self.extent.end, 0);
        self.extent = Extent { begin: 0, end: self.extent.end - self.extent.begin };
        if self.extent.end >= MAX_ENTRY_LEN {
            // Not an entry of ours, and not to be kept in memory until its end.
            self.extent = Extent::default();
        }
        self.buffer.resize(self.extent.end + READ_LEN, 0);
        let n_read = source.read(&mut self.buffer[self.extent.end..])?;
        self.extent.end += n_read;
        Ok(n_read > 0)
    }

    /// Goes to the next file; `false` when this is the last.
    fn advance(&mut self) -> io::Result<bool> {
        if let Some(source) = &mut self.source
            && self.ahead.is_empty()
        {
            if source.restart_if_emptied()? {
                self.extent = Extent::default();
                return Ok(true);
            }
            if source.is_current(&self.path)? {
                return Ok(false);
            }
            // Not the current file any more. It may have grown since its end was seen: once more, and then on.
            if !source.is_final() {
                source.finish();
                return Ok(true);
            }
            self.ahead = files::open_newer(&self.path, self.max_files, self.format, source)?;
        } else if self.source.is_none() && self.ahead.is_empty() {
            self.ahead = files::open_all(&self.path, self.max_files, self.format)?;
        }
        let Some(next) = self.ahead.pop() else { return Ok(false) };
        self.source = Some(next);
        // What is left of the file before is an entry that was cut short.
        self.extent = Extent::default();
        Ok(true)
    }
}
