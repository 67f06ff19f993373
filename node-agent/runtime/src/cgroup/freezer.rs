//! Stopping and continuing all processes of a cgroup.
//!
//! Start reading at [`freeze`]. On hosts with the v1 freezer that one is used, so that other tools see the same state;
//! otherwise v2's `cgroup.freeze`.

use std::io;
use std::path::PathBuf;

use super::files::{self, try_write, write};
use super::{Cgroup, Directory};
use crate::error::{Result, RuntimeError};

enum Freezer {
    Legacy(PathBuf),
    Unified(PathBuf),
}

fn of(cgroup: &Cgroup) -> Result<Freezer> {
    if let Some(directory) = cgroup.legacy().iter().find(|directory| directory.has("freezer")) {
        return Ok(Freezer::Legacy(directory.path()));
    }
    match cgroup.unified().map(Directory::path) {
        Some(path) => Ok(Freezer::Unified(path)),
        None => {
            Err(RuntimeError::Unsupported("freezing on a host without the freezer controller".to_owned()))
        }
    }
}

/// A freeze that takes longer than this many looks (about two seconds) is given up and undone.
const MOST_LOOKS: u32 = 1000;
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(2);

/// Stops all processes and waits until they stand still.
pub(super) fn freeze(cgroup: &Cgroup) -> Result<()> {
    let freezer = of(cgroup)?;
    for look in 0..MOST_LOOKS {
        match &freezer {
            Freezer::Legacy(path) => {
                if look > 0 && look % 25 == 0 {
                    // A process that was being moved or forked can keep the state at FREEZING; a thaw in between helps.
                    let _ = try_write(path, "freezer.state", "THAWED");
                }
                write(path, "freezer.state", "FROZEN")?;
            }
            Freezer::Unified(path) if look == 0 => write(path, "cgroup.freeze", "1")?,
            Freezer::Unified(_) => {}
        }
        if is_frozen(cgroup)? {
            return Ok(());
        }
        // The v1 freezer notifies nobody, and usually the first look has seen it done.
        std::thread::sleep(BETWEEN_LOOKS);
    }
    thaw(cgroup)?;
    Err(RuntimeError::step("freeze the cgroup", io::Error::from(io::ErrorKind::TimedOut)))
}

/// Lets all processes run again.
pub(super) fn thaw(cgroup: &Cgroup) -> Result<()> {
    match of(cgroup)? {
        Freezer::Legacy(path) => write(&path, "freezer.state", "THAWED"),
        Freezer::Unified(path) => write(&path, "cgroup.freeze", "0"),
    }
}

/// Thaws where something can be frozen at all.
pub(super) fn thaw_if_possible(cgroup: &Cgroup) -> Result<()> {
    if of(cgroup).is_ok() { thaw(cgroup) } else { Ok(()) }
}

/// Tells whether all processes stand still.
pub(super) fn is_frozen(cgroup: &Cgroup) -> Result<bool> {
    Ok(match of(cgroup)? {
        Freezer::Legacy(path) => files::read(&path, "freezer.state")?.trim() == "FROZEN",
        Freezer::Unified(path) => files::entry_of(&path, "cgroup.events", "frozen") == 1,
    })
}
