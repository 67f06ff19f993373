//! PURE. Log options: which are known, what they mean, what the shim is told.
//!
//! Start reading at [`check`] and [`describe`]. Drivers that send logs elsewhere have options of their own
//! (`super::remote`); what the shim is told of them is to keep a bounded local copy, from which they are sent and which
//! `docker logs` reads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use node_shim::protocol::{LogConfig, LogFileConfig};
use regex_lite::Regex;

use super::remote::{self, Target};
use crate::error::NodeError;

/// Docker's format, one JSON object a line, which other tools read as well.
pub(crate) const JSON_FILE: &str = "json-file";
/// Our compact format.
pub(crate) const LOCAL: &str = "local";
/// Nothing is kept.
pub(crate) const NONE: &str = "none";

/// Drivers that keep logs here, or nowhere.
const OWN_DRIVERS: [&str; 3] = [JSON_FILE, LOCAL, NONE];

/// Names of the drivers, as `docker info` lists them.
pub fn drivers() -> Vec<String> {
    let mut names: Vec<String> =
        OWN_DRIVERS.iter().chain(&remote::DRIVERS).map(|&name| name.to_owned()).collect();
    names.sort();
    names
}

/// Bounds every log unless `max-size` says otherwise (`-1` is without bound); see
/// docs/decisions/2026-11-21-bounded-logs.md.
const DEFAULT_MAX_SIZE: u64 = 20_000_000;
/// How many files there are unless `max-file` says otherwise.
const DEFAULT_MAX_FILES: u32 = 5;

/// Options that choose attributes, known to every driver that keeps anything.
const ATTRIBUTE_OPTIONS: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];
const FILE_OPTIONS: [&str; 3] = ["max-size", "max-file", "compress"];
/// How a slow driver is treated; our shim writes files and never blocks the container for long.
const MODE_OPTIONS: [&str; 2] = ["mode", "max-buffer-size"];
/// The local copy of a log that is sent elsewhere.
const CACHE_OPTIONS: [&str; 4] = ["cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];

/// What attributes and tags can be made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The container's id.
    pub(crate) id: &'a str,
    /// Its name, without slash.
    pub(crate) name: &'a str,
    /// Its image as it was asked for.
    pub(crate) image: &'a str,
    /// The image's id; empty without one.
    pub(crate) image_id: &'a str,
    /// Its labels.
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// Its environment.
    pub(crate) env: &'a [String],
}

/// Checks a driver's name and options, with Docker's words.
pub(crate) fn check(driver: &str, options: &BTreeMap<String, String>) -> Result<(), NodeError> {
    if let Some((_, reason)) = remote::REFUSED.iter().find(|(name, _)| *name == driver) {
        return Err(NodeError::not_implemented(format!("log driver '{driver}' is not supported: {reason}")));
    }
    if !OWN_DRIVERS.contains(&driver) && !remote::is_remote(driver) {
        return Err(NodeError::invalid(format!("logger: no log driver named '{driver}' is registered")));
    }
    if remote::is_remote(driver) {
        Target::parse(driver, options)?;
    }
    for (key, value) in options {
        let key = key.as_str();
        let is_known = is_common(key)
            || remote::is_remote(driver)
            || (driver != NONE && FILE_OPTIONS.contains(&key))
            || (driver == JSON_FILE && ATTRIBUTE_OPTIONS.contains(&key))
            || (driver == LOCAL && key == "tag");
        if !is_known {
            return Err(NodeError::invalid(format!("unknown log opt '{key}' for {driver} log driver")));
        }
        check_value(key, value)?;
    }
    if options.contains_key("max-buffer-size")
        && options.get("mode").map(String::as_str) != Some("non-blocking")
    {
        return Err(NodeError::invalid(
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ));
    }
    Ok(())
}

/// Whether an option is the same for every driver.
pub(super) fn is_common(key: &str) -> bool {
    MODE_OPTIONS.contains(&key) || CACHE_OPTIONS.contains(&key)
}

fn check_value(key: &str, value: &str) -> Result<(), NodeError> {
    let invalid = |what: &str| Err(NodeError::invalid(format!("invalid value for {key}: {what}")));
    match key {
        "max-size" | "cache-max-size" if value != "-1" && parse_size(value).is_none_or(|size| size == 0) => {
            invalid(&format!("invalid size: '{value}'"))
        }
        "max-buffer-size" if parse_size(value).is_none() => invalid(&format!("invalid size: '{value}'")),
        "max-file" | "cache-max-file" => match value.parse::<u32>() {
            Ok(0) => Err(NodeError::invalid(format!("{key} cannot be less than 1"))),
            Ok(_) => Ok(()),
            Err(_) => invalid(&format!("{value:?} is not a number")),
        },
        "compress" | "cache-compress" | "cache-disabled" if value.parse::<bool>().is_err() => {
            invalid(&format!("{value:?} is not a boolean"))
        }
        "mode" if !matches!(value, "" | "blocking" | "non-blocking") => {
            Err(NodeError::invalid(format!("logger: logging mode not supported: {value}")))
        }
        "labels-regex" | "env-regex" => match Regex::new(value) {
            Ok(_) => Ok(()),
            Err(error) => invalid(&error.to_string()),
        },
        _ => Ok(()),
    }
}

/// What the shim is told to do with output. Options have been checked by [`check`].
pub(crate) fn describe(
    driver: &str,
    options: &BTreeMap<String, String>,
    path: PathBuf,
    subject: Subject<'_>,
) -> LogConfig {
    let is_sent_on = remote::is_remote(driver);
    let option = |own: &str, cache: &str| options.get(if is_sent_on { cache } else { own });
    let max_size = match option("max-size", "cache-max-size").map(String::as_str) {
        Some("-1") => None,
        Some(text) => parse_size(text),
        None => Some(DEFAULT_MAX_SIZE),
    };
    let max_files =
        option("max-file", "cache-max-file").and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_MAX_FILES);
    let compress = option("compress", "cache-compress").and_then(|text| text.parse().ok());
    let file = |compress_by_default| LogFileConfig {
        path,
        max_size,
        max_files,
        compress: compress.unwrap_or(compress_by_default),
        attrs: if is_sent_on { BTreeMap::new() } else { stored_attributes(options, subject) },
    };
    match driver {
        NONE => LogConfig::None,
        LOCAL => LogConfig::Local(file(true)),
        _ if is_sent_on => LogConfig::Local(file(true)),
        _ => LogConfig::JsonFile(file(false)),
    }
}

/// Whether clients may read the log back.
pub(crate) fn is_readable(driver: &str, options: &BTreeMap<String, String>) -> bool {
    let is_disabled = options.get("cache-disabled").is_some_and(|value| value == "true");
    driver != NONE && !(is_disabled && remote::is_remote(driver))
}

/// What is repeated in every stored entry: chosen labels, chosen variables, the tag.
fn stored_attributes(options: &BTreeMap<String, String>, subject: Subject<'_>) -> BTreeMap<String, String> {
    let mut attributes = attributes(options, subject);
    if let Some(template) = options.get("tag") {
        attributes.insert("tag".to_owned(), expand_tag(template, subject));
    }
    attributes
}

/// Chosen labels and chosen variables.
pub(crate) fn attributes(
    options: &BTreeMap<String, String>,
    subject: Subject<'_>,
) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    let chosen =
        |key: &str| options.get(key).map(|list| list.split(',').collect::<Vec<_>>()).unwrap_or_default();
    let pattern = |key: &str| options.get(key).and_then(|text| Regex::new(text).ok());
    let (names, matching) = (chosen("labels"), pattern("labels-regex"));
    for (key, value) in subject.labels {
        let matches = matching.as_ref().is_some_and(|pattern| pattern.is_match(key));
        if names.contains(&key.as_str()) || matches {
            attributes.insert(key.clone(), value.clone());
        }
    }
    let (names, matching) = (chosen("env"), pattern("env-regex"));
    for (key, value) in subject.env.iter().filter_map(|variable| variable.split_once('=')) {
        let matches = matching.as_ref().is_some_and(|pattern| pattern.is_match(key));
        if names.contains(&key) || matches {
            attributes.insert(key.to_owned(), value.to_owned());
        }
    }
    attributes
}

/// Replaces the fields that Docker documents for tags; anything else in braces stays as it is.
pub(crate) fn expand_tag(template: &str, subject: Subject<'_>) -> String {
    let short = |id: &str| id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect::<String>();
    let fields = [
        ("ID", short(subject.id)),
        ("FullID", subject.id.to_owned()),
        ("Name", subject.name.to_owned()),
        ("ImageID", short(subject.image_id)),
        ("ImageFullID", subject.image_id.to_owned()),
        ("ImageName", subject.image.to_owned()),
        ("DaemonName", "docker".to_owned()),
    ];
    let mut expanded = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        expanded.push_str(before);
        let Some((field, after)) = after.split_once("}}") else {
            expanded.push_str("{{");
            rest = after;
            continue;
        };
        let name = field.trim().strip_prefix('.').unwrap_or_default();
        match fields.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => expanded.push_str(value),
            None => expanded.push_str(&format!("{{{{{field}}}}}")),
        }
        rest = after;
    }
    expanded.push_str(rest);
    expanded
}

/// Reads a size such as `10m` or `1.5GB`, in powers of ten as Docker's log options have it.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let unit = unit.trim().trim_end_matches('b').trim_end_matches('i');
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut size = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let mut place = factor;
    for digit in fraction.bytes() {
        place /= 10;
        size = size.checked_add(place.checked_mul(u64::from(digit.checked_sub(b'0')?))?)?;
    }
    Some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn described(driver: &str, pairs: &[(&str, &str)]) -> LogConfig {
        let labels = options(&[("team", "blue"), ("tier", "web"), ("x", "y")]);
        let env = ["A=1".to_owned(), "B=2".to_owned(), "C".to_owned()];
        let subject = Subject {
            id: "0123456789abcdef",
            name: "web",
            image: "nginx:1",
            image_id: "sha256:fedcba9876543210",
            labels: &labels,
            env: &env,
        };
        describe(driver, &options(pairs), PathBuf::from("/log"), subject)
    }

    #[test]
    fn sizes_are_powers_of_ten() {
        let cases = [
            ("10m", Some(10_000_000)),
            ("1.5GB", Some(1_500_000_000)),
            ("64k", Some(64_000)),
            ("7", Some(7)),
            ("1KiB", Some(1_000)),
            ("", None),
            ("m", None),
            ("1.2.3", None),
            ("10x", None),
            ("99999999999999t", None),
        ];
        for (text, size) in cases {
            assert_eq!(parse_size(text), size, "{text}");
        }
    }

    #[test]
    fn options_are_checked_by_driver() {
        let cases = [
            (JSON_FILE, vec![("max-size", "10m"), ("labels", "a"), ("tag", "x")], None),
            (LOCAL, vec![("max-size", "10m"), ("compress", "false")], None),
            (NONE, vec![], None),
            ("nope", vec![], Some("logger: no log driver named 'nope' is registered")),
            ("syslog", vec![("cache-max-size", "1m"), ("labels", "a")], None),
            ("syslog", vec![("max-size", "1m")], Some("unknown log opt 'max-size' for syslog log driver")),
            (
                "splunk",
                vec![],
                Some(
                    "log driver 'splunk' is not supported: Splunk is reached through its collector: send to it by fluentd or syslog",
                ),
            ),
            (LOCAL, vec![("labels", "a")], Some("unknown log opt 'labels' for local log driver")),
            (NONE, vec![("max-size", "1m")], Some("unknown log opt 'max-size' for none log driver")),
            (JSON_FILE, vec![("max-file", "0")], Some("max-file cannot be less than 1")),
            (JSON_FILE, vec![("max-size", "big")], Some("invalid value for max-size: invalid size: 'big'")),
            (JSON_FILE, vec![("mode", "fast")], Some("logger: logging mode not supported: fast")),
            (
                JSON_FILE,
                vec![("max-buffer-size", "1m")],
                Some("logger: max-buffer-size option is only supported with 'mode=non-blocking'"),
            ),
        ];
        for (driver, pairs, message) in cases {
            let outcome = check(driver, &options(&pairs)).map_err(|error| error.to_string());
            assert_eq!(outcome.err().as_deref(), message, "{driver} {pairs:?}");
        }
    }

    #[test]
    fn logs_are_bounded_unless_told_otherwise() {
        let LogConfig::JsonFile(file) = described(JSON_FILE, &[]) else { panic!("another driver") };
        assert_eq!((file.max_size, file.max_files, file.compress), (Some(20_000_000), 5, false));
        let LogConfig::JsonFile(file) = described(JSON_FILE, &[("max-size", "-1")]) else {
            panic!("another driver")
        };
        assert_eq!(file.max_size, None);
        assert_eq!(described(NONE, &[]), LogConfig::None);
    }

    #[test]
    fn a_log_that_is_sent_on_keeps_a_bounded_copy() {
        let pairs = [("cache-max-size", "1m"), ("cache-max-file", "2"), ("labels", "team"), ("tag", "x")];
        let LogConfig::Local(file) = described("fluentd", &pairs) else { panic!("another driver") };
        assert_eq!((file.max_size, file.max_files, file.compress), (Some(1_000_000), 2, true));
        assert!(file.attrs.is_empty());
        assert!(is_readable("fluentd", &options(&pairs)));
        assert!(!is_readable("fluentd", &options(&[("cache-disabled", "true")])));
        assert!(is_readable(JSON_FILE, &options(&[("cache-disabled", "true")])));
    }

    #[test]
    fn entries_carry_chosen_labels_variables_and_the_tag() {
        let pairs = [
            ("labels", "team,nope"),
            ("labels-regex", "^ti"),
            ("env", "B,C"),
            ("tag", "{{.ImageName}}/{{.Name}}/{{.ID}}/{{ .ImageID }}/{{.Nope}}"),
        ];
        let LogConfig::JsonFile(file) = described(JSON_FILE, &pairs) else { panic!("another driver") };
        let expected = options(&[
            ("team", "blue"),
            ("tier", "web"),
            ("B", "2"),
            ("tag", "nginx:1/web/0123456789ab/fedcba987654/{{.Nope}}"),
        ]);
        assert_eq!(file.attrs, expected);
    }
}
