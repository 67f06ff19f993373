//! The two directories of the daemon: what survives a reboot and what does not.
//!
//! Start reading at [`prepare`]. What lies inside is the parts' business.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use crate::config::Config;
use crate::engine::StartError;
use crate::parts::containers::{INIT_PROGRAM, init_program};

/// Only root looks into the state; the runtime directory holds sockets that say themselves who may use them.
const DATA_MODE: u32 = 0o710;
const EXEC_MODE: u32 = 0o711;

/// Makes the directories and puts the init program in its place.
pub(crate) fn prepare(config: &Config) -> Result<(), StartError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Directory { path, source }
    };
    make(&config.data_root, DATA_MODE).map_err(failed(&config.data_root))?;
    make(&config.data_root.join("db"), 0o700).map_err(failed(&config.data_root))?;
    make(&config.exec_root, EXEC_MODE).map_err(failed(&config.exec_root))?;
    if config.containers.init_path.is_none() {
        let path = init_program(config);
        place_init(&path).map_err(failed(&path))?;
    }
    Ok(())
}

/// Removes a directory with everything in it. A mount point that somebody else has made of it stays, empty.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ResourceBusy) => Ok(()),
        outcome => outcome,
    }
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Puts a copy of this program where containers get their init process from: an upgrade replaces the original while
/// containers hold the copy.
fn place_init(path: &Path) -> io::Result<()> {
    let own = std::fs::File::open("/proc/self/exe")?;
    let same = std::fs::metadata(path).is_ok_and(|copy| {
        own.metadata().is_ok_and(|own| (own.size(), own.mtime()) == (copy.size(), copy.mtime()))
    });
    if same {
        return Ok(());
    }
    let fresh = path.with_file_name(format!("{INIT_PROGRAM}.new"));
    std::fs::copy("/proc/self/exe", &fresh)?;
    let times = std::fs::FileTimes::new().set_modified(own.metadata()?.modified()?);
    std::fs::File::options().write(true).open(&fresh)?.set_times(times)?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_init_program_is_a_copy_that_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(INIT_PROGRAM);
        place_init(&path).unwrap();
        let first = std::fs::metadata(&path).unwrap().ino();
        place_init(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), first);
        std::fs::write(&path, "torn").unwrap();
        place_init(&path).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > 4);
    }

    #[test]
    fn removing_what_is_not_there_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        remove(&dir.path().join("none")).unwrap();
    }
}
