//! Dockerfile instructions that change an image's configuration, as `commit --change` and `import --change` take them.
//!
//! Start reading at [`apply`]. Pure. Builds have a parser of their own; this one knows ten instructions and no files.

mod words;

use std::collections::BTreeMap;

use shoal_types::container::networking::PortSpec;

use self::words::{expand, split};
use crate::api::images::{EmptyObject, ImageHealthcheck, ImageRunConfig};
use crate::error::NodeError;

/// The shell of commands that are given as a line.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];
const NANOS_PER_MILLISECOND: i64 = 1_000_000;

/// Applies instructions in order. Each may hold several lines.
pub(super) fn apply(mut config: ImageRunConfig, changes: &[String]) -> Result<ImageRunConfig, NodeError> {
    let mut state = State::default();
    for line in lines(&changes.join("\n")) {
        let (name, rest) = line.split_once([' ', '\t']).unwrap_or((&line, ""));
        state.apply_one(&mut config, name, rest.trim()).map_err(NodeError::invalid)?;
    }
    Ok(config)
}

/// Logical lines: joined at a backslash, without comments and empty ones.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for part in text.lines() {
        let part = if line.is_empty() { part.trim_start() } else { part };
        if part.trim_start().starts_with('#') || (line.is_empty() && part.is_empty()) {
            continue;
        }
        match part.trim_end().strip_suffix('\\') {
            Some(part) => line.push_str(part),
            None => {
                line.push_str(part);
                lines.push(std::mem::take(&mut line).trim_end().to_owned());
            }
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[derive(Default)]
struct State {
    /// Whether one of the instructions gave a command, which a later entrypoint then keeps.
    has_command: bool,
}

impl State {
    fn apply_one(&mut self, config: &mut ImageRunConfig, name: &str, rest: &str) -> Result<(), String> {
        let upper = name.to_ascii_uppercase();
        let environment = config.env.clone().unwrap_or_default();
        let lookup = |key: &str| {
            environment
                .iter()
                .filter_map(|pair| pair.split_once('='))
                .find(|(known, _)| *known == key)
                .map(|(_, value)| value)
        };
        let word = |word: &str| expand(word, &lookup).map_err(|error| error.to_string());
        let words = || split(rest).iter().map(|text| word(text)).collect::<Result<Vec<_>, _>>();
        match upper.as_str() {
            "CMD" => {
                let command = command(config, rest);
                self.has_command |= !command.is_empty();
                config.cmd = Some(command);
            }
            "ENTRYPOINT" => {
                config.entrypoint = Some(command(config, rest));
                if !self.has_command {
                    config.cmd = None;
                }
            }
            "ENV" => {
                for (key, value) in pairs(&upper, rest, &word)? {
                    set_env(config.env.get_or_insert_default(), &key, &value);
                }
            }
            "LABEL" => config.labels.get_or_insert_default().extend(pairs(&upper, rest, &word)?),
            "EXPOSE" => {
                need_some(&upper, rest)?;
                for port in words()? {
                    expose(config.exposed_ports.get_or_insert_default(), &port)?;
                }
            }
            "VOLUME" => {
                need_some(&upper, rest)?;
                let paths = match json_list(rest) {
                    Some(paths) => paths.iter().map(|text| word(text)).collect::<Result<_, _>>()?,
                    None => words()?,
                };
                for path in paths {
                    if path.is_empty() {
                        return Err("VOLUME specified can not be an empty string".to_owned());
                    }
                    config.volumes.get_or_insert_default().insert(path, EmptyObject {});
                }
            }
            "USER" => config.user = word(need_one(&upper, rest)?)?,
            "WORKDIR" => config.working_dir = join(&config.working_dir, &word(need_one(&upper, rest)?)?)?,
            "STOPSIGNAL" => config.stop_signal = stop_signal(&word(need_one(&upper, rest)?)?)?,
            "ONBUILD" => {
                let trigger = trigger(rest)?;
                config.on_build.get_or_insert_default().push(trigger);
            }
            "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
            _ => return Err(format!("{name} is not a valid change command")),
        }
        Ok(())
    }
}

fn need_some<'a>(name: &str, rest: &'a str) -> Result<&'a str, String> {
    if rest.is_empty() { Err(format!("{name} requires at least one argument")) } else { Ok(rest) }
}

fn need_one<'a>(name: &str, rest: &'a str) -> Result<&'a str, String> {
    if rest.is_empty() { Err(format!("{name} requires exactly one argument")) } else { Ok(rest) }
}

fn json_list(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

/// The exec form as it is, the shell form behind the shell.
fn command(config: &ImageRunConfig, rest: &str) -> Vec<String> {
    if rest.is_empty() {
        return Vec::new();
    }
    json_list(rest).unwrap_or_else(|| {
        let shell = config.shell.clone().filter(|shell| !shell.is_empty());
        let mut command = shell.unwrap_or_else(|| DEFAULT_SHELL.map(str::to_owned).to_vec());
        command.push(rest.to_owned());
        command
    })
}

/// `key=value …`, or one key and the rest of the line.
fn pairs(
    name: &str,
    rest: &str,
    word: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Vec<(String, String)>, String> {
    need_some(name, rest)?;
    let words = split(rest);
    let first = words.first().map(String::as_str).unwrap_or_default();
    if !first.contains('=') {
        let (key, value) =
            rest.split_once([' ', '\t']).ok_or_else(|| format!("{name} must have two arguments"))?;
        return Ok(vec![(word(key)?, word(value.trim_start())?)]);
    }
    let mut pairs = Vec::new();
    for text in &words {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            format!("Syntax error - can't find = in {text:?}. Must be of the form: name=value")
        })?;
        if key.is_empty() {
            return Err(format!("{name} names can not be blank"));
        }
        pairs.push((word(key)?, word(value)?));
    }
    Ok(pairs)
}

fn set_env(env: &mut Vec<String>, key: &str, value: &str) {
    let pair = format!("{key}={value}");
    match env.iter_mut().find(|known| known.split('=').next() == Some(key)) {
        Some(known) => *known = pair,
        None => env.push(pair),
    }
}

/// One port, `8000-8010`, either with a protocol. Ports of the host are taken off, as in Docker.
fn expose(ports: &mut BTreeMap<String, EmptyObject>, text: &str) -> Result<(), String> {
    let wrong = || format!("invalid containerPort: {text}");
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let range = range.rsplit(':').next().unwrap_or(range);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => (first, last),
        _ => return Err(wrong()),
    };
    for port in first..=last {
        let port: PortSpec = format!("{port}/{protocol}").parse().map_err(|_| wrong())?;
        ports.insert(port.to_string(), EmptyObject {});
    }
    Ok(())
}

/// A path, relative to the one before.
fn join(before: &str, path: &str) -> Result<String, String> {
    if path.is_empty() {
        return Err("cannot normalize nothing".to_owned());
    }
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{before}/{path}") };
    let mut names: Vec<&str> = Vec::new();
    for name in whole.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    Ok(format!("/{}", names.join("/")))
}

fn stop_signal(text: &str) -> Result<String, String> {
    const NAMES: [&str; 32] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH",
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let is_number = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    let is_other = matches!(name, "XCPU" | "XFSZ" | "RTMIN" | "RTMAX")
        || name.starts_with("RTMIN+")
        || name.starts_with("RTMAX-");
    if is_number || NAMES.contains(&name) || is_other {
        Ok(text.to_owned())
    } else {
        Err(format!("invalid signal: {text}"))
    }
}

fn trigger(rest: &str) -> Result<String, String> {
    need_some("ONBUILD", rest)?;
    let name = rest.split([' ', '\t']).next().unwrap_or_default().to_ascii_uppercase();
    match name.as_str() {
        "ONBUILD" => Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned()),
        "MAINTAINER" | "FROM" => Err(format!("{name} isn't allowed as an ONBUILD trigger")),
        _ => Ok(rest.to_owned()),
    }
}

fn healthcheck(rest: &str) -> Result<ImageHealthcheck, String> {
    let mut check = ImageHealthcheck::default();
    let mut rest = need_some("HEALTHCHECK", rest)?;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once([' ', '\t']).unwrap_or((flag, ""));
        let (name, value) =
            flag.split_once('=').ok_or_else(|| format!("missing a value on flag: {name}", name = flag))?;
        match name {
            "interval" => check.interval = duration(name, value)?,
            "timeout" => check.timeout = duration(name, value)?,
            "start-period" => check.start_period = duration(name, value)?,
            "start-interval" => check.start_interval = duration(name, value)?,
            "retries" => {
                let retries: i64 =
                    value.parse().map_err(|_| format!("invalid value for --retries: {value}"))?;
                if retries < 0 {
                    return Err(format!("--retries cannot be negative ({retries})"));
                }
                check.retries = retries;
            }
            _ => return Err(format!("unknown flag: --{name}")),
        }
        rest = after.trim_start();
    }
    let (kind, arguments) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if arguments.trim().is_empty() => {
            if check != ImageHealthcheck::default() {
                return Err("HEALTHCHECK NONE takes no arguments".to_owned());
            }
            check.test = vec!["NONE".to_owned()];
        }
        "NONE" => return Err("HEALTHCHECK NONE takes no arguments".to_owned()),
        "CMD" => {
            let arguments = need_some("HEALTHCHECK CMD", arguments.trim())
                .map_err(|_| "missing command after HEALTHCHECK CMD".to_owned())?;
            check.test = match json_list(arguments) {
                Some(list) => std::iter::once("CMD".to_owned()).chain(list).collect(),
                None => vec!["CMD-SHELL".to_owned(), arguments.to_owned()],
            };
        }
        "" => return Err("HEALTHCHECK requires at least one argument".to_owned()),
        _ => return Err(format!("unknown type {kind:?} in HEALTHCHECK (try CMD)")),
    }
    Ok(check)
}

/// A duration in Go's notation, in nanoseconds; below a millisecond only zero.
fn duration(name: &str, text: &str) -> Result<i64, String> {
    let wrong = || format!("time: invalid duration {text:?}");
    let mut rest = text;
    let mut total = 0f64;
    if text.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() && text != "0" {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let value: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_len =
            rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len() - digits);
        let unit = match &rest[digits..digits + unit_len] {
            "ns" => 1f64,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(wrong()),
        };
        total += value * unit;
        rest = &rest[digits + unit_len..];
    }
    // About 292 years, as in Go.
    if total > 9.2e18 {
        return Err(wrong());
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked above")]
    let nanoseconds = total as i64;
    if nanoseconds != 0 && nanoseconds < NANOS_PER_MILLISECOND {
        return Err(format!("interval {name:?} cannot be less than 1ms"));
    }
    Ok(nanoseconds)
}

#[cfg(test)]
mod tests;
