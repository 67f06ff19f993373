//! Compares our description with those of others, version by version.
//!
//! Start reading at [`compare`]. The others are Swagger 2.0 documents named `v1.NN.yaml`; both are brought to one form,
//! sets of names: operations, their parameters and statuses, fields of what is sent and answered. Names of path
//! parameters do not count. What is known and has a reason in `coverage.toml` is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Number, Value};
use serde_yaml_ng::Value as Yaml;

use crate::coverage::{Coverage, coverage};
use crate::error::SwaggerError;

/// Deepest nesting of fields that is compared; specs of the cluster nest themselves.
const MAX_DEPTH: usize = 8;

/// A difference between two descriptions of one version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Theirs has it, ours does not.
    Lacks(String),
    /// Ours has it, theirs does not.
    Adds(String),
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lacks(what) => write!(f, "lacks {what}"),
            Self::Adds(what) => write!(f, "adds {what}"),
        }
    }
}

/// Compares with every `v1.NN.yaml` in a directory; the differences by version.
pub fn compare(references: &Path) -> Result<BTreeMap<u16, Vec<Difference>>, SwaggerError> {
    let coverage = coverage()?;
    let mut found = BTreeMap::new();
    for minor in crate::OLDEST..=crate::NEWEST {
        let file = references.join(format!("v1.{minor}.yaml"));
        if !file.exists() {
            continue;
        }
        let text = std::fs::read_to_string(&file)
            .map_err(|source| SwaggerError::Io { file: file.clone(), source })?;
        let theirs: Yaml =
            serde_yaml_ng::from_str(&text).map_err(|source| SwaggerError::Yaml { file, source })?;
        found.insert(minor, differences(&crate::document(minor), &to_json(&theirs), &coverage));
    }
    Ok(found)
}

/// YAML as JSON; keys that are numbers, as statuses are, become texts.
fn to_json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::from(*value),
        Yaml::Number(number) => number
            .as_i64()
            .map(Number::from)
            .or_else(|| number.as_f64().and_then(Number::from_f64))
            .map_or(Value::Null, Value::Number),
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Sequence(list) => list.iter().map(to_json).collect(),
        Yaml::Mapping(map) => {
            let entries = map.iter().map(|(key, value)| {
                let key = match key {
                    Yaml::String(text) => text.clone(),
                    Yaml::Number(number) => number.to_string(),
                    other => format!("{other:?}"),
                };
                (key, to_json(value))
            });
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Yaml::Tagged(tagged) => to_json(&tagged.value),
    }
}

fn differences(ours: &Value, theirs: &Value, coverage: &Coverage) -> Vec<Difference> {
    let (ours, theirs) = (names(ours), names(theirs));
    let refused: BTreeSet<&str> = coverage.refused.keys().map(String::as_str).collect();
    let mut found = Vec::new();
    for (operation, their_names) in &theirs {
        match ours.get(operation) {
            None => found.push(Difference::Lacks(operation.clone())),
            Some((id, _)) if refused.contains(id.as_str()) => {}
            Some((id, our_names)) => {
                let lacks = topmost(&their_names.1, our_names);
                let lacks = lacks.filter(|name| !is_known(id, name, &coverage.lacks));
                found.extend(lacks.map(|name| Difference::Lacks(format!("{operation} {name}"))));
                let adds = topmost(our_names, &their_names.1);
                let adds = adds.filter(|name| !is_known(id, name, &coverage.adds));
                found.extend(adds.map(|name| Difference::Adds(format!("{operation} {name}"))));
            }
        }
    }
    let further = ours.iter().filter(|(operation, _)| !theirs.contains_key(*operation));
    let further = further.filter(|(_, (id, _))| !coverage.adds.contains_key(id));
    found.extend(further.map(|(operation, _)| Difference::Adds(operation.clone())));
    found
}

/// The names of `these` that are not among `those`, without what stands inside another such name.
fn topmost<'a>(these: &'a BTreeSet<String>, those: &'a BTreeSet<String>) -> impl Iterator<Item = &'a String> {
    these.difference(those).filter(move |name| match name.rsplit_once('.') {
        Some((parent, _)) => !these.contains(parent) || those.contains(parent),
        None => true,
    })
}

/// Whether a name of an operation, or an object that it stands in, has a reason. Names are paths joined by dots.
fn is_known(operation: &str, name: &str, reasons: &BTreeMap<String, String>) -> bool {
    let words: Vec<&str> = std::iter::once(operation).chain(name.split(['.', ' '])).collect();
    reasons.keys().any(|key| {
        let wanted: Vec<&str> = key.split('.').collect();
        words.windows(wanted.len()).any(|window| window == wanted.as_slice())
    })
}

/// The operations of a description: for each method and path its name, and the names of everything in it.
fn names(document: &Value) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut found = BTreeMap::new();
    let paths = document.get("paths").and_then(Value::as_object);
    for (path, methods) in paths.into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let Some(operation) = operation.as_object() else { continue };
            if method == "parameters" {
                continue;
            }
            let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default().to_owned();
            let name = format!("{} {}", method.to_ascii_uppercase(), without_names(path));
            found.insert(name, (id, operation_names(document, operation)));
        }
    }
    found
}

/// A path in which every parameter is `{}`.
fn without_names(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

fn operation_names(document: &Value, operation: &Map<String, Value>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| parameter.get(key).and_then(Value::as_str).unwrap_or_default();
        match text("in") {
            "body" => fields(document, &parameter["schema"], "body", 0, &mut found),
            "query" => drop(found.insert(format!("query {}", text("name")))),
            "header" => drop(found.insert(format!("header {}", text("name").to_ascii_lowercase()))),
            _ => {}
        }
    }
    for content in media(operation.get("requestBody")) {
        fields(document, content, "body", 0, &mut found);
    }
    for (status, response) in operation.get("responses").and_then(Value::as_object).into_iter().flatten() {
        let is_success = status.starts_with('2') || status.starts_with('1');
        if !is_success {
            continue;
        }
        found.insert(format!("status {status}"));
        if let Some(schema) = response.get("schema") {
            fields(document, schema, "reply", 0, &mut found);
        }
        for content in media(Some(response)) {
            fields(document, content, "reply", 0, &mut found);
        }
    }
    found
}

/// The schemas of all content types of a body.
fn media(body: Option<&Value>) -> impl Iterator<Item = &Value> {
    let content = body.and_then(|body| body.get("content")).and_then(Value::as_object);
    content.into_iter().flatten().filter_map(|(_, media)| media.get("schema"))
}

/// Collects the names of fields below a schema.
fn fields(document: &Value, schema: &Value, place: &str, depth: usize, found: &mut BTreeSet<String>) {
    if depth > MAX_DEPTH {
        return;
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        if let Some(schema) = target.strip_prefix('#').and_then(|pointer| document.pointer(pointer)) {
            fields(document, schema, place, depth, found);
        }
        return;
    }
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let below = format!("{place}.{name}");
        found.insert(below.clone());
        fields(document, property, &below, depth + 1, found);
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        for option in schema.get(word).and_then(Value::as_array).into_iter().flatten() {
            fields(document, option, place, depth, found);
        }
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(word) {
            fields(document, inner, place, depth + 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_found_in_both_directions() {
        let document = |field: &str, parameter: &str| {
            json!({"paths": {"/a/{x}": {"get": {
                "operationId": "A",
                "parameters": [{"in": "query", "name": parameter}],
                "responses": {"200": {"content": {"application/json": {"schema": {"properties": {field: {}}}}}}},
            }}}})
        };
        let found = differences(&document("b", "p"), &document("c", "q"), &Coverage::default());
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "lacks GET /a/{} query q",
                "lacks GET /a/{} reply.c",
                "adds GET /a/{} query p",
                "adds GET /a/{} reply.b"
            ]
        );
    }

    #[test]
    fn what_has_a_reason_is_left_out() {
        let reasons = BTreeMap::from([("Containerd".to_owned(), "there is none".to_owned())]);
        assert!(is_known("SystemInfo", "reply.Containerd.Address", &reasons));
        assert!(!is_known("SystemInfo", "reply.ContainerdCommit.ID", &reasons));
        let of_one = BTreeMap::from([("A.query.b".to_owned(), String::new())]);
        assert!(is_known("A", "query b", &of_one));
        assert!(!is_known("B", "query b", &of_one));
    }
}
