//! What is tried with input from nowhere: log files that something else has written, or half written.
//!
//! Start reading at [`log_entries`]. The body is run by the tests with changed seeds, and by libFuzzer
//! (integration-cli/fuzz/libfuzzer); it panics when something is wrong.

use super::{Format, Parsed, Parser};

/// Files to begin with: of `json-file`, of another writer of it, and of `local`.
pub const LOG_ENTRIES: &[&[u8]] = &[
    b"{\"log\":\"a \\\"b\\\" \\u0007\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-21T08:44:02.371720248Z\"}\n",
    b"{\"log\":\"x\",\"stream\":\"stderr\",\"attrs\":{\"a\":\"b\"},\"time\":\"2026-11-21T08:44:02.3Z\"}\n{\"log\":",
    b"{\"time\":\"2026-11-21T08:44:02Z\",\"stream\":\"stdout\",\"log\":\"foreign\\n\"}\n\0\0\0\0\n",
    b"\0\0\0\x10\x01\0\0\0\0\0\0\0\x05\0\x01atext\0\0\0\x10",
];

/// Whatever a file holds is taken apart into entries and rubbish of which each is shorter than what is left, and the text
/// of an entry is not longer than its form in the file by more than its newline.
pub fn log_entries(input: &[u8]) {
    for format in [Format::Json, Format::Local] {
        let mut parser = Parser::new(format);
        let mut rest = input;
        while !rest.is_empty() {
            let taken = match parser.parse(rest) {
                Parsed::Entry(length, entry) => {
                    assert!(entry.text.len() <= length + 1, "{length}: {entry:?}");
                    length
                }
                Parsed::Garbage(length) => length,
                Parsed::Incomplete => break,
            };
            assert!(taken > 0 && taken <= rest.len(), "{format:?} takes {taken} of {}", rest.len());
            rest = rest.get(taken..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
fuzz_harness::explored! {
    every_file_is_read_to_its_end: log_entries(LOG_ENTRIES);
}
