//! The files of a container's network: /etc/hosts, /etc/hostname, /etc/resolv.conf.
//!
//! Start reading at [`Files`]. They lie in the container's own directory, are written anew at every start, and are bound
//! into the container. A container that shares another's network gets the other's. What stands in them is decided by the
//! networks.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Names of the files, as Docker has them.
const RESOLV_CONF: &str = "resolv.conf";
const HOSTNAME: &str = "hostname";
const HOSTS: &str = "hosts";

/// Where the files are on the host; `None` when there are none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FilePaths {
    /// /etc/resolv.conf.
    pub(crate) resolv_conf: Option<PathBuf>,
    /// /etc/hostname.
    pub(crate) hostname: Option<PathBuf>,
    /// /etc/hosts.
    pub(crate) hosts: Option<PathBuf>,
}

/// The files and what shall stand in them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Files {
    /// Where they are.
    pub(crate) paths: FilePaths,
    contents: Vec<(PathBuf, String)>,
}

impl Files {
    /// No files: the image's own are seen.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// The files of another container, in its directory.
    pub(crate) fn of(directory: &Path) -> Self {
        let paths = FilePaths {
            resolv_conf: Some(directory.join(RESOLV_CONF)),
            hostname: Some(directory.join(HOSTNAME)),
            hosts: Some(directory.join(HOSTS)),
        };
        Self { paths, contents: Vec::new() }
    }

    /// Files with these contents in the container's own directory.
    pub(crate) fn with(directory: &Path, hosts: &str, resolv_conf: &str, hostname: &str) -> Self {
        let contents = vec![
            (directory.join(RESOLV_CONF), resolv_conf.to_owned()),
            (directory.join(HOSTNAME), format!("{hostname}\n")),
            (directory.join(HOSTS), hosts.to_owned()),
        ];
        Self { contents, ..Self::of(directory) }
    }

    /// Writes the contents. In place, because other containers may have the very files bound. Blocks for a few writes.
    pub(crate) fn write(&self) -> io::Result<()> {
        for (path, content) in &self.contents {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
            // The umask of the daemon must not hide names from the container's users.
            file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
            file.write_all(content.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn files_keep_their_inode_when_they_are_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::with(directory.path(), "a\n", "b\n", "c");
        files.write().unwrap();
        let hosts = files.paths.hosts.clone().unwrap();
        let inode = hosts.metadata().unwrap().ino();
        Files::with(directory.path(), "longer\n", "b\n", "c").write().unwrap();
        assert_eq!(std::fs::read_to_string(&hosts).unwrap(), "longer\n");
        assert_eq!(hosts.metadata().unwrap().ino(), inode);
        assert_eq!(hosts.metadata().unwrap().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_to_string(files.paths.hostname.unwrap()).unwrap(), "c\n");
    }
}
