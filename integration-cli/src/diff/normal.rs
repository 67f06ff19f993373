//! Makes alike what differs between two runs of anything: ids, digests, times, process ids, addresses, places.
//!
//! Values keep their type and their place; only their content becomes a word in angle brackets. A field that one
//! daemon leaves out, or has as null where the other has an empty list, is not touched: that is what is looked for.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use regex_lite::Regex;
use serde_json::{Value, json};

use crate::http::Reply;

/// Fields whose value is a number or text of the moment, whatever it looks like.
const MOMENTARY: &[(&str, &str)] = &[
    ("Pid", "<pid>"),
    ("PID", "<pid>"),
    ("time", "<time>"),
    ("timeNano", "<time>"),
    ("SystemTime", "<time>"),
    ("execDuration", "<seconds>"),
    ("NFd", "<count>"),
    ("NGoroutines", "<count>"),
    ("NEventsListener", "<count>"),
    ("SandboxKey", "<path>"),
];

/// Lists of objects with one of these fields come in no order that means anything: mounts, networks, volumes.
const UNORDERED: &[&str] = &["Destination", "EnableIPv6", "Mountpoint"];

/// Headers that clients read, by the way their value is shown: as it is, or only that it is there.
const HEADERS: &[(&str, Shown)] = &[
    ("Content-Type", Shown::Value),
    ("Docker-Experimental", Shown::Value),
    ("Ostype", Shown::Value),
    ("Swarm", Shown::Value),
    ("Cache-Control", Shown::Value),
    ("Pragma", Shown::Value),
    ("Connection", Shown::Value),
    ("Upgrade", Shown::Value),
    ("Location", Shown::Value),
    ("Warning", Shown::Value),
    ("Www-Authenticate", Shown::Value),
    ("X-Docker-Container-Path-Stat", Shown::Json),
    ("Api-Version", Shown::Presence),
    ("Server", Shown::Presence),
];

/// How much of a header is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Value,
    /// JSON in base64.
    Json,
    Presence,
}

/// An answer in normal form: an object with `status`, `headers` and `body`.
///
/// `kept` are the parts of earlier answers that the script gave names; `root` is the directory of the daemon.
#[must_use]
pub fn reply(reply: &Reply, kept: &BTreeMap<String, String>, root: Option<&str>) -> Value {
    let body = match serde_json::from_slice::<Value>(&reply.body) {
        Ok(body) => body,
        Err(_) if reply.body.contains(&0) => json!("<bytes>"),
        Err(_) => lines(&reply.text()),
    };
    let headers: serde_json::Map<String, Value> = HEADERS
        .iter()
        .filter_map(|(name, shown)| {
            let raw = reply.header(name)?;
            let shown = match shown {
                Shown::Value => json!(raw),
                Shown::Json => path_stat(raw),
                Shown::Presence => json!("<there>"),
            };
            Some(((*name).to_owned(), shown))
        })
        .collect();
    json!({"status": reply.status, "headers": headers, "body": value("", body, kept, root)})
}

/// What `docker cp` is told of a path, without the time.
fn path_stat(raw: &str) -> Value {
    let decoded = BASE64.decode(raw).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let Some(mut stat) = decoded else { return json!(raw) };
    stat["mtime"] = json!("<time>");
    stat
}

/// A body that is not one JSON value: a stream of them, or text.
fn lines(text: &str) -> Value {
    let stream: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
    stream.map_or_else(|_| json!(text), Value::from)
}

fn value(key: &str, raw: Value, kept: &BTreeMap<String, String>, root: Option<&str>) -> Value {
    if let Some((_, word)) = MOMENTARY.iter().find(|(momentary, _)| *momentary == key)
        && (raw.is_string() || raw.is_number())
    {
        return json!(word);
    }
    match raw {
        Value::String(raw) => json!(text(&raw, kept, root)),
        Value::Number(number) if key == "Created" && number.as_i64().is_some_and(|n| n > 1_000_000_000) => {
            json!("<time>")
        }
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(|item| value(key, item, kept, root)).collect();
            if let Some(name) =
                UNORDERED.iter().find(|name| items.iter().all(|item| item.get(name).is_some()))
            {
                let order = if *name == "Destination" { name } else { "Name" };
                items.sort_by_key(|item| (item[order].to_string(), item.to_string()));
            }
            items.into()
        }
        Value::Object(map) => {
            let pairs = map.into_iter().map(|(key, item)| {
                let item = value(&key, item, kept, root);
                (text(&key, kept, root), item)
            });
            Value::Object(pairs.collect())
        }
        other => other,
    }
}

fn text(raw: &str, kept: &BTreeMap<String, String>, root: Option<&str>) -> String {
    let mut text = raw.to_owned();
    for (name, value) in kept {
        text = text.replace(value.as_str(), &format!("<{name}>"));
        // Short ids are the beginning of long ones.
        if value.len() == 64 {
            text = text.replace(&value[..12], &format!("<{name}-short>"));
        }
    }
    if let Some(root) = root {
        text = text.replace(root, "<root>");
    }
    for (pattern, word) in patterns() {
        text = pattern.replace_all(&text, *word).into_owned();
    }
    text
}

fn patterns() -> &'static [(Regex, &'static str)] {
    static PATTERNS: OnceLock<Vec<(Regex, &'static str)>> = OnceLock::new();
    PATTERNS.get_or_init(|| {
        let table = [
            (r"sha256:[0-9a-f]{64}", "<digest>"),
            (r"\b[0-9a-f]{64}\b", "<id>"),
            // The year 1 is no moment but the absence of one.
            (r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
            // The daemon's own name, in its old form and in its new one.
            (r"\b([A-Z2-7]{4}:){11}[A-Z2-7]{4}\b", "<daemon>"),
            (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<daemon>"),
            // After the daemon's name, which ends in as many digits.
            (r"\b[0-9a-f]{12}\b", "<short-id>"),
            (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>"),
            (r"(Less than a second|About a minute|\d+ seconds?|\d+ minutes?)( ago)?", "<duration>"),
        ];
        table.map(|(pattern, word)| (Regex::new(pattern).expect("a pattern of this table"), word)).into()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::value;

    #[test]
    fn ids_times_and_places_become_words_and_shapes_stay() {
        let id = "0123456789ab".repeat(6)[..64].to_owned();
        let kept = BTreeMap::from([("box".to_owned(), id.clone())]);
        let raw = json!({
            "Id": id, "Hostname": &id[..12], "Other": "f".repeat(64), "Image": format!("sha256:{}", "a".repeat(64)),
            "Created": "2026-11-21T10:00:00.123Z", "FinishedAt": "0001-01-01T00:00:00Z", "Pid": 7, "Empty": [], "Null": null,
            "Status": "Up 3 seconds", "Mac": "02:42:ac:11:00:02", "Path": "/tmp/x/data/y",
        });
        assert_eq!(
            value("", raw, &kept, Some("/tmp/x")),
            json!({
                "Id": "<box>", "Hostname": "<box-short>", "Other": "<id>", "Image": "<digest>",
                "Created": "<time>", "FinishedAt": "0001-01-01T00:00:00Z", "Pid": "<pid>", "Empty": [], "Null": null,
                "Status": "Up <duration>", "Mac": "<mac>", "Path": "<root>/data/y",
            })
        );
    }
}
