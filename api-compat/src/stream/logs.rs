//! Logs as clients read them: frames that tell the streams apart, with time stamps and attributes in front of lines.
//!
//! Start reading at [`LogWriter::write`]. A batch becomes one buffer: nothing is allocated for a line, and the date of a
//! time stamp is worked out once a second. Without a terminal every entry is a frame of `stdcopy`: the stream's number,
//! three zeros, the length in four bytes.

use bytes::{BufMut as _, Bytes, BytesMut};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use node_agent::api::streams::{LogBatch, LogEntry, LogSource};
use serde::Serialize;
use std::sync::Arc;

use super::JsonFraming;
use crate::model::Texts;
use crate::model::time::Time;
use crate::reply::BodyError;

/// Length of a frame's header.
const HEADER: usize = 8;
/// Length from which on nothing is added to a frame; the buffer that Docker's clients begin with takes this much.
const FRAME: usize = 16 * 1024;
/// Length of `2026-11-21T08:44:02.371720248Z `.
const STAMP: usize = 31;
/// Length of `2026-11-21T08:44:02`.
const DATE: usize = 19;
/// The stream that carries the daemon's own messages.
const SYSTEM_ERROR: u8 = 3;

/// Whether each line begins with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LineHead {
    /// The time it was written.
    pub(crate) timestamps: bool,
    /// The attributes that log options add.
    pub(crate) details: bool,
}

/// What becomes one frame of a client that tells the streams apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frames {
    /// Each entry, as dockerd does it: who follows a log may take frames for lines.
    PerEntry,
    /// As many entries of one stream as follow each other: a client that reads a log to its end only joins them again, at a
    /// system call each.
    Joined,
}

/// Writes entries of a log for one client.
#[derive(Debug)]
pub(crate) struct LogWriter {
    tty: bool,
    frames: Frames,
    head: LineHead,
    stamp: Stamp,
    attributes: Attributes,
}

impl LogWriter {
    /// A writer; with a terminal, entries are not framed.
    pub(crate) fn new(tty: bool, frames: Frames, head: LineHead) -> Self {
        Self { tty, frames, head, stamp: Stamp::default(), attributes: Attributes::default() }
    }

    /// The bytes of a batch.
    pub(crate) fn write(&mut self, batch: &LogBatch) -> Bytes {
        if self.tty && self.head == LineHead::default() && is_whole(batch) {
            return batch.data.clone();
        }
        let per_entry = if self.tty { 0 } else { HEADER } + if self.head.timestamps { STAMP } else { 0 };
        let mut out = BytesMut::with_capacity(batch.data.len() + batch.entries.len() * per_entry);
        let mut frame: Option<Frame> = None;
        for entry in &batch.entries {
            let line = batch.data.get(entry.start..entry.end).unwrap_or_default();
            if !self.tty {
                let is_joined = self.frames == Frames::Joined
                    && frame
                        .is_some_and(|open| open.source == entry.source && out.len() - open.start < FRAME);
                if !is_joined {
                    close(frame, &mut out);
                    frame = Some(Frame { start: out.len(), source: entry.source });
                    out.put_slice(&[stream_number(entry.source), 0, 0, 0, 0, 0, 0, 0]);
                }
            }
            self.write_entry(&mut out, entry, line);
        }
        close(frame, &mut out);
        out.freeze()
    }

    fn write_entry(&mut self, out: &mut BytesMut, entry: &LogEntry, line: &[u8]) {
        if self.head.details {
            self.attributes.update(&entry.attributes);
        }
        if self.head.timestamps {
            out.extend_from_slice(self.stamp.of(entry.time));
        }
        if self.head.details {
            out.extend_from_slice(&self.attributes.text);
        }
        out.extend_from_slice(line);
    }

    /// The bytes that tell a client of a failure while the log was read.
    pub(crate) fn failure(&self, message: &str) -> Bytes {
        let text = format!("Error grabbing logs: {message}\n");
        if self.tty {
            return text.into();
        }
        framed(SYSTEM_ERROR, &text)
    }
}

/// A frame that is being written.
#[derive(Debug, Clone, Copy)]
struct Frame {
    start: usize,
    source: LogSource,
}

/// Writes down how long a frame has become.
fn close(frame: Option<Frame>, out: &mut BytesMut) {
    let Some(Frame { start, .. }) = frame else { return };
    let length = u32::try_from(out.len() - start - HEADER).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(start + 4..start + HEADER) {
        place.copy_from_slice(&length);
    }
}

/// Whether the entries are all of the batch's bytes, in order.
fn is_whole(batch: &LogBatch) -> bool {
    let mut at = 0;
    batch.entries.iter().all(|entry| entry.start == std::mem::replace(&mut at, entry.end))
        && at == batch.data.len()
}

fn stream_number(source: LogSource) -> u8 {
    match source {
        LogSource::Stdout => 1,
        LogSource::Stderr => 2,
    }
}

/// One frame with this text, for clients that read frames of output.
pub(crate) fn frame(source: LogSource, text: &str) -> Bytes {
    framed(stream_number(source), text)
}

fn framed(stream: u8, text: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + text.len());
    put_header(&mut out, stream, text.len());
    out.extend_from_slice(text.as_bytes());
    out.freeze()
}

fn put_header(out: &mut BytesMut, stream: u8, length: usize) {
    out.put_slice(&[stream, 0, 0, 0]);
    // Entries are at most 16 KiB and their heads are short, so the length always fits.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// A time stamp with nine digits of a second, and the second that its date belongs to.
#[derive(Debug)]
struct Stamp {
    second: i64,
    text: [u8; STAMP],
}

impl Default for Stamp {
    fn default() -> Self {
        Self { second: i64::MIN, text: *b"0000-00-00T00:00:00.000000000Z " }
    }
}

impl Stamp {
    fn of(&mut self, time: Timestamp) -> &[u8; STAMP] {
        let second = time.as_second();
        if second != self.second {
            let date = time.to_zoned(TimeZone::UTC).datetime();
            let text = format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
                date.year(),
                date.month(),
                date.day(),
                date.hour(),
                date.minute(),
                date.second()
            );
            for (place, byte) in self.text.iter_mut().zip(text.bytes().take(DATE)) {
                *place = byte;
            }
            self.second = second;
        }
        let mut rest = time.subsec_nanosecond().unsigned_abs();
        for place in self.text.iter_mut().skip(DATE + 1).take(9).rev() {
            // A remainder of ten is one digit.
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        &self.text
    }
}

/// The attributes of the entry written last, as they stand in a line: all entries of a container mostly share one list.
#[derive(Debug, Default)]
struct Attributes {
    of: Option<Arc<[(String, String)]>>,
    text: Vec<u8>,
}

impl Attributes {
    fn update(&mut self, attributes: &Arc<[(String, String)]>) {
        if self.of.as_ref().is_some_and(|known| Arc::ptr_eq(known, attributes)) {
            return;
        }
        let escape = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pairs: Vec<String> =
            attributes.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
        self.text = format!("{} ", pairs.join(",")).into_bytes();
        self.of = Some(Arc::clone(attributes));
    }
}

/// One entry of a log as an object.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LogMessage {
    /// Its text.
    line: String,
    /// `stdout` or `stderr`.
    source: String,
    /// When it was written.
    timestamp: Time,
    /// Attributes that log options add.
    #[serde(skip_serializing_if = "Texts::is_empty")]
    attrs: Texts,
    /// What went wrong while the log was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The entries of a batch as objects.
pub(crate) fn as_json(batch: &LogBatch, framing: JsonFraming, head: LineHead) -> Result<Bytes, BodyError> {
    let mut out = BytesMut::with_capacity(batch.data.len() * 2);
    for entry in &batch.entries {
        let line = batch.data.get(entry.start..entry.end).unwrap_or_default();
        let message = LogMessage {
            line: String::from_utf8_lossy(line).into_owned(),
            source: match entry.source {
                LogSource::Stdout => "stdout".to_owned(),
                LogSource::Stderr => "stderr".to_owned(),
            },
            timestamp: entry.time.into(),
            attrs: if head.details { entry.attributes.iter().cloned().collect() } else { Texts::new() },
            error: None,
        };
        out.extend_from_slice(&framing.frame(&message)?);
    }
    Ok(out.freeze())
}

/// The object that tells a client of a failure while the log was read.
pub(crate) fn failure_as_json(message: &str, framing: JsonFraming) -> Result<Bytes, BodyError> {
    framing.frame(&LogMessage {
        line: String::new(),
        source: String::new(),
        timestamp: Timestamp::now().into(),
        attrs: Texts::new(),
        error: Some(message.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lines: &[(&str, LogSource)]) -> LogBatch {
        let attributes: Arc<[(String, String)]> =
            Arc::from([("a b".to_owned(), "1".to_owned()), ("c".to_owned(), "x,y".to_owned())]);
        let time: Timestamp = "2026-08-23T10:00:00.000000001Z".parse().unwrap();
        let mut batch = LogBatch::default();
        let mut data = Vec::new();
        for (line, source) in lines {
            let start = data.len();
            data.extend_from_slice(line.as_bytes());
            let attributes = Arc::clone(&attributes);
            batch.entries.push(LogEntry { start, end: data.len(), source: *source, time, attributes });
        }
        batch.data = data.into();
        batch
    }

    #[test]
    fn entries_are_framed_by_stream_and_length() {
        let batch = batch(&[("out\n", LogSource::Stdout), ("e\n", LogSource::Stderr)]);
        let bytes = LogWriter::new(false, Frames::PerEntry, LineHead::default()).write(&batch);
        assert_eq!(&bytes[..], b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x02e\n");
    }

    #[test]
    fn joined_entries_of_one_stream_are_one_frame() {
        let batch = batch(&[
            ("a\n", LogSource::Stdout),
            ("b\n", LogSource::Stdout),
            ("e\n", LogSource::Stderr),
            ("c\n", LogSource::Stdout),
        ]);
        let bytes = LogWriter::new(false, Frames::Joined, LineHead::default()).write(&batch);
        assert_eq!(&bytes[..], b"\x01\0\0\0\0\0\0\x04a\nb\n\x02\0\0\0\0\0\0\x02e\n\x01\0\0\0\0\0\0\x02c\n");
    }

    #[test]
    fn joined_frames_have_an_end() {
        let line = "x".repeat(1000);
        let lines: Vec<(&str, LogSource)> =
            std::iter::repeat_n((line.as_str(), LogSource::Stdout), 100).collect();
        let bytes = LogWriter::new(false, Frames::Joined, LineHead::default()).write(&batch(&lines));
        let (mut rest, mut total) = (&bytes[..], 0);
        while let Some((head, tail)) = rest.split_at_checked(HEADER) {
            let length = u32::from_be_bytes(head[4..].try_into().unwrap()) as usize;
            assert!(length <= FRAME + 1000);
            (rest, total) = (&tail[length..], total + length);
        }
        assert_eq!(total, 100_000);
    }

    #[test]
    fn a_terminals_log_is_passed_on_without_copying() {
        let batch = batch(&[("a\n", LogSource::Stdout), ("b\n", LogSource::Stdout)]);
        let bytes = LogWriter::new(true, Frames::PerEntry, LineHead::default()).write(&batch);
        assert_eq!(bytes.as_ptr(), batch.data.as_ptr());
        assert_eq!(&bytes[..], b"a\nb\n");
    }

    #[test]
    fn lines_begin_with_nine_digit_times_and_escaped_attributes() {
        let head = LineHead { timestamps: true, details: true };
        let bytes = LogWriter::new(true, Frames::PerEntry, head).write(&batch(&[("x\n", LogSource::Stdout)]));
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), "2026-08-23T10:00:00.000000001Z a+b=1,c=x%2Cy x\n");
        let framed =
            LogWriter::new(false, Frames::PerEntry, head).write(&batch(&[("x\n", LogSource::Stdout)]));
        assert_eq!(usize::from(framed[7]), bytes.len());
    }

    #[test]
    fn time_stamps_are_right_when_the_second_stays_and_when_it_changes() {
        let mut stamp = Stamp::default();
        for text in [
            "2026-08-23T10:00:00.000000001Z",
            "2026-08-23T10:00:00.999999999Z",
            "2026-08-23T10:00:01.100000000Z",
            "1969-12-31T23:59:59.000000000Z",
            "9999-12-30T00:00:00.000000000Z",
        ] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(std::str::from_utf8(stamp.of(time)).unwrap(), format!("{text} "));
        }
    }

    #[test]
    fn failures_have_a_stream_of_their_own() {
        let writer = LogWriter::new(false, Frames::PerEntry, LineHead::default());
        assert_eq!(&writer.failure("x")[..9], b"\x03\0\0\0\0\0\0\x17E");
    }
}
