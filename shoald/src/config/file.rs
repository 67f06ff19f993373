//! Reads the configuration file, and gives structured flags the form that they have there.
//!
//! Start reading at [`read`]. Keys and types are checked by the table of options; what values mean is `typed.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::ConfigError;
use super::options::{self, Kind};

/// Keys whose object holds further options instead of being a value.
const GROUPS: &[&str] = &["proxies"];

/// Reads a file. A file that does not exist is an empty one unless it was asked for.
pub(super) fn read(path: &Path, is_required: bool) -> Result<BTreeMap<&'static str, Value>, ConfigError> {
    let wrong = |reason: String| ConfigError::File { path: path.display().to_string(), reason };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_required => {
            return Ok(BTreeMap::new());
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(wrong(format!("open {}: no such file or directory", path.display())));
        }
        Err(error) => return Err(wrong(format!("open {}: {error}", path.display()))),
    };
    parse(&text).map_err(wrong)
}

/// Understands the text of a file. PURE.
pub(super) fn parse(text: &str) -> Result<BTreeMap<&'static str, Value>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    let Value::Object(object) = serde_json::from_str::<Value>(text).map_err(|error| syntax_error(&error))?
    else {
        return Err("json: cannot unmarshal value into Go value of type config.Config".to_owned());
    };
    let mut flat = Map::new();
    for (key, value) in object {
        match value {
            Value::Object(group) if GROUPS.contains(&key.as_str()) => flat.extend(group),
            other => {
                flat.insert(key, other);
            }
        }
    }
    let unknown: Vec<&str> =
        flat.keys().map(String::as_str).filter(|key| options::by_key(key).is_none()).collect();
    if !unknown.is_empty() {
        return Err(format!(
            "the following directives don't match any configuration option: {}",
            unknown.join(", ")
        ));
    }
    let mut values = BTreeMap::new();
    for (key, value) in flat {
        let Some(option) = options::by_key(&key) else { continue };
        if value.is_null() {
            continue;
        }
        check_type(&key, option.kind, &value)?;
        values.insert(option.key, value);
    }
    Ok(values)
}

fn syntax_error(error: &serde_json::Error) -> String {
    if error.is_eof() { "unexpected EOF".to_owned() } else { format!("invalid JSON: {error}") }
}

fn check_type(key: &str, kind: Kind, value: &Value) -> Result<(), String> {
    let (fits, expected) = match kind {
        Kind::Bool => (value.is_boolean(), "bool"),
        Kind::Text => (value.is_string(), "string"),
        Kind::Int => (value.is_i64(), "int"),
        Kind::List => (value.as_array().is_some_and(|list| list.iter().all(Value::is_string)), "[]string"),
        Kind::Pairs => {
            (value.as_object().is_some_and(|pairs| pairs.values().all(Value::is_string)), "map[string]string")
        }
        Kind::Json => return Ok(()),
    };
    if fits {
        return Ok(());
    }
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Err(format!("json: cannot unmarshal {found} into Go struct field Config.{key} of type {expected}"))
}

/// Adds one flag to the value that its option has so far, in the form of the file. PURE.
pub(super) fn from_flag(key: &str, given: Option<Value>, text: &str) -> Result<Value, String> {
    let mut value =
        given.unwrap_or_else(|| if key == "default-address-pools" { json!([]) } else { json!({}) });
    match (key, &mut value) {
        ("runtimes", Value::Object(runtimes)) => {
            let (name, path) = text
                .split_once('=')
                .filter(|(name, path)| !name.trim().is_empty() && !path.trim().is_empty())
                .ok_or("runtime must be of the form name=path")?;
            runtimes.insert(name.trim().to_lowercase(), json!({ "path": path.trim() }));
        }
        ("default-ulimits", Value::Object(ulimits)) => {
            let (name, limits) =
                text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
            let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
            let number = |text: &str| text.parse::<i64>().map_err(|error| error.to_string());
            ulimits
                .insert(name.to_owned(), json!({"Name": name, "Soft": number(soft)?, "Hard": number(hard)?}));
        }
        ("default-address-pools", Value::Array(pools)) => {
            let field = |name: &str| {
                text.split(',')
                    .find_map(|part| part.split_once('=').filter(|(key, _)| *key == name))
                    .map(|(_, v)| v)
            };
            let base = field("base").ok_or("missing base")?;
            let size: u8 = field("size").ok_or("missing size")?.parse().map_err(|_| "invalid size value")?;
            pools.push(json!({"base": base, "size": size}));
        }
        ("features", Value::Object(features)) => {
            let (name, enabled) = text.split_once('=').unwrap_or((text, "true"));
            let enabled: bool = enabled
                .to_lowercase()
                .parse()
                .map_err(|_| format!("invalid boolean value for feature {name}"))?;
            features.insert(name.to_owned(), json!(enabled));
        }
        ("default-network-opts", Value::Object(drivers)) => {
            let (driver, option) = text.split_once('=').ok_or("must be of the form driver=option=value")?;
            let (name, option_value) =
                option.split_once('=').ok_or("must be of the form driver=option=value")?;
            let options = drivers.entry(driver.to_owned()).or_insert_with(|| json!({}));
            if let Value::Object(options) = options {
                options.insert(name.to_owned(), json!(option_value));
            }
        }
        (_, Value::Object(pairs)) => {
            let (name, pair_value) = text.split_once('=').unwrap_or((text, ""));
            pairs.insert(name.to_owned(), json!(pair_value));
        }
        _ => return Err("conflicts with an earlier value".to_owned()),
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_all_named_in_order() {
        assert_eq!(
            parse(r#"{"foo":1,"debug":true,"bar":2}"#).unwrap_err(),
            "the following directives don't match any configuration option: bar, foo"
        );
    }

    #[test]
    fn wrong_types_are_named_as_go_does() {
        assert_eq!(
            parse(r#"{"debug":"banana"}"#).unwrap_err(),
            "json: cannot unmarshal string into Go struct field Config.debug of type bool"
        );
        assert!(parse(r#"{"hosts":"x"}"#).unwrap_err().ends_with("Config.hosts of type []string"));
        assert_eq!(parse(r#"{"log-level":"#).unwrap_err(), "unexpected EOF");
    }

    #[test]
    fn a_byte_order_mark_and_proxies_in_a_group_are_understood() {
        let values = parse("\u{feff}{\"proxies\":{\"http-proxy\":\"http://p:1\"},\"mtu\":1400}").unwrap();
        assert_eq!(values["http-proxy"], json!("http://p:1"));
        assert_eq!(values["mtu"], json!(1400));
    }

    #[test]
    fn an_empty_file_sets_nothing_and_a_missing_one_only_counts_when_asked_for() {
        assert!(parse(" \n").unwrap().is_empty());
        let missing = Path::new("/nonexistent/daemon.json");
        assert!(read(missing, false).unwrap().is_empty());
        assert_eq!(
            read(missing, true).unwrap_err().to_string(),
            "unable to configure the Docker daemon with file /nonexistent/daemon.json: open /nonexistent/daemon.json: no such file or directory"
        );
    }
}
