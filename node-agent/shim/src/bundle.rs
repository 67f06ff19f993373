//! The bundle directory as the shim sees it: what it reads, what it leaves behind, and who serves it.
//!
//! Start reading at [`Bundle::open`]. Names of the files are in `protocol.rs`. All paths are relative to the current
//! directory, which is the bundle: it stays reachable whatever happens to the path by which it was named.

use std::cell::OnceCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::process::{Flock, FlockOffsetType, FlockType, Pid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::ProcessError;
use crate::protocol::{
    CONFIG_FILE, ConsoleSize, EXIT_FILE, ExitRecord, INIT_PID_FILE, LAUNCH_FILE, Launch, PROTOCOL_VERSION,
    ProcessRecord, RuntimeChoice, SHIM_PID_FILE, SOCKET_FILE,
};
use crate::stdio::NullDevice;

/// What this process has to know of the OCI spec; the runtime reads the rest.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    process: Option<ProcessConfig>,
    #[serde(default)]
    linux: Option<LinuxConfig>,
}

/// The part of an OCI `process` that decides how its stdio is made.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessConfig {
    #[serde(default)]
    terminal: bool,
    #[serde(default)]
    console_size: Option<ConsoleSize>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LinuxConfig {
    #[serde(default)]
    namespaces: Vec<NamespaceConfig>,
    #[serde(default)]
    cgroups_path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct NamespaceConfig {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: Option<PathBuf>,
}

/// Whether a process has a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Console {
    /// Pipes.
    None,
    /// A pseudo-terminal, of this size if one was asked for.
    Terminal(Option<ConsoleSize>),
}

/// What dies with the init process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PidNamespace {
    /// Everything: the kernel sees to it.
    Private,
    /// Only itself: the other processes of the container have to be killed.
    Shared,
}

impl ProcessConfig {
    /// How the stdio of the process is to be made.
    pub(crate) fn console(&self) -> Console {
        if self.terminal { Console::Terminal(self.console_size) } else { Console::None }
    }
}

impl Config {
    /// How the stdio of the init process is to be made.
    pub(crate) fn console(&self) -> Console {
        self.process.as_ref().map_or(Console::None, ProcessConfig::console)
    }

    /// Whether the container has a pid namespace of its own.
    pub(crate) fn pid_namespace(&self) -> PidNamespace {
        let is_private = |namespace: &NamespaceConfig| namespace.kind == "pid" && namespace.path.is_none();
        match &self.linux {
            Some(linux) if linux.namespaces.iter().any(is_private) => PidNamespace::Private,
            Some(_) | None => PidNamespace::Shared,
        }
    }

    /// The cgroup that was asked for.
    pub(crate) fn cgroups_path(&self) -> Option<&Path> {
        self.linux.as_ref()?.cgroups_path.as_deref()
    }
}

/// A bundle that this process serves. Dropping it gives the bundle up.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Absolute, for runtimes and messages.
    pub(crate) path: PathBuf,
    pub(crate) launch: Launch,
    config: OnceCell<Config>,
    /// Locked for as long as this process lives.
    _pid_file: File,
}

impl Bundle {
    /// Enters the bundle and becomes the one that serves it.
    pub(crate) fn open(path: &Path) -> Result<Self, ProcessError> {
        enter(path)?;
        let path =
            std::env::current_dir().map_err(|source| ProcessError::step("find the bundle's path", source))?;
        let pid_file = take_bundle()?;
        // Looked at after the lock was taken: a cleanup holds the lock while it decides that the run is over.
        if Path::new(EXIT_FILE).exists() {
            return Err(ProcessError::Over);
        }
        let launch: Launch = read_json(LAUNCH_FILE)?;
        if launch.version > PROTOCOL_VERSION {
            return Err(ProcessError::Newer { found: launch.version });
        }
        Ok(Self { path, launch, config: OnceCell::new(), _pid_file: pid_file })
    }

    /// Reads the OCI spec, which the engine may write after the shim has started. Called when the container is made,
    /// again only after a failure.
    pub(crate) fn read_config(&self) -> Result<&Config, ProcessError> {
        let config = read_json(CONFIG_FILE)?;
        Ok(self.config.get_or_init(|| config))
    }

    /// What dies with the init process.
    pub(crate) fn pid_namespace(&self) -> PidNamespace {
        self.config.get().map_or(PidNamespace::Private, Config::pid_namespace)
    }

    /// Whose null device is safe with the runtime.
    pub(crate) fn null_device(&self) -> NullDevice {
        match self.launch.runtime {
            RuntimeChoice::Embedded { .. } => NullDevice::Machine,
            RuntimeChoice::CommandLine { .. } => NullDevice::Own,
        }
    }

    /// Removes what only makes sense while a shim lives, so that the directory can serve another run.
    pub(crate) fn give_up(&self) {
        for file in [SOCKET_FILE, SHIM_PID_FILE] {
            // The daemon may have removed the whole bundle already.
            let _ = fs::remove_file(file);
        }
    }
}

/// Makes the bundle the current directory.
pub(crate) fn enter(path: &Path) -> Result<(), ProcessError> {
    std::env::set_current_dir(path)
        .map_err(|source| ProcessError::step(format!("enter {}", path.display()), source))
}

/// Locks the bundle for this process and leaves its record.
///
/// The lock is one that the kernel drops when the process ends, however it ends, and that children do not inherit:
/// so the holder's pid, as the kernel tells it, is a shim that lives.
pub(crate) fn take_bundle() -> Result<File, ProcessError> {
    let failed = |source: io::Error| ProcessError::step(format!("lock {SHIM_PID_FILE}"), source);
    let file = open_pid_file().map_err(failed)?;
    if rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let pid = Pid::as_raw(holder(&file));
        return Err(ProcessError::Served { pid });
    }
    let record = serde_json::to_vec(&own_record().map_err(failed)?).unwrap_or_default();
    file.set_len(0).and_then(|()| file.write_all_at(&record, 0)).map_err(failed)?;
    Ok(file)
}

fn open_pid_file() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(SHIM_PID_FILE)
}

fn holder(file: &File) -> Option<Pid> {
    let whole_file = Flock {
        start: 0,
        length: 0,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    rustix::process::fcntl_getlk(file, &whole_file).ok().flatten()?.pid
}

/// Reads a JSON file of the bundle.
pub(crate) fn read_json<T: DeserializeOwned>(name: &str) -> Result<T, ProcessError> {
    let text = fs::read(name).map_err(|source| ProcessError::step(format!("read {name}"), source))?;
    serde_json::from_slice(&text)
        .map_err(|source| ProcessError::Malformed { path: PathBuf::from(name), source })
}

/// Reads a JSON file of the bundle that need not exist; one that cannot be understood does not count as existing.
pub(crate) fn read_json_if_any<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(name).ok()?).ok()
}

/// Writes the exit so that it is on disk when this returns.
pub(crate) fn write_exit(exit: &ExitRecord) -> Result<(), ProcessError> {
    write_json(EXIT_FILE, exit, Durability::Disk)
}

/// Writes down which process is the container's init.
pub(crate) fn write_init(record: &ProcessRecord) -> Result<(), ProcessError> {
    write_json(INIT_PID_FILE, record, Durability::Kernel)
}

/// What a file has to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The end of this process. Enough for what is known of processes, which a crash of the machine ends as well.
    Kernel,
    /// A crash of the machine.
    Disk,
}

/// Writes a file whole or not at all: a new file, renamed when it is complete.
pub(crate) fn write_json<T: Serialize>(
    name: &str,
    value: &T,
    durability: Durability,
) -> Result<(), ProcessError> {
    let text = serde_json::to_vec(value)
        .map_err(|source| ProcessError::Malformed { path: PathBuf::from(name), source })?;
    let temporary = format!("{name}.new");
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&text)?;
        match durability {
            Durability::Kernel => fs::rename(&temporary, name),
            Durability::Disk => {
                file.sync_all()?;
                fs::rename(&temporary, name)?;
                File::open(".")?.sync_all()
            }
        }
    };
    write().map_err(|source| ProcessError::step(format!("write {name}"), source))
}

fn own_record() -> io::Result<ProcessRecord> {
    record_of(rustix::process::getpid())
}

/// The record of a process that exists.
pub(crate) fn record_of(pid: Pid) -> io::Result<ProcessRecord> {
    let pid = u32::try_from(Pid::as_raw(Some(pid))).map_err(io::Error::other)?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let start_time = start_time(&stat).ok_or_else(|| io::Error::other("a stat line without a start time"))?;
    Ok(ProcessRecord { pid, start_time })
}

/// The process of a record, if it still is that process.
pub(crate) fn find_process(record: &ProcessRecord) -> Option<Pid> {
    let pid = Pid::from_raw(i32::try_from(record.pid).ok()?)?;
    (record_of(pid).ok()? == *record).then_some(pid)
}

/// The leader of a process' session, which may have ended.
pub(crate) fn session_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", Pid::as_raw(Some(pid)))).ok()?;
    field_after_name(&stat, 3)?.parse().ok().and_then(Pid::from_raw)
}

/// Field 22 of a stat line.
fn start_time(stat: &str) -> Option<u64> {
    field_after_name(stat, 19)?.parse().ok()
}

/// A field of a stat line, counted from the one behind the program's name, which stands in parentheses and may hold anything.
fn field_after_name(stat: &str, index: usize) -> Option<&str> {
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_found_behind_any_program_name() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        for name in ["(sh)", "(a b)", "(x) S 1)", "())"] {
            assert_eq!(start_time(&format!("42 {name} {fields}")), Some(777), "{name}");
        }
        assert_eq!(start_time("42 (sh"), None);
        assert_eq!(start_time("42 (sh) S 1"), None);
    }

    #[test]
    fn own_process_is_found_and_another_start_time_is_not() {
        let own = own_record().unwrap();
        assert_eq!(find_process(&own), Some(rustix::process::getpid()));
        assert_eq!(find_process(&ProcessRecord { start_time: own.start_time + 1, ..own }), None);
    }

    #[test]
    fn only_a_pid_namespace_without_a_path_is_private() {
        let config = |namespaces: &str| -> Config {
            serde_json::from_str(&format!(r#"{{"linux":{{"namespaces":[{namespaces}]}}}}"#)).unwrap()
        };
        assert_eq!(config(r#"{"type":"mount"},{"type":"pid"}"#).pid_namespace(), PidNamespace::Private);
        assert_eq!(config(r#"{"type":"pid","path":"/proc/1/ns/pid"}"#).pid_namespace(), PidNamespace::Shared);
        assert_eq!(config(r#"{"type":"mount"}"#).pid_namespace(), PidNamespace::Shared);
    }
}
