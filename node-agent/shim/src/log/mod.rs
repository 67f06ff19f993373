//! The container's log: output cut into entries, entries in files, files rotated.
//!
//! Start reading at [`LogWriter`]: it is given output as it was read and never fails its caller. `lines.rs` cuts
//! (PURE), `json.rs` and `frames.rs` are the two formats (PURE), `file.rs` writes, `rotation.rs` renames and
//! compresses. Reading a log back is `crate::logread`.

pub(crate) mod file;
pub mod frames;
pub mod json;
mod lines;
pub(crate) mod rotation;

use std::io;

use jiff::{SignedDuration, Timestamp};

use self::file::LogFile;
use self::frames::LocalFormat;
use self::json::JsonFormat;
use self::lines::Splitter;
use crate::protocol::LogConfig;
use crate::stream::Stream;

/// Whether an entry ends its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// The line was ended by a newline, which is not part of the entry's text.
    Newline,
    /// The line goes on in the next entry of the same stream, or the output ended without a newline.
    Open,
}

/// What an entry looks like on disk.
pub(crate) trait EntryFormat {
    /// Prepares for entries of one stream that were all read at the same moment.
    fn begin(&mut self, stream: Stream, time: Timestamp);

    /// Appends one entry.
    fn append(&mut self, text: &[u8], end: LineEnd, out: &mut Vec<u8>);
}

/// The log of one container. Failures are kept for [`LogFile::take_trouble`]: a full disk must not stop a container.
#[derive(Debug)]
pub(crate) enum LogWriter {
    /// Nothing is stored.
    None,
    /// Docker's json-file.
    JsonFile(Box<Entries<JsonFormat>>),
    /// The engine's own frames.
    Local(Box<Entries<LocalFormat>>),
}

impl LogWriter {
    /// Opens the log for appending.
    pub(crate) fn open(config: &LogConfig) -> io::Result<Self> {
        Ok(match config {
            LogConfig::None => Self::None,
            LogConfig::JsonFile(file) => Self::JsonFile(Box::new(Entries::new(
                JsonFormat::new(&file.attrs),
                LogFile::open(file, json::ENDS)?,
            ))),
            LogConfig::Local(file) => Self::Local(Box::new(Entries::new(
                LocalFormat::new(&file.attrs),
                LogFile::open(file, frames::ENDS)?,
            ))),
        })
    }

    /// Stores output that was just read. When this returns the entries are in the file.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::JsonFile(entries) => entries.write(stream, bytes),
            Self::Local(entries) => entries.write(stream, bytes),
        }
    }

    /// Stores what is left of unfinished lines; no output follows.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::None => {}
            Self::JsonFile(entries) => entries.finish(),
            Self::Local(entries) => entries.finish(),
        }
    }

    /// The log's file, for what concerns rotated files.
    pub(crate) fn file(&mut self) -> Option<&mut LogFile> {
        match self {
            Self::None => None,
            Self::JsonFile(entries) => Some(&mut entries.file),
            Self::Local(entries) => Some(&mut entries.file),
        }
    }

    /// Returns the memory of the last burst.
    pub(crate) fn trim(&mut self) {
        if let Some(file) = self.file() {
            file.trim();
        }
    }
}

/// Output on its way into entries of one format.
#[derive(Debug)]
pub(crate) struct Entries<F> {
    format: F,
    file: LogFile,
    stdout: Splitter,
    stderr: Splitter,
    /// The time of the last entries.
    last: Timestamp,
}

impl<F: EntryFormat> Entries<F> {
    fn new(format: F, file: LogFile) -> Self {
        Self { format, file, stdout: Splitter::default(), stderr: Splitter::default(), last: Timestamp::MIN }
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        // One reading of the clock for all that was read at once.
        let time = self.now();
        self.format.begin(stream, time);
        let Self { format, file, stdout, stderr, .. } = self;
        let splitter = match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        splitter.push(bytes, |text, end| file.append(|out| format.append(text, end, out)));
        file.flush();
    }

    /// The time for entries of this moment. Small steps back, as when the clock is corrected, are not followed: readers
    /// search by time. Big ones are: the clock was plainly wrong before.
    fn now(&mut self) -> Timestamp {
        const SMALL_STEP: SignedDuration = SignedDuration::from_secs(10);
        let now = Timestamp::now();
        let step_back = self.last.duration_since(now);
        if step_back <= SignedDuration::ZERO || step_back > SMALL_STEP {
            self.last = now;
        }
        self.last
    }

    fn finish(&mut self) {
        let time = self.now();
        let Self { format, file, stdout, stderr, .. } = self;
        for (stream, splitter) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
            format.begin(stream, time);
            splitter.finish(|text, end| file.append(|out| format.append(text, end, out)));
        }
        file.flush();
    }
}
