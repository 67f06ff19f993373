//! Cgroups of containers on v1, v2 and hybrid hosts: paths, limits, freezing, readings, OOM events, removal.
//!
//! Start reading at [`Cgroup`]. One value stands for the container's directory in every hierarchy; it keeps no
//! descriptors and can be written down. On hybrid hosts the v1 controllers carry the limits, and the v2 directory
//! beside them serves what v1 cannot do well: starting a process inside, and killing all of them at once.
//!
//! Not here: systemd's slices and scopes. Names are cgroupfs paths.

mod bpf;
mod counters;
mod devices;
mod files;
mod freezer;
pub(crate) mod hierarchy;
mod oom;
pub mod readings;
mod table;
mod v1;
mod v2;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

pub use counters::Counters;
pub use oom::OomEvents;
pub use readings::Readings;
pub use table::CounterTable;

use crate::error::{Context, Result, RuntimeError, Warning};
use crate::paths::clean_absolute;
use crate::sys;
use hierarchy::{Hierarchies, Hierarchy};

/// The cgroup of one container, in all hierarchies of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// The name as it was asked for.
    path: PathBuf,
    /// The directory in the v2 hierarchy.
    unified: Option<Directory>,
    /// The directories in the v1 hierarchies.
    legacy: Vec<Directory>,
}

/// A cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Directory {
    /// Where the hierarchy is mounted.
    pub(crate) mount: PathBuf,
    /// The cgroup's path below the mount, without a leading slash.
    pub(crate) below: PathBuf,
    /// The hierarchy's controllers.
    pub(crate) controllers: Vec<String>,
}

impl Directory {
    pub(crate) fn path(&self) -> PathBuf {
        self.mount.join(&self.below)
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|own| own == controller)
    }
}

/// How long the kernel may take to drain a cgroup whose processes have all been killed.
const DRAIN_TRIES: u32 = 60;

impl Cgroup {
    /// Names the cgroup at `path` in all hierarchies without touching it.
    ///
    /// Absolute paths start at the hierarchies' mount points, relative ones at the caller's own cgroup; `..` cannot leave either.
    pub fn at(path: &Path) -> Result<Self> {
        let hierarchies = Hierarchies::detect()?;
        let directory = |hierarchy: Hierarchy| {
            let base = if path.is_absolute() { Path::new("/") } else { hierarchy.own.as_path() };
            let below = base.join(clean_absolute(path).strip_prefix("/").unwrap_or(path));
            let below = below.strip_prefix("/").unwrap_or(&below).to_path_buf();
            Directory { mount: hierarchy.mount, below, controllers: hierarchy.controllers }
        };
        let cgroup = Self {
            path: path.to_path_buf(),
            unified: hierarchies.unified.map(directory),
            legacy: hierarchies.legacy.into_iter().map(directory).collect(),
        };
        if clean_absolute(path) == Path::new("/") {
            // The caller's own cgroup must never be limited, frozen, emptied or removed as if it were a container's.
            return Err(RuntimeError::InvalidSpec(format!(
                "linux.cgroupsPath {path:?} names no cgroup of its own"
            )));
        }
        Ok(cgroup)
    }

    /// Returns the name as it was asked for.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells whether the host has cgroup v2 only.
    #[must_use]
    pub fn is_unified(&self) -> bool {
        self.legacy.is_empty()
    }

    /// Returns the directory that a controller (`memory`, `cpu`, `pids`, ...) of this cgroup lives in.
    #[must_use]
    pub fn controller_directory(&self, controller: &str) -> Option<PathBuf> {
        let in_legacy = self.legacy.iter().find(|directory| directory.has(controller));
        in_legacy
            .or_else(|| self.unified.as_ref().filter(|directory| directory.has(controller)))
            .map(Directory::path)
    }

    pub(crate) fn legacy(&self) -> &[Directory] {
        &self.legacy
    }

    pub(crate) fn unified(&self) -> Option<&Directory> {
        self.unified.as_ref()
    }

    /// Tells whether the cgroup exists and has processes, so that it cannot be taken for a new container.
    pub fn is_occupied(&self) -> bool {
        self.all().any(|directory| {
            files::read_if_present(&directory.path(), "cgroup.procs").is_some_and(|pids| !pids.is_empty())
        })
    }

    fn all(&self) -> impl Iterator<Item = &Directory> {
        self.unified.iter().chain(&self.legacy)
    }

    /// Makes the directories, with their parents; those that exist already are kept.
    pub fn create(&self) -> Result<()> {
        for directory in self.all() {
            make_directory(&directory.path())?;
        }
        for directory in self.legacy.iter().filter(|directory| directory.has("cpuset")) {
            inherit_cpusets(directory)?;
        }
        if let Some(unified) = &self.unified {
            v2::enable_controllers(&unified.mount, &unified.below, &unified.controllers);
        }
        Ok(())
    }

    /// Sets the limits, all that are present; also used to change them on a running container.
    ///
    /// Repeatable. A limit that this kernel cannot enforce at all comes back as a warning.
    pub fn apply(&self, resources: &LinuxResources) -> Result<Vec<Warning>> {
        let mut warnings = Vec::new();
        if resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()) {
            return Err(RuntimeError::Unsupported("linux.resources.rdma".to_owned()));
        }
        if !self.is_unified() && resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
            return Err(RuntimeError::InvalidSpec("linux.resources.unified needs cgroup v2".to_owned()));
        }
        for directory in &self.legacy {
            let path = directory.path();
            for controller in &directory.controllers {
                v1::apply(controller, &path, resources, &mut warnings)?;
            }
        }
        if let Some(unified) = &self.unified {
            self.apply_unified(unified, resources, &mut warnings)?;
        }
        self.warn_of_missing_controllers(resources, &mut warnings);
        Ok(warnings)
    }

    fn apply_unified(
        &self,
        unified: &Directory,
        resources: &LinuxResources,
        warnings: &mut Vec<Warning>,
    ) -> Result<()> {
        let path = unified.path();
        if !self.is_unified() {
            // Beside v1 only the controllers that v1 has left over are of use.
            let hugetlb: Vec<_> = v2::settings(resources)
                .unwrap_or_default()
                .into_iter()
                .filter(|setting| setting.file.starts_with("hugetlb.") && unified.has("hugetlb"))
                .collect();
            return v2::write_settings(&path, &hugetlb, warnings);
        }
        v2::write_settings(&path, &v2::settings(resources)?, warnings)?;
        let rules = devices::effective_rules(resources.devices().as_deref().unwrap_or_default())?;
        if rules.is_empty() { Ok(()) } else { bpf::enforce(&path, &rules) }
    }

    fn warn_of_missing_controllers(&self, resources: &LinuxResources, warnings: &mut Vec<Warning>) {
        if self.is_unified() {
            // Its files are missing one by one, which `v2::write_settings` has seen.
            return;
        }
        let asked = [
            ("memory", resources.memory().is_some()),
            (
                "cpu",
                resources.cpu().as_ref().is_some_and(|cpu| cpu.shares().is_some() || cpu.quota().is_some()),
            ),
            ("pids", resources.pids().is_some()),
            ("blkio", resources.block_io().is_some()),
            ("hugetlb", resources.hugepage_limits().as_ref().is_some_and(|limits| !limits.is_empty())),
        ];
        for (controller, asked) in asked {
            if asked && self.controller_directory(controller).is_none() {
                let reason = "this host has no such cgroup controller".to_owned();
                warnings.push(Warning::LimitUnavailable { limit: controller, reason });
            }
        }
    }

    /// Opens the v2 directory, in which clone3(2) can start a process.
    pub(crate) fn open_for_clone(&self) -> Result<Option<OwnedFd>> {
        let Some(unified) = &self.unified else { return Ok(None) };
        let path = unified.path();
        rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map(Some)
            .step(|| format!("open {}", path.display()))
    }

    /// Opens the v1 hierarchies for a child that joins them itself ([`join`]); the v2 one it is started in.
    pub(crate) fn open_for_join(&self) -> Result<Vec<OwnedFd>> {
        let open = |directory: &Directory| {
            let path = directory.path().join("tasks");
            rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .step(|| format!("open {}", path.display()))
        };
        self.legacy.iter().map(open).collect()
    }

    /// Lists the processes of the cgroup and of those below it, in the caller's pid namespace.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let Some(directory) = self.reference_directory() else { return Ok(Vec::new()) };
        let mut pids = Vec::new();
        collect_pids(&directory.path(), &mut pids)?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Picks the hierarchy that tells which processes belong to the container.
    fn reference_directory(&self) -> Option<&Directory> {
        let legacy = ["pids", "devices", "freezer", "memory"]
            .iter()
            .find_map(|name| self.legacy.iter().find(|directory| directory.has(name)));
        legacy.or(self.unified.as_ref()).or_else(|| self.legacy.first())
    }

    /// Stops all processes and waits until they stand still.
    pub fn freeze(&self) -> Result<()> {
        freezer::freeze(self)
    }

    /// Lets them run again.
    pub fn thaw(&self) -> Result<()> {
        freezer::thaw(self)
    }

    /// Tells whether they are stopped.
    pub fn is_frozen(&self) -> Result<bool> {
        freezer::is_frozen(self)
    }

    /// Kills every process with SIGKILL, also those that fork meanwhile; returns when the signals are sent.
    pub fn kill_all(&self) -> Result<()> {
        let killed_at_once = self
            .unified
            .as_ref()
            .is_some_and(|unified| files::try_write(&unified.path(), "cgroup.kill", "1").is_ok());
        if !killed_at_once {
            self.signal_all(libc::SIGKILL)?;
        }
        // A v1 freezer holds even the killed back; on v2 they die, but the cgroup would stay frozen for what comes next.
        freezer::thaw_if_possible(self)
    }

    /// Sends a signal, by number, to every process, standing still meanwhile so that none escapes by forking.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        let was_frozen = self.is_frozen().unwrap_or(false);
        // Where freezing is impossible the signals are sent all the same.
        let _ = self.freeze();
        for pid in self.pids()? {
            // A process that has ended meanwhile needs no signal.
            let _ = sys::signal_pid(pid, signal);
        }
        if was_frozen { Ok(()) } else { self.thaw() }
    }

    /// Reads all counters once; [`Counters`] is for reading them again and again.
    #[must_use]
    pub fn readings(&self) -> Readings {
        Counters::of(self).read()
    }

    /// Reads only the counter of processes killed for lack of memory (any process in the cgroup).
    pub fn oom_kills(&self) -> Result<u64> {
        Ok(oom::kills(self))
    }

    /// Opens a descriptor that tells of OOM events.
    pub fn oom_events(&self) -> Result<OomEvents> {
        OomEvents::open(self)
    }

    /// Removes the directories, with those that the container has made below, waiting for the kernel to drain them.
    ///
    /// A cgroup that is gone already is no error. All hierarchies are tried; the first failure is reported.
    pub fn remove(&self) -> Result<()> {
        let mut first_failure = None;
        for directory in self.all() {
            if let Err(error) = remove_tree(&directory.path()) {
                first_failure.get_or_insert(error);
            }
        }
        first_failure.map_or(Ok(()), Err)
    }
}

/// Moves the calling process, which must have one thread, into the v1 cgroups behind these descriptors.
///
/// Moving a process from outside through `cgroup.procs` makes the kernel wait for an RCU grace period (several
/// milliseconds) to keep its threads together. A thread that moves itself through `tasks` needs no such wait, and one
/// thread is all there is.
pub(crate) fn join(tasks: &[OwnedFd]) -> Result<()> {
    tasks.iter().try_for_each(|file| rustix::io::write(file, b"0").map(drop)).step(|| "join the cgroups")
}

fn make_directory(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path).step(|| format!("create cgroup {}", path.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.step(|| format!("create cgroup {}", path.display())),
    }
}

/// Fills in the cpusets from the topmost empty one down.
fn inherit_cpusets(directory: &Directory) -> Result<()> {
    let mut path = directory.mount.clone();
    for component in directory.below.components() {
        let parent = path.clone();
        path.push(component);
        v1::inherit_cpuset(&path, &parent)?;
    }
    Ok(())
}

fn collect_pids(directory: &Path, pids: &mut Vec<i32>) -> Result<()> {
    let text = match fs::read_to_string(directory.join("cgroup.procs")) {
        Ok(text) => text,
        // Removed meanwhile, or a threaded cgroup whose processes are listed above it.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP)) =>
        {
            return Ok(());
        }
        Err(error) => {
            return Err(RuntimeError::step(format!("list the processes of {}", directory.display()), error));
        }
    };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for child in child_directories(directory) {
        collect_pids(&child, pids)?;
    }
    Ok(())
}

fn child_directories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(path: &Path) -> Result<()> {
    let mut pause = 100_000_u64;
    for _ in 0..DRAIN_TRIES {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                for child in child_directories(path) {
                    remove_tree(&child)?;
                }
            }
            Err(error) => return Err(RuntimeError::step(format!("remove cgroup {}", path.display()), error)),
        }
        // Killed processes leave a cgroup a moment after they are reaped; there is nothing to poll on v1.
        std::thread::sleep(std::time::Duration::from_nanos(pause));
        pause = (pause * 2).min(50_000_000_u64);
    }
    Err(RuntimeError::step(
        format!("remove cgroup {}", path.display()),
        io::Error::from_raw_os_error(libc::EBUSY),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_name_the_root_or_leave_it() {
        assert!(Cgroup::at(Path::new("/")).is_err());
        assert!(Cgroup::at(Path::new("..")).is_err());
        let cgroup = Cgroup::at(Path::new("/../docker/../docker/x")).unwrap();
        for directory in cgroup.all() {
            assert_eq!(directory.below, Path::new("docker/x"));
        }
    }

    #[test]
    fn a_cgroup_can_be_written_down_and_read_back() {
        let cgroup = Cgroup::at(Path::new("/docker/x")).unwrap();
        let text = serde_json::to_string(&cgroup).unwrap();
        assert_eq!(serde_json::from_str::<Cgroup>(&text).unwrap(), cgroup);
    }
}
