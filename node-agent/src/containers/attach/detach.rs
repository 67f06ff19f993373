//! PURE. The keys that end an attachment without ending the container.
//!
//! Start reading at [`DetachKeys::parse`] and [`Scanner`]. A scanner sees what a client types before the container does;
//! bytes that might be the begin of the sequence wait until it is clear that they are not.

use crate::error::NodeError;

/// A sequence of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// Reads Docker's notation: `ctrl-p,ctrl-q`, `a,b`, `DEL`.
    pub(crate) fn parse(text: &str) -> Result<Self, NodeError> {
        let invalid = || NodeError::invalid(format!("Invalid detach keys ({text}) provided"));
        text.split(',').map(|key| byte_of(key).ok_or_else(invalid)).collect::<Result<_, _>>().map(Self)
    }
}

fn byte_of(key: &str) -> Option<u8> {
    if let [byte] = key.as_bytes() {
        return Some(*byte);
    }
    if key == "DEL" {
        return Some(0x7f);
    }
    match key.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        b"@" => Some(0),
        [sign @ b'['..=b'_'] => Some(sign - b'[' + 27),
        _ => None,
    }
}

/// What comes of some typed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// These go to the container.
    Pass(Vec<u8>),
    /// These go to the container, and then the client is detached.
    Detach(Vec<u8>),
}

/// Watches what a client types.
#[derive(Debug)]
pub(crate) struct Scanner {
    keys: DetachKeys,
    /// A proper prefix of the keys that was typed and not passed on yet.
    held: Vec<u8>,
}

impl Scanner {
    /// Watches for these keys.
    pub(crate) fn new(keys: DetachKeys) -> Self {
        Self { keys, held: Vec::new() }
    }

    /// Takes what was typed; what follows a complete sequence is thrown away.
    pub(crate) fn scan(&mut self, typed: &[u8]) -> Scanned {
        let mut passed = Vec::with_capacity(typed.len());
        for byte in typed {
            self.held.push(*byte);
            while !self.keys.0.starts_with(&self.held) {
                passed.push(self.held.remove(0));
            }
            if self.held.len() == self.keys.0.len() {
                return Scanned::Detach(passed);
            }
        }
        Scanned::Pass(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_dockers_notation() {
        let cases: [(&str, &[u8]); 6] = [
            ("ctrl-p,ctrl-q", &[16, 17]),
            ("a,b", b"ab"),
            ("ctrl-@", &[0]),
            ("ctrl-[,ctrl-_", &[27, 31]),
            ("DEL", &[127]),
            ("ctrl-a,x", &[1, b'x']),
        ];
        for (text, bytes) in cases {
            assert_eq!(DetachKeys::parse(text).unwrap().0, bytes, "{text}");
        }
        for text in ["", "ctrl-", "ctrl-A", "ctrl-1", "ab", "a,,b"] {
            let message = format!("Invalid detach keys ({text}) provided");
            assert_eq!(DetachKeys::parse(text).unwrap_err().to_string(), message);
        }
    }

    /// What is typed piece by piece, what the container gets of it, and whether the client is detached.
    #[test]
    fn only_the_whole_sequence_detaches() {
        let cases: [(&str, &[&str], &str, bool); 8] = [
            ("a,b", &["xyz"], "xyz", false),
            ("a,b", &["xab"], "x", true),
            ("a,b", &["xa", "b", "y"], "x", true),
            ("a,b", &["xa", "cy"], "xacy", false),
            ("a,b", &["aab"], "a", true),
            ("a,a,b", &["aaaab"], "aa", true),
            ("a,b,a,c", &["ababac"], "ab", true),
            ("q", &["xqy"], "x", true),
        ];
        for (keys, pieces, expected, detaches) in cases {
            let mut scanner = Scanner::new(DetachKeys::parse(keys).unwrap());
            let mut passed = Vec::new();
            let mut detached = false;
            for piece in pieces {
                match scanner.scan(piece.as_bytes()) {
                    Scanned::Pass(bytes) => passed.extend(bytes),
                    Scanned::Detach(bytes) => {
                        passed.extend(bytes);
                        detached = true;
                        break;
                    }
                }
            }
            assert_eq!(
                (String::from_utf8(passed).unwrap().as_str(), detached),
                (expected, detaches),
                "{keys}"
            );
        }
    }
}
