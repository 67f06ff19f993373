//! Checks JSON against the schemas of a description.
//!
//! Start reading at [`Validator`]. It knows the words of JSON Schema that our own descriptions use, and is stricter than
//! they are: an object with named properties may have no others, so that a field cannot be sent that is not described.

use std::fmt;

use serde_json::{Map, Value};

/// Something in JSON that its schema does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where, as a path of keys.
    pub place: String,
    /// What is wrong.
    pub fault: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", if self.place.is_empty() { "the whole" } else { &self.place }, self.fault)
    }
}

/// Checks replies against a description.
#[derive(Debug)]
pub struct Validator {
    document: Value,
}

impl Validator {
    /// A validator for this description.
    pub fn new(document: Value) -> Self {
        Self { document }
    }

    /// The schema of the JSON that an operation answers with this status, if the description has one.
    pub fn reply_schema(&self, method: &str, pattern: &str, status: u16) -> Option<&Value> {
        let operation = self.document.get("paths")?.get(pattern)?.get(method.to_ascii_lowercase())?;
        let response = operation.get("responses")?.get(status.to_string())?;
        let response = match response.get("$ref").and_then(Value::as_str) {
            Some(target) => self.document.pointer(target.strip_prefix('#')?)?,
            None => response,
        };
        response.get("content")?.get("application/json")?.get("schema")
    }

    /// Whether an operation may answer with this status.
    pub fn allows_status(&self, method: &str, pattern: &str, status: u16) -> bool {
        let operation = self.document.get("paths").and_then(|paths| paths.get(pattern));
        let operation = operation.and_then(|path| path.get(method.to_ascii_lowercase()));
        operation.and_then(|operation| operation.get("responses")?.get(status.to_string())).is_some()
    }

    /// The patterns of all paths.
    pub fn patterns(&self) -> Vec<&str> {
        let paths = self.document.get("paths").and_then(Value::as_object);
        paths.into_iter().flatten().map(|(pattern, _)| pattern.as_str()).collect()
    }

    /// What is wrong with a value.
    pub fn check(&self, schema: &Value, value: &Value) -> Vec<Violation> {
        let mut found = Vec::new();
        self.visit(schema, value, "", &mut found);
        found
    }

    fn visit(&self, schema: &Value, value: &Value, place: &str, found: &mut Vec<Violation>) {
        let mut violate = |fault: String| found.push(Violation { place: place.to_owned(), fault });
        let Value::Object(schema) = schema else {
            if schema == &Value::Bool(false) {
                violate("nothing is allowed here".to_owned());
            }
            return;
        };
        if let Some(Value::String(target)) = schema.get("$ref") {
            match target.strip_prefix('#').and_then(|pointer| self.document.pointer(pointer)) {
                Some(schema) => self.visit(schema, value, place, found),
                None => violate(format!("the description lacks {target}")),
            }
            return;
        }
        if let Some(options) = ["anyOf", "oneOf"].iter().find_map(|word| schema.get(*word)?.as_array()) {
            if !options.iter().any(|option| self.check(option, value).is_empty()) {
                violate(format!("{} fits none of the alternatives", kind(value)));
            }
            return;
        }
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
            && !allowed.contains(value)
        {
            violate(format!("{value} is not among the values"));
        }
        if !is_allowed(schema, value) {
            violate(format!("{} where {} is expected", kind(value), schema["type"]));
            return;
        }
        match value {
            Value::Object(map) => self.visit_object(schema, map, place, found),
            Value::Array(list) => {
                if let Some(items) = schema.get("items") {
                    for (at, item) in list.iter().enumerate() {
                        self.visit(items, item, &format!("{place}[{at}]"), found);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn visit_object(
        &self,
        schema: &Map<String, Value>,
        map: &Map<String, Value>,
        place: &str,
        found: &mut Vec<Violation>,
    ) {
        let below = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
        let properties = schema.get("properties").and_then(Value::as_object);
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if let Some(name) = name.as_str().filter(|name| !map.contains_key(*name)) {
                found.push(Violation { place: below(name), fault: "is missing".to_owned() });
            }
        }
        for (key, value) in map {
            match (properties.and_then(|properties| properties.get(key)), schema.get("additionalProperties"))
            {
                (Some(property), _) => self.visit(property, value, &below(key), found),
                (None, Some(rest)) => self.visit(rest, value, &below(key), found),
                (None, None) if properties.is_some() => {
                    found.push(Violation { place: below(key), fault: "is not described".to_owned() });
                }
                (None, None) => {}
            }
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether the type of a value is one of those that a schema names; a schema that names none takes any.
fn is_allowed(schema: &Map<String, Value>, value: &Value) -> bool {
    let fits = |name: &str| match name {
        "integer" => value.is_i64() || value.is_u64(),
        other => other == kind(value),
    };
    match schema.get("type") {
        None => true,
        Some(Value::String(name)) => fits(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(fits),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(schema: &Value, value: &Value) -> Vec<String> {
        let document = json!({"components": {"schemas": {"A": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}}});
        Validator::new(document).check(schema, value).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_wrong_is_found_with_its_place() {
        let schema = json!({"type": "array", "items": {"$ref": "#/components/schemas/A"}});
        assert_eq!(faults(&schema, &json!([{"x": 1}])), [""; 0]);
        assert_eq!(
            faults(&schema, &json!([{"x": "1"}, {"y": 1}, null])),
            [
                "[0].x: string where \"integer\" is expected",
                "[1].x: is missing",
                "[1].y: is not described",
                "[2]: null where \"object\" is expected",
            ]
        );
    }

    #[test]
    fn alternatives_and_several_types_are_known() {
        let nullable = json!({"anyOf": [{"$ref": "#/components/schemas/A"}, {"type": "null"}]});
        assert_eq!(faults(&nullable, &Value::Null), [""; 0]);
        assert_eq!(faults(&nullable, &json!(1)), ["the whole: number fits none of the alternatives"]);
        assert_eq!(faults(&json!({"type": ["string", "null"]}), &Value::Null), [""; 0]);
    }
}
