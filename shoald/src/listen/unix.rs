//! The unix socket: who may connect is decided by its group and mode.
//!
//! Start reading at [`bind`].

use std::path::Path;

use rustix::fs::{Gid, Mode};
use tokio::net::UnixListener;

use super::ListenError;
use crate::config::DEFAULT_GROUP;

/// Opens a socket that root and the members of a group may use. A socket file that is left from before is replaced.
pub(super) fn bind(path: &Path, group: &str) -> Result<UnixListener, ListenError> {
    let failed = |source: std::io::Error| ListenError::Bind {
        protocol: "unix",
        address: path.display().to_string(),
        source,
    };
    let gid = group_id(group)?;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    remove_stale(path).map_err(failed)?;
    // Nobody may connect before group and mode are right.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let socket = bound.map_err(failed)?;
    if let Some(gid) = gid {
        rustix::fs::chown(path, None, Some(gid)).map_err(|error| failed(error.into()))?;
    }
    rustix::fs::chmod(path, Mode::from_raw_mode(0o660)).map_err(|error| failed(error.into()))?;
    Ok(socket)
}

/// Removes the socket file of a daemon that is gone.
pub(crate) fn remove_stale(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    match path.symlink_metadata() {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        // Something else is in the way: the bind will say so.
        _ => Ok(()),
    }
}

/// Looks a group up in /etc/group, by name or number. The default group may be missing; then only root may connect.
fn group_id(group: &str) -> Result<Option<Gid>, ListenError> {
    if group.is_empty() {
        return Ok(None);
    }
    let file = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let by_name = file.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse::<u32>().ok()).flatten()
    });
    match by_name.or_else(|| group.parse().ok()) {
        Some(gid) => Ok(Some(Gid::from_raw(gid))),
        None if group == DEFAULT_GROUP => {
            tracing::info!(group, "group of the socket does not exist; only root may connect");
            Ok(None)
        }
        None => Err(ListenError::NoSuchGroup(group.to_owned())),
    }
}
