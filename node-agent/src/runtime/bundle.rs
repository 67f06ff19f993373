//! Bundles: one directory for each run, with all that a shim and a runtime need.
//!
//! Start reading at [`Bundles`]. A bundle appears complete or not at all: it is filled under another name and renamed.
//! Its files are written by the engine before the shim starts (`config.json` a little later, before the container is
//! created); what the shim adds is in `node_shim::protocol`. Deleting a bundle of a living shim is the caller's mistake.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use node_shim::protocol::{CONFIG_FILE, LAUNCH_FILE, Launch, ROOTFS_DIR};
use oci_spec::runtime::Process;
use shoal_types::ContainerId;

/// The directory below the daemon's exec root that holds all bundles.
const BUNDLES_DIR: &str = "containers";
/// Marks a bundle that is being made or deleted.
const UNFINISHED_SUFFIX: &str = ".tmp";

/// Where bundles are.
#[derive(Debug, Clone)]
pub(crate) struct Bundles {
    root: PathBuf,
}

impl Bundles {
    /// Bundles below this exec root.
    pub(crate) fn new(exec_root: &Path) -> Self {
        Self { root: exec_root.join(BUNDLES_DIR) }
    }

    /// Makes the directory of all bundles. Blocks; called at boot.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o711).create(&self.root)
    }

    /// Where a container's bundle is, whether it exists or not.
    pub(crate) fn path(&self, id: ContainerId) -> PathBuf {
        self.root.join(id.to_string())
    }

    /// Makes a bundle with the shim's parameters, replacing what a crash has left. Blocks for a few writes.
    pub(crate) fn create(&self, id: ContainerId, launch: &Launch) -> io::Result<PathBuf> {
        let path = self.path(id);
        let unfinished = self.unfinished(id);
        remove_all(&unfinished)?;
        remove_all(&path)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&unfinished)?;
        DirBuilder::new().mode(0o755).create(unfinished.join(ROOTFS_DIR))?;
        write(&unfinished.join(LAUNCH_FILE), &serde_json::to_vec(launch)?)?;
        if let Some((_, group)) = launch.stdio_owner {
            // Runtimes with a command line go to the root file system by its path, as root of the user namespace.
            std::os::unix::fs::chown(&unfinished, None, Some(group))?;
            fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o710))?;
        }
        fs::rename(&unfinished, &path)?;
        Ok(path)
    }

    /// Deletes a bundle; one that is not there is not missed. Blocks.
    pub(crate) fn delete(&self, id: ContainerId) -> io::Result<()> {
        let unfinished = self.unfinished(id);
        match fs::rename(self.path(id), &unfinished) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // What a crash has left under that name stands in the way.
            Err(_) => {
                remove_all(&unfinished)?;
                fs::rename(self.path(id), &unfinished)?;
            }
        }
        remove_all(&unfinished)
    }

    /// The containers that have a bundle; unfinished ones are removed on the way. Blocks; called at boot.
    pub(crate) fn list(&self) -> io::Result<Vec<ContainerId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            match name.parse() {
                Ok(id) => ids.push(id),
                Err(_) => {
                    if let Err(error) = remove_all(&path) {
                        tracing::warn!(path = %path.display(), %error, "leftover of a bundle could not be removed");
                    }
                }
            }
        }
        Ok(ids)
    }

    fn unfinished(&self, id: ContainerId) -> PathBuf {
        self.root.join(format!("{id}{UNFINISHED_SUFFIX}"))
    }
}

/// Writes the runtime spec into a bundle. Blocks for a write.
pub(crate) fn write_config(bundle: &Path, config: &[u8]) -> io::Result<()> {
    write_atomically(&bundle.join(CONFIG_FILE), config)
}

/// Reads the process of a bundle's runtime spec, which commands in the container are derived from. Blocks.
pub(crate) fn read_process(bundle: &Path) -> io::Result<Process> {
    /// The only part of the spec that is of interest; the rest is skipped without being kept.
    #[derive(serde::Deserialize)]
    struct ProcessOnly {
        process: Process,
    }
    let json = fs::read(bundle.join(CONFIG_FILE))?;
    let spec: ProcessOnly = serde_json::from_slice(&json)?;
    Ok(spec.process)
}

/// Replaces a file as a whole. Not synced: a bundle does not outlive a reboot.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED_SUFFIX);
    let unfinished = PathBuf::from(unfinished);
    write(&unfinished, bytes)?;
    fs::rename(&unfinished, path)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_shim::protocol::{LogConfig, PROTOCOL_VERSION, RootfsSource, RuntimeChoice, StdinMode};

    fn launch(id: ContainerId) -> Launch {
        Launch {
            version: PROTOCOL_VERSION,
            container_id: id,
            runtime: RuntimeChoice::Embedded { root: PathBuf::from("/x") },
            rootfs: RootfsSource::Directory { path: PathBuf::from("/y") },
            stdin: StdinMode::Closed,
            log: LogConfig::None,
            oom_score_adj: None,
            stdio_owner: None,
            restore_from: None,
        }
    }

    #[test]
    fn a_bundle_is_made_replaced_listed_and_deleted() {
        let root = tempfile::tempdir().unwrap();
        let bundles = Bundles::new(root.path());
        bundles.prepare().unwrap();
        let id = ContainerId::random();
        let path = bundles.create(id, &launch(id)).unwrap();
        fs::write(path.join("leftover"), "").unwrap();
        write_config(&path, b"{}").unwrap();
        assert_eq!(bundles.list().unwrap(), [id]);
        bundles.create(id, &launch(id)).unwrap();
        assert!(!path.join("leftover").exists() && !path.join(CONFIG_FILE).exists());
        let read: Launch = serde_json::from_slice(&fs::read(path.join(LAUNCH_FILE)).unwrap()).unwrap();
        assert_eq!(read, launch(id));
        bundles.delete(id).unwrap();
        bundles.delete(id).unwrap();
        assert!(bundles.list().unwrap().is_empty());
    }

    #[test]
    fn what_a_crash_left_half_done_is_cleared_by_listing_and_in_the_way_of_nothing() {
        let root = tempfile::tempdir().unwrap();
        let bundles = Bundles::new(root.path());
        bundles.prepare().unwrap();
        let id = ContainerId::random();
        bundles.create(id, &launch(id)).unwrap();
        fs::create_dir_all(bundles.unfinished(id).join("x")).unwrap();
        fs::write(bundles.root.join("stray"), "").unwrap();
        bundles.delete(id).unwrap();
        assert!(!bundles.path(id).exists() && !bundles.unfinished(id).exists());
        assert!(bundles.list().unwrap().is_empty());
        assert!(!bundles.root.join("stray").exists());
    }
}
