//! The root file system of a container as a detached mount.
//!
//! Start reading at [`open`]; [`open_overlay`] is of use on its own. Whether it is a directory or an overlay, the result is
//! attached nowhere until the container's side hangs it into its own mount namespace; nothing shows in the host's mount
//! table and nothing leaks when every process is killed.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

use crate::container::OverlayRootfs;
use crate::error::{Context, Result, RuntimeError};
use crate::mount_options::{Depth, RDONLY};
use crate::mounts::{DetachedMount, set_propagation};
use crate::private_mounts::in_private_mount_namespace;
use crate::sys::{self, MountAttributes};

/// Where the root comes from, with the spec's own path resolved.
#[derive(Debug)]
pub(crate) enum RootfsPlan {
    Directory(PathBuf),
    Overlay(OverlayRootfs),
}

/// Opens the root as a detached mount, private in propagation.
pub(crate) fn open(plan: &RootfsPlan) -> Result<OwnedFd> {
    match plan {
        RootfsPlan::Directory(path) => open_directory(path),
        RootfsPlan::Overlay(overlay) => open_overlay(overlay),
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let detached = DetachedMount::clone_of(path, Depth::Tree)?;
    if detached.root != FileType::Directory {
        return Err(RuntimeError::InvalidSpec(format!("root.path {path:?} is not a directory")));
    }
    set_propagation(&detached.fd, &[]).step(|| format!("make the root {} private", path.display()))?;
    Ok(detached.fd)
}

/// Mounts an overlay that is attached nowhere and returns its root directory, opened with `O_PATH`. It lasts as long as
/// the descriptor, or as what is made of it.
///
/// Without `upper` it is read-only, and nothing is written to disk when it ends; with it, the kernel syncs the file system
/// of `upper` at the end. May be called in a process with threads.
pub fn open_overlay(overlay: &OverlayRootfs) -> Result<OwnedFd> {
    if overlay.lower.is_empty() {
        return Err(RuntimeError::InvalidSpec("an overlay needs at least one lower directory".to_owned()));
    }
    if let ([only], None) = (overlay.lower.as_slice(), &overlay.upper) {
        // The kernel refuses an overlay of a single layer; a read-only view of the layer is the same thing.
        let root = open_directory(only)?;
        sys::mount_setattr(&root, 0, MountAttributes { set: RDONLY, ..MountAttributes::default() })
            .step(|| "make the single layer read-only")?;
        return Ok(root);
    }
    match open_overlay_by_descriptor(overlay) {
        // Kernels before 6.8 have no `lowerdir+`, and an option longer than 255 bytes cannot be passed otherwise.
        Err(RuntimeError::Step { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {
            open_overlay_by_mounting(overlay)
        }
        other => other,
    }
}

fn open_overlay_by_descriptor(overlay: &OverlayRootfs) -> Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).step(|| "open an overlay context")?;
    let set = |key: &str, path: &Path| {
        fsconfig_set_string(context.as_fd(), key, path)
            .step(|| format!("add {key} {} to the overlay", path.display()))
    };
    for lower in &overlay.lower {
        set("lowerdir+", lower)?;
    }
    if let Some(upper) = &overlay.upper {
        set("upperdir", upper)?;
    }
    if let Some(work) = &overlay.work {
        set("workdir", work)?;
    }
    for (key, value) in &overlay.options {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), key.as_str(), value.as_str()),
            None => fsconfig_set_flag(context.as_fd(), key.as_str()),
        }
        .step(|| format!("set option {key} of the overlay"))?;
    }
    fsconfig_set_string(context.as_fd(), "source", "overlay").step(|| "name the overlay")?;
    fsconfig_create(context.as_fd()).step(|| "create the overlay root file system")?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .step(|| "mount the overlay root file system")
}

/// Mounts the overlay by mount(2) where only this thread sees it, and makes a detached clone of that.
fn open_overlay_by_mounting(overlay: &OverlayRootfs) -> Result<OwnedFd> {
    in_private_mount_namespace(|| mount_and_detach(overlay))
}

fn mount_and_detach(overlay: &OverlayRootfs) -> Result<OwnedFd> {
    let base = common_directory(overlay);
    rustix::process::chdir(&base).step(|| format!("enter {}", base.display()))?;
    let data = legacy_options(overlay, &base);
    let data = std::ffi::CString::new(data.into_encoded_bytes())
        .map_err(|_| RuntimeError::InvalidSpec("a layer path contains a NUL byte".to_owned()))?;
    // The mount point only has to be a directory that this namespace may hide.
    let place = overlay
        .upper
        .as_deref()
        .or_else(|| overlay.lower.first().map(PathBuf::as_path))
        .unwrap_or_else(|| Path::new("/"));
    rustix::mount::mount(
        "overlay",
        place,
        "overlay",
        rustix::mount::MountFlags::empty(),
        Some(data.as_c_str()),
    )
    .step(|| "mount the overlay root file system")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(rustix::fs::CWD, place, flags).step(|| "detach the overlay root file system")
}

/// Finds the deepest directory above all layers, so that their paths in the one page of options can be short.
fn common_directory(overlay: &OverlayRootfs) -> PathBuf {
    let mut layers = overlay.lower.iter().chain(&overlay.upper).chain(&overlay.work);
    let mut common =
        layers.next().and_then(|layer| layer.parent()).unwrap_or_else(|| Path::new("/")).to_path_buf();
    for layer in layers {
        while !layer.starts_with(&common) && common.pop() {}
    }
    common
}

fn legacy_options(overlay: &OverlayRootfs, base: &Path) -> OsString {
    let relative = |path: &Path| path.strip_prefix(base).unwrap_or(path).as_os_str().to_owned();
    let mut data = OsString::from("lowerdir=");
    for (index, lower) in overlay.lower.iter().enumerate() {
        if index > 0 {
            data.push(":");
        }
        data.push(escape_layer(&relative(lower)));
    }
    for (key, path) in [("upperdir", &overlay.upper), ("workdir", &overlay.work)] {
        if let Some(path) = path {
            data.push(format!(",{key}="));
            data.push(relative(path));
        }
    }
    for (key, value) in &overlay.options {
        data.push(format!(",{key}"));
        if let Some(value) = value {
            data.push(format!("={value}"));
        }
    }
    data
}

/// Protects the separators of the option syntax.
fn escape_layer(path: &OsString) -> OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut escaped = Vec::with_capacity(path.len());
    for byte in path.as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    OsString::from_vec(escaped)
}

/// Tells whether the kernel refused an option rather than its value; kept for the tests of the fallback.
#[cfg(test)]
pub(crate) fn open_overlay_the_old_way(overlay: &OverlayRootfs) -> Result<OwnedFd> {
    open_overlay_by_mounting(overlay)
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn overlay() -> OverlayRootfs {
        OverlayRootfs {
            lower: vec![PathBuf::from("/l/a:b/diff"), PathBuf::from("/l/c/diff")],
            upper: Some(PathBuf::from("/l/u/diff")),
            work: Some(PathBuf::from("/l/u/work")),
            options: vec![("index".to_owned(), Some("off".to_owned())), ("userxattr".to_owned(), None)],
        }
    }

    #[test]
    fn old_style_options_are_short_and_escaped() {
        let overlay = overlay();
        let base = common_directory(&overlay);
        assert_eq!(base, Path::new("/l"));
        assert_eq!(
            legacy_options(&overlay, &base),
            "lowerdir=a\\:b/diff:c/diff,upperdir=u/diff,workdir=u/work,index=off,userxattr"
        );
    }

    #[test]
    fn both_ways_to_mount_an_overlay_give_a_detached_root() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: mounting an overlay needs root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        // The test's own directory may be on an overlay, which cannot hold an upper layer.
        let layer = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let overlay = OverlayRootfs {
            lower: vec![layer("a"), layer("b")],
            upper: Some(layer("up")),
            work: Some(layer("work")),
            options: Vec::new(),
        };
        std::fs::write(directory.path().join("b/seen"), "").unwrap();
        for root in [open_overlay(&overlay).unwrap(), open_overlay_the_old_way(&overlay).unwrap()] {
            assert!(rustix::fs::statat(&root, "seen", rustix::fs::AtFlags::empty()).is_ok());
            assert_eq!(
                rustix::fs::statat(&root, "none", rustix::fs::AtFlags::empty()).unwrap_err(),
                Errno::NOENT
            );
        }
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(&*directory.path().to_string_lossy()), "{table}");
    }
}
