//! PURE. Docker's json-file format: one JSON object a line, escaped byte for byte as dockerd's writer does.
//!
//! Start reading at [`JsonFormat`]. An entry is
//! `{"log":"text\n","stream":"stdout","attrs":{..},"time":"2026-01-02T03:04:05.000000006Z"}`; `attrs` is left out when
//! there are none, the newline when the entry does not end its line. dockerd drops trailing zeros of the time; here
//! it always has nine digits, which every reader of RFC 3339 takes, so that all entries of a burst are equally long.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

use super::file::EntryEnds;
use super::{EntryFormat, LineEnd};
use crate::stream::Stream;

/// How files of this format end.
pub(crate) const ENDS: EntryEnds = EntryEnds { whole_entries, sound_len };

/// The beginning of every entry.
pub const PREFIX: [u8; 8] = *br#"{"log":""#;
/// What follows the text, up to the stream's name.
pub const STREAM_PREFIX: [u8; 12] = *br#"","stream":""#;
/// What follows the stream's name (or the attributes), up to the time.
pub const TIME_PREFIX: [u8; 9] = *br#","time":""#;

/// The writer of entries.
#[derive(Debug)]
pub(crate) struct JsonFormat {
    /// `,"attrs":{..}` or nothing.
    attrs: Vec<u8>,
    /// Everything behind the text, for the current stream and time.
    suffix: Vec<u8>,
}

impl JsonFormat {
    /// A writer that repeats these attributes in every entry.
    pub(crate) fn new(attrs: &BTreeMap<String, String>) -> Self {
        let mut rendered = Vec::new();
        for (name, value) in attrs {
            rendered.extend_from_slice(if rendered.is_empty() { br#","attrs":{""# } else { br#",""# });
            escape(name.as_bytes(), &mut rendered);
            rendered.extend_from_slice(br#"":""#);
            escape(value.as_bytes(), &mut rendered);
            rendered.push(b'"');
        }
        if !rendered.is_empty() {
            rendered.push(b'}');
        }
        Self { attrs: rendered, suffix: Vec::new() }
    }
}

impl EntryFormat for JsonFormat {
    fn begin(&mut self, stream: Stream, time: Timestamp) {
        const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));
        self.suffix.clear();
        self.suffix.extend_from_slice(&STREAM_PREFIX);
        self.suffix.extend_from_slice(stream.name().as_bytes());
        self.suffix.push(b'"');
        self.suffix.extend_from_slice(&self.attrs);
        self.suffix.extend_from_slice(&TIME_PREFIX);
        let written = PRINTER.print_timestamp(&time, jiff::fmt::StdIoWrite(&mut self.suffix));
        // Writing to memory does not fail, and every timestamp can be printed.
        debug_assert!(written.is_ok());
        self.suffix.extend_from_slice(b"\"}\n");
    }

    fn append(&mut self, text: &[u8], end: LineEnd, out: &mut Vec<u8>) {
        out.extend_from_slice(&PREFIX);
        escape(text, out);
        if end == LineEnd::Newline {
            out.extend_from_slice(br"\n");
        }
        out.extend_from_slice(&self.suffix);
    }
}

fn whole_entries(bytes: &[u8]) -> usize {
    memchr::memrchr(b'\n', bytes).map_or(0, |last| last + 1)
}

fn sound_len(file: &File, len: u64) -> io::Result<u64> {
    let mut block = [0; 4096];
    let mut end = len;
    while end > 0 {
        let begin = end.saturating_sub(block.len() as u64);
        let block = &mut block[..usize::try_from(end - begin).unwrap_or(0)];
        file.read_exact_at(block, begin)?;
        let n_whole = whole_entries(block);
        if n_whole > 0 {
            return Ok(begin + n_whole as u64);
        }
        end = begin;
    }
    Ok(0)
}

/// How many bytes are examined at once; a compile-time constant, so that the compiler uses vector instructions.
const BLOCK_LEN: usize = 32;

/// The longest that a byte becomes: `\u00XX`.
const MAX_ESCAPED_LEN: usize = 6;

/// What each byte of valid text becomes, with the length of it in the last place.
const ESCAPES: [[u8; 8]; 256] = escapes();

const fn escapes() -> [[u8; 8]; 256] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the loop ends at 256, and try_from is not const"
        )]
        let this = byte as u8;
        table[byte] = match this {
            b'"' | b'\\' => [b'\\', this, 0, 0, 0, 0, 0, 2],
            b'\n' => [b'\\', b'n', 0, 0, 0, 0, 0, 2],
            b'\r' => [b'\\', b'r', 0, 0, 0, 0, 0, 2],
            ..0x20 | b'<' | b'>' | b'&' => {
                [b'\\', b'u', b'0', b'0', DIGITS[byte >> 4], DIGITS[byte & 0xf], 0, 6]
            }
            0x20.. => [this, 0, 0, 0, 0, 0, 0, 1],
        };
        byte += 1;
    }
    table
}

/// Appends text as the inside of a JSON string.
///
/// As dockerd: `"` and `\` with a backslash, newline and carriage return as `\n` and `\r`, other control characters
/// and `<`, `>`, `&`, U+2028 and U+2029 as `\u00XX` and `\u202X`, each byte that is not UTF-8 as `\ufffd`.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    let is_regular = text.is_ascii() || (std::str::from_utf8(text).is_ok() && !has_line_separator(text));
    if is_regular {
        escape_by_byte(text, out);
    } else {
        escape_by_character(text, out);
    }
}

fn has_line_separator(text: &[u8]) -> bool {
    memchr::memmem::find_iter(text, b"\xe2\x80").any(|at| matches!(text.get(at + 2), Some(0xa8 | 0xa9)))
}

/// Copies blocks in which nothing has to be escaped, and translates the others without a branch for each byte.
fn escape_by_byte(mut text: &[u8], out: &mut Vec<u8>) {
    // Every escape is written eight bytes wide, whatever its length.
    let mut escaped = [0; BLOCK_LEN * MAX_ESCAPED_LEN + 8];
    loop {
        let n_plain_blocks = text.chunks_exact(BLOCK_LEN).take_while(|block| is_plain(block)).count();
        let (plain, rest) = text.split_at(n_plain_blocks * BLOCK_LEN);
        out.extend_from_slice(plain);
        if rest.is_empty() {
            return;
        }
        let (block, rest) = rest.split_at(rest.len().min(BLOCK_LEN));
        let mut len = 0;
        for &byte in block {
            let escape = &ESCAPES[usize::from(byte)];
            // As an array and not as a slice: then it is one move and no call.
            if let Some(place) = escaped[len..].first_chunk_mut() {
                *place = *escape;
            }
            len += usize::from(escape[7]);
        }
        out.extend_from_slice(&escaped[..len]);
        text = rest;
    }
}

fn is_plain(block: &[u8]) -> bool {
    !block.iter().fold(false, |special, &byte| special | is_special(byte))
}

const fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == b'<') | (byte == b'>') | (byte == b'&')
}

/// For text that is not UTF-8 throughout, or holds one of the two characters beyond ASCII that are escaped.
fn escape_by_character(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(&first) = text.first() {
        let char_len = match first {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        let n_taken = match text.get(..char_len).filter(|bytes| std::str::from_utf8(bytes).is_ok()) {
            Some([0xe2, 0x80, last @ (0xa8 | 0xa9)]) => {
                out.extend_from_slice(if *last == 0xa8 { br"\u2028" } else { br"\u2029" });
                3
            }
            Some(bytes) => {
                escape_by_byte(bytes, out);
                char_len
            }
            None => {
                out.extend_from_slice(br"\ufffd");
                1
            }
        };
        text = &text[n_taken..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        escape(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_entry_looks_as_dockers_tools_expect_it() {
        let attrs = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b\"".to_owned(), "<2>".to_owned())]);
        let mut format = JsonFormat::new(&attrs);
        let mut out = Vec::new();
        format.begin(Stream::Stderr, Timestamp::from_nanosecond(1_000_000_000_120).unwrap());
        format.append(b"hello", LineEnd::Newline, &mut out);
        format.append(b"more", LineEnd::Open, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"log":"hello\n","stream":"stderr","attrs":{"a":"1","b\"":"\u003c2\u003e"},"time":"1970-01-01T00:16:40.000000120Z"}"#,
                "\n",
                r#"{"log":"more","stream":"stderr","attrs":{"a":"1","b\"":"\u003c2\u003e"},"time":"1970-01-01T00:16:40.000000120Z"}"#,
                "\n",
            )
        );
    }

    /// The right column is what dockerd 20.10 wrote for a container that printed the left one.
    #[test]
    fn text_is_escaped_as_dockerd_escapes_it() {
        let table: [(&[u8], &str); 12] = [
            (b"plain", "plain"),
            (b"tab\there", r"tab\u0009here"),
            (b"cr\rbs\x08ff\x0c", r"cr\rbs\u0008ff\u000c"),
            (b"q\"b\\", r#"q\"b\\"#),
            (b"<a>&", r"\u003ca\u003e\u0026"),
            (b"\x00\x1f\x7f", "\\u0000\\u001f\x7f"),
            ("é€🦀".as_bytes(), "é€🦀"),
            ("\u{2028}\u{2029}\u{2027}".as_bytes(), "\\u2028\\u2029\u{2027}"),
            (b"\xff\xfe", r"\ufffd\ufffd"),
            (b"\xe2\x82", r"\ufffd\ufffd"),
            (b"\xed\xa0\x80", r"\ufffd\ufffd\ufffd"),
            (b"\xc0\x80x", r"\ufffd\ufffdx"),
        ];
        for (text, expected) in table {
            assert_eq!(escaped(text), expected);
            // The same within and behind a block that is examined at once.
            let padded = [&[b'x'; BLOCK_LEN - 2], text, &[b'y'; BLOCK_LEN]].concat();
            assert_eq!(
                escaped(&padded),
                format!("{}{expected}{}", "x".repeat(BLOCK_LEN - 2), "y".repeat(BLOCK_LEN))
            );
        }
    }

    proptest! {
        #[test]
        fn a_json_parser_reads_text_back(text in any::<String>()) {
            let json = format!("\"{}\"", escaped(text.as_bytes()));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn any_bytes_become_valid_json(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let json = format!("\"{}\"", escaped(&bytes));
            prop_assert!(serde_json::from_str::<String>(&json).is_ok());
        }
    }
}
