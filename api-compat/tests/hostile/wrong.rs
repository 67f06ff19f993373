//! Every operation that changes something, wrong in every way that its description knows of.
//!
//! Start reading at [`a_value_of_another_type_is_refused`]. Nothing here is drawn at random: fields, parameters and operations are
//! read from the description, so what is added to the API is tried without a word here.
#![cfg(test)]

use std::collections::BTreeSet;
use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use serde_json::{Value, json};

use super::{Sent, Sound, World, sound};
use crate::client;

/// The largest JSON body that is read.
const LIMIT: usize = 8 << 20;

/// Operations that change nothing of this machine or of the cluster, or are refused as a whole.
const WITHOUT_CHANGE: [&str; 18] = [
    "post /auth",
    "post /build",
    "post /build/cancel",
    "post /build/prune",
    "post /containers/{id}/attach",
    "post /containers/{id}/wait",
    "post /grpc",
    // The node in front of which this runs refuses every archive of images.
    "post /images/load",
    "post /plugins/create",
    "post /plugins/pull",
    "delete /plugins/{name}",
    "post /plugins/{name}/disable",
    "post /plugins/{name}/enable",
    "post /plugins/{name}/push",
    "post /plugins/{name}/set",
    "post /plugins/{name}/upgrade",
    "post /session",
    "put /volumes/{name}",
];

#[tokio::test]
async fn every_operation_that_changes_something_is_tried_and_does() {
    let world = World::new();
    let mut tried = BTreeSet::new();
    for sound in sound() {
        let answer = client::send(&world.api, sound.request(&sound.target)).await;
        assert!(answer.status < 400, "{}: {} {}", sound.target, answer.status, answer.text());
        assert!(!world.take_changes().is_empty(), "{} {} changes nothing", sound.method, sound.target);
        tried.insert(format!("{} {}", sound.method.to_lowercase(), pattern(&sound)));
    }
    for (pattern, operations) in document()["paths"].as_object().unwrap() {
        for method in ["post", "put", "delete"].iter().filter(|method| operations.get(*method).is_some()) {
            let name = format!("{method} {pattern}");
            assert!(tried.contains(&name) || WITHOUT_CHANGE.contains(&name.as_str()), "{name} is not tried");
        }
    }
}

#[tokio::test]
async fn a_value_of_another_type_is_refused() {
    let (world, document, mut count, mut taken) = (World::new(), document(), 0, Vec::new());
    for sound in sound() {
        let Some(body) = sound.json() else { continue };
        for field in fields_of(&document, &sound) {
            for wrong in field.wrong_values() {
                let mut body = body.clone();
                put(&mut body, &field.place, wrong.clone());
                let what = format!("{wrong} at {:?}", field.place);
                let status = send(&world, &sound, &body.to_string(), &what).await;
                count += 1;
                let is_text_of_a_list =
                    wrong == "x" && field.may_be_one_text() && !sound.path().ends_with("/exec");
                if status != 400 && !is_text_of_a_list {
                    taken.push(format!("{}: {what}: {status}", sound.target));
                }
            }
        }
    }
    assert!(taken.is_empty(), "{} of {count}: {taken:#?}", taken.len());
    assert!(count > 2000, "only {count} values were tried");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let world = World::new();
    for sound in sound() {
        if matches!(sound.body, Sent::Nothing) {
            continue;
        }
        let whole = sound.bytes();
        for end in 1..whole.len() {
            if sound.json().is_some() {
                let cut = String::from_utf8(whole[..end].to_vec()).unwrap();
                assert_eq!(send(&world, &sound, &cut, &cut).await, 400, "{}: {cut}", sound.target);
            }
        }
        // The connection is lost in the middle, whether or not the length was told.
        for head in [
            sound.head().header("content-length", whole.len()),
            sound.head().header("transfer-encoding", "chunked"),
        ] {
            let begun = Bytes::from(whole[..whole.len() / 2].to_vec());
            let lost = std::io::Error::other("the connection is lost");
            let body = StreamBody::new(stream::iter([Ok(Frame::data(begun)), Err(lost)]));
            let answer = world.try_out(head.body(body).unwrap(), "lost in the middle").await;
            assert!(answer.status >= 400, "{}: {}", sound.target, answer.status);
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_or_no_json_is_refused() {
    let world = World::new();
    for sound in sound().iter().filter(|sound| sound.json().is_some()) {
        let announced = sound.head().header("content-length", LIMIT + 1).body(Full::from("{}")).unwrap();
        assert_eq!(world.try_out(announced, "too large").await.status, 400, "{}", sound.target);
        let endless = Bytes::from(vec![b' '; LIMIT / 8]);
        let pieces = stream::iter((0..9).map(move |_| Ok::<_, Infallible>(Frame::data(endless.clone()))));
        let chunked =
            sound.head().header("transfer-encoding", "chunked").body(StreamBody::new(pieces)).unwrap();
        assert_eq!(world.try_out(chunked, "too large by and by").await.status, 400, "{}", sound.target);
        for text in [
            "\0",
            "\u{feff}{}",
            "{} {}",
            "{}}",
            "[]",
            "\"\"",
            "0",
            "true",
            "{'Name': 1}",
            "{\"Name\": \"\u{1}\"}",
        ] {
            assert_eq!(send(&world, sound, text, text).await, 400, "{}: {text:?}", sound.target);
        }
        let other = http::Request::builder().method(sound.method).uri(&sound.target);
        let other = other.header("content-type", "text/plain").body(Full::from(sound.bytes())).unwrap();
        let answer = world.try_out(other, "text/plain").await;
        assert_eq!(answer.status, 400, "{}", sound.target);
    }
}

#[tokio::test]
async fn a_field_that_is_missing_is_missed_before_anything_is_changed() {
    let world = World::new();
    for sound in sound() {
        let Some(Value::Object(body)) = sound.json() else { continue };
        if sound.path().ends_with("/start") {
            // Nothing need be there; what is not detached is attached until its input ends.
            continue;
        }
        send(&world, &sound, "{}", "nothing in it").await;
        send(&world, &sound, "null", "null").await;
        for name in body.keys() {
            let mut body = body.clone();
            body.remove(name);
            send(&world, &sound, &Value::Object(body.clone()).to_string(), &format!("without {name}")).await;
            body.insert(name.clone(), Value::Null);
            send(&world, &sound, &Value::Object(body).to_string(), &format!("{name} is null")).await;
        }
    }
}

#[tokio::test]
async fn odd_names_and_parameters_change_nothing_when_they_are_refused() {
    let (world, document) = (World::new(), document());
    let odd =
        ["%ff", "%00", "..", "%2e%2e%2f", "%20", "nosuch", "-1", "x%0a", "%7b", "[]", "99999999999999999999"];
    let long = "a".repeat(5000);
    for sound in sound() {
        let pattern = pattern(&sound);
        let parameters = &document["paths"][&pattern][sound.method.to_lowercase()]["parameters"];
        for odd in odd.iter().copied().chain([long.as_str()]) {
            if pattern.contains('{') {
                let segments: Vec<&str> = sound.path().split('/').collect();
                let parts = pattern.split('/').zip(&segments);
                let named: Vec<&str> =
                    parts.map(|(part, own)| if part.starts_with('{') { odd } else { own }).collect();
                let target = sound.target.replacen(sound.path(), &named.join("/"), 1);
                world.try_out(sound.request(&target), "an odd name").await;
            }
            for parameter in
                parameters.as_array().unwrap().iter().filter(|parameter| parameter["in"] == "query")
            {
                let name = parameter["name"].as_str().unwrap();
                let (path, query) = sound.target.split_once('?').unwrap_or((&sound.target, ""));
                let kept = query.split('&').filter(|pair| pair.split('=').next() != Some(name));
                let query: Vec<String> = kept.map(str::to_owned).chain([format!("{name}={odd}")]).collect();
                let target = format!("{path}?{}", query.join("&"));
                world.try_out(sound.request(&target), "an odd parameter").await;
            }
        }
    }
}

/// Sends a body, and returns the status.
async fn send(world: &World, sound: &Sound, body: &str, what: &str) -> u16 {
    let request = sound.head().header("content-length", body.len()).body(Full::from(body.to_owned()));
    world.try_out(request.unwrap(), what).await.status
}

fn document() -> Value {
    swagger::document(swagger::NEWEST)
}

fn pattern(sound: &Sound) -> String {
    client::pattern_of(sound.method, sound.path())
        .unwrap_or_else(|| panic!("{} is not described", sound.target))
}

/// A step from a value to one inside it.
#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Item,
}

/// A place in a body, and what may be there.
struct Field {
    place: Vec<Step>,
    kinds: BTreeSet<String>,
}

impl Field {
    /// Whether this list may be written as one text: what a container runs, as clients of old do, undescribed.
    fn may_be_one_text(&self) -> bool {
        matches!(self.place.as_slice(), [Step::Key(name)] if name == "Cmd" || name == "Entrypoint")
    }

    /// One value of each type that may not be there. What is null counts as absent everywhere.
    fn wrong_values(&self) -> Vec<Value> {
        if self.kinds.is_empty() {
            return Vec::new();
        }
        let may_be = |kind: &str| self.kinds.contains(kind);
        let mut wrong = Vec::new();
        for (kind, value) in
            [("boolean", json!(true)), ("string", json!("x")), ("array", json!([])), ("object", json!({}))]
        {
            if !may_be(kind) {
                wrong.push(value);
            }
        }
        if !may_be("number") {
            wrong.push(json!(1.5));
            wrong.push(json!(1e300));
            if !may_be("integer") {
                wrong.push(json!(1));
            }
        }
        wrong
    }
}

/// All places of the body of an operation.
fn fields_of(document: &Value, sound: &Sound) -> Vec<Field> {
    let operation = &document["paths"][pattern(sound)]["post"];
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let mut fields = Vec::new();
    gather(document, schema, &[], &mut Vec::new(), &mut fields);
    fields
}

/// Gathers the places below one; `above` are the schemas that the way leads through, so that it ends.
fn gather(
    document: &Value,
    schema: &Value,
    place: &[Step],
    above: &mut Vec<String>,
    fields: &mut Vec<Field>,
) {
    let mut kinds = BTreeSet::new();
    let depth = above.len();
    for option in options(document, schema, above) {
        match &option["type"] {
            Value::String(kind) => _ = kinds.insert(kind.clone()),
            Value::Array(names) => kinds.extend(names.iter().filter_map(Value::as_str).map(str::to_owned)),
            _ => {}
        }
        let below = |step: Step| [place, &[step]].concat();
        for (name, property) in option["properties"].as_object().into_iter().flatten() {
            gather(document, property, &below(Step::Key(name.clone())), above, fields);
        }
        if option["additionalProperties"].is_object() {
            gather(
                document,
                &option["additionalProperties"],
                &below(Step::Key("k".to_owned())),
                above,
                fields,
            );
        }
        if option["items"].is_object() {
            gather(document, &option["items"], &below(Step::Item), above, fields);
        }
    }
    above.truncate(depth);
    kinds.remove("null");
    fields.push(Field { place: place.to_vec(), kinds });
}

/// What a schema stands for: itself, what it refers to, or one of several.
fn options<'a>(document: &'a Value, schema: &'a Value, above: &mut Vec<String>) -> Vec<&'a Value> {
    if let Some(target) = schema["$ref"].as_str() {
        if above.iter().any(|name| name == target) {
            return Vec::new();
        }
        above.push(target.to_owned());
        let pointed = document.pointer(target.trim_start_matches('#')).unwrap_or(&Value::Null);
        return options(document, pointed, above);
    }
    match ["anyOf", "oneOf"].iter().find_map(|word| schema[*word].as_array()) {
        Some(several) => several.iter().flat_map(|schema| options(document, schema, above)).collect(),
        None => vec![schema],
    }
}

/// Puts a value at a place, making what leads there.
fn put(body: &mut Value, place: &[Step], value: Value) {
    let Some((step, rest)) = place.split_first() else {
        *body = value;
        return;
    };
    match step {
        Step::Key(name) => {
            if !body.is_object() {
                *body = json!({});
            }
            put(&mut body[name.as_str()], rest, value);
        }
        Step::Item => {
            let mut item = Value::Null;
            put(&mut item, rest, value);
            *body = json!([item]);
        }
    }
}
