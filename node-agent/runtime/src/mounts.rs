//! The mounts of a container as a plan, and their sources opened as detached mounts by the creating process.
//!
//! Start reading at [`MountPlan::resolve`] (pure), then [`PreparedMount::open`]. A bind mount's source is cloned here, with the
//! caller's rights and in the caller's view, into a mount that is attached nowhere: the container's side
//! (`attach.rs`) only hangs it in, and a killed container leaves nothing behind. File systems of their own are made by the
//! container's side, because proc, sysfs, mqueue and cgroup belong to its namespaces.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, Mount};
use rustix::fs::{AtFlags, CWD, FileType};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Context, Result, RuntimeError};
use crate::idmap;
use crate::mount_options::{Depth, IDMAP, MountOptions};
use crate::paths::clean_absolute;
use crate::sys::{self, MountAttributes};

/// One mount of a container.
#[derive(Debug, Clone)]
pub(crate) struct MountPlan {
    /// Where it goes, absolute and without `.` and `..`, seen from the container's root.
    pub(crate) destination: PathBuf,
    /// What it is.
    pub(crate) kind: MountKind,
    /// Its options.
    pub(crate) options: MountOptions,
    /// The mappings of an idmapped mount: uid and gid.
    pub(crate) mappings: Option<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MountKind {
    /// A part of the host's tree.
    Bind {
        /// The path in the caller's view.
        source: PathBuf,
        /// Whether mounts below it come along.
        depth: Depth,
    },
    /// A file system of its own.
    FileSystem {
        /// Its name as in `/proc/filesystems`.
        name: String,
        /// What the mount table shows as its source.
        source: String,
    },
    /// The container's view of the cgroup hierarchies.
    Cgroup,
    /// A change to a mount that is there already.
    Remount,
}

impl MountPlan {
    /// Works out a plan from a mount of the spec.
    pub(crate) fn resolve(mount: &Mount, bundle: &Path) -> Result<Self> {
        let words = mount.options().as_deref().unwrap_or_default().iter().map(String::as_str);
        let options = MountOptions::parse(words);
        let destination = clean_absolute(mount.destination());
        let name = mount.typ().as_deref().unwrap_or_default();
        let source = mount.source().clone().unwrap_or_default();
        let kind = if options.remount {
            MountKind::Remount
        } else if let Some(depth) = options.bind.or_else(|| (name == "bind").then_some(Depth::One)) {
            options.refuse_data(&destination.to_string_lossy())?;
            if source.as_os_str().is_empty() {
                return Err(RuntimeError::InvalidSpec(format!(
                    "bind mount at {destination:?} has no source"
                )));
            }
            MountKind::Bind { source: bundle.join(source), depth }
        } else if name.is_empty() || name == "none" {
            return Err(RuntimeError::InvalidSpec(format!("mount at {destination:?} has no type")));
        } else if name == "cgroup" || name == "cgroup2" {
            MountKind::Cgroup
        } else {
            MountKind::FileSystem { name: name.to_owned(), source: source.to_string_lossy().into_owned() }
        };
        refuse_inside_proc(&destination, &kind)?;
        let mappings = resolve_mappings(mount, &options, &destination)?;
        Ok(Self { destination, kind, options, mappings })
    }
}

/// What runc allows below /proc: files that tools like lxcfs replace.
const ALLOWED_IN_PROC: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Refuses a mount that would redirect what the runtime itself writes below /proc.
fn refuse_inside_proc(destination: &Path, kind: &MountKind) -> Result<()> {
    let inside = destination.starts_with("/proc") && destination != Path::new("/proc");
    let allowed = ALLOWED_IN_PROC.iter().any(|allowed| destination == Path::new(allowed));
    if inside && !allowed && *kind != MountKind::Remount {
        return Err(RuntimeError::InvalidSpec(format!(
            "{destination:?} cannot be mounted because it is inside /proc"
        )));
    }
    Ok(())
}

type Mappings = (Vec<LinuxIdMapping>, Vec<LinuxIdMapping>);

fn resolve_mappings(mount: &Mount, options: &MountOptions, destination: &Path) -> Result<Option<Mappings>> {
    let uid = mount.uid_mappings().clone().unwrap_or_default();
    let gid = mount.gid_mappings().clone().unwrap_or_default();
    match (uid.is_empty(), gid.is_empty()) {
        (true, true) if options.idmap.is_none() => Ok(None),
        (false, false) => Ok(Some((uid, gid))),
        _ => Err(RuntimeError::InvalidSpec(format!(
            "idmapped mount at {destination:?} needs both uidMappings and gidMappings"
        ))),
    }
}

/// A mount of the plan with its source opened.
#[derive(Debug)]
pub(crate) struct PreparedMount {
    pub(crate) plan: MountPlan,
    /// The detached mount, for bind mounts.
    pub(crate) detached: Option<DetachedMount>,
}

impl PreparedMount {
    /// Opens the source and gives the detached mount its attributes.
    pub(crate) fn open(plan: MountPlan) -> Result<Self> {
        let detached = match &plan.kind {
            MountKind::Bind { source, depth } => {
                let detached = DetachedMount::clone_of(source, *depth)?;
                detached.configure(&plan)?;
                Some(detached)
            }
            MountKind::FileSystem { .. } | MountKind::Cgroup | MountKind::Remount => None,
        };
        Ok(Self { plan, detached })
    }
}

/// A mount that is attached nowhere yet.
#[derive(Debug)]
pub(crate) struct DetachedMount {
    pub(crate) fd: OwnedFd,
    /// What its root is: a directory can only be attached to a directory, a file only to a file.
    pub(crate) root: FileType,
}

impl DetachedMount {
    /// Clones the tree below `source`, following symbolic links as the caller sees them.
    pub(crate) fn clone_of(source: &Path, depth: Depth) -> Result<Self> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if depth == Depth::Tree {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let fd = open_tree(CWD, source, flags).step(|| format!("open mount source {}", source.display()))?;
        Self::of(fd, source)
    }

    fn of(fd: OwnedFd, source: &Path) -> Result<Self> {
        let status = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)
            .step(|| format!("stat mount source {}", source.display()))?;
        Ok(Self { fd, root: FileType::from_raw_mode(status.st_mode) })
    }

    /// Sets flags, propagation and id mappings while nobody can see the mount.
    fn configure(&self, plan: &MountPlan) -> Result<()> {
        let describe = || format!("set the attributes of the mount at {}", plan.destination.display());
        if let Some((uid, gid)) = &plan.mappings {
            let userns = idmap::user_namespace(uid, gid)?;
            let attributes = MountAttributes {
                set: IDMAP,
                userns: u64::from(std::os::fd::AsRawFd::as_raw_fd(&userns).unsigned_abs()),
                ..MountAttributes::default()
            };
            let flags = if plan.options.idmap == Some(Depth::Tree) { libc::AT_RECURSIVE } else { 0 };
            sys::mount_setattr(&self.fd, flags, attributes).step(describe)?;
        }
        set_propagation(&self.fd, &plan.options.propagation).step(describe)?;
        set_attributes(&self.fd, &plan.options).step(describe)
    }
}

/// Sets the flags of a mount, those for the mount itself last.
pub(crate) fn set_attributes(fd: impl AsFd, options: &MountOptions) -> std::io::Result<()> {
    if let Some(attributes) = options.recursive_attributes() {
        sys::mount_setattr(&fd, libc::AT_RECURSIVE, attributes)?;
    }
    if let Some(attributes) = options.attributes() {
        sys::mount_setattr(&fd, 0, attributes)?;
    }
    Ok(())
}

/// Sets the propagation of a cloned mount; private, all the way down, when nothing is asked for.
///
/// The clone starts as a peer of its source, so `shared` keeps that and `slave` still receives from it.
pub(crate) fn set_propagation(fd: impl AsFd, wanted: &[(u64, Depth)]) -> std::io::Result<()> {
    let default = [(libc::MS_PRIVATE, Depth::Tree)];
    let wanted = if wanted.is_empty() { default.as_slice() } else { wanted };
    for (propagation, depth) in wanted {
        let flags = if *depth == Depth::Tree { libc::AT_RECURSIVE } else { 0 };
        let attributes = MountAttributes { propagation: *propagation, ..MountAttributes::default() };
        sys::mount_setattr(&fd, flags, attributes)?;
    }
    Ok(())
}
