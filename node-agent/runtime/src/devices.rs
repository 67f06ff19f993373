//! The device nodes and links of a container's `/dev`.
//!
//! Start reading at [`DevicePlan::resolve`] (pure) and [`populate`]. Nodes are made by mknod; where a user namespace forbids
//! that, the host's node is attached over an empty file instead, after it has been checked to be the device that it
//! stands for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};
use rustix::fs::{AtFlags, Dev, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::Errno;

use crate::attach::attach;
use crate::error::{Context, Result, RuntimeError};
use crate::mount_options::Depth;
use crate::mounts::{DetachedMount, set_propagation};
use crate::paths::{MountPoint, RootDirectory, clean_absolute};

/// One node to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DevicePlan {
    pub(crate) path: PathBuf,
    pub(crate) kind: FileType,
    pub(crate) device: Dev,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The devices that every container has (runtime spec, "Default Devices").
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
];

/// The links that every container has.
const LINKS: [(&str, &str); 4] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
];

impl DevicePlan {
    /// Works out the nodes of a spec, the default ones first unless the spec has its own at the same path.
    pub(crate) fn resolve(linux: Option<&Linux>) -> Result<Vec<Self>> {
        let own = linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
        let own = own.iter().map(Self::of).collect::<Result<Vec<_>>>()?;
        let mut plans: Vec<Self> = DEFAULTS
            .iter()
            .filter(|(path, _, _)| own.iter().all(|device| device.path != Path::new(path)))
            .map(|(path, major, minor)| Self {
                path: PathBuf::from(path),
                kind: FileType::CharacterDevice,
                device: makedev(*major, *minor),
                mode: 0o666,
                uid: 0,
                gid: 0,
            })
            .collect();
        plans.extend(own);
        Ok(plans)
    }

    fn of(device: &LinuxDevice) -> Result<Self> {
        let path = clean_absolute(device.path());
        let kind = match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::P => FileType::Fifo,
            LinuxDeviceType::A => {
                return Err(RuntimeError::InvalidSpec(format!("linux.devices: {path:?} has no single type")));
            }
        };
        let number = |number: i64| {
            u32::try_from(number).map_err(|_| {
                RuntimeError::InvalidSpec(format!("linux.devices: {path:?} has the number {number}"))
            })
        };
        let device_number = if kind == FileType::Fifo {
            0
        } else {
            makedev(number(device.major())?, number(device.minor())?)
        };
        Ok(Self {
            kind,
            device: device_number,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
            path,
        })
    }
}

/// The host's nodes, opened for containers that cannot make their own.
#[derive(Debug, Default)]
pub(crate) struct HostDevices {
    nodes: Vec<(PathBuf, DetachedMount)>,
}

impl HostDevices {
    /// Opens the host's node for each plan and checks that it is that device.
    pub(crate) fn open(plans: &[DevicePlan]) -> Result<Self> {
        let mut nodes = Vec::with_capacity(plans.len());
        for plan in plans.iter().filter(|plan| plan.kind != FileType::Fifo) {
            let node = DetachedMount::clone_of(&plan.path, Depth::One)?;
            let status = rustix::fs::statat(&node.fd, "", AtFlags::EMPTY_PATH)
                .step(|| format!("stat {}", plan.path.display()))?;
            if node.root != plan.kind || status.st_rdev != plan.device {
                return Err(RuntimeError::InvalidSpec(format!(
                    "{:?} of the host is not the device that the container asks for",
                    plan.path
                )));
            }
            set_propagation(&node.fd, &[]).step(|| format!("make {} private", plan.path.display()))?;
            nodes.push((plan.path.clone(), node));
        }
        Ok(Self { nodes })
    }
}

impl HostDevices {
    /// Lists the descriptors that the container's side needs.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.nodes.iter().map(|(_, node)| node.fd.as_fd())
    }
}

/// Makes nodes and links in the root; `proc` is the host's procfs. The caller has cleared the umask.
pub(crate) fn populate(
    root: &RootDirectory,
    plans: &[DevicePlan],
    host: &HostDevices,
    proc: &OwnedFd,
) -> Result<()> {
    let dev = root.make_directories(Path::new("/dev"))?;
    for plan in plans {
        let given = host.nodes.iter().find(|(path, _)| *path == plan.path);
        match given {
            Some((path, node)) => {
                let place = root.open_mount_point(path, MountPoint::File)?;
                attach(&node.fd, &place, path)?;
            }
            None => make_node(root, &dev, plan)?,
        }
    }
    for (link, target) in LINKS {
        make_link(root, link, target)?;
    }
    // Only where the kernel offers it, as runc does.
    if rustix::fs::statat(proc, "kcore", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        make_link(root, "dev/core", "/proc/kcore")?;
    }
    make_ptmx(root)
}

fn make_node(root: &RootDirectory, dev: &OwnedFd, plan: &DevicePlan) -> Result<()> {
    let describe = || format!("create device {}", plan.path.display());
    let name = plan.path.file_name().unwrap_or_default();
    let parent = plan.path.parent().unwrap_or_else(|| Path::new("/"));
    let opened;
    let directory = if parent == Path::new("/dev") {
        dev.as_fd()
    } else {
        opened = root.make_directories(parent)?;
        opened.as_fd()
    };
    match rustix::fs::mknodat(directory, name, plan.kind, Mode::from_raw_mode(plan.mode), plan.device) {
        Ok(()) => {}
        Err(Errno::EXIST) => return check_existing(directory, plan),
        Err(other) => return Err(RuntimeError::step(describe(), other)),
    }
    if (plan.uid, plan.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(plan.uid), Gid::from_raw(plan.gid));
        rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .step(describe)?;
    }
    Ok(())
}

/// A node that the image brought along may stay if it is the same device; anything else could be a trap.
fn check_existing(directory: impl AsFd, plan: &DevicePlan) -> Result<()> {
    let name = plan.path.file_name().unwrap_or_default();
    let status = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .step(|| format!("stat device {}", plan.path.display()))?;
    if FileType::from_raw_mode(status.st_mode) == plan.kind && status.st_rdev == plan.device {
        return Ok(());
    }
    Err(RuntimeError::InvalidSpec(format!("{:?} exists and is another device or file", plan.path)))
}

fn make_link(root: &RootDirectory, link: &str, target: &str) -> Result<()> {
    let link = Path::new(link);
    let describe = || format!("create link {}", link.display());
    let parent = root
        .open(link.parent().unwrap_or_else(|| Path::new("/")), OFlags::PATH | OFlags::DIRECTORY)
        .step(describe)?;
    match rustix::fs::symlinkat(target, &parent, link.file_name().unwrap_or_default()) {
        Err(Errno::EXIST) => Ok(()),
        other => other.step(describe),
    }
}

/// Makes `/dev/ptmx` lead to the container's own devpts.
fn make_ptmx(root: &RootDirectory) -> Result<()> {
    let dev = root.open(Path::new("/dev"), OFlags::PATH | OFlags::DIRECTORY).step(|| "open /dev")?;
    match rustix::fs::unlinkat(&dev, "ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(other) => return Err(RuntimeError::step("remove the image's /dev/ptmx", other)),
    }
    rustix::fs::symlinkat("pts/ptmx", &dev, "ptmx").step(|| "create link /dev/ptmx")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_of_the_spec_replaces_the_default_at_its_path() {
        let linux: Linux = serde_json::from_str(
            r#"{"devices":[{"path":"/dev/../dev/null","type":"c","major":1,"minor":3,"fileMode":384,"uid":7},
                           {"path":"/dev/pipe","type":"p"}]}"#,
        )
        .unwrap();
        let plans = DevicePlan::resolve(Some(&linux)).unwrap();
        assert_eq!(plans.len(), DEFAULTS.len() + 1);
        let null = plans.iter().find(|plan| plan.path == Path::new("/dev/null")).unwrap();
        assert_eq!((null.mode, null.uid, null.device), (0o600, 7, makedev(1, 3)));
    }

    #[test]
    fn devices_without_a_number_are_refused() {
        let linux: Linux =
            serde_json::from_str(r#"{"devices":[{"path":"/dev/x","type":"c","major":-1,"minor":3}]}"#)
                .unwrap();
        assert!(DevicePlan::resolve(Some(&linux)).is_err());
    }
}
