//! CRIU, which an external runtime uses for checkpoints: where it works, and why it failed.
//!
//! Start reading at [`CriuWork`]. The runtime only says where the log is; the reason is in there.

use std::fs;
use std::path::{Path, PathBuf};

/// The directory in which CRIU works, inside the bundle. The runtime makes it.
#[derive(Debug)]
pub(super) struct CriuWork {
    directory: PathBuf,
    log: &'static str,
}

impl CriuWork {
    /// For a command that writes a state down.
    pub(super) fn of_dump(number: u32) -> Self {
        Self { directory: directory(number), log: "dump.log" }
    }

    /// For a command that brings a state back.
    pub(super) fn of_restore(number: u32) -> Self {
        Self { directory: directory(number), log: "restore.log" }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The first error that CRIU tells of, which is the cause of those that follow.
    pub(super) fn first_error(&self) -> Option<String> {
        let log = fs::read(self.directory.join(self.log)).ok()?;
        first_error(&String::from_utf8_lossy(&log)).map(|error| format!("criu: {error}"))
    }

    /// Removes the directory, if it was made.
    pub(super) fn remove(&self) {
        // What cannot be removed goes with the bundle.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn directory(number: u32) -> PathBuf {
    PathBuf::from(format!("criu-{number}"))
}

/// CRIU writes `(seconds) Error (file:line): text`, in a restore with the pid before `Error`.
fn first_error(log: &str) -> Option<&str> {
    let told = log.lines().find_map(|line| line.split_once("Error (")?.1.split_once("): "))?;
    Some(told.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_the_cause() {
        let dump = "(00.78) Dumping path for 1 fd via self 25\n\
                    (00.79) Error (criu/files-reg.c:1710): Can't lookup mount=33 for fd=1 path=/tmp/out\n\
                    (00.80) Error (criu/cr-dump.c:2053): Dumping FAILED.\n";
        assert_eq!(first_error(dump), Some("Can't lookup mount=33 for fd=1 path=/tmp/out"));
        let restore = "(00.12)      1: Error (criu/files-reg.c:2143): File gone has bad size 5 (expect 2)\n";
        assert_eq!(first_error(restore), Some("File gone has bad size 5 (expect 2)"));
        assert_eq!(first_error("(00.1) Warn  (x): y"), None);
    }
}
