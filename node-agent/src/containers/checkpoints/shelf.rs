//! The directories of checkpoints: found, listed, removed.
//!
//! Start reading at [`Place`]. Names that begin with a dot are no checkpoints: one that is being made (`node-shim`) or removed is
//! called so, and stays so if the machine goes down meanwhile.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use shoal_types::ErrorKind;

use crate::error::NodeError;

/// What CRIU writes into every checkpoint.
const INVENTORY: &str = "inventory.img";

/// Where a checkpoint is or shall be, and how messages call it.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    path: PathBuf,
    checkpoint: String,
    container: String,
}

impl Place {
    /// The place of a checkpoint of a container, as the client called it.
    pub(super) fn new(root: PathBuf, checkpoint: String, container: String) -> Self {
        let path = root.join(&checkpoint);
        Self { root, path, checkpoint, container }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory around it; refuses if it exists.
    pub(super) fn prepare(&self) -> Result<(), NodeError> {
        if self.path.symlink_metadata().is_ok() {
            return Err(self.exists());
        }
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&self.root);
        made.map_err(|source| NodeError::failed("make the directory of checkpoints", source))
    }

    /// The refusal of a name that is taken.
    pub(super) fn exists(&self) -> NodeError {
        let Self { checkpoint, container, .. } = self;
        NodeError::conflict(format!(
            "cannot checkpoint container {container}: checkpoint with name {checkpoint} already exists for container {container}"
        ))
    }

    /// Its directory, if it exists. Clients name directories of the machine: what is no checkpoint is neither read nor removed.
    pub(super) fn find(&self) -> Result<PathBuf, NodeError> {
        if self.path.join(INVENTORY).is_file() {
            return Ok(self.path.clone());
        }
        let Self { checkpoint, container, .. } = self;
        Err(not_found(format!("checkpoint {checkpoint} does not exist for container {container}")))
    }

    /// Removes it: at once from sight, then from the disk.
    pub(super) fn remove(&self) -> Result<(), NodeError> {
        self.find()?;
        let hidden = self.root.join(format!(".{}.removed", self.checkpoint));
        let remove = || {
            remove_tree(&hidden)?;
            fs::rename(&self.path, &hidden)?;
            remove_tree(&hidden)
        };
        remove().map_err(|source| NodeError::failed(format!("remove checkpoint {}", self.checkpoint), source))
    }

    /// Brings it to the disk.
    pub(super) fn sync(&self) -> Result<(), NodeError> {
        let sync = || {
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    File::open(entry.path())?.sync_all()?;
                }
            }
            File::open(&self.path)?.sync_all()?;
            File::open(&self.root)?.sync_all()
        };
        sync().map_err(|source| NodeError::failed("bring the checkpoint to the disk", source))
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Names of the checkpoints with a container, which need not have had any.
pub(super) fn list_own(root: &Path) -> Result<Vec<String>, NodeError> {
    match list(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|source| NodeError::failed("list checkpoints", source)),
    }
}

/// Names of the checkpoints in a directory that a client has named.
pub(super) fn list_given(root: &Path, container: &str) -> Result<Vec<String>, NodeError> {
    list(root).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            not_found(format!("checkpoint directory {root:?} does not exist for container {container}"))
        }
        io::ErrorKind::NotADirectory => {
            NodeError::invalid(format!("checkpoint directory {root:?} exists but is not a directory"))
        }
        _ => NodeError::failed("list checkpoints", error),
    })
}

fn list(root: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn not_found(message: String) -> NodeError {
    NodeError::Refused { kind: ErrorKind::NotFound, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(root: &Path, name: &str) -> Place {
        Place::new(root.join("checkpoints"), name.to_owned(), "web".to_owned())
    }

    #[test]
    fn half_a_checkpoint_is_not_listed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for name in ["second", "first", ".third.unfinished", ".fourth.removed"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        fs::write(root.join("file"), "").unwrap();
        assert_eq!(list_own(root).unwrap(), ["first", "second"]);
        assert_eq!(list_given(root, "web").unwrap(), ["first", "second"]);
    }

    #[test]
    fn a_container_without_checkpoints_has_an_empty_list_and_a_given_directory_must_exist() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        assert_eq!(list_own(&missing).unwrap(), [""; 0]);
        let error = list_given(&missing, "web").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(
            error.message(),
            format!("checkpoint directory {missing:?} does not exist for container web")
        );
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = list_given(&file, "web").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.message(), format!("checkpoint directory {file:?} exists but is not a directory"));
    }

    #[test]
    fn a_removal_that_was_interrupted_does_not_stop_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path(), "first");
        place.prepare().unwrap();
        assert_eq!(place.find().unwrap_err().kind(), ErrorKind::NotFound);
        for round in 0..2 {
            fs::create_dir(place.path()).unwrap();
            fs::write(place.path().join("another file"), "").unwrap();
            assert_eq!(place.remove().unwrap_err().kind(), ErrorKind::NotFound, "it is no checkpoint");
            fs::write(place.path().join(INVENTORY), format!("{round}")).unwrap();
            assert_eq!(place.prepare().unwrap_err().kind(), ErrorKind::Conflict);
            place.sync().unwrap();
            place.remove().unwrap();
            assert_eq!(list_own(&place.root).unwrap(), [""; 0]);
            fs::create_dir_all(place.root.join(".first.removed/deep")).unwrap();
        }
        assert_eq!(place.remove().unwrap_err().kind(), ErrorKind::NotFound);
    }
}
