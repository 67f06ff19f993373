//! What the configuration says of containers that do not say themselves.
//!
//! Start reading at [`container_defaults`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use node_agent::sizes;
use serde_json::Value;
use shoal_types::container::resources::Ulimit;
use shoal_types::container::security::{CgroupMode, IpcMode, SeccompChoice};

use super::typed::features;
use super::{ConfigError, Settings};

/// Where specifications of devices are, unless it is said otherwise.
const DEFAULT_CDI_DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Names that the built-in runtime answers to.
pub(crate) const EMBEDDED_RUNTIMES: [&str; 3] = ["io.containerd.runc.v2", "runc", "shoal"];

/// What containers get that do not say otherwise.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ContainerDefaults {
    /// OCI runtimes beside the built-in one, by name.
    pub(crate) runtimes: BTreeMap<String, RuntimeProgram>,
    /// Name of the runtime of those that name none.
    pub(crate) runtime: String,
    /// Where specifications of devices by name are; empty when they are switched off.
    pub(crate) cdi_directories: Vec<PathBuf>,
    /// Log driver.
    pub(crate) log_driver: String,
    /// Options of that log driver.
    pub(crate) log_options: BTreeMap<String, String>,
    /// Limits of the process.
    pub(crate) ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm`.
    pub(crate) shm_size: u64,
    /// IPC namespace.
    pub(crate) ipc: IpcMode,
    /// Cgroup namespace; `None` is private on cgroup v2 and the host's on v1.
    pub(crate) cgroup_namespace: Option<CgroupMode>,
    /// Parent cgroup; empty is `/docker`.
    pub(crate) cgroup_parent: String,
    /// Whether an init process runs.
    pub(crate) init: bool,
    /// Init program instead of the built-in one.
    pub(crate) init_path: Option<PathBuf>,
    /// Whether set-user-id programs gain nothing.
    pub(crate) no_new_privileges: bool,
    /// System call filter.
    pub(crate) seccomp: SeccompChoice,
    /// Seconds between the stop signal and SIGKILL.
    pub(crate) stop_timeout: i64,
    /// Bytes that may be written to the root file system; `None` is any number.
    pub(crate) size: Option<u64>,
}

/// An OCI runtime that is a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuntimeProgram {
    /// Path, or name to be found in PATH.
    pub(crate) path: String,
    /// Arguments before the command.
    pub(crate) arguments: Vec<String>,
}

/// Makes sense of the settings.
pub(super) fn container_defaults(settings: &Settings) -> Result<ContainerDefaults, ConfigError> {
    let runtimes = runtimes(settings)?;
    let runtime = settings.text("default-runtime").unwrap_or_default().to_owned();
    if !EMBEDDED_RUNTIMES.contains(&runtime.as_str())
        && !runtimes.contains_key(&runtime)
        && !runtime.is_empty()
    {
        return Err(ConfigError::value(format!("specified default runtime '{runtime}' does not exist")));
    }
    Ok(ContainerDefaults {
        runtime,
        runtimes,
        cdi_directories: cdi_directories(settings)?,
        log_driver: settings.text("log-driver").unwrap_or("json-file").to_owned(),
        log_options: settings.pairs("log-opts"),
        ulimits: ulimits(settings)?,
        shm_size: settings.text("default-shm-size").map_or(Ok(64 << 20), bytes)?,
        ipc: match settings.text("default-ipc-mode") {
            None | Some("private") => IpcMode::Private,
            Some("shareable") => IpcMode::Shareable,
            Some(other) => {
                return Err(ConfigError::value(format!(
                    "invalid default-ipc-mode: {other}: must be private or shareable"
                )));
            }
        },
        cgroup_namespace: match settings.text("default-cgroupns-mode") {
            None => None,
            Some("private") => Some(CgroupMode::Private),
            Some("host") => Some(CgroupMode::Host),
            Some(other) => {
                return Err(ConfigError::value(format!(
                    "invalid default cgroup namespace mode: {other}: must be private or host"
                )));
            }
        },
        cgroup_parent: settings.text("cgroup-parent").unwrap_or_default().to_owned(),
        init: settings.bool("init").unwrap_or(false),
        init_path: settings.text("init-path").map(PathBuf::from),
        no_new_privileges: settings.bool("no-new-privileges").unwrap_or(false),
        seccomp: seccomp(settings)?,
        stop_timeout: settings.int("default-stop-timeout").unwrap_or(10),
        size: container_size(settings)?,
    })
}

/// Devices by name are on unless the feature is switched off, or directories are given that are none.
fn cdi_directories(settings: &Settings) -> Result<Vec<PathBuf>, ConfigError> {
    if features(settings)?.get("cdi") == Some(&false) {
        return Ok(Vec::new());
    }
    if settings.get("cdi-spec-dirs").is_none() {
        return Ok(DEFAULT_CDI_DIRECTORIES.map(PathBuf::from).into());
    }
    let given = settings.list("cdi-spec-dirs");
    Ok(given.into_iter().filter(|directory| !directory.is_empty()).map(PathBuf::from).collect())
}

/// How much containers may write that do not say. Keys may have any case, as in dockerd.
fn container_size(settings: &Settings) -> Result<Option<u64>, ConfigError> {
    let mut size = None;
    for option in settings.list("storage-opts") {
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| ConfigError::value(format!("Unable to parse key/value option: '{option}'")))?;
        match key.to_ascii_lowercase().as_str() {
            "overlay2.override_kernel_check" => {}
            "overlay2.size" => size = Some(bytes(value)?).filter(|size| *size > 0),
            _ => return Err(ConfigError::value(format!("overlay2: unknown option {key}"))),
        }
    }
    Ok(size)
}

fn runtimes(settings: &Settings) -> Result<BTreeMap<String, RuntimeProgram>, ConfigError> {
    let Some(runtimes) = settings.get("runtimes").and_then(Value::as_object) else {
        return Ok(BTreeMap::new());
    };
    let read_one = |(name, value): (&String, &Value)| {
        let path = value.get("path").and_then(Value::as_str).unwrap_or_default();
        let kind = value.get("runtimeType").and_then(Value::as_str).unwrap_or_default();
        if path.is_empty() || !kind.is_empty() {
            return Err(ConfigError::value(format!(
                "invalid runtime {name}: needs a path to a program with the OCI command line, and no runtimeType"
            )));
        }
        let arguments = value.get("runtimeArgs").and_then(Value::as_array);
        let arguments =
            arguments.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok((name.clone(), RuntimeProgram { path: path.to_owned(), arguments }))
    };
    runtimes.iter().map(read_one).collect()
}

fn ulimits(settings: &Settings) -> Result<Vec<Ulimit>, ConfigError> {
    let Some(ulimits) = settings.get("default-ulimits").and_then(Value::as_object) else {
        return Ok(Vec::new());
    };
    let read_one = |(name, value): (&String, &Value)| {
        let number = |key: &str| value.get(key).and_then(Value::as_i64);
        let (Some(soft), Some(hard)) = (number("Soft"), number("Hard")) else {
            return Err(ConfigError::value(format!("invalid default ulimit {name}: needs Soft and Hard")));
        };
        Ok(Ulimit { name: name.clone(), soft, hard })
    };
    ulimits.iter().map(read_one).collect()
}

fn seccomp(settings: &Settings) -> Result<SeccompChoice, ConfigError> {
    match settings.text("seccomp-profile") {
        None | Some("builtin") => Ok(SeccompChoice::Builtin),
        Some("unconfined") => Ok(SeccompChoice::Unconfined),
        Some(file) => std::fs::read_to_string(Path::new(file))
            .map(SeccompChoice::Custom)
            .map_err(|error| ConfigError::value(format!("opening seccomp profile ({file}) failed: {error}"))),
    }
}

/// Reads `64m`, `1GiB`, `4096`: binary multiples.
fn bytes(text: &str) -> Result<u64, ConfigError> {
    sizes::binary(text).ok_or_else(|| ConfigError::value(format!("invalid size: '{text}'")))
}

#[cfg(test)]
mod tests {
    use crate::config::typed::tests::config;

    #[test]
    fn options_of_the_storage_driver_are_read_or_refused() {
        let size = |option: &str| config(&["--storage-opt", option]).map(|config| config.containers.size);
        assert_eq!(size("overlay2.size=1G"), Ok(Some(1 << 30)));
        assert_eq!(size("Overlay2.Size=0"), Ok(None));
        assert_eq!(size("overlay2.override_kernel_check=true"), Ok(None));
        let refused = |option: &str| size(option).unwrap_err().to_string();
        assert_eq!(refused("overlay2.size=1x"), "invalid size: '1x'");
        assert_eq!(refused("dm.basesize=1G"), "overlay2: unknown option dm.basesize");
        assert_eq!(refused("banana"), "Unable to parse key/value option: 'banana'");
    }
}
