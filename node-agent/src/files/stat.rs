//! What a path of a container is, and where a symbolic link leads.
//!
//! Start reading at [`find`]. Everything is asked of the kernel inside the container's tree; the target of a link is text
//! for the client and never used to open anything.

use std::os::fd::OwnedFd;

use jiff::Timestamp;
use node_runtime::RootDirectory;
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::path::Wanted;
use crate::api::files::PathStat;
use crate::error::NodeError;

/// As in the kernel's own path walk.
const MOST_LINKS: usize = 40;

/// A path that was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Opened with `O_PATH`; of a link, the link itself.
    pub(super) fd: OwnedFd,
    /// What it is.
    pub(super) stat: Stat,
}

impl Found {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// Finds a path without following a last link, unless the path's end asks for that.
pub(super) fn find(root: &RootDirectory, wanted: &Wanted) -> Result<Found, Errno> {
    let fd = root.open(wanted.path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = rustix::fs::fstat(&fd)?;
    Ok(Found { fd, stat })
}

/// Describes what was found.
pub(super) fn describe(root: &RootDirectory, wanted: &Wanted, found: &Found) -> PathStat {
    let stat = &found.stat;
    let nanoseconds = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let is_link = found.kind() == FileType::Symlink;
    PathStat {
        name: wanted.name.clone(),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode,
        modified: Timestamp::new(stat.st_mtime, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH),
        link_target: if is_link { resolve(root, &wanted.path) } else { String::new() },
    }
}

/// Why a path was not found, as Docker words it.
pub(super) fn explain(errno: Errno, container: &str, text: &str, wanted: &Wanted) -> NodeError {
    match errno {
        Errno::NOENT => NodeError::Refused {
            kind: shoal_types::ErrorKind::NotFound,
            message: format!("Could not find the file {text} in container {container}"),
        },
        Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL => NodeError::invalid(format!(
            "lstat {}: {}",
            wanted.path,
            node_runtime::errno_text(errno.raw_os_error())
        )),
        errno => NodeError::failed(format!("look at {} in the container", wanted.path), errno),
    }
}

/// The same path without links, as seen from the root; parts that do not exist are taken literally, a loop leads
/// nowhere.
pub(super) fn resolve(root: &RootDirectory, link: &str) -> String {
    let mut reached: Vec<String> = Vec::new();
    let mut ahead: Vec<String> = steps(link);
    let mut n_links = 0;
    while let Some(step) = ahead.pop() {
        match step.as_str() {
            "" | "." => continue,
            ".." => {
                reached.pop();
                continue;
            }
            _ => reached.push(step),
        }
        let here = format!("/{}", reached.join("/"));
        let Ok(fd) = root.open(here.as_ref(), OFlags::PATH | OFlags::NOFOLLOW) else { continue };
        // Fails with EINVAL on what is no link.
        let Ok(next) = rustix::fs::readlinkat(&fd, c"", Vec::new()) else { continue };
        n_links += 1;
        if n_links > MOST_LINKS {
            return String::new();
        }
        let next = next.to_string_lossy();
        reached.pop();
        if next.starts_with('/') {
            reached.clear();
        }
        ahead.extend(steps(&next));
    }
    format!("/{}", reached.join("/"))
}

/// The components of a path, the first at the end.
fn steps(path: &str) -> Vec<String> {
    path.split('/').rev().map(str::to_owned).collect()
}
