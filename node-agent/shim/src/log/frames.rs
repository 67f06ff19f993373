//! PURE. The `local` format: compact binary frames that can be read from both ends.
//!
//! Start reading at [`LocalFormat`]. A file is a sequence of frames, each
//!
//! ```text
//! length    4 bytes, big endian: of the body
//! body      flags   1 byte: the stream (1 stdout, 2 stderr), plus 0x80 when the entry does not end its line
//!           time    8 bytes, big endian: nanoseconds since 1970, signed
//!           attrs   2 bytes of length, big endian, then as many bytes: a JSON object, or nothing
//!           text    the rest, without the newline, byte for byte as the container wrote it
//! length    4 bytes, the same again, so that the last entries are found from the end
//! ```
//!
//! Unlike json-file it keeps bytes that are not UTF-8.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use jiff::Timestamp;

use super::file::EntryEnds;
use super::{EntryFormat, LineEnd};
use crate::stream::Stream;

/// Bytes of a length field.
pub const LENGTH_LEN: usize = 4;
/// Bytes of a body before the attributes.
pub const HEAD_LEN: usize = 1 + 8 + 2;
/// The flag of an entry that does not end its line.
pub const OPEN_FLAG: u8 = 0x80;
/// No frame is longer: an entry's text is at most 16 KiB, attributes are at most 64 KiB.
pub const MAX_BODY_LEN: usize = HEAD_LEN + 64 * 1024 + 16 * 1024;

/// How files of this format end.
pub(crate) const ENDS: EntryEnds = EntryEnds { whole_entries, sound_len };

/// The writer of frames.
#[derive(Debug)]
pub(crate) struct LocalFormat {
    attrs: Vec<u8>,
    stream: Stream,
    time: i64,
}

impl LocalFormat {
    /// A writer that repeats these attributes in every frame. Attributes beyond 64 KiB are left out.
    pub(crate) fn new(attrs: &BTreeMap<String, String>) -> Self {
        let rendered =
            if attrs.is_empty() { Vec::new() } else { serde_json::to_vec(attrs).unwrap_or_default() };
        let attrs = if u16::try_from(rendered.len()).is_ok() { rendered } else { Vec::new() };
        Self { attrs, stream: Stream::Stdout, time: 0 }
    }
}

impl EntryFormat for LocalFormat {
    fn begin(&mut self, stream: Stream, time: Timestamp) {
        self.stream = stream;
        self.time = i64::try_from(time.as_nanosecond()).unwrap_or_default();
    }

    fn append(&mut self, text: &[u8], end: LineEnd, out: &mut Vec<u8>) {
        let body_len = HEAD_LEN + self.attrs.len() + text.len();
        // Both fit: see MAX_BODY_LEN, and the constructor for the attributes.
        let length = u32::try_from(body_len).unwrap_or_default().to_be_bytes();
        let attrs_len = u16::try_from(self.attrs.len()).unwrap_or_default().to_be_bytes();
        let flag = match end {
            LineEnd::Newline => 0,
            LineEnd::Open => OPEN_FLAG,
        };
        out.extend_from_slice(&length);
        out.push(self.stream as u8 | flag);
        out.extend_from_slice(&self.time.to_be_bytes());
        out.extend_from_slice(&attrs_len);
        out.extend_from_slice(&self.attrs);
        out.extend_from_slice(text);
        out.extend_from_slice(&length);
    }
}

/// The length of the frame that begins here, both length fields included; `None` when these bytes do not begin one.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*bytes.first_chunk::<LENGTH_LEN>()?);
    let body_len = usize::try_from(length).ok().filter(|len| (HEAD_LEN..=MAX_BODY_LEN).contains(len))?;
    Some(body_len + 2 * LENGTH_LEN)
}

fn whole_entries(bytes: &[u8]) -> usize {
    let mut len = 0;
    while let Some(frame) = frame_len(&bytes[len..]).filter(|frame| len + frame <= bytes.len()) {
        len += frame;
    }
    len
}

/// Reads from the front when the last frame does not end where the file ends: a file is as long as one rotation.
fn sound_len(file: &File, len: u64) -> io::Result<u64> {
    if len == 0 || last_frame_is_whole(file, len) {
        return Ok(len);
    }
    let mut sound = 0;
    let mut head = [0; LENGTH_LEN];
    while sound + LENGTH_LEN as u64 <= len {
        file.read_exact_at(&mut head, sound)?;
        match frame_len(&head).map(|frame| sound + frame as u64) {
            Some(next) if next <= len => sound = next,
            Some(_) | None => break,
        }
    }
    Ok(sound)
}

fn last_frame_is_whole(file: &File, len: u64) -> bool {
    let read_length = |at: u64| -> Option<[u8; LENGTH_LEN]> {
        let mut length = [0; LENGTH_LEN];
        file.read_exact_at(&mut length, at).ok()?;
        Some(length)
    };
    let check = || {
        let last = read_length(len.checked_sub(LENGTH_LEN as u64)?)?;
        let begin = len.checked_sub(frame_len(&last)? as u64)?;
        (read_length(begin)? == last).then_some(())
    };
    check().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(texts: &[&str]) -> Vec<u8> {
        let mut format = LocalFormat::new(&BTreeMap::new());
        format.begin(Stream::Stdout, Timestamp::from_nanosecond(5).unwrap());
        let mut out = Vec::new();
        for text in texts {
            format.append(text.as_bytes(), LineEnd::Newline, &mut out);
        }
        out
    }

    #[test]
    fn a_frame_is_laid_out_as_documented() {
        assert_eq!(
            frames(&["hi"]),
            [&[0, 0, 0, 13, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0][..], b"hi", &[0, 0, 0, 13]].concat()
        );
    }

    #[test]
    fn a_frame_cut_short_anywhere_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (one, two) = (frames(&["first"]), frames(&["first", "second"]));
        for len in one.len()..two.len() {
            assert_eq!(whole_entries(&two[..len]), one.len());
            std::fs::write(&path, &two[..len]).unwrap();
            assert_eq!(sound_len(&File::open(&path).unwrap(), len as u64).unwrap(), one.len() as u64);
        }
        assert_eq!(whole_entries(&two), two.len());
        std::fs::write(&path, &two).unwrap();
        assert_eq!(sound_len(&File::open(&path).unwrap(), two.len() as u64).unwrap(), two.len() as u64);
    }
}
