//! Asks two daemons the same things and shows where their answers differ, field by field.
//!
//! A [`Script`] is a list of requests; [`compare`] sends each to both daemons, makes what must differ alike (ids, times,
//! addresses of memory of a run: see [`normal`]) and lists every [`Difference`] that is left. What the differences mean
//! is for the reader to judge; nothing is pardoned here but what a script itself says with `IGNORE`.

pub mod normal;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use crate::http::{Reply, Request};
use crate::session::Session;

/// A list of requests with names for parts of their answers.
///
/// ```text
/// # a comment
/// IGNORE .GraphDriver
/// POST /containers/create?name=box {"Image": "busybox"} -> box=/Id
/// GET /containers/{box}/json
/// ```
/// After `->` a part of the answer is kept under a name, found by a JSON pointer, and put where later lines say `{name}`.
/// `IGNORE` leaves out all fields whose path ends in the given text.
#[derive(Debug, Clone, Default)]
pub struct Script {
    steps: Vec<Step>,
    ignored: Vec<String>,
}

#[derive(Debug, Clone)]
struct Step {
    line: String,
    method: String,
    path: String,
    body: Option<String>,
    keep: Vec<(String, String)>,
}

/// A place where two answers are not alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The request, as the script has it.
    pub request: String,
    /// Path of the field: `status`, `type` (the content type), or `.Field.Field[0]` in the body.
    pub path: String,
    /// What the first daemon has there; `None` when it has no such field.
    pub left: Option<Value>,
    /// What the second daemon has there.
    pub right: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show =
            |side: &Option<Value>| side.as_ref().map_or_else(|| "(absent)".to_owned(), Value::to_string);
        write!(f, "{}\t{}\t{}\t{}", self.request, self.path, show(&self.left), show(&self.right))
    }
}

impl Script {
    /// Reads a script; panics on a line that is none.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut script = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix("IGNORE ") {
                Some(path) => script.ignored.push(path.trim().to_owned()),
                None => script.steps.push(Step::parse(line)),
            }
        }
        script
    }
}

impl Step {
    fn parse(line: &str) -> Self {
        let (request, keep) = line.rsplit_once(" -> ").unwrap_or((line, ""));
        let keep = keep.split_whitespace().map(|part| {
            let (name, pointer) = part.split_once('=').unwrap_or_else(|| panic!("name=/pointer in {line:?}"));
            (name.to_owned(), pointer.to_owned())
        });
        let mut words = request.splitn(3, ' ');
        let mut word = || words.next().map(str::to_owned);
        let (method, path) = (word(), word());
        let body = word();
        Self {
            line: request.to_owned(),
            method: method.unwrap_or_default(),
            path: path.unwrap_or_else(|| panic!("a path in {line:?}")),
            body,
            keep: keep.collect(),
        }
    }

    /// Sends the request; what is to be kept of the answer is added to `kept`.
    fn run(&self, session: &Session, kept: &mut BTreeMap<String, String>) -> Reply {
        let fill = |text: &str| {
            kept.iter()
                .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
        };
        let mut request = Request::new(&self.method, &fill(&self.path));
        if let Some(body) = &self.body {
            request = request.header("Content-Type", "application/json").bytes(fill(body).into_bytes());
        }
        let reply = session.send(request);
        for (name, pointer) in &self.keep {
            let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            if let Some(value) = body.pointer(pointer).and_then(Value::as_str) {
                kept.insert(name.clone(), value.to_owned());
            }
        }
        reply
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
            normal::reply(&reply, kept, root.as_deref())
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

/// An answer as one value: status, content type, body.
fn as_value(status: u16, content_type: Option<&str>, body: Value) -> Value {
    let mut map = Map::new();
    map.insert("status".to_owned(), json!(status));
    map.insert("type".to_owned(), json!(content_type));
    map.insert("body".to_owned(), body);
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Script, is_within, walk};

    #[test]
    fn scripts_have_requests_bodies_and_names() {
        let script =
            Script::parse("# x\nIGNORE .A\n\nPOST /c {\"a\": \"b c\"} -> id=/Id n=/x/y\nGET /c/{id}\n");
        assert_eq!(script.ignored, [".A"]);
        assert_eq!(script.steps.len(), 2);
        assert_eq!(script.steps[0].body.as_deref(), Some("{\"a\": \"b c\"}"));
        assert_eq!(script.steps[0].keep.len(), 2);
        assert_eq!(script.steps[1].body, None);
    }

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
