//! PURE, but for [`tail`] and [`seek`]. Takes json-file entries apart.
//!
//! Start reading at [`Parser::parse`]. Entries as this engine writes them go through a scanner made for exactly that
//! form; whatever differs, such as entries of another engine, through a general JSON parser. What neither understands is
//! passed over.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Entry, Parsed};
use crate::log::json::{PREFIX, STREAM_PREFIX, TIME_PREFIX};
use crate::stream::Stream;

/// What follows the time.
const TIME_SUFFIX: [u8; 2] = *br#""}"#;

/// Length of a time with nine digits of a second.
const WHOLE_TIME: usize = 30;

/// Bytes in which the end of an entry of ours, from the time on, has room.
const TIME_REACH: usize = 64;

/// The reader of entries.
#[derive(Debug, Default)]
pub(super) struct Parser {
    text: Vec<u8>,
    attrs: Vec<u8>,
    /// The last time that was read, as text and as time: entries that were read at once share it.
    last_time: Option<(Vec<u8>, Timestamp)>,
}

/// An entry whoever wrote it.
#[derive(Debug, Deserialize)]
struct ForeignEntry<'a> {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default, borrow)]
    attrs: Option<&'a RawValue>,
    time: Timestamp,
}

/// What the scanner has found, apart from the text.
struct Scanned<'a> {
    stream: Stream,
    attrs: &'a [u8],
    time: &'a [u8],
}

impl Parser {
    /// Takes the entry at the front.
    pub(super) fn parse<'a>(&'a mut self, bytes: &'a [u8]) -> Parsed<'a> {
        let Some(line_len) = memchr::memchr(b'\n', bytes) else { return Parsed::Incomplete };
        let line = &bytes[..line_len];
        let len = line_len + 1;
        self.text.clear();
        if let Some(scanned) = scan(line, &mut self.text)
            && let Some(time) = self.time(scanned.time)
        {
            let entry = Entry { stream: scanned.stream, time, text: &self.text, attrs: scanned.attrs };
            return Parsed::Entry(len, entry);
        }
        match self.parse_foreign(line) {
            Some(entry) => Parsed::Entry(len, entry),
            None => Parsed::Garbage(len),
        }
    }

    fn time(&mut self, text: &[u8]) -> Option<Timestamp> {
        if let Some((last, time)) = &self.last_time
            && is_same_time(last, text)
        {
            return Some(*time);
        }
        let time = std::str::from_utf8(text).ok()?.parse().ok()?;
        self.last_time = Some((text.to_vec(), time));
        Some(time)
    }

    fn parse_foreign(&mut self, line: &[u8]) -> Option<Entry<'_>> {
        let entry: ForeignEntry<'_> = serde_json::from_slice(line).ok()?;
        let stream = Stream::ALL.into_iter().find(|stream| stream.name() == entry.stream)?;
        self.text = entry.log.into_bytes();
        self.attrs.clear();
        self.attrs.extend_from_slice(entry.attrs.map_or("", RawValue::get).as_bytes());
        Some(Entry { stream, time: entry.time, text: &self.text, attrs: &self.attrs })
    }
}

/// Takes an entry of our own form apart and unescapes its text; `None` for any other form.
fn scan<'a>(line: &'a [u8], text: &mut Vec<u8>) -> Option<Scanned<'a>> {
    let rest = without(line, &PREFIX)?;
    let text_len = unescape(rest, text)?;
    let rest = without(&rest[text_len..], &STREAM_PREFIX)?;
    let (stream, rest) = match rest.split_first_chunk()? {
        (b"stdout\"", rest) => (Stream::Stdout, rest),
        (b"stderr\"", rest) => (Stream::Stderr, rest),
        _ => return None,
    };
    let time = time_of(rest)?;
    let between = rest.len().checked_sub(TIME_PREFIX.len() + time.len() + TIME_SUFFIX.len())?;
    let attrs = match &rest[..between] {
        [] => &[][..],
        field => field.strip_prefix(br#","attrs":"#)?,
    };
    Some(Scanned { stream, attrs, time })
}

/// What follows a beginning of known length. Comparing so many bytes takes a few instructions; a call of the C library, which
/// `strip_prefix` may end in, costs some processors more than the rest of a short entry.
fn without<'a, const N: usize>(bytes: &'a [u8], beginning: &[u8; N]) -> Option<&'a [u8]> {
    let (found, rest) = bytes.split_first_chunk()?;
    (found == beginning).then_some(rest)
}

/// Whether two times are the same text; for the same reason whole ones are compared as what they are.
fn is_same_time(one: &[u8], other: &[u8]) -> bool {
    let whole = |text: &[u8]| text.first_chunk::<WHOLE_TIME>().copied().filter(|_| text.len() == WHOLE_TIME);
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one == other,
        _ => false,
    }
}

/// The text of the time at the end of a line.
fn time_of(line: &[u8]) -> Option<&[u8]> {
    let (line, end) = line.split_last_chunk()?;
    if *end != TIME_SUFFIX {
        return None;
    }
    // Nine times in ten nothing was cut off a time.
    if let Some((rest, time)) = line.len().checked_sub(WHOLE_TIME).and_then(|at| line.split_at_checked(at))
        && rest.last_chunk() == Some(&TIME_PREFIX)
    {
        return Some(time);
    }
    let reach = line.len().saturating_sub(TIME_REACH);
    let at = memchr::memmem::rfind(&line[reach..], &TIME_PREFIX)?;
    Some(&line[reach + at + TIME_PREFIX.len()..])
}

/// How far to look for the next escape byte by byte, before it is worth a search.
const NEAR: usize = 16;

/// Appends what an escaped text stands for; returns the length of the escaped form, up to its closing quote.
fn unescape(escaped: &[u8], text: &mut Vec<u8>) -> Option<usize> {
    let mut begin = 0;
    loop {
        let at = begin + copy_plain(&escaped[begin..], text)?;
        if escaped[at] == b'"' {
            return Some(at);
        }
        begin = at + 2;
        match *escaped.get(at + 1)? {
            byte @ (b'"' | b'\\' | b'/') => text.push(byte),
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'u' => {
                let digits = std::str::from_utf8(escaped.get(at + 2..at + 6)?).ok()?;
                let code = u32::from_str_radix(digits, 16).ok()?;
                // Half of a surrogate pair is not of our writing.
                let character = char::from_u32(code)?;
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                begin = at + 6;
            }
            _ => return None,
        }
    }
}

/// Appends everything up to the next quote or backslash; returns where that is.
fn copy_plain(escaped: &[u8], text: &mut Vec<u8>) -> Option<usize> {
    if let Some(near) = escaped.first_chunk::<NEAR>()
        && let Some(at) = near.iter().position(|byte| matches!(byte, b'"' | b'\\'))
    {
        // Appending a fixed length and taking the rest back is cheaper than appending a few bytes.
        let len = text.len() + at;
        text.extend_from_slice(near);
        text.truncate(len);
        return Some(at);
    }
    let at = memchr::memchr2(b'"', b'\\', escaped)?;
    text.extend_from_slice(&escaped[..at]);
    Some(at)
}

/// The offset of the last so many entries, and how many they are.
pub(super) fn tail(file: &File, len: u64, n_wanted: u64) -> io::Result<(u64, u64)> {
    let mut block = vec![0; 64 * 1024];
    let mut n_found = 0;
    let mut end = len;
    // The beginning of the entry that is being looked for the beginning of; unknown behind the last newline.
    let mut is_behind_newline = false;
    if n_wanted == 0 {
        return Ok((whole_len(file, len)?, 0));
    }
    while end > 0 {
        let begin = end.saturating_sub(block.len() as u64);
        let block = &mut block[..usize::try_from(end - begin).unwrap_or(0)];
        file.read_exact_at(block, begin)?;
        for newline in memchr::memrchr_iter(b'\n', block) {
            if is_behind_newline {
                n_found += 1;
                if n_found == n_wanted {
                    return Ok((begin + newline as u64 + 1, n_found));
                }
            }
            is_behind_newline = true;
        }
        end = begin;
    }
    Ok((0, n_found + u64::from(is_behind_newline)))
}

/// The length of the file without an entry that is not whole yet.
fn whole_len(file: &File, len: u64) -> io::Result<u64> {
    (crate::log::json::ENDS.sound_len)(file, len)
}

/// How close the search comes; the rest is read in one go.
const SEARCH_LEN: u64 = 64 * 1024;

/// The offset from which on entries have to be looked at one by one to find the first of a moment or later.
pub(super) fn seek(file: &File, begin: u64, len: u64, since: Timestamp) -> io::Result<u64> {
    // Before `low`, which begins an entry, all entries are earlier; none that begins at `high` or behind is.
    let (mut low, mut high) = (begin, len);
    while high - low > SEARCH_LEN {
        let middle = low + (high - low) / 2;
        let Some((line_end, time)) = entry_end_after(file, middle, high)? else {
            high = middle;
            continue;
        };
        match time {
            Some(time) if time < since => low = line_end,
            Some(_) => high = middle,
            // Not of our writing: it is read and parsed instead.
            None => break,
        }
    }
    Ok(low)
}

/// The end of the entry that lies across an offset, and its time, if it ends before the limit.
fn entry_end_after(file: &File, offset: u64, limit: u64) -> io::Result<Option<(u64, Option<Timestamp>)>> {
    let begin = offset.saturating_sub(TIME_REACH as u64);
    let mut bytes = Vec::new();
    let mut block = [0; 4096];
    loop {
        let n_read = file.read_at(&mut block, begin + bytes.len() as u64)?;
        if n_read == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&block[..n_read]);
        let skipped = usize::try_from(offset - begin).unwrap_or(0).min(bytes.len());
        if let Some(newline) = memchr::memchr(b'\n', &bytes[skipped..]) {
            let line_end = skipped + newline;
            let end = begin + line_end as u64 + 1;
            let time =
                time_of(&bytes[..line_end]).and_then(|time| std::str::from_utf8(time).ok()?.parse().ok());
            return Ok((end < limit).then_some((end, time)));
        }
        if begin + bytes.len() as u64 >= limit {
            return Ok(None);
        }
    }
}
