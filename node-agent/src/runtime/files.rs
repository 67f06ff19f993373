//! The files of a container's network: /etc/hosts, /etc/hostname, /etc/resolv.conf.
//!
//! Start reading at [`Files`]. They lie in the container's own directory, are written anew at every start, and are bound
//! into the container. A container that shares another's network gets the other's. What stands in them is decided by the
//! networks. While the container runs they belong to its programs as well: [`renew`] keeps what those have written.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::containers::ports::NetworkFiles;

/// Names of the files, as Docker has them.
const RESOLV_CONF: &str = "resolv.conf";
const HOSTNAME: &str = "hostname";
const HOSTS: &str = "hosts";

/// A larger file was made so by the container's programs, and is theirs.
const MAX_RENEWED: u64 = 1 << 20;

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
    pub(crate) fn with(directory: &Path, network: &NetworkFiles, hostname: &str) -> Self {
        let contents = vec![
            (directory.join(RESOLV_CONF), network.resolv_conf.clone()),
            (directory.join(HOSTNAME), format!("{hostname}\n")),
            (directory.join(HOSTS), network.hosts.clone()),
        ];
        Self { contents, ..Self::of(directory) }
    }

    /// Writes the contents; they belong to this user and group. In place, because other containers may have the very files bound. Blocks for a few writes.
    pub(crate) fn write(&self, owner: (u32, u32)) -> io::Result<()> {
        for (path, content) in &self.contents {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
            // The umask of the daemon must not hide names from the container's users.
            file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
            file.write_all(content.as_bytes())?;
            if owner != (0, 0) {
                std::os::unix::fs::fchown(&file, Some(owner.0), Some(owner.1))?;
            }
        }
        Ok(())
    }
}

/// Brings the files of a running container from what was written last to what shall stand there now. What its programs
/// have added to the hosts file stays; a resolv.conf that they have changed is left alone, as Docker does. Blocks for a
/// few reads and writes.
pub(crate) fn renew(directory: &Path, before: &NetworkFiles, after: &NetworkFiles) -> io::Result<()> {
    if before.hosts != after.hosts {
        rewrite(&directory.join(HOSTS), |present| merged(present, &before.hosts, &after.hosts))?;
    }
    if before.resolv_conf != after.resolv_conf {
        let next = |present: &str| (present == before.resolv_conf).then(|| after.resolv_conf.clone());
        rewrite(&directory.join(RESOLV_CONF), next)?;
    }
    Ok(())
}

/// Replaces a file's content in place by what `next` makes of it; `None` leaves it alone.
fn rewrite(path: &Path, next: impl FnOnce(&str) -> Option<String>) -> io::Result<()> {
    let mut present = String::new();
    match File::open(path)?.take(MAX_RENEWED).read_to_string(&mut present) {
        Ok(length) if (length as u64) < MAX_RENEWED => {}
        Ok(_) => return Ok(()),
        // Not text any more, so not ours any more.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(()),
        Err(error) => return Err(error),
    }
    let Some(text) = next(&present) else { return Ok(()) };
    OpenOptions::new().write(true).truncate(true).open(path)?.write_all(text.as_bytes())
}

/// PURE. The lines of `present` without those that only `before` had, and with those that only `after` has.
fn merged(present: &str, before: &str, after: &str) -> Option<String> {
    if present == before {
        return Some(after.to_owned());
    }
    let has = |text: &str, line: &str| text.lines().any(|other| other == line);
    let kept = present.lines().filter(|line| !has(before, line) || has(after, line));
    let added = after.lines().filter(|line| !has(present, line));
    Some(kept.chain(added).flat_map(|line| [line, "\n"]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn network(hosts: &str, resolv_conf: &str) -> NetworkFiles {
        NetworkFiles { hosts: hosts.to_owned(), resolv_conf: resolv_conf.to_owned() }
    }

    #[test]
    fn what_the_containers_programs_have_written_survives_a_renewal() {
        let (before, after) = ("local\n10.0.0.2 web\n", "local\n10.0.0.3 web\n10.1.0.2 me\n");
        let cases = [
            (before, after),
            ("local\n10.0.0.2 web\nmine\n", "local\nmine\n10.0.0.3 web\n10.1.0.2 me\n"),
            ("mine", "mine\nlocal\n10.0.0.3 web\n10.1.0.2 me\n"),
        ];
        for (present, expected) in cases {
            assert_eq!(merged(present, before, after).as_deref(), Some(expected), "{present}");
        }
    }

    #[test]
    fn a_resolv_conf_is_renewed_unless_it_was_changed() {
        let directory = tempfile::tempdir().unwrap();
        let (before, after) = (network("a\n", "plain\n"), network("a\n", "embedded\n"));
        Files::with(directory.path(), &before, "c").write((0, 0)).unwrap();
        let path = directory.path().join(RESOLV_CONF);
        let inode = path.metadata().unwrap().ino();
        renew(directory.path(), &before, &after).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "embedded\n");
        assert_eq!(path.metadata().unwrap().ino(), inode, "the container has this very file");
        std::fs::write(&path, "mine\n").unwrap();
        renew(directory.path(), &after, &before).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine\n");
    }

    #[test]
    fn files_keep_their_inode_when_they_are_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::with(directory.path(), &network("a\n", "b\n"), "c");
        files.write((0, 0)).unwrap();
        let hosts = files.paths.hosts.clone().unwrap();
        let inode = hosts.metadata().unwrap().ino();
        Files::with(directory.path(), &network("longer\n", "b\n"), "c").write((0, 0)).unwrap();
        assert_eq!(std::fs::read_to_string(&hosts).unwrap(), "longer\n");
        assert_eq!(hosts.metadata().unwrap().ino(), inode);
        assert_eq!(hosts.metadata().unwrap().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_to_string(files.paths.hostname.unwrap()).unwrap(), "c\n");
    }
}
