//! Hangs the prepared mounts into the container's root, from inside its mount namespace.
//!
//! Start reading at [`Attacher::attach`]. Every mount point is a descriptor that was resolved within the root, and
//! mounts are moved onto descriptors, so a symbolic link that changes meanwhile leads nowhere else. Runs in the container's
//! process before its root is switched; opens nothing of the host by path.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::cgroup_mounts::CgroupMounts;
use crate::copy_up;
use crate::error::{Context, Result, RuntimeError};
use crate::mount_options::{MountOptions, RDONLY};
use crate::mounts::{MountKind, PreparedMount, set_attributes, set_propagation};
use crate::paths::{MountPoint, RootDirectory};
use crate::sys::{self, MountAttributes};

/// Hangs mounts into one container's root.
#[derive(Debug)]
pub(crate) struct Attacher<'a> {
    pub(crate) root: &'a RootDirectory,
    pub(crate) cgroups: &'a CgroupMounts,
    /// The SELinux label of the container's own file systems.
    pub(crate) label: Option<&'a str>,
    /// Mounts that become read-only once devices and mount points have been made in them.
    pub(crate) read_only_at_end: Vec<OwnedFd>,
}

/// What runc says of a directory over a file, and the other way round.
const KINDS_DIFFER: &str = "not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the \
                            specified host path exists and is the expected type";

/// File systems whose superblock may be shared with the host, or that take no label.
const WITHOUT_LABEL: [&str; 4] = ["proc", "sysfs", "mqueue", "cgroup2"];

impl Attacher<'_> {
    /// Hangs one mount in.
    pub(crate) fn attach(&mut self, prepared: &PreparedMount) -> Result<()> {
        let destination = &prepared.plan.destination;
        match (&prepared.plan.kind, &prepared.detached) {
            (MountKind::Bind { .. }, Some(detached)) => {
                let make = if detached.root == FileType::Directory {
                    MountPoint::Directory
                } else {
                    MountPoint::File
                };
                let place = self.root.open_mount_point(destination, make)?;
                refuse_procfs(&place, destination)?;
                attach(&detached.fd, &place, destination)
            }
            (MountKind::FileSystem { name, source }, _) => {
                self.mount(name, source, destination, &prepared.plan.options)
            }
            (MountKind::Cgroup, _) => {
                let place = self.root.open_mount_point(destination, MountPoint::Directory)?;
                refuse_procfs(&place, destination)?;
                if let Some(mount) = self.cgroups.attach(&place, destination, &prepared.plan.options)? {
                    self.read_only_at_end.push(mount);
                }
                Ok(())
            }
            (MountKind::Remount, _) => self.change(destination, &prepared.plan.options),
            (MountKind::Bind { .. }, None) => {
                Err(RuntimeError::InvalidSpec(format!("bind mount at {destination:?} was not prepared")))
            }
        }
    }

    fn mount(&mut self, name: &str, source: &str, destination: &Path, options: &MountOptions) -> Result<()> {
        let place = if matches!(name, "proc" | "sysfs") {
            // A link here would let the image choose where the kernel's own trees appear.
            self.open_ordinary_directory(destination)?
        } else {
            self.root.open_mount_point(destination, MountPoint::Directory)?
        };
        if name != "proc" {
            refuse_procfs(&place, destination)?;
        }
        let later = name == "tmpfs" && options.set & RDONLY != 0;
        let label = self.label.filter(|_| !WITHOUT_LABEL.contains(&name));
        let mount = new_file_system(name, source, destination, options, label)?;
        if options.copy_up {
            copy_up::copy_into(&place, &mount, destination)?;
        }
        attach(&mount, &place, destination)?;
        if !options.propagation.is_empty() {
            set_propagation(&mount, &options.propagation)
                .step(|| format!("set the propagation of {}", destination.display()))?;
        }
        if later {
            self.read_only_at_end.push(mount);
        }
        Ok(())
    }

    fn open_ordinary_directory(&self, destination: &Path) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.root.open_without_links(destination, flags) {
            Err(rustix::io::Errno::NOENT) => self.root.make_directories(destination),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => Err(RuntimeError::InvalidSpec(
                format!("filesystem at {destination:?} must be mounted on ordinary directory"),
            )),
            other => other.step(|| format!("open mount point {}", destination.display())),
        }
    }

    fn change(&self, destination: &Path, options: &MountOptions) -> Result<()> {
        let describe = || format!("remount {}", destination.display());
        // Not by O_PATH alone: the attributes of the topmost mount there are meant.
        let place = self.root.open(destination, OFlags::PATH).step(describe)?;
        set_attributes(&place, options).step(describe)?;
        if !options.propagation.is_empty() {
            set_propagation(&place, &options.propagation).step(describe)?;
        }
        if options.bind.is_some() || options.data.is_empty() {
            return Ok(());
        }
        let context = rustix::mount::fspick(
            &place,
            "",
            rustix::mount::FsPickFlags::FSPICK_CLOEXEC | rustix::mount::FsPickFlags::FSPICK_EMPTY_PATH,
        )
        .step(describe)?;
        set_data(&context, options).step(describe)?;
        rustix::mount::fsconfig_reconfigure(context.as_fd()).step(describe)
    }

    /// Makes those mounts read-only that had to stay writable while the root was filled.
    pub(crate) fn finish(self) -> Result<()> {
        let read_only = MountAttributes { set: RDONLY, ..MountAttributes::default() };
        for mount in &self.read_only_at_end {
            sys::mount_setattr(mount, 0, read_only).step(|| "make a file system read-only")?;
        }
        Ok(())
    }
}

/// Makes a file system in the calling process's namespaces, as a detached mount.
fn new_file_system(
    name: &str,
    source: &str,
    destination: &Path,
    options: &MountOptions,
    label: Option<&str>,
) -> Result<OwnedFd> {
    let describe = || format!("mount {name} to {}", destination.display());
    let context = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC).step(describe)?;
    let source = if source.is_empty() { name } else { source };
    fsconfig_set_string(context.as_fd(), "source", source).step(describe)?;
    set_data(&context, options).step(describe)?;
    if let Some(label) = label {
        fsconfig_set_string(context.as_fd(), "context", label).step(describe)?;
    }
    let read_only = options.set & RDONLY != 0 && name != "tmpfs";
    if read_only {
        fsconfig_set_flag(context.as_fd(), "ro").step(describe)?;
    }
    fsconfig_create(context.as_fd()).step(describe)?;
    let mut attributes = options.set;
    if !read_only {
        attributes &= !RDONLY;
    }
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).step(describe)?;
    if let Some(attributes) = options.recursive_attributes() {
        sys::mount_setattr(&mount, libc::AT_RECURSIVE, attributes).step(describe)?;
    }
    Ok(mount)
}

fn set_data(context: &OwnedFd, options: &MountOptions) -> rustix::io::Result<()> {
    for (key, value) in &options.data {
        match value {
            Some(value) => fsconfig_set_string(context.as_fd(), key.as_str(), value.as_str())?,
            None => fsconfig_set_flag(context.as_fd(), key.as_str())?,
        }
    }
    Ok(())
}

/// Moves a detached mount onto an opened place.
pub(crate) fn attach(mount: impl AsFd, place: impl AsFd, destination: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    let moved = move_mount(mount.as_fd(), "", place.as_fd(), "", flags);
    if moved.is_err() && is_directory(&mount) != is_directory(&place) {
        return Err(RuntimeError::InvalidSpec(format!("{}: {KINDS_DIFFER}", destination.display())));
    }
    moved.step(|| format!("attach the mount at {}", destination.display()))
}

fn is_directory(file: impl AsFd) -> bool {
    let status = rustix::fs::fstat(file.as_fd());
    status.is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory)
}

/// Refuses a place that a link of the image has led into procfs.
fn refuse_procfs(place: &OwnedFd, destination: &Path) -> Result<()> {
    // What the plan has let through by name: /proc itself and the few files that may be replaced.
    if destination.starts_with("/proc") {
        return Ok(());
    }
    let status = rustix::fs::fstatfs(place).step(|| format!("stat {}", destination.display()))?;
    if status.f_type == rustix::fs::PROC_SUPER_MAGIC {
        return Err(RuntimeError::InvalidSpec(format!(
            "{destination:?} cannot be mounted because it is inside /proc"
        )));
    }
    Ok(())
}
