//! The description of the API, made from the list of operations and the model types.
//!
//! Start reading at [`document`]. What a version did not have yet, or no longer has, is left out by two marks in the
//! documentation of fields: `Since 1.48.` and `Below 1.52.`. Schemas of what is sent and of what is answered differ in
//! what must be there, so those of requests have names of their own. Writing files and comparing is the crate `swagger`.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::hijack::RAW_STREAM;
use crate::model::ErrorResponse;
use crate::route::{BodyKind, Param, ParamKind, ParamPlace, Route, Support};
use crate::schema::SchemaOf;
use crate::version::ApiVersion;

/// Added to the names of schemas of what is sent.
const REQUEST: &str = ".request";
/// Where schemas are.
const SCHEMAS: &str = "/components/schemas/";

/// The description of one version.
pub(crate) fn document(routes: &[Route], version: ApiVersion) -> Value {
    let mut schemas = Schemas::new();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes.iter().filter(|route| route.is_in(version)) {
        let operation = operation(route, version, &mut schemas);
        let path = paths.entry(route.pattern).or_insert_with(|| json!({}));
        if let Value::Object(methods) = path {
            methods.insert(route.method.as_str().to_ascii_lowercase(), operation);
        }
    }
    let error = schemas.answer(SchemaOf::of::<ErrorResponse>());
    let failure = json!({
        "description": "A failure.",
        "content": {"application/json": {"schema": error}},
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Shoal: Docker Engine API",
            "version": version.to_string(),
            "description": "Generated from the model types and the list of operations of api-compat. Do not edit.",
        },
        "servers": [{"url": format!("/v{version}")}],
        "paths": paths,
        "components": {"responses": {"Failure": failure}, "schemas": schemas.finish(version)},
    })
}

/// Schemas of answers and of requests.
struct Schemas {
    answers: SchemaGenerator,
    requests: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings =
            || SchemaSettings::draft2020_12().with(|s| SCHEMAS.clone_into(s.definitions_path.to_mut()));
        Self {
            answers: settings().for_serialize().into_generator(),
            requests: settings().for_deserialize().into_generator(),
        }
    }

    fn answer(&mut self, schema: SchemaOf) -> Value {
        schema.make(&mut self.answers).to_value()
    }

    fn request(&mut self, schema: SchemaOf) -> Value {
        let mut value = schema.make(&mut self.requests).to_value();
        rename_references(&mut value);
        value
    }

    fn finish(mut self, version: ApiVersion) -> Value {
        let mut all = Map::new();
        for (name, mut schema) in self.answers.take_definitions(true) {
            clean(&mut schema, version);
            all.insert(name, schema);
        }
        for (name, mut schema) in self.requests.take_definitions(true) {
            rename_references(&mut schema);
            clean(&mut schema, version);
            all.insert(format!("{name}{REQUEST}"), schema);
        }
        Value::Object(all)
    }
}

/// Lets references of a request's schema point to schemas of requests.
fn rename_references(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(target) if key == "$ref" => target.push_str(REQUEST),
                    _ => rename_references(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(rename_references),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Drops the fields and alternatives that a version does not have, and limits that only say how wide a number of ours
/// is.
fn clean(value: &mut Value, version: ApiVersion) {
    match value {
        Value::Object(map) => {
            for word in ["default", "format", "minimum", "maximum"] {
                if map.get(word).is_some_and(|value| !value.is_object()) {
                    map.remove(word);
                }
            }
            let gone: Vec<String> = map
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .filter(|(_, property)| !is_in(property, version))
                .map(|(name, _)| name.clone())
                .collect();
            if let Some(Value::Object(properties)) = map.get_mut("properties") {
                properties.retain(|name, _| !gone.contains(name));
            }
            if let Some(Value::Array(required)) = map.get_mut("required") {
                required.retain(|name| !gone.iter().any(|gone| name == gone));
            }
            if let Some(Value::Array(options)) = map.get_mut("anyOf") {
                options.retain(|option| is_in(option, version));
            }
            map.values_mut().for_each(|value| clean(value, version));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| clean(value, version)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a version has a field, as the documentation of the field says.
fn is_in(property: &Value, version: ApiVersion) -> bool {
    let text = property.get("description").and_then(Value::as_str).unwrap_or_default();
    let mark = |word: &str| {
        let (_, after) = text.split_once(word)?;
        after.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u16>().ok()
    };
    mark("Since 1.").is_none_or(|minor| version.is_from(minor))
        && mark("Below 1.").is_none_or(|minor| version.is_below(minor))
}

fn operation(route: &Route, version: ApiVersion, schemas: &mut Schemas) -> Value {
    let about = &route.about;
    let mut parameters: Vec<Value> = path_parameters(route.pattern);
    let params = about.params.iter().filter(|param| param.since.is_none_or(|minor| version.is_from(minor)));
    parameters.extend(params.map(parameter));
    let mut operation = json!({
        "operationId": about.id,
        "tags": [about.tag],
        "summary": about.summary,
        "parameters": parameters,
        "responses": responses(route, schemas),
    });
    if let (Some(body), Value::Object(map)) = (about.body, &mut operation) {
        let content = match body {
            BodyKind::Json(schema) => json!({"application/json": {"schema": schemas.request(schema)}}),
            other => content(other, schemas),
        };
        map.insert("requestBody".to_owned(), json!({"content": content}));
    }
    if let (Support::Refused, Value::Object(map)) = (about.support, &mut operation) {
        map.insert("x-shoal-support".to_owned(), json!("refused"));
    }
    operation
}

fn path_parameters(pattern: &str) -> Vec<Value> {
    let names = pattern.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter =
        |name| json!({"in": "path", "name": name, "required": true, "schema": {"type": "string"}});
    names.map(parameter).collect()
}

fn parameter(param: &Param) -> Value {
    let schema = match param.kind {
        ParamKind::Flag => json!({"type": "boolean"}),
        ParamKind::Integer => json!({"type": "integer"}),
        ParamKind::Text => json!({"type": "string"}),
        ParamKind::Texts => json!({"type": "array", "items": {"type": "string"}}),
    };
    let place = match param.place {
        ParamPlace::Query => "query",
        ParamPlace::Header => "header",
    };
    json!({"in": place, "name": param.name, "description": param.doc, "schema": schema})
}

fn responses(route: &Route, schemas: &mut Schemas) -> Value {
    let mut responses = Map::new();
    for (status, body) in &route.about.replies {
        let description = match body {
            BodyKind::None => "No content.",
            BodyKind::Json(_) => "The answer.",
            BodyKind::Text => "A text.",
            BodyKind::Bytes(_) => "Bytes.",
            BodyKind::JsonStream(_) => "JSON objects, one after the other.",
            BodyKind::Hijack => "The connection is taken over.",
        };
        let mut response = json!({"description": description});
        let content = content(*body, schemas);
        if let Value::Object(map) = &mut response
            && content != json!({})
        {
            map.insert("content".to_owned(), content);
        }
        responses.insert(status.to_string(), response);
    }
    for status in route.about.failures.iter().chain(&[500]) {
        let failure = json!({"$ref": "#/components/responses/Failure"});
        responses.entry(status.to_string()).or_insert(failure);
    }
    Value::Object(responses)
}

fn content(body: BodyKind, schemas: &mut Schemas) -> Value {
    match body {
        BodyKind::None => json!({}),
        BodyKind::Json(schema) | BodyKind::JsonStream(schema) => {
            json!({"application/json": {"schema": schemas.answer(schema)}})
        }
        BodyKind::Text => json!({"text/plain": {"schema": {"type": "string"}}}),
        BodyKind::Bytes(media_type) => json!({media_type: {}}),
        BodyKind::Hijack => json!({RAW_STREAM: {}}),
    }
}
