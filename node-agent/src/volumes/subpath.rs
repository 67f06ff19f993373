//! A directory or file within a volume, held fast.
//!
//! Start reading at [`bind`]. Whoever has the volume mounted may exchange any path in it for a symbolic link at any
//! moment; so the kernel resolves the path once, beneath the volume's root, and what it found is bound to a path of
//! ours. Everything here blocks.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::UnmountFlags;

use crate::error::NodeError;

/// Binds `subpath` of `root` at `target`. Repeating it replaces what was bound before.
pub(super) fn bind(root: &Path, subpath: &str, target: &Path) -> io::Result<()> {
    let directory =
        rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::openat2(&directory, subpath, flags, Mode::empty(), ResolveFlags::BENEATH)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
    unbind(target)?;
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match kind {
        FileType::Directory => std::fs::create_dir(target)?,
        _ => drop(std::fs::File::create(target)?),
    }
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    Ok(rustix::mount::mount_bind(source.as_str(), target)?)
}

/// Why a part cannot be bound, in words of the kernel that clients know.
pub(super) fn unreachable(part: &str, source: &io::Error) -> NodeError {
    if source.raw_os_error() == Some(rustix::io::Errno::XDEV.raw_os_error()) {
        // The kernel's word for a link that leads out.
        return NodeError::invalid(format!("path concatenation escapes the base directory, subpath: {part}"));
    }
    let reason = source.raw_os_error().map_or_else(|| source.to_string(), node_runtime::errno_text);
    NodeError::invalid(format!("cannot access path {part}: {reason}"))
}

/// Ends a binding; succeeds when there is none.
pub(super) fn unbind(target: &Path) -> io::Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH) {
        // EINVAL: nothing is mounted there.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let removed = match target.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir(target),
        Ok(_) => std::fs::remove_file(target),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Ends every binding below a directory, those of containers that are gone; collects what fails.
pub(super) fn unbind_all(directory: &Path, keep: impl Fn(&str) -> bool) -> Vec<io::Error> {
    let Ok(containers) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut errors = Vec::new();
    for container in containers.flatten() {
        if container.file_name().to_str().is_some_and(&keep) {
            continue;
        }
        let targets = std::fs::read_dir(container.path()).into_iter().flatten().flatten();
        errors.extend(targets.filter_map(|target| unbind(&target.path()).err()));
        errors.extend(std::fs::remove_dir(container.path()).err());
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_within_the_volume_or_nowhere_and_the_binding_ends_without_a_trace() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/passwd"), "inside").unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        std::os::unix::fs::symlink("etc", root.join("within")).unwrap();
        let target = dir.path().join("bound/x");
        bind(&root, "within", &target).unwrap();
        bind(&root, "within", &target).unwrap();
        assert_eq!(std::fs::read_to_string(target.join("passwd")).unwrap(), "inside");
        unbind(&target).unwrap();
        unbind(&target).unwrap();
        assert!(!target.exists());
        bind(&root, "etc/passwd", &target).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "inside");
        unbind(&target).unwrap();
        for escape in ["out", "../../outside"] {
            let error = bind(&root, escape, &target).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::XDEV.raw_os_error()), "{escape}");
        }
    }
}
