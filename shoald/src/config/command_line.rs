//! Reads the command line by the table of options.
//!
//! Start reading at [`read`]. Nothing is interpreted beyond its kind; the meaning of values is `typed.rs`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde_json::Value;

use super::options::{self, Kind, OptionSpec};
use super::{ConfigError, file};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Invocation {
    /// Run the daemon.
    Run(CommandLine),
    /// Check the configuration.
    Validate(CommandLine),
    /// Print the version.
    Version,
    /// Print the help text.
    Help,
}

/// The flags that were given, by the name of the option's key (or flag, if it has no key), as JSON in the form that
/// the file would have.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CommandLine {
    values: BTreeMap<&'static str, Value>,
}

impl CommandLine {
    /// The values that were given.
    pub(super) fn values(&self) -> &BTreeMap<&'static str, Value> {
        &self.values
    }

    /// A text that was given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(Value::as_str)
    }
}

/// Reads arguments, without the program's name.
pub(super) fn read(arguments: impl Iterator<Item = OsString>) -> Result<Invocation, ConfigError> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut line = CommandLine::default();
    loop {
        let option = match parser.next().map_err(|error| wrong(&error))? {
            None => break,
            Some(lexopt::Arg::Long(name)) => options::by_flag(name)
                .ok_or_else(|| ConfigError::CommandLine(format!("unknown flag: --{name}")))?,
            Some(lexopt::Arg::Short('h')) => return Ok(Invocation::Help),
            Some(lexopt::Arg::Short(name)) => options::by_short(name).ok_or_else(|| {
                ConfigError::CommandLine(format!("unknown shorthand flag: '{name}' in -{name}"))
            })?,
            Some(lexopt::Arg::Value(value)) => {
                let value = value.to_string_lossy();
                return Err(ConfigError::CommandLine(format!("unknown command: shoald {value}")));
            }
        };
        let text = read_value(&mut parser, option)?;
        add(&mut line.values, option, text)?;
    }
    let is_set = |name: &str| line.values.get(name) == Some(&Value::Bool(true));
    Ok(match () {
        () if is_set("help") => Invocation::Help,
        () if is_set("version") => Invocation::Version,
        () if is_set("validate") => Invocation::Validate(line),
        () => Invocation::Run(line),
    })
}

fn wrong(error: &lexopt::Error) -> ConfigError {
    ConfigError::CommandLine(error.to_string())
}

fn read_value(parser: &mut lexopt::Parser, option: &OptionSpec) -> Result<String, ConfigError> {
    // A boolean takes a value only behind an equals sign, as Go's flags do.
    let value = match option.kind {
        Kind::Bool => parser.optional_value(),
        Kind::Text | Kind::Int | Kind::List | Kind::Pairs | Kind::Json => {
            Some(parser.value().map_err(|_| {
                ConfigError::CommandLine(format!("flag needs an argument: --{}", option.flag))
            })?)
        }
    };
    let Some(value) = value else { return Ok("true".to_owned()) };
    value
        .into_string()
        .map_err(|_| ConfigError::CommandLine(format!("argument of --{} is not UTF-8", option.flag)))
}

fn add(
    values: &mut BTreeMap<&'static str, Value>,
    option: &'static OptionSpec,
    text: String,
) -> Result<(), ConfigError> {
    let invalid = |reason: &str| {
        ConfigError::CommandLine(format!(
            "invalid argument \"{text}\" for \"--{}\" flag: {reason}",
            option.flag
        ))
    };
    let name = option.name();
    match option.kind {
        Kind::Bool => {
            let value = parse_bool(&text).ok_or_else(|| invalid("strconv.ParseBool: invalid syntax"))?;
            values.insert(name, Value::Bool(value));
        }
        Kind::Int => {
            let value: i64 = text.parse().map_err(|_| invalid("strconv.ParseInt: invalid syntax"))?;
            values.insert(name, value.into());
        }
        Kind::Text => {
            values.insert(name, Value::String(text));
        }
        Kind::List => {
            if let Value::Array(list) = values.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                list.push(Value::String(text));
            }
        }
        Kind::Pairs => {
            let (key, value) = text.split_once('=').unwrap_or((&text, ""));
            if let Value::Object(pairs) =
                values.entry(name).or_insert_with(|| Value::Object(Default::default()))
            {
                pairs.insert(key.to_owned(), Value::String(value.to_owned()));
            }
        }
        Kind::Json => {
            let given = values.remove(name);
            let value = file::from_flag(name, given, &text).map_err(|reason| invalid(&reason))?;
            values.insert(name, value);
        }
    }
    Ok(())
}

/// Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(arguments: &[&str]) -> Result<Invocation, ConfigError> {
        read(arguments.iter().map(OsString::from))
    }

    fn values(arguments: &[&str]) -> BTreeMap<&'static str, Value> {
        match run(arguments) {
            Ok(Invocation::Run(line)) => line.values,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_are_read_in_every_form_that_go_takes() {
        let line = values(&[
            "-H",
            "unix:///a",
            "--host=fd://",
            "-D",
            "--iptables=false",
            "--log-opt",
            "max-size=1m",
            "--mtu",
            "1400",
        ]);
        assert_eq!(line["hosts"], json!(["unix:///a", "fd://"]));
        assert_eq!(line["debug"], json!(true));
        assert_eq!(line["iptables"], json!(false));
        assert_eq!(line["log-opts"], json!({"max-size": "1m"}));
        assert_eq!(line["mtu"], json!(1400));
    }

    #[test]
    fn structured_flags_get_the_form_of_the_file() {
        let line = values(&[
            "--add-runtime",
            "crun=/usr/bin/crun",
            "--default-ulimit",
            "nofile=64:128",
            "--default-address-pool",
            "base=10.1.0.0/16,size=24",
            "--feature",
            "cdi=false",
            "--feature=buildkit",
            "--default-network-opt",
            "bridge=com.docker.network.driver.mtu=1400",
        ]);
        assert_eq!(line["runtimes"], json!({"crun": {"path": "/usr/bin/crun"}}));
        assert_eq!(line["default-ulimits"], json!({"nofile": {"Name": "nofile", "Soft": 64, "Hard": 128}}));
        assert_eq!(line["default-address-pools"], json!([{"base": "10.1.0.0/16", "size": 24}]));
        assert_eq!(line["features"], json!({"cdi": false, "buildkit": true}));
        assert_eq!(
            line["default-network-opts"],
            json!({"bridge": {"com.docker.network.driver.mtu": "1400"}})
        );
    }

    #[test]
    fn wrong_flags_are_named() {
        let text = |arguments: &[&str]| run(arguments).unwrap_err().to_string();
        assert_eq!(text(&["--foo"]), "unknown flag: --foo\nSee 'shoald --help'.");
        assert_eq!(text(&["--mtu"]), "flag needs an argument: --mtu\nSee 'shoald --help'.");
        assert!(text(&["--mtu", "x"]).starts_with("invalid argument \"x\" for \"--mtu\" flag"));
        assert!(text(&["--tls=maybe"]).starts_with("invalid argument \"maybe\" for \"--tls\" flag"));
        assert!(text(&["start"]).starts_with("unknown command"));
    }

    #[test]
    fn version_help_and_validate_are_told_apart() {
        assert_eq!(run(&["-v"]), Ok(Invocation::Version));
        assert_eq!(run(&["--help"]), Ok(Invocation::Help));
        assert!(matches!(run(&["--validate", "-D"]), Ok(Invocation::Validate(_))));
    }
}
