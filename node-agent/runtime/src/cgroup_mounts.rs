//! The container's view of the cgroup hierarchies at `/sys/fs/cgroup`.
//!
//! Start reading at [`CgroupMounts::prepare`]. On v1 it is a tmpfs with one directory for each hierarchy: with a cgroup namespace a
//! mount of the hierarchy as the namespace sees it, without one a bind mount of the container's own directory. On v2 it is
//! the hierarchy itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use crate::attach::attach;
use crate::cgroup::Cgroup;
use crate::error::{Context, Result, RuntimeError};
use crate::mount_options::{Depth, MountOptions, NODEV, NOEXEC, NOSUID, RDONLY};
use crate::mounts::{DetachedMount, set_propagation};
use crate::sys::{self, MountAttributes};

/// What will be seen at `/sys/fs/cgroup`.
#[derive(Debug)]
pub(crate) enum CgroupMounts {
    /// The spec has no cgroup mount.
    None,
    /// The v2 hierarchy, or the container's own directory where a user namespace forbids that.
    Unified { fallback: Option<DetachedMount> },
    /// The v1 hierarchies.
    Legacy(Vec<LegacyMount>),
}

/// One v1 hierarchy.
#[derive(Debug)]
pub(crate) struct LegacyMount {
    /// The directory in the tmpfs.
    name: String,
    /// Names that point to it when several controllers share the hierarchy.
    links: Vec<String>,
    source: LegacySource,
}

#[derive(Debug)]
enum LegacySource {
    /// The container's own directory, already cloned.
    Bind(DetachedMount),
    /// A mount made in the container's cgroup namespace.
    Hierarchy { controllers: Vec<String> },
}

/// Whether the container sees the hierarchies through a cgroup namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupView {
    Namespace,
    Host,
}

impl CgroupMounts {
    /// Opens what has to be opened on the host's side; the cgroup must exist.
    pub(crate) fn prepare(cgroup: &Cgroup, view: CgroupView) -> Result<Self> {
        if cgroup.is_unified() {
            let own = cgroup.unified().filter(|_| view == CgroupView::Host);
            let fallback = own.map(|directory| private_clone(&directory.path())).transpose()?;
            return Ok(Self::Unified { fallback });
        }
        let mut mounts = Vec::with_capacity(cgroup.legacy().len());
        for directory in cgroup.legacy() {
            let name = directory
                .mount
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            let links = match directory.controllers.as_slice() {
                [_] | [] => Vec::new(),
                several => several.iter().filter(|controller| **controller != name).cloned().collect(),
            };
            let source = match view {
                CgroupView::Namespace => {
                    LegacySource::Hierarchy { controllers: directory.controllers.clone() }
                }
                CgroupView::Host => LegacySource::Bind(private_clone(&directory.path())?),
            };
            mounts.push(LegacyMount { name, links, source });
        }
        Ok(Self::Legacy(mounts))
    }

    /// Lists the descriptors that the container's side needs.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let (mounts, fallback) = match self {
            Self::Legacy(mounts) => (mounts.as_slice(), None),
            Self::Unified { fallback } => (&[] as &[LegacyMount], fallback.as_ref()),
            Self::None => (&[] as &[LegacyMount], None),
        };
        let binds = mounts.iter().filter_map(|mount| match &mount.source {
            LegacySource::Bind(detached) => Some(detached),
            LegacySource::Hierarchy { .. } => None,
        });
        binds.chain(fallback).map(|detached| detached.fd.as_fd())
    }

    /// Hangs them in at `place`; returns the mount that has to become read-only at the end.
    pub(crate) fn attach(
        &self,
        place: &OwnedFd,
        destination: &Path,
        options: &MountOptions,
    ) -> Result<Option<OwnedFd>> {
        match self {
            Self::None => Ok(None),
            Self::Unified { fallback } => {
                match (mount_hierarchy("cgroup2", &[], options), fallback) {
                    (Err(RuntimeError::Step { source, .. }), Some(own))
                        if matches!(source.raw_os_error(), Some(libc::EPERM | libc::EBUSY)) =>
                    {
                        let attributes =
                            MountAttributes { set: attributes_of(options), ..MountAttributes::default() };
                        sys::mount_setattr(&own.fd, 0, attributes)
                            .step(|| "set the options of the cgroup mount")?;
                        attach(&own.fd, place, destination)?;
                    }
                    (mount, _) => attach(&mount?, place, destination)?,
                }
                Ok(None)
            }
            Self::Legacy(mounts) => {
                let tmpfs =
                    mount_tmpfs(options).step(|| format!("mount tmpfs to {}", destination.display()))?;
                attach(&tmpfs, place, destination)?;
                for mount in mounts {
                    mount.attach(&tmpfs, destination, options)?;
                }
                Ok((options.set & RDONLY != 0).then_some(tmpfs))
            }
        }
    }
}

impl LegacyMount {
    fn attach(&self, tmpfs: &OwnedFd, destination: &Path, options: &MountOptions) -> Result<()> {
        let destination = destination.join(&self.name);
        let describe = || format!("mount cgroup to {}", destination.display());
        rustix::fs::mkdirat(tmpfs, &self.name, Mode::from_raw_mode(0o755)).step(describe)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::openat(tmpfs, &self.name, flags, Mode::empty()).step(describe)?;
        match &self.source {
            LegacySource::Bind(detached) => {
                let attributes =
                    MountAttributes { set: attributes_of(options), ..MountAttributes::default() };
                sys::mount_setattr(&detached.fd, 0, attributes).step(describe)?;
                attach(&detached.fd, &place, &destination)?;
            }
            LegacySource::Hierarchy { controllers } => {
                let mount = mount_hierarchy("cgroup", controllers, options)?;
                attach(&mount, &place, &destination)?;
            }
        }
        for link in &self.links {
            rustix::fs::symlinkat(self.name.as_str(), tmpfs, link.as_str()).step(describe)?;
        }
        Ok(())
    }
}

/// Clones a cgroup's directory as a mount that nothing of the host reaches.
fn private_clone(directory: &Path) -> Result<DetachedMount> {
    let detached = DetachedMount::clone_of(directory, Depth::One)?;
    set_propagation(&detached.fd, &[])
        .step(|| format!("make the mount of {} private", directory.display()))?;
    Ok(detached)
}

fn attributes_of(options: &MountOptions) -> u64 {
    options.set | NOSUID | NODEV | NOEXEC
}

fn mount_tmpfs(options: &MountOptions) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", "tmpfs")?;
    fsconfig_set_string(context.as_fd(), "mode", "755")?;
    fsconfig_create(context.as_fd())?;
    let attributes = attributes_of(options) & !RDONLY;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn mount_hierarchy(kind: &str, controllers: &[String], options: &MountOptions) -> Result<OwnedFd> {
    let describe = || format!("mount {kind} {controllers:?}");
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).step(describe)?;
    fsconfig_set_string(context.as_fd(), "source", "cgroup").step(describe)?;
    for controller in controllers {
        match controller.strip_prefix("name=") {
            Some(name) => {
                fsconfig_set_flag(context.as_fd(), "none").step(describe)?;
                fsconfig_set_string(context.as_fd(), "name", name).step(describe)?;
            }
            None => fsconfig_set_flag(context.as_fd(), controller.as_str()).step(describe)?,
        }
    }
    fsconfig_create(context.as_fd()).step(describe)?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes_of(options)).unwrap_or(0));
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).step(describe)
}
