//! The state of containers made by the command line, one directory each below `--root`.
//!
//! ```text
//! <root>/<id>/state.json   the container's record, written once the container waits at its gate
//! <root>/<id>/config.json  the configuration as it was at create: later changes of the bundle change nothing
//! <root>/<id>/gate.sock    where `start` knocks; gone once the container has been started
//! ```
//! The directory is made first and removed last, so that it reserves the name and a crash leaves something to delete.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::container::{Container, ContainerRecord};
use crate::error::{Context, Result, RuntimeError};

/// The directory of all containers.
#[derive(Debug, Clone)]
pub(super) struct Store {
    root: PathBuf,
}

/// What is written down about a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) record: ContainerRecord,
    /// RFC 3339.
    pub(super) created: String,
}

/// A container's status in the words of the runtime spec, and what is left of it.
pub(super) enum Found {
    /// Made, waiting at its gate.
    Created(Container),
    Running(Container),
    Paused(Container),
    Stopped,
}

impl Found {
    pub(super) fn status(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
            Self::Stopped => "stopped",
        }
    }

    /// Gives the container if its process is alive.
    pub(super) fn alive(self, operation: &'static str) -> Result<Container> {
        match self {
            Self::Created(container) | Self::Running(container) | Self::Paused(container) => Ok(container),
            Self::Stopped => Err(RuntimeError::WrongState { operation, status: "stopped" }),
        }
    }
}

impl Store {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn directory(&self, id: &str) -> Result<PathBuf> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_+-.".contains(letter);
        if id.is_empty() || id == "." || id == ".." || !id.chars().all(is_plain) {
            return Err(RuntimeError::InvalidSpec(format!("invalid id format: {id:?}")));
        }
        Ok(self.root.join(id))
    }

    /// Takes the name; an error when it is taken already.
    pub(super) fn reserve(&self, id: &str) -> Result<()> {
        let directory = self.directory(id)?;
        fs::create_dir_all(&self.root).step(|| format!("create {}", self.root.display()))?;
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(RuntimeError::AlreadyExists { id: id.to_owned() })
            }
            other => other.step(|| format!("create {}", directory.display())),
        }
    }

    pub(super) fn gate(&self, id: &str) -> Result<PathBuf> {
        Ok(self.directory(id)?.join("gate.sock"))
    }

    /// Writes a container down.
    pub(super) fn write(&self, entry: &Entry, spec: &Spec) -> Result<()> {
        let directory = self.directory(&entry.record.id)?;
        let spec = serde_json::to_vec(spec).map_err(io::Error::from).step(|| "encode the configuration")?;
        let entry = serde_json::to_vec(entry).map_err(io::Error::from).step(|| "encode the state")?;
        replace(&directory.join("config.json"), &spec)?;
        replace(&directory.join("state.json"), &entry)
    }

    /// Reads a container; `None` in place of the entry when its creation was never finished.
    pub(super) fn read(&self, id: &str) -> Result<Option<Entry>> {
        let directory = self.directory(id)?;
        if !directory.is_dir() {
            return Err(RuntimeError::NoSuchContainer { id: id.to_owned() });
        }
        match fs::read(directory.join("state.json")) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(io::Error::from)
                .step(|| format!("understand the state of {id}")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RuntimeError::step(format!("read the state of {id}"), error)),
        }
    }

    /// Reads a finished container.
    pub(super) fn entry(&self, id: &str) -> Result<Entry> {
        self.read(id)?.ok_or(RuntimeError::WrongState { operation: "use", status: "creating" })
    }

    pub(super) fn spec(&self, id: &str) -> Result<Spec> {
        read_spec(&self.directory(id)?.join("config.json"))
    }

    /// Looks what is left of a container.
    pub(super) fn find(&self, record: &ContainerRecord) -> Result<Found> {
        let Some(container) = Container::from_record(record.clone())? else { return Ok(Found::Stopped) };
        if self.gate(&record.id)?.exists() {
            return Ok(Found::Created(container));
        }
        Ok(if container.cgroup().is_frozen().unwrap_or(false) {
            Found::Paused(container)
        } else {
            Found::Running(container)
        })
    }

    /// Forgets a container; repeatable.
    pub(super) fn forget(&self, id: &str) -> Result<()> {
        let directory = self.directory(id)?;
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.step(|| format!("remove {}", directory.display())),
        }
    }

    /// Lists the names in order.
    pub(super) fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.step(|| format!("list {}", self.root.display()))?,
        };
        let mut ids: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

/// Reads a configuration.
pub(super) fn read_spec(path: &Path) -> Result<Spec> {
    let text = fs::read(path).step(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text)
        .map_err(|error| RuntimeError::InvalidSpec(format!("{}: {error}", path.display())))
}

fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, content).step(|| format!("write {}", temporary.display()))?;
    fs::rename(&temporary, path).step(|| format!("write {}", path.display()))
}

/// Writes a pid file, whole or not at all.
pub(super) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = path.with_file_name(format!(".{name}.new"));
    fs::write(&temporary, pid.to_string()).step(|| format!("write {}", temporary.display()))?;
    fs::rename(&temporary, path).step(|| format!("write {}", path.display()))
}
