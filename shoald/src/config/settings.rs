//! Merges command line and file, and refuses what stands in both.
//!
//! Start reading at [`Settings::merge`]. After it every option has at most one value, whoever gave it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::options::{OPTIONS, Support};
use super::{CommandLine, ConfigError};

/// The only option that may be given in both places; the two are added.
const MAY_STAND_TWICE: &str = "runtimes";

/// The values that were set, by key (or flag, for options without a key).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, Value>,
}

impl Settings {
    /// Puts the two sources together.
    pub(super) fn merge(
        command_line: &CommandLine,
        from_file: BTreeMap<&'static str, Value>,
        path: &Path,
    ) -> Result<Self, ConfigError> {
        let flags = command_line.values();
        let conflicts: Vec<String> = from_file
            .iter()
            .filter(|(key, _)| **key != MAY_STAND_TWICE)
            .filter_map(|(key, in_file)| {
                let on_line = flags.get(key)?;
                Some(format!("{key}: (from flag: {}, from file: {})", go_value(on_line), go_value(in_file)))
            })
            .collect();
        if !conflicts.is_empty() {
            return Err(ConfigError::File {
                path: path.display().to_string(),
                reason: format!(
                    "the following directives are specified both as a flag and in the configuration file: {}",
                    conflicts.join(", ")
                ),
            });
        }
        let mut values = from_file;
        for (key, value) in flags {
            match (values.get_mut(key), value) {
                (Some(Value::Object(present)), Value::Object(added)) => present.extend(added.clone()),
                _ => {
                    values.insert(key, value.clone());
                }
            }
        }
        let settings = Self { values };
        settings.refuse_unsupported()?;
        Ok(settings)
    }

    /// These settings, with what `wanted` says about every option that may change while the daemon runs.
    pub(super) fn reloaded(&self, wanted: &Self) -> Self {
        let mut values = self.values.clone();
        for option in OPTIONS.iter().filter(|option| option.reloads) {
            match wanted.values.get(option.name()) {
                Some(value) => values.insert(option.name(), value.clone()),
                None => values.remove(option.name()),
            };
        }
        Self { values }
    }

    /// Options that were set although they mean nothing here, with the reason.
    pub(super) fn ignored(&self) -> Vec<(&'static str, &'static str)> {
        OPTIONS
            .iter()
            .filter(|option| self.is_asked_for(option.name()))
            .filter_map(|option| match option.support {
                Support::Ignored(why) => Some((option.name(), why)),
                Support::Yes | Support::Inherent(_) | Support::Refused(_) => None,
            })
            .collect()
    }

    fn refuse_unsupported(&self) -> Result<(), ConfigError> {
        for option in OPTIONS {
            if let Support::Refused(why) = option.support
                && self.is_asked_for(option.name())
            {
                return Err(ConfigError::Value(format!("option {} cannot be set: {why}", option.name())));
            }
        }
        Ok(())
    }

    /// Whether an option was set to something; `false`, `""`, 0 and empty lists ask for nothing.
    fn is_asked_for(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| match value {
            Value::Null => false,
            Value::Bool(set) => *set,
            Value::Number(number) => number.as_i64() != Some(0),
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(pairs) => !pairs.is_empty(),
        })
    }

    /// The raw value of an option.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// A boolean option.
    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_bool()
    }

    /// A text option; an empty text counts as not set.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// A whole number.
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_i64()
    }

    /// A list of texts.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let list = self.get(name).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// `key=value` pairs.
    pub(super) fn pairs(&self, name: &str) -> BTreeMap<String, String> {
        let pairs = self.get(name).and_then(Value::as_object);
        pairs
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    }
}

/// A value as Go prints it with `%v`.
fn go_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{key}:{}", go_value(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Invocation;
    use serde_json::json;
    use std::ffi::OsString;

    fn merge(arguments: &[&str], from_file: &[(&'static str, Value)]) -> Result<Settings, ConfigError> {
        let Ok(Invocation::Run(line)) =
            crate::config::read_command_line(arguments.iter().map(OsString::from))
        else {
            panic!("{arguments:?}")
        };
        Settings::merge(&line, from_file.iter().cloned().collect(), Path::new("/x.json"))
    }

    #[test]
    fn what_stands_in_both_places_is_refused_with_both_values() {
        let error = merge(
            &["-l", "debug", "-H", "unix:///tmp/y"],
            &[("log-level", json!("info")), ("hosts", json!(["unix:///tmp/x"]))],
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "unable to configure the Docker daemon with file /x.json: the following directives are specified both as a \
             flag and in the configuration file: hosts: (from flag: [unix:///tmp/y], from file: [unix:///tmp/x]), \
             log-level: (from flag: debug, from file: info)"
        );
    }

    #[test]
    fn runtimes_may_stand_in_both_places() {
        let settings =
            merge(&["--add-runtime", "a=/a"], &[("runtimes", json!({"b": {"path": "/b"}}))]).unwrap();
        assert_eq!(settings.get("runtimes"), Some(&json!({"a": {"path": "/a"}, "b": {"path": "/b"}})));
    }

    #[test]
    fn what_cannot_be_had_is_refused_unless_it_asks_for_nothing() {
        assert!(merge(&["--rootless"], &[]).unwrap_err().to_string().contains("rootless"));
        assert!(merge(&["--rootless=false"], &[("userns-remap", json!(""))]).is_ok());
    }

    #[test]
    fn what_means_nothing_here_is_reported() {
        let settings = merge(&["--live-restore", "--containerd", "/x.sock"], &[]).unwrap();
        let names: Vec<_> = settings.ignored().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["containerd"], "and what is always so is not worth a word");
    }
}
