//! Differences that were looked at and are meant, with the reason for each.
//!
//! [`Accepted`] tells the form of the list. An entry that no difference needs any more is found by [`Accepted::unused`],
//! so that the list stays what it says.

use std::cell::Cell;

use serde_json::Value;

use super::Difference;

/// The list of accepted differences.
///
/// ```text
/// # a comment
/// ## The reason for the entries that follow.
/// status | 500 => 400 | POST /containers/*
/// .GraphDriver | * => * | *
/// .Config.OnBuild | null => (absent) | GET /containers/*/json
/// ```
/// An entry is the path of a field, what the two daemons have there, and the request; `*` stands for any text. A path is
/// matched from any field on, and covers what lies within the field.
#[derive(Debug, Default)]
pub struct Accepted {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    line: String,
    path: String,
    left: String,
    right: String,
    request: String,
    used: Cell<bool>,
}

impl Accepted {
    /// Reads a list; panics on a line that is none and on an entry without a reason.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut reason = "";
        let mut entries = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(said) = line.strip_prefix("## ") {
                reason = said;
            } else if !line.starts_with('#') {
                assert!(!reason.is_empty(), "an entry without a reason: {line:?}");
                entries.push(Entry::parse(line));
            }
        }
        Self { entries }
    }

    /// Whether the difference is on the list.
    #[must_use]
    pub fn has(&self, difference: &Difference) -> bool {
        let matching = self.entries.iter().filter(|entry| entry.matches(difference));
        // All of them, so that none that overlaps another is taken for unused.
        matching.fold(false, |_, entry| {
            entry.used.set(true);
            true
        })
    }

    /// The entries that accepted nothing so far.
    #[must_use]
    pub fn unused(&self) -> Vec<&str> {
        self.entries.iter().filter(|entry| !entry.used.get()).map(|entry| entry.line.as_str()).collect()
    }
}

impl Entry {
    fn parse(line: &str) -> Self {
        let wrong = || -> ! { panic!("not `PATH | LEFT => RIGHT | REQUEST`: {line:?}") };
        let Some((path, rest)) = line.split_once(" | ") else { wrong() };
        let Some((values, request)) = rest.rsplit_once(" | ") else { wrong() };
        let Some((left, right)) = values.split_once(" => ") else { wrong() };
        let own = |text: &str| text.trim().to_owned();
        Self {
            line: line.to_owned(),
            path: own(path),
            left: own(left),
            right: own(right),
            request: own(request),
            used: Cell::new(false),
        }
    }

    fn matches(&self, difference: &Difference) -> bool {
        let shown = |side: &Option<Value>| super::show(side.as_ref());
        covers(&self.path, &difference.path)
            && glob(&self.left, &shown(&difference.left))
            && glob(&self.right, &shown(&difference.right))
            && glob(&self.request, &difference.request)
    }
}

/// Whether `pattern` names the field at `path` or one around it; it may begin at any field of the path.
fn covers(pattern: &str, path: &str) -> bool {
    let borders = |at: usize| path[at..].starts_with(['.', '[']);
    let starts = (0..path.len()).filter(|at| *at == 0 || borders(*at));
    let ends = |from: usize| (from + 1..=path.len()).filter(move |at| *at == path.len() || borders(*at));
    starts
        .flat_map(|start| ends(start).map(move |end| (start, end)))
        .any(|(start, end)| glob(pattern, &path[start..end]))
}

/// Whether the whole of `text` matches `pattern`, in which `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Accepted, covers, glob};
    use crate::diff::Difference;

    #[test]
    fn stars_stand_for_any_text() {
        assert!(glob("*", ""));
        assert!(glob("a*c*e", "abcde"));
        assert!(glob("\"Invalid *\"", "\"Invalid signal\""));
        assert!(!glob("a", "ab"));
        assert!(!glob("a*b", "a"));
        assert!(!glob("ab*ba", "aba"));
    }

    #[test]
    fn a_path_covers_a_field_and_what_is_in_it() {
        assert!(covers(".GraphDriver", ".body.GraphDriver.Data.LowerDir"));
        assert!(covers(".Ports[*]", ".body[0].Ports[1]"));
        assert!(covers("status", "status"));
        assert!(!covers(".Size", ".body.SizeRw"));
        assert!(!covers("iver", ".body.GraphDriver"));
    }

    #[test]
    fn an_entry_accepts_only_what_it_says_and_tells_when_it_is_not_needed() {
        let accepted =
            Accepted::parse("## Newer.\nstatus | 500 => 400 | POST *\n.A | null => (absent) | *\n");
        let difference = |request: &str, left: u16| Difference {
            request: request.to_owned(),
            path: "status".to_owned(),
            left: Some(json!(left)),
            right: Some(json!(400)),
        };
        assert!(accepted.has(&difference("POST /x", 500)));
        assert!(!accepted.has(&difference("POST /x", 404)));
        assert!(!accepted.has(&difference("GET /x", 500)));
        assert_eq!(accepted.unused(), [".A | null => (absent) | *"]);
    }

    #[test]
    #[should_panic(expected = "without a reason")]
    fn an_entry_without_a_reason_is_refused() {
        let _ = Accepted::parse("status | 500 => 400 | *\n");
    }
}
