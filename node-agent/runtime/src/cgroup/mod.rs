//! Cgroups of containers on v1, v2 and hybrid hosts: paths, limits, freezing, readings, OOM events, removal.
pub mod readings;
use crate::error::{Result, RuntimeError, Warning};
use oci_spec::runtime::LinuxResources;
pub use readings::Readings;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The cgroup of one container, in all hierarchies of the host. Cheap to make; keeps no descriptors.
#[derive(Debug, Clone)]
pub struct Cgroup {}

/// Polls readable when a process of the cgroup was killed for lack of memory.
#[derive(Debug)]
pub struct OomEvents {}

fn unbuilt<T>() -> Result<T> {
    Err(RuntimeError::Unsupported("not built yet".into()))
}

impl Cgroup {
    /// Names the cgroup at `path` in all hierarchies without touching it; absolute paths start at the hierarchies'
    /// mount points, relative ones at the caller's own cgroup.
    pub fn at(path: &Path) -> Result<Self> {
        let _ = path;
        unbuilt()
    }
    /// Returns the path below the mount points.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new("/")
    }
    /// Makes the directories, with their parents.
    pub fn create(&self) -> Result<()> {
        unbuilt()
    }
    /// Sets the limits, all that are `Some`; also used to change them on a running container.
    pub fn apply(&self, resources: &LinuxResources) -> Result<Vec<Warning>> {
        let _ = resources;
        unbuilt()
    }
    /// Stops all processes and waits until they stand still.
    pub fn freeze(&self) -> Result<()> {
        unbuilt()
    }
    /// Lets them run again.
    pub fn thaw(&self) -> Result<()> {
        unbuilt()
    }
    /// Lists the processes of the cgroup and of those below it.
    pub fn pids(&self) -> Result<Vec<i32>> {
        unbuilt()
    }
    /// Kills every process with SIGKILL, also those that fork meanwhile.
    pub fn kill_all(&self) -> Result<()> {
        unbuilt()
    }
    /// Reads all counters.
    pub fn readings(&self) -> Result<Readings> {
        unbuilt()
    }
    /// Reads only the counter of processes killed for lack of memory (any process in the cgroup).
    pub fn oom_kills(&self) -> Result<u64> {
        unbuilt()
    }
    /// Opens a descriptor that tells of OOM events.
    pub fn oom_events(&self) -> Result<OomEvents> {
        unbuilt()
    }
    /// Removes the directories, waiting for the kernel to drain them; a cgroup that is gone already is no error.
    pub fn remove(&self) -> Result<()> {
        unbuilt()
    }
}
impl OomEvents {
    /// Drains the events and returns how many processes were killed since the last call.
    pub fn take(&mut self) -> Result<u64> {
        unbuilt()
    }
}
impl std::os::fd::AsFd for OomEvents {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        rustix::stdio::stdin()
    }
}
#[allow(dead_code)]
type Unused = OwnedFd;
