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
use crate::poll::Stream;

/// How files of this format end.
pub(crate) const ENDS: EntryEnds = EntryEnds { whole_entries, sound_len };

/// The beginning of every entry.
pub const PREFIX: &[u8] = br#"{"log":""#;
/// What follows the text, up to the stream's name.
pub const STREAM_PREFIX: &[u8] = br#"","stream":""#;
/// What follows the stream's name (or the attributes), up to the time.
pub const TIME_PREFIX: &[u8] = br#","time":""#;

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
        self.suffix.extend_from_slice(STREAM_PREFIX);
        self.suffix.extend_from_slice(stream.name().as_bytes());
        self.suffix.push(b'"');
        self.suffix.extend_from_slice(&self.attrs);
        self.suffix.extend_from_slice(TIME_PREFIX);
        let written = PRINTER.print_timestamp(&time, jiff::fmt::StdIoWrite(&mut self.suffix));
        // Writing to memory does not fail, and every timestamp can be printed.
        debug_assert!(written.is_ok());
        self.suffix.extend_from_slice(b"\"}\n");
    }

    fn append(&mut self, text: &[u8], end: LineEnd, out: &mut Vec<u8>) {
        out.extend_from_slice(PREFIX);
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

/// Appends text as the inside of a JSON string.
///
/// As dockerd: `"` and `\` with a backslash, newline and carriage return as `\n` and `\r`, other control characters
/// and `<`, `>`, `&`, U+2028 and U+2029 as `\u00XX` and `\u202X`, each byte that is not UTF-8 as `\ufffd`.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    let mut blocks = text.chunks_exact(BLOCK_LEN);
    let n_plain = blocks.by_ref().take_while(|block| is_plain(block)).count() * BLOCK_LEN;
    let (plain, rest) = text.split_at(n_plain);
    out.extend_from_slice(plain);
    if rest.len() < BLOCK_LEN && is_plain(rest) {
        out.extend_from_slice(rest);
    } else {
        escape_slowly(rest, out);
    }
}

fn is_plain(block: &[u8]) -> bool {
    !block.iter().fold(false, |special, &byte| special | is_special(byte))
}

const fn is_special(byte: u8) -> bool {
    (byte < 0x20)
        | (byte >= 0x80)
        | (byte == b'"')
        | (byte == b'\\')
        | (byte == b'<')
        | (byte == b'>')
        | (byte == b'&')
}

fn escape_slowly(text: &[u8], out: &mut Vec<u8>) {
    // Whatever is between two special bytes is copied at once.
    let mut rest = text;
    while let Some(n_plain) = rest.iter().position(|&byte| is_special(byte)) {
        out.extend_from_slice(&rest[..n_plain]);
        rest = &rest[n_plain..];
        let n_taken = match rest[0] {
            byte @ (b'"' | b'\\') => {
                out.extend_from_slice(&[b'\\', byte]);
                1
            }
            b'\n' => {
                out.extend_from_slice(br"\n");
                1
            }
            b'\r' => {
                out.extend_from_slice(br"\r");
                1
            }
            byte @ ..0x80 => {
                escape_as_hex(byte, out);
                1
            }
            0x80.. => escape_character(rest, out),
        };
        rest = &rest[n_taken..];
    }
    out.extend_from_slice(rest);
}

fn escape_as_hex(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]];
    out.extend_from_slice(br"\u00");
    out.extend_from_slice(&digits);
}

/// Appends the character beyond ASCII at the front; returns how many bytes it took.
fn escape_character(text: &[u8], out: &mut Vec<u8>) -> usize {
    let char_len = match text[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    match text.get(..char_len).filter(|bytes| std::str::from_utf8(bytes).is_ok()) {
        Some([0xe2, 0x80, last @ (0xa8 | 0xa9)]) => {
            out.extend_from_slice(if *last == 0xa8 { br"\u2028" } else { br"\u2029" });
            3
        }
        Some(bytes) => {
            out.extend_from_slice(bytes);
            char_len
        }
        None => {
            out.extend_from_slice(br"\ufffd");
            1
        }
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
