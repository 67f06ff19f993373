//! Scripts of the differential runner: requests, one a line, with names for parts of their answers.
//!
//! [`Script`] tells the form. Reading a script touches nothing; [`Step::run`] sends one request to one daemon.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bodies;
use crate::http::{Reply, Request};
use crate::session::Session;

/// What separates the values of an `EACH` line.
const OR: &str = " || ";

/// A list of requests with names for parts of their answers.
///
/// ```text
/// # a comment
/// IGNORE .GraphDriver
/// EACH bad {"a || [] || "text"
/// HEADER X-Registry-Auth: e30=
/// POST /containers/create?name=box {"Image": "busybox"} -> box=/Id
/// GET /containers/{box}/json
/// POST /containers/{box}/update {bad}
/// PUT /containers/{box}/archive?path=/ @layer
/// ```
/// After `->` a part of the answer is kept under a name, found by a JSON pointer, and put where later lines say `{name}`.
/// `IGNORE` leaves out all fields whose path ends in the given text. `EACH` gives a name several values: a later line with
/// that name is sent once with each. `HEADER` belongs to the next request; one without a value takes the header away.
/// A body is sent as `application/json` as it stands; `@NAME` is one of [`bodies::named`].
#[derive(Debug, Clone, Default)]
pub struct Script {
    pub(super) steps: Vec<Step>,
    pub(super) ignored: Vec<String>,
}

/// One request of a script.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// The request as the script has it, values of `EACH` filled in.
    pub(super) line: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Option<String>,
    pub(super) keep: Vec<(String, String)>,
}

impl Script {
    /// Reads a script; panics on a line that is none.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut script = Self::default();
        let mut choices: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut headers = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(path) = line.strip_prefix("IGNORE ") {
                script.ignored.push(path.trim().to_owned());
            } else if let Some(choice) = line.strip_prefix("EACH ") {
                let (name, values) = choice.split_once(' ').unwrap_or_else(|| panic!("values in {line:?}"));
                choices.insert(name.to_owned(), values.split(OR).map(str::to_owned).collect());
            } else if let Some(header) = line.strip_prefix("HEADER ") {
                let (name, value) = header.split_once(':').unwrap_or_else(|| panic!("a colon in {line:?}"));
                headers.push((name.to_owned(), value.trim().to_owned()));
            } else {
                let lines = expand(line, &choices);
                script.steps.extend(lines.iter().map(|line| Step::parse(line, &headers)));
                headers.clear();
            }
        }
        script
    }

    /// How many requests the script sends.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.steps.len()
    }
}

/// The line once with each value of each of the names it has.
fn expand(line: &str, choices: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    choices.iter().fold(vec![line.to_owned()], |lines, (name, values)| {
        let mark = format!("{{{name}}}");
        let with = |line: String| -> Vec<String> {
            if !line.contains(&mark) {
                return vec![line];
            }
            values.iter().map(|value| line.replace(&mark, value)).collect()
        };
        lines.into_iter().flat_map(with).collect()
    })
}

impl Step {
    fn parse(line: &str, headers: &[(String, String)]) -> Self {
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
            headers: headers.to_vec(),
            body,
            keep: keep.collect(),
        }
    }

    /// Sends the request; what is to be kept of the answer is added to `kept`.
    pub(super) fn run(
        &self,
        session: &Session,
        kept: &mut BTreeMap<String, String>,
    ) -> std::io::Result<Reply> {
        let reply = session.try_send(self.request(kept))?;
        for (name, pointer) in &self.keep {
            let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            if let Some(value) = body.pointer(pointer).and_then(Value::as_str) {
                kept.insert(name.clone(), value.to_owned());
            }
        }
        Ok(reply)
    }

    fn request(&self, kept: &BTreeMap<String, String>) -> Request {
        let fill = |text: &str| {
            kept.iter()
                .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
        };
        let mut request = Request::new(&self.method, &fill(&self.path));
        if let Some(body) = &self.body {
            let (kind, body) = match body.strip_prefix('@') {
                Some(name) => bodies::named(name),
                None => ("application/json", fill(body).into_bytes()),
            };
            if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                request = request.header("Content-Type", kind);
            }
            request = request.bytes(body);
        }
        let headers = self.headers.iter().filter(|(_, value)| !value.is_empty());
        headers.fold(request, |request, (name, value)| request.header(name, value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Script;

    #[test]
    fn scripts_have_requests_bodies_and_names() {
        let script =
            Script::parse("# x\nIGNORE .A\n\nPOST /c {\"a\": \"b c\"} -> id=/Id n=/x/y\nGET /c/{id}\n");
        assert_eq!(script.ignored, [".A"]);
        assert_eq!(script.requests(), 2);
        assert_eq!(script.steps[0].body.as_deref(), Some("{\"a\": \"b c\"}"));
        assert_eq!(script.steps[0].keep.len(), 2);
        assert_eq!(script.steps[1].body, None);
    }

    #[test]
    fn a_line_is_sent_with_each_value_of_a_name() {
        let script =
            Script::parse("EACH bad [] || {\"a\nEACH op start || stop\nPOST /c/{op} {bad}\nGET /c/{id}\n");
        let lines: Vec<&str> = script.steps.iter().map(|step| step.line.as_str()).collect();
        assert_eq!(
            lines,
            ["POST /c/start []", "POST /c/stop []", "POST /c/start {\"a", "POST /c/stop {\"a", "GET /c/{id}"]
        );
    }

    #[test]
    fn a_header_belongs_to_the_next_request_and_can_take_the_content_type_away() {
        let script = Script::parse("HEADER Content-Type:\nHEADER X-A: b: c\nPOST /c {}\nPOST /c {}\n");
        let kept = BTreeMap::new();
        assert_eq!(script.steps[0].request(&kept).headers, [("X-A".to_owned(), "b: c".to_owned())]);
        let headers = script.steps[1].request(&kept).headers;
        assert_eq!(headers, [("Content-Type".to_owned(), "application/json".to_owned())]);
    }
}
