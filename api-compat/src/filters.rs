//! Filters of lists and prunes: two encodings, one set of error texts.
//!
//! Start reading at [`Filters`]. What a filter means is the port's; here its text becomes typed values. Both forms are
//! read, `{"label":{"a=b":true}}` and the older `{"label":["a=b"]}`; a value given as `false` still counts.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use node_agent::api::LabelFilter;
use serde_json::Value;

use crate::error::ApiError;
use crate::extract::{Query, parse_unix_time};

/// Filters by name; each with its values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    values: BTreeMap<String, BTreeSet<String>>,
}

impl Filters {
    /// Reads the parameter `filters`, and refuses names that are not among `accepted`.
    pub(crate) fn of(query: &Query, accepted: &[&str]) -> Result<Self, ApiError> {
        let filters = Self::parse(query.text("filters"))?;
        match filters.values.keys().find(|name| !accepted.contains(&name.as_str())) {
            Some(unknown) => Err(ApiError::invalid(format!("invalid filter '{unknown}'"))),
            None => Ok(filters),
        }
    }

    /// The filters of a request that takes any, of which it heeds those that it knows.
    pub(crate) fn any(query: &Query) -> Result<Self, ApiError> {
        Self::parse(query.text("filters"))
    }

    fn parse(text: &str) -> Result<Self, ApiError> {
        let invalid = || ApiError::invalid("invalid filter");
        let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Value::Object(map) = serde_json::from_str(text).map_err(|_| invalid())? else {
            return Err(invalid());
        };
        for (name, listed) in map {
            let found = values.entry(name).or_default();
            match listed {
                Value::Object(set) if set.values().all(Value::is_boolean) => {
                    found.extend(set.into_iter().map(|(value, _)| value));
                }
                Value::Array(list) => {
                    for value in list {
                        let Value::String(value) = value else { return Err(invalid()) };
                        found.insert(value);
                    }
                }
                Value::Null => {}
                _ => return Err(invalid()),
            }
        }
        values.retain(|_, found| !found.is_empty());
        Ok(Self { values })
    }

    /// Adds a value of a filter.
    pub(crate) fn add(&mut self, name: &str, value: String) {
        self.values.entry(name.to_owned()).or_default().insert(value);
    }

    /// Whether the filter is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The values of a filter.
    pub(crate) fn get(&self, name: &str) -> Vec<String> {
        self.values.get(name).into_iter().flatten().cloned().collect()
    }

    /// The truth of a filter, if it is given. Both truths at once, and anything that is none, are errors.
    pub(crate) fn truth(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(found) = self.values.get(name) else { return Ok(None) };
        let is_true = found.contains("1") || found.contains("true");
        let is_false = found.contains("0") || found.contains("false");
        if is_true == is_false {
            return Err(invalid_value(name, found.iter()));
        }
        Ok(Some(is_true))
    }

    /// Every value of a filter, read by `read`.
    pub(crate) fn each<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ApiError> {
        let values = self.values.get(name).into_iter().flatten();
        let one = |value: &String| {
            read(value).map_err(|fault| {
                let text = format!("invalid filter '{name}={value}'");
                ApiError::invalid(if fault.is_empty() { text } else { format!("{text}: {fault}") })
            })
        };
        values.map(one).collect()
    }

    /// The filters `label` and `label!`.
    pub(crate) fn labels(&self) -> LabelFilter {
        LabelFilter { required: self.pairs("label"), excluded: self.pairs("label!") }
    }

    /// A filter whose values are keys, or keys with values.
    pub(crate) fn pairs(&self, name: &str) -> Vec<(String, Option<String>)> {
        let split = |label: &String| match label.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (label.clone(), None),
        };
        self.values.get(name).into_iter().flatten().map(split).collect()
    }

    /// The filter `until` of a list: the earliest of its times, for what is listed came before each of them.
    pub(crate) fn earliest_until(&self, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
        let values = self.values.get("until").into_iter().flatten();
        let times = values.map(|text| parse_time(text, now)).collect::<Result<Vec<_>, _>>()?;
        Ok(times.into_iter().min())
    }

    /// The filter `until` of a prune: one date, duration before now, or number of seconds.
    pub(crate) fn until(&self, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
        let Some(found) = self.values.get("until") else { return Ok(None) };
        let mut found = found.iter();
        match (found.next(), found.next()) {
            (Some(text), None) => parse_time(text, now).map(Some),
            _ => Err(ApiError::invalid("more than one until filter specified")),
        }
    }
}

fn invalid_value<'a>(name: &str, values: impl Iterator<Item = &'a String>) -> ApiError {
    let values: Vec<&str> = values.map(String::as_str).collect();
    ApiError::invalid(format!("invalid filter '{name}=[{}]'", values.join(" ")))
}

/// Reads a time as users write it: a duration before now (`24h`), a date with as many parts as they like, or seconds
/// since 1970. Dates without a zone are UTC: the daemon's own zone is nobody's business but its machine's.
fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    if let Some(duration) = parse_go_duration(text) {
        return now
            .checked_sub(duration)
            .map_err(|_| ApiError::invalid(format!("invalid filter 'until={text}'")));
    }
    match parse_date(text) {
        Some(time) => Ok(time),
        None => {
            parse_unix_time(text).map_err(|_| ApiError::invalid(format!("invalid filter 'until={text}'")))
        }
    }
}

fn parse_date(text: &str) -> Option<Timestamp> {
    const MISSING: [(usize, &str); 4] = [(10, "T00:00:00Z"), (13, ":00:00Z"), (16, ":00Z"), (19, "Z")];
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let (_, missing) = MISSING.iter().find(|(length, _)| *length == text.len())?;
    format!("{text}{missing}").parse().ok()
}

/// Reads a duration as Go writes it: `1h30m`, `90s`, `1.5h`, `-10m`.
pub(crate) fn parse_go_duration(text: &str) -> Option<SignedDuration> {
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_length = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        let nanoseconds: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || whole.len() > 18 || fraction.len() > 18 {
            return None;
        }
        let read = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
        let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        total += read(whole)? * nanoseconds + read(fraction)? * nanoseconds / scale;
        rest = after;
    }
    let total = i64::try_from(total).ok()?;
    Some(SignedDuration::from_nanos(if is_negative { -total } else { total }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 5] = ["label", "label!", "dangling", "until", "name"];

    fn read(text: &str) -> Result<Filters, ApiError> {
        let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        Filters::of(&Query::parse(&format!("filters={encoded}")), &NAMES)
    }

    #[test]
    fn both_encodings_are_read() {
        let new = read(r#"{"label":{"a=b":true,"c":false},"name":{}}"#).unwrap();
        let old = read(r#"{"label":["a=b","c"],"name":null}"#).unwrap();
        assert_eq!(new, old);
        let labels = new.labels();
        assert_eq!(labels.required, [("a".into(), Some("b".into())), ("c".into(), None)]);
        assert!(!new.has("name"));
    }

    #[test]
    fn wrong_filters_are_refused_with_dockers_texts() {
        for (text, message) in [
            ("x", "invalid filter"),
            ("[]", "invalid filter"),
            (r#"{"name":"a"}"#, "invalid filter"),
            (r#"{"name":[1]}"#, "invalid filter"),
            (r#"{"x":["y"]}"#, "invalid filter 'x'"),
        ] {
            assert_eq!(read(text).unwrap_err().message(), message, "{text}");
        }
        let truth = |text: &str| read(text).unwrap().truth("dangling");
        assert_eq!(
            truth(r#"{"dangling":["banana"]}"#).unwrap_err().message(),
            "invalid filter 'dangling=[banana]'"
        );
        assert_eq!(
            truth(r#"{"dangling":["0","1"]}"#).unwrap_err().message(),
            "invalid filter 'dangling=[0 1]'"
        );
        assert_eq!(truth(r#"{"dangling":["true"]}"#), Ok(Some(true)));
        assert_eq!(truth("{}"), Ok(None));
    }

    #[test]
    fn times_are_durations_dates_or_seconds() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let time = |text: &str| parse_time(text, now).map(|time| time.to_string());
        for (text, expected) in [
            ("24h", "2026-11-20T12:00:00Z"),
            ("1h30m", "2026-11-21T10:30:00Z"),
            ("1.5h", "2026-11-21T10:30:00Z"),
            ("2026-01-02", "2026-01-02T00:00:00Z"),
            ("2026-01-02T03:04", "2026-01-02T03:04:00Z"),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            ("0", "2026-11-21T12:00:00Z"),
            ("10.5", "1970-01-01T00:00:10.5Z"),
        ] {
            assert_eq!(time(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(time("soon").unwrap_err().message(), "invalid filter 'until=soon'");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in ".{0,60}") {
            let _ = Filters::parse(&text);
            let _ = parse_go_duration(&text);
            let _ = parse_date(&text);
        }

        #[test]
        fn no_number_makes_durations_panic(text in "[-+]?([0-9.]{1,25}(ns|us|ms|s|m|h)){1,3}") {
            let _ = parse_go_duration(&text);
        }
    }
}
