//! A checkpoint in the making: a directory beside its place, which it takes when it is whole.
//!
//! Start reading at [`Draft::begin`]. Whoever is killed in between leaves a directory whose name begins with a dot, which no
//! checkpoint has; the next checkpoint of the same name clears it away. What is written into it is the runtime's business, and
//! bringing it to the disk the daemon's, which can wait for a disk without holding up the container's output.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::container::internal;
use crate::protocol::{Failure, FailureKind};

/// A checkpoint that nobody can find yet.
#[derive(Debug)]
pub(crate) struct Draft {
    place: PathBuf,
    path: PathBuf,
    /// The directory, locked against other shims that are given the same place. The kernel drops the lock with this process.
    _lock: File,
}

impl Draft {
    /// Makes an empty directory for what shall be found at `place`, whose parent exists.
    pub(crate) fn begin(place: &Path) -> Result<Self, Failure> {
        let path = draft_of(place)
            .ok_or_else(|| Failure::new(FailureKind::Invalid, "a checkpoint needs a place with a name"))?;
        let failed = |error: io::Error| internal("make the directory of the checkpoint", error);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let lock = File::open(&path).map_err(failed)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() || !is_still_at(&lock, &path) {
            return Err(Failure::new(FailureKind::AlreadyExists, "a checkpoint of this name is being made"));
        }
        // Asked for after the lock was taken: the one who held it has put the checkpoint there.
        if place.symlink_metadata().is_ok() {
            let _ = fs::remove_dir(&path);
            return Err(Failure::new(FailureKind::AlreadyExists, "a checkpoint of this name exists"));
        }
        clear(&path).map_err(failed)?;
        Ok(Self { place: place.to_owned(), path, _lock: lock })
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the whole checkpoint into its place. What cannot be put there stays where it is, since the processes may be gone.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        fs::rename(&self.path, &self.place).map_err(|error| {
            let doing = format!("move the checkpoint from {} into its place", self.path.display());
            internal(&doing, error)
        })
    }

    /// Removes what was written.
    pub(crate) fn abandon(self) {
        // A rest is found by the next checkpoint of this name.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Where the checkpoint of a place is made.
fn draft_of(place: &Path) -> Option<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(place.file_name()?);
    name.push(".unfinished");
    Some(place.with_file_name(name))
}

/// Whether the path still leads to the directory that was opened.
fn is_still_at(directory: &File, path: &Path) -> bool {
    match (directory.metadata(), path.symlink_metadata()) {
        (Ok(opened), Ok(found)) => (opened.dev(), opened.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

fn clear(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_checkpoint_is_found_only_when_it_is_whole() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("first");
        let draft = Draft::begin(&place).unwrap();
        fs::write(draft.path().join("pages.img"), "memory").unwrap();
        assert_eq!(names(root.path()), [".first.unfinished"]);
        draft.finish().unwrap();
        assert_eq!(names(root.path()), ["first"]);
        assert_eq!(fs::read(place.join("pages.img")).unwrap(), b"memory");
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let draft = Draft::begin(&root.path().join("first")).unwrap();
        fs::write(draft.path().join("pages.img"), "memory").unwrap();
        draft.abandon();
        assert_eq!(names(root.path()), [""; 0]);
    }

    #[test]
    fn the_leftover_of_one_who_was_killed_is_cleared_away() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("first");
        fs::create_dir_all(root.path().join(".first.unfinished/deep")).unwrap();
        fs::write(root.path().join(".first.unfinished/pages.img"), "half").unwrap();
        let draft = Draft::begin(&place).unwrap();
        assert_eq!(names(draft.path()), [""; 0]);
        draft.finish().unwrap();
        assert_eq!(names(&place), [""; 0]);
    }

    #[test]
    fn a_name_serves_one_checkpoint() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("first");
        let draft = Draft::begin(&place).unwrap();
        assert_eq!(Draft::begin(&place).unwrap_err().kind, FailureKind::AlreadyExists);
        draft.finish().unwrap();
        assert_eq!(Draft::begin(&place).unwrap_err().kind, FailureKind::AlreadyExists);
        assert_eq!(names(root.path()), ["first"]);
    }
}
