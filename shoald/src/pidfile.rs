//! The file that says which process the daemon is, and keeps a second one from starting.
//!
//! Start reading at [`Pidfile::create`]. The state database has a lock of its own; this file is for people and scripts.

use std::path::{Path, PathBuf};

/// Why the file cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidfileError {
    /// The process in the file lives.
    #[error("failed to start daemon, ensure shoald is not running or delete {}: process with PID {pid} is still running", path.display())]
    Running {
        /// The file.
        path: PathBuf,
        /// The process.
        pid: u32,
    },
    /// The file cannot be written.
    #[error("failed to write PID file {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel says; part of the text.
        source: std::io::Error,
    },
}

/// The file; removed when dropped.
#[derive(Debug)]
pub(crate) struct Pidfile {
    path: PathBuf,
}

impl Pidfile {
    /// Writes our process id, unless the file names a process that lives and is not us.
    pub(crate) fn create(path: &Path) -> Result<Self, PidfileError> {
        let own = std::process::id();
        let found = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok());
        if let Some(pid) = found.filter(|pid| *pid != own && is_alive(*pid)) {
            return Err(PidfileError::Running { path: path.to_owned(), pid });
        }
        let failed = |source| PidfileError::Write { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(path, own.to_string()).map_err(failed)?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_dead_process_is_taken_over_and_goes_with_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/shoal.pid");
        std::fs::create_dir(dir.path().join("run")).unwrap();
        std::fs::write(&path, "999999999").unwrap();
        let pidfile = Pidfile::create(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        drop(pidfile);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_of_a_living_process_stops_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shoal.pid");
        std::fs::write(&path, "1\n").unwrap();
        let error = Pidfile::create(&path).unwrap_err();
        assert!(error.to_string().ends_with("process with PID 1 is still running"), "{error}");
    }
}
