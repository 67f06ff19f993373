//! Asks two daemons the same things and shows where their answers differ, field by field.
//!
//! A [`Script`] is a list of requests; [`compare`] sends each to both daemons, makes what must differ alike (ids, times,
//! addresses of memory of a run: see [`normal`]) and lists every [`Difference`] that is left. What the differences mean
//! is for the reader to judge; nothing is pardoned here but what a script itself says with `IGNORE`. The differences between
//! the reference and Shoal that were judged stand in a list of their own: see [`accepted`].

pub mod accepted;
pub mod bodies;
pub mod normal;
pub mod script;

pub use accepted::Accepted;
pub use script::Script;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::session::Session;

/// A place where two answers are not alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The request, as the script has it.
    pub request: String,
    /// Path of the field: `.status`, `.headers.NAME`, or `.body.Field.Field[0]`.
    pub path: String,
    /// What the first daemon has there; `None` when it has no such field.
    pub left: Option<Value>,
    /// What the second daemon has there.
    pub right: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (left, right) = (show(self.left.as_ref()), show(self.right.as_ref()));
        write!(f, "{}\t{}\t{left}\t{right}", self.request, self.path)
    }
}

/// Runs a script against both daemons and lists what differs.
#[must_use]
pub fn compare(script: &Script, left: &Session, right: &Session) -> Vec<Difference> {
    let (mut left_kept, mut right_kept) = (BTreeMap::new(), BTreeMap::new());
    let mut differences = Vec::new();
    for step in &script.steps {
        let replies = [(left, &mut left_kept), (right, &mut right_kept)].map(|(session, kept)| {
            let reply = step.run(session, kept);
            let root =
                session.daemon().own_machine().map(|machine| machine.root().to_string_lossy().into_owned());
            match reply {
                Ok(reply) => normal::reply(&reply, kept, root.as_deref()),
                Err(error) => json!({"status": format!("no answer: {error}")}),
            }
        });
        let mut found = Vec::new();
        walk("", &replies[0], &replies[1], &mut found);
        found.retain(|(path, _, _)| !script.ignored.iter().any(|ignored| is_within(path, ignored)));
        differences.extend(found.into_iter().map(|(path, left, right)| Difference {
            request: step.line.clone(),
            path,
            left,
            right,
        }));
    }
    differences
}

/// Whether `path` is the ignored field or lies within it: `.A.B[0]` is within `.B`.
fn is_within(path: &str, ignored: &str) -> bool {
    path.match_indices(ignored).any(|(at, _)| {
        let rest = &path[at + ignored.len()..];
        rest.is_empty() || rest.starts_with(['.', '['])
    })
}

type Found = Vec<(String, Option<Value>, Option<Value>)>;

fn walk(path: &str, left: &Value, right: &Value, found: &mut Found) {
    match (left, right) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))) {
                visit(&format!("{path}.{key}"), one.get(key), other.get(key), found);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            for at in 0..one.len().max(other.len()) {
                visit(&format!("{path}[{at}]"), one.get(at), other.get(at), found);
            }
        }
        _ if left == right => {}
        _ => found.push((path.to_owned(), Some(left.clone()), Some(right.clone()))),
    }
}

fn visit(path: &str, left: Option<&Value>, right: Option<&Value>, found: &mut Found) {
    match (left, right) {
        (Some(left), Some(right)) => walk(path, left, right, found),
        (left, right) => found.push((path.to_owned(), left.cloned(), right.cloned())),
    }
}

/// A side of a difference, as lists of differences write it.
fn show(side: Option<&Value>) -> String {
    side.map_or_else(|| "(absent)".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{is_within, walk};

    #[test]
    fn every_kind_of_difference_is_found_once() {
        let mut found = Vec::new();
        let left = json!({"same": 1, "value": 1, "type": [], "gone": true, "list": [1, 2]});
        let right = json!({"same": 1, "value": 2, "type": null, "new": true, "list": [1]});
        walk("", &left, &right, &mut found);
        let mut paths: Vec<&str> = found.iter().map(|(path, _, _)| path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, [".gone", ".list[1]", ".new", ".type", ".value"]);
        let new = found.iter().find(|(path, _, _)| path == ".new").map(|(_, left, right)| (left, right));
        assert_eq!(new, Some((&None, &Some(Value::Bool(true)))));
    }

    #[test]
    fn ignoring_takes_whole_fields() {
        assert!(is_within(".body.GraphDriver.Name", ".GraphDriver"));
        assert!(is_within(".body[0].Size", ".Size"));
        assert!(!is_within(".body.SizeRw", ".Size"));
    }
}
