//! The two directories of the daemon: what survives a reboot and what does not.
//!
//! Start reading at [`prepare`]. What lies inside is the parts' business.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

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
        place_init(&init_source(), &path).map_err(failed(&path))?;
    }
    Ok(())
}

/// Removes a directory with everything in it, after unmounting what is mounted below: what lies there is not ours to
/// delete. A mount point that somebody else has made of the directory itself stays, empty.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let Ok(path) = path.canonicalize() else { return Ok(()) };
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    // Those that were mounted last lie on top.
    for point in mounts_below(&table, &path).into_iter().rev() {
        rustix::mount::unmount(&point, rustix::mount::UnmountFlags::NOFOLLOW)?;
    }
    let is_mount_point = mount_points(&table).any(|point| point == path);
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy && is_mount_point => Ok(()),
        outcome => outcome,
    }
}

/// Mount points strictly below a directory, in the order of the table. PURE.
fn mounts_below(table: &str, path: &Path) -> Vec<PathBuf> {
    mount_points(table).filter(|point| point != path && point.starts_with(path)).collect()
}

fn mount_points(table: &str) -> impl Iterator<Item = PathBuf> {
    // Field 5 (proc_pid_mountinfo(5)); blanks, tabs, newlines and backslashes stand in octal.
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| {
        let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
        PathBuf::from(plain.iter().fold(point.to_owned(), |text, (code, sign)| text.replace(code, sign)))
    })
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// The program that is init in containers: this one. Built for development it is linked dynamically and finds no loader
/// in a container; then it is the `docker-init` of the machine, as with dockerd.
fn init_source() -> PathBuf {
    let own = PathBuf::from("/proc/self/exe");
    if cfg!(target_feature = "crt-static") {
        return own;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|directory| directory.join(INIT_PROGRAM));
    let mut installed = installed.filter(|program| program.is_file());
    installed.next().unwrap_or_else(|| {
        tracing::warn!("this build is linked dynamically: `--init` needs docker-init or --init-path");
        own
    })
}

/// Puts a copy of the program where containers get their init process from: an upgrade replaces the original while
/// containers hold the copy.
fn place_init(source: &Path, path: &Path) -> io::Result<()> {
    let own = std::fs::File::open(source)?;
    let same = std::fs::metadata(path).is_ok_and(|copy| {
        own.metadata().is_ok_and(|own| (own.size(), own.mtime()) == (copy.size(), copy.mtime()))
    });
    if same {
        return Ok(());
    }
    let fresh = path.with_file_name(format!("{INIT_PROGRAM}.new"));
    std::fs::copy(source, &fresh)?;
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
        place_init(Path::new("/proc/self/exe"), &path).unwrap();
        let first = std::fs::metadata(&path).unwrap().ino();
        place_init(Path::new("/proc/self/exe"), &path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), first);
        std::fs::write(&path, "torn").unwrap();
        place_init(Path::new("/proc/self/exe"), &path).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > 4);
    }

    #[test]
    fn mounts_below_a_directory_are_found_and_others_are_not() {
        let table = "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /run/shoal rw - tmpfs b rw\n\
                     3 2 0:3 / /run/shoal/a\\040b rw - tmpfs c rw\n4 1 0:4 / /run/shoals rw - tmpfs d rw\n";
        assert_eq!(mounts_below(table, Path::new("/run/shoal")), [Path::new("/run/shoal/a b")]);
    }

    #[test]
    fn removing_what_is_not_there_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        remove(&dir.path().join("none")).unwrap();
    }
}
