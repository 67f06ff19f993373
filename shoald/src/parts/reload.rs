//! What a reload of the configuration tells the world.
//!
//! Start reading at [`attributes`]. Names and forms are dockerd's: lists are JSON, switches `true` or `false`.

use std::collections::BTreeMap;

use crate::config::Config;

/// The settings that a reload may change, as attributes of the `reload` event. PURE but for the host's name.
pub(crate) fn attributes(config: &Config) -> BTreeMap<String, String> {
    let containers = &config.containers;
    let registries = &config.registries;
    let runtimes: Vec<String> =
        containers.runtimes.iter().map(|(name, program)| format!("{name}:{}", program.path)).collect();
    let features: Vec<String> = config.features.iter().map(|(name, on)| format!("{name}:{on}")).collect();
    let cgroup_namespace = match containers.cgroup_namespace {
        Some(mode) => format!("{mode:?}").to_lowercase(),
        None => String::new(),
    };
    let default_runtime = match containers.runtime.as_str() {
        "" => "runc",
        name => name,
    };
    [
        ("name", rustix::system::uname().nodename().to_string_lossy().into_owned()),
        ("debug", config.debug.to_string()),
        ("labels", json(&config.labels)),
        ("authorization-plugins", json(&config.authorization_plugins)),
        ("insecure-registries", json(&registries.insecure)),
        ("registry-mirrors", json(&registries.mirrors)),
        ("max-concurrent-downloads", registries.concurrent_downloads.to_string()),
        ("max-concurrent-uploads", registries.concurrent_uploads.to_string()),
        ("max-download-attempts", registries.download_attempts.to_string()),
        ("shutdown-timeout", config.shutdown_timeout.to_string()),
        ("default-runtime", default_runtime.to_owned()),
        ("runtimes", runtimes.join(" ")),
        ("default-shm-size", containers.shm_size.to_string()),
        ("default-ipc-mode", format!("{:?}", containers.ipc).to_lowercase()),
        ("default-cgroupns-mode", cgroup_namespace),
        ("default-stop-timeout", containers.stop_timeout.to_string()),
        ("features", format!("map[{}]", features.join(" "))),
        // Containers always survive the daemon.
        ("live-restore", "true".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn json(texts: &[String]) -> String {
    serde_json::Value::from(texts).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_json_and_what_is_not_set_has_its_default() {
        let line = ["--label", "a=b", "--registry-mirror", "http://m.test", "--feature", "x=false"];
        let line = line.iter().chain(&["--config-file", "/dev/null"]).map(std::ffi::OsString::from);
        let Ok(crate::config::Invocation::Run(line)) = crate::config::read_command_line(line) else {
            panic!("a command line")
        };
        let attributes = attributes(&crate::config::load(&line).unwrap());
        let shown = |name: &str| attributes[name].as_str();
        assert_eq!(shown("labels"), "[\"a=b\"]");
        assert_eq!(shown("insecure-registries"), "[]");
        assert_eq!(shown("registry-mirrors"), "[\"http://m.test\"]");
        assert_eq!(shown("features"), "map[x:false]");
        assert_eq!((shown("debug"), shown("default-runtime")), ("false", "runc"));
        assert_eq!((shown("default-ipc-mode"), shown("default-cgroupns-mode")), ("private", ""));
    }
}
