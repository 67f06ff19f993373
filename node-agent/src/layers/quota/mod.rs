//! Limits of what a directory may hold, by the project quotas of ext4 and xfs.
//!
//! Start reading at [`ProjectQuotas::open`]. Every limited directory is a project of its own: what is made below it
//! belongs to the project, and the kernel refuses to let the project grow beyond its limit. Nothing is kept here: the
//! number of the project stands in the directory's inode and the limit in the file system, so both survive restarts. A
//! number is taken only if the file system knows no use of it, so that neither what is being removed nor another
//! program's project can be met; it is free again when its directory is gone.

mod sys;

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use self::sys::Limits;

/// The first number that is tried: far from those that people write into /etc/projid, and those that other engines
/// count up from 1.
const FIRST_PROJECT: u32 = 0x5348_0000;
/// How many numbers there are.
const N_PROJECTS: u32 = 0x0001_0000;
/// What the kernel counts in.
const BLOCK_LEN: u64 = 1024;

/// The project quotas of one file system.
#[derive(Debug)]
pub(crate) struct ProjectQuotas {
    /// A directory on it.
    root: PathBuf,
    /// Held from the choice of a number until it is in use.
    choosing: Mutex<()>,
}

impl ProjectQuotas {
    /// The quotas of the file system that this directory is on; `None` if it does not enforce any.
    pub(crate) fn open(root: &Path) -> Option<Self> {
        let is_enforced = File::open(root).and_then(|root| sys::is_enforced(root.as_fd())).unwrap_or(false);
        is_enforced.then(|| Self { root: root.to_owned(), choosing: Mutex::new(()) })
    }

    /// Makes an empty directory a project that may grow to this many bytes, and returns the number of the project.
    pub(crate) fn limit(&self, directory: &Path, bytes: u64) -> io::Result<u32> {
        let root = File::open(&self.root)?;
        let directory = File::open(directory)?;
        let _sole = self.choosing.lock().unwrap_or_else(PoisonError::into_inner);
        let project = choose(&root)?;
        // From here on the number is found by the directory, whatever happens.
        sys::set_project(directory.as_fd(), project)?;
        sys::set_limits(root.as_fd(), project, Limits { blocks: blocks(bytes) })?;
        Ok(project)
    }

    /// The project of a directory, if it is one of ours.
    pub(crate) fn project_of(&self, directory: &Path) -> Option<u32> {
        let project = File::open(directory).and_then(|dir| sys::project(dir.as_fd())).ok()?;
        (FIRST_PROJECT..FIRST_PROJECT + N_PROJECTS).contains(&project).then_some(project)
    }

    /// Lets go of a project whose directory has been removed.
    pub(crate) fn forget(&self, project: u32) -> io::Result<()> {
        sys::set_limits(File::open(&self.root)?.as_fd(), project, Limits::default())
    }
}

/// A number that nobody has.
fn choose(root: &File) -> io::Result<u32> {
    for project in FIRST_PROJECT..FIRST_PROJECT + N_PROJECTS {
        if !sys::is_used(root.as_fd(), project)? {
            return Ok(project);
        }
    }
    Err(io::Error::other("all project ids are taken"))
}

/// As many of the kernel's blocks as hold these bytes.
fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_LEN)
}

#[cfg(test)]
mod tests;
