//! PURE, but for [`tail`]. Takes frames of the `local` format apart; their layout is drawn in `log/frames.rs`.
//!
//! Start reading at [`Parser::parse`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use jiff::Timestamp;

use super::{Entry, Parsed};
use crate::log::frames::{ENDS, HEAD_LEN, LENGTH_LEN, OPEN_FLAG, frame_len};
use crate::stream::Stream;

/// The reader of frames.
#[derive(Debug, Default)]
pub(super) struct Parser {
    text: Vec<u8>,
}

impl Parser {
    /// Takes the frame at the front.
    pub(super) fn parse<'a>(&'a mut self, bytes: &'a [u8]) -> Parsed<'a> {
        if bytes.len() < LENGTH_LEN {
            return Parsed::Incomplete;
        }
        // Without a length there is no next frame either: what follows in this file cannot be read.
        let Some(len) = frame_len(bytes) else { return Parsed::Garbage(bytes.len()) };
        let Some(frame) = bytes.get(..len) else { return Parsed::Incomplete };
        match self.parse_body(&frame[LENGTH_LEN..len - LENGTH_LEN]) {
            Some(entry) => Parsed::Entry(len, entry),
            None => Parsed::Garbage(len),
        }
    }

    fn parse_body<'a>(&'a mut self, body: &'a [u8]) -> Option<Entry<'a>> {
        let (head, rest) = body.split_at_checked(HEAD_LEN)?;
        let (flags, rest_of_head) = head.split_first()?;
        let (nanoseconds, attrs_len) = rest_of_head.split_first_chunk::<8>()?;
        let attrs_len = usize::from(u16::from_be_bytes(*attrs_len.first_chunk()?));
        let (attrs, text) = rest.split_at_checked(attrs_len)?;
        let stream = Stream::ALL.into_iter().find(|stream| *stream as u8 == flags & !OPEN_FLAG)?;
        let time = Timestamp::from_nanosecond(i128::from(i64::from_be_bytes(*nanoseconds))).ok()?;
        if flags & OPEN_FLAG != 0 {
            return Some(Entry { stream, time, text, attrs });
        }
        self.text.clear();
        self.text.extend_from_slice(text);
        self.text.push(b'\n');
        Some(Entry { stream, time, text: &self.text, attrs })
    }
}

/// The offset of the last so many frames, and how many they are.
pub(super) fn tail(file: &File, len: u64, n_wanted: u64) -> io::Result<(u64, u64)> {
    let mut begin = (ENDS.sound_len)(file, len)?;
    let mut n_found = 0;
    let mut length = [0; LENGTH_LEN];
    while n_found < n_wanted && begin > 0 {
        file.read_exact_at(&mut length, begin - LENGTH_LEN as u64)?;
        let Some(earlier) = frame_len(&length).and_then(|len| begin.checked_sub(len as u64)) else { break };
        begin = earlier;
        n_found += 1;
    }
    Ok((begin, n_found))
}
