//! What is tried with input from nowhere: the configuration file and the command line.
//!
//! Start reading at [`daemon_json`]. The bodies are run by the tests with changed seeds, and by libFuzzer
//! (integration-cli/fuzz/libfuzzer), which compiles these modules into programs of its own, because no program can be linked;
//! each panics when something is wrong.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{CommandLine, Config, ConfigError, Invocation, Settings, file, read_command_line};

/// Files to begin with for [`daemon_json`].
pub(crate) const FILES: &[&[u8]] = &[
    br#"{"debug":true,"hosts":["unix:///run/a.sock","tcp://[::1]:2376"],"tlsverify":true,"log-driver":"local","log-opts":{"max-size":"1m"},"mtu":1400,"proxies":{"http-proxy":"http://p:1"}}"#,
    br#"{"default-address-pools":[{"base":"10.0.0.0/8","size":24}],"default-ulimits":{"nofile":{"Name":"nofile","Soft":1,"Hard":2}},"runtimes":{"r":{"path":"/r","runtimeArgs":["a"]}},"insecure-registries":["10.0.0.0/8","a:5000"],"registry-mirrors":["https://m"],"bip":"172.18.0.1/16","dns":["1.1.1.1"],"shutdown-timeout":-1,"features":{"a":true}}"#,
    br#"{"storage-driver":"overlay2","storage-opts":["overlay2.size=1g"],"exec-opts":["native.cgroupdriver=cgroupfs"],"default-shm-size":"64M","max-concurrent-downloads":3,"labels":["a=b"],"live-restore":true,"ip":"::","fixed-cidr-v6":"fd00::/64","builder":{"gc":{"enabled":true}}}"#,
    br#"{"node-generic-resources":["gpu=a","ram=5"],"swarm-default-advertise-addr":"eth0","default-network-opts":{"bridge":{"a":"b"}},"min-api-version":"1.41","seccomp-profile":"unconfined","default-ipc-mode":"shareable","userns-remap":"default","log-level":"warn"}"#,
];

/// A file is refused in words or becomes a configuration. What was read of it can be written and is read again as the same, and
/// to reload it twice is to reload it once.
pub(crate) fn daemon_json(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let values = match file::parse(&text) {
        Ok(values) => values,
        Err(reason) => return assert!(!reason.is_empty()),
    };
    if !values.values().any(has_fraction) {
        let written = serde_json::to_string(&values).unwrap_or_default();
        assert_eq!(file::parse(&written).as_ref(), Ok(&values), "{written}");
    }
    let Some(made) = configured(&CommandLine::default(), values) else { return };
    let Some(before) = configured(&CommandLine::default(), BTreeMap::new()) else { return };
    if let Ok(once) = before.reloaded(&made) {
        assert_eq!(once.reloaded(&made).as_ref(), Ok(&once));
    }
}

/// Lines to begin with for [`command_lines`]: a word to each.
pub(crate) const LINES: &[&[u8]] = &[
    b"-D\n-H\nfd://\n--log-opt\nmax-size=1m\n--default-ulimit=nofile=1:2",
    b"--default-address-pool\nbase=10.0.0.0/8,size=24\n--add-runtime\na=/b\n--validate\n--config-file=/x",
    b"--label=a=b\n--feature=x=false\n--default-network-opt=bridge=a=b\n--mtu\n-5\n--icc=false\n-l\ndebug",
];

/// A command line is refused in words or becomes a configuration.
pub(crate) fn command_lines(input: &[u8]) {
    let words = input.split(|byte| *byte == b'\n').map(|word| OsString::from_vec(word.to_vec()));
    match read_command_line(words) {
        Ok(Invocation::Run(line) | Invocation::Validate(line)) => {
            configured(&line, BTreeMap::new());
        }
        Ok(Invocation::Version | Invocation::Help) => {}
        Err(error) => assert_told(&error),
    }
}

/// The configuration that is made of a line and a file, unless they are refused.
fn configured(line: &CommandLine, mut values: BTreeMap<&'static str, Value>) -> Option<Config> {
    const PROFILE: &str = "seccomp-profile";
    // The only key that makes the daemon open what it names: the machine's files are no input.
    if line.text(PROFILE).or_else(|| values.get(PROFILE)?.as_str()).is_some_and(|name| name.contains('/')) {
        if line.text(PROFILE).is_some() {
            return None;
        }
        values.remove(PROFILE);
    }
    let path = PathBuf::from("/etc/shoal/daemon.json");
    match Settings::merge(line, values, Path::new(&path))
        .and_then(|settings| Config::from_settings(&settings, path))
    {
        Ok(config) => Some(config),
        Err(error) => {
            assert_told(&error);
            None
        }
    }
}

fn assert_told(error: &ConfigError) {
    assert!(!error.to_string().trim().is_empty());
}

/// Whether a number is in it that JSON's readers may round.
fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(list) => list.iter().any(has_fraction),
        Value::Object(pairs) => pairs.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
fuzz_harness::explored! {
    files_are_taken_or_refused: daemon_json(FILES);
    command_lines_are_taken_or_refused: command_lines(LINES);
}
