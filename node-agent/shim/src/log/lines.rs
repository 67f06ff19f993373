//! PURE. Cuts a stream of output into log entries, the way dockerd does.
//!
//! Start reading at [`Splitter::push`]. An entry is a line; a line longer than [`MAX_ENTRY_LEN`] becomes several, of
//! which only the last ends it. Unlike dockerd's, a cut never falls inside a UTF-8 character, which would destroy it
//! in a JSON log. An unfinished line waits here for its rest, so that a prompt shows up in the log with its answer.

use super::LineEnd;

/// The most bytes of a line in one entry: dockerd's figure, which readers of its logs rely on.
pub(crate) const MAX_ENTRY_LEN: usize = 16 * 1024;

/// The cutter of one stream.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// The beginning of a line whose end has not come yet; shorter than an entry.
    held: Vec<u8>,
}

impl Splitter {
    /// Takes bytes in the order in which they were written and hands out the entries that are complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut emit: impl FnMut(&[u8], LineEnd)) {
        if !self.held.is_empty() {
            bytes = self.complete_held(bytes, &mut emit);
        }
        while let Some(line_len) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..line_len], &bytes[line_len + 1..]);
            let last_piece = cut_pieces(line, &mut emit);
            emit(last_piece, LineEnd::Newline);
            bytes = rest;
        }
        let rest = cut_pieces(bytes, &mut emit);
        self.held.extend_from_slice(rest);
    }

    /// Hands out what is left; no more bytes will come.
    pub(crate) fn finish(&mut self, mut emit: impl FnMut(&[u8], LineEnd)) {
        if !self.held.is_empty() {
            emit(&self.held, LineEnd::Open);
            self.held = Vec::new();
        }
    }

    /// Continues the line that is held with as much as belongs to it, until nothing is held or nothing is left.
    fn complete_held<'a>(&mut self, mut bytes: &'a [u8], emit: &mut impl FnMut(&[u8], LineEnd)) -> &'a [u8] {
        while !bytes.is_empty() && !self.held.is_empty() {
            let room = MAX_ENTRY_LEN - self.held.len();
            let reach = &bytes[..bytes.len().min(room)];
            if let Some(line_len) = memchr::memchr(b'\n', reach) {
                self.held.extend_from_slice(&bytes[..line_len]);
                emit(&self.held, LineEnd::Newline);
                self.held.clear();
                return &bytes[line_len + 1..];
            }
            self.held.extend_from_slice(reach);
            bytes = &bytes[reach.len()..];
            if self.held.len() == MAX_ENTRY_LEN {
                let cut = character_boundary(&self.held);
                emit(&self.held[..cut], LineEnd::Open);
                self.held.drain(..cut);
            }
        }
        bytes
    }
}

/// Hands out pieces while a whole one is there; returns the rest, shorter than a piece.
fn cut_pieces<'a>(mut line: &'a [u8], emit: &mut impl FnMut(&[u8], LineEnd)) -> &'a [u8] {
    while line.len() >= MAX_ENTRY_LEN {
        let (piece, rest) = line.split_at(character_boundary(&line[..MAX_ENTRY_LEN]));
        emit(piece, LineEnd::Open);
        line = rest;
    }
    line
}

/// How many of the bytes end with a whole character: all, unless the last one to three begin a longer one.
fn character_boundary(bytes: &[u8]) -> usize {
    for n_tail in 1..=3.min(bytes.len()) {
        let start = bytes.len() - n_tail;
        let char_len = match bytes[start] {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if char_len > n_tail { start } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds the input in chunks and collects the entries.
    fn split(chunks: &[&[u8]]) -> Vec<(Vec<u8>, LineEnd)> {
        let mut splitter = Splitter::default();
        let mut entries = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |text, end| entries.push((text.to_vec(), end)));
        }
        splitter.finish(|text, end| entries.push((text.to_vec(), end)));
        entries
    }

    fn join(entries: &[(Vec<u8>, LineEnd)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (text, end) in entries {
            bytes.extend_from_slice(text);
            if *end == LineEnd::Newline {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    #[test]
    fn lines_are_entries_wherever_the_reads_end() {
        let line = |text: &str| (text.as_bytes().to_vec(), LineEnd::Newline);
        assert_eq!(split(&[b"a\nbc\n\n"]), [line("a"), line("bc"), line("")]);
        assert_eq!(split(&[b"a", b"b\nc", b"\n"]), [line("ab"), line("c")]);
        assert_eq!(split(&[b"a\nrest"]), [line("a"), (b"rest".to_vec(), LineEnd::Open)]);
        assert_eq!(split(&[b""]), []);
    }

    #[test]
    fn a_long_line_is_cut_as_dockerd_cuts_it() {
        let long = vec![b'x'; 2 * MAX_ENTRY_LEN];
        let ended = [long.as_slice(), b"\n"].concat();
        let piece = (vec![b'x'; MAX_ENTRY_LEN], LineEnd::Open);
        // dockerd, too, ends a line of exactly full pieces by an entry that is only the newline.
        let expected = [piece.clone(), piece, (Vec::new(), LineEnd::Newline)];
        assert_eq!(split(&[&ended]), expected);
        let by_thousands: Vec<&[u8]> = ended.chunks(1000).collect();
        assert_eq!(split(&by_thousands), expected);
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        for character in ["é", "€", "🦀"] {
            for n_before in MAX_ENTRY_LEN - 4..=MAX_ENTRY_LEN {
                let line = format!("{}{character}{character}\n", "x".repeat(n_before));
                for entries in
                    [split(&[line.as_bytes()]), split(&line.as_bytes().chunks(7).collect::<Vec<_>>())]
                {
                    assert_eq!(join(&entries), line.as_bytes());
                    assert!(
                        entries.iter().all(|(text, _)| std::str::from_utf8(text).is_ok()),
                        "{character} {n_before}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_chunks_do_not_matter(
            lines in proptest::collection::vec((any::<u8>(), 0..40_000usize), 0..6),
            chunk_len in 1..50_000usize,
        ) {
            let mut input = Vec::new();
            for (byte, len) in &lines {
                input.extend(std::iter::repeat_n(*byte, *len));
                input.push(b'\n');
            }
            input.pop();
            let whole = split(&[&input]);
            let chunks: Vec<&[u8]> = input.chunks(chunk_len).collect();
            prop_assert_eq!(&split(&chunks), &whole);
            prop_assert_eq!(join(&whole), input);
            prop_assert!(whole.iter().all(|(text, _)| text.len() <= MAX_ENTRY_LEN));
        }
    }
}
