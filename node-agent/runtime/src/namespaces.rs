//! Which namespaces a container makes, joins or shares, and how joining is kept from changing the caller.
//!
//! Start reading at [`NamespacePlan::resolve`] (pure). New namespaces come from clone3(2) in one step; joined ones are
//! entered by the child, except the pid namespace (which only ever affects children) and everything when a user
//! namespace is involved (a child in a new user namespace has no right to enter the host's): those the caller enters for the time of the clone
//! and leaves again ([`Visit`]).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};
use rustix::fs::{Mode, OFlags};

use crate::error::{Context, Result, RuntimeError};
use crate::sys;

/// Which namespaces a container makes and joins.
#[derive(Debug)]
pub(crate) struct NamespacePlan {
    /// `CLONE_NEW*` flags for clone3(2).
    pub(crate) clone_flags: u64,
    /// `CLONE_NEW*` flags of those that are made once the process is root of its new user namespace, whom they then
    /// belong to (the root of an IPC namespace's message queue file system does).
    pub(crate) late_flags: i32,
    /// Whether a cgroup namespace is made once the process is in its cgroup.
    pub(crate) new_cgroup: bool,
    /// Offsets of a new time namespace, as lines for `timens_offsets`.
    pub(crate) new_time: Option<String>,
    /// Namespaces to join by path, except the user namespace.
    pub(crate) joined: Vec<(LinuxNamespaceType, PathBuf)>,
    /// What becomes of the user namespace.
    pub(crate) user: UserNamespace,
}

/// What becomes of the user namespace.
#[derive(Debug)]
pub(crate) enum UserNamespace {
    /// The caller's.
    Shared,
    /// A new one with these mappings.
    New {
        /// `container_id host_id size` lines.
        uid_map: String,
        /// `container_id host_id size` lines.
        gid_map: String,
    },
    /// The one at this path.
    Joined(PathBuf),
}

impl NamespacePlan {
    /// Works out a plan, or says what is refused.
    pub(crate) fn resolve(linux: Option<&Linux>) -> Result<Self> {
        let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        let mut plan = Self {
            clone_flags: 0,
            late_flags: 0,
            new_cgroup: false,
            new_time: None,
            joined: Vec::new(),
            user: UserNamespace::Shared,
        };
        let mut seen = Vec::new();
        for namespace in namespaces {
            let kind = namespace.typ();
            if seen.contains(&kind) {
                return Err(RuntimeError::InvalidSpec(format!("linux.namespaces has {kind} twice")));
            }
            seen.push(kind);
            match (kind, namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty())) {
                (LinuxNamespaceType::Mount, Some(_)) => {
                    return Err(RuntimeError::Unsupported("joining a mount namespace at create".to_owned()));
                }
                (LinuxNamespaceType::User, Some(path)) => plan.user = UserNamespace::Joined(path.clone()),
                (LinuxNamespaceType::User, None) => {
                    plan.clone_flags |= flag(kind);
                    plan.user = UserNamespace::New {
                        uid_map: mapping_lines(
                            linux.and_then(|linux| linux.uid_mappings().as_deref()),
                            "uid",
                        )?,
                        gid_map: mapping_lines(
                            linux.and_then(|linux| linux.gid_mappings().as_deref()),
                            "gid",
                        )?,
                    };
                }
                (_, Some(path)) => plan.joined.push((kind, path.clone())),
                (LinuxNamespaceType::Cgroup, None) => plan.new_cgroup = true,
                (LinuxNamespaceType::Time, None) => plan.new_time = Some(time_offsets(linux)),
                (_, None) => plan.clone_flags |= flag(kind),
            }
        }
        if !matches!(plan.user, UserNamespace::Shared)
            && plan.clone_flags & flag(LinuxNamespaceType::Ipc) != 0
        {
            plan.clone_flags &= !flag(LinuxNamespaceType::Ipc);
            plan.late_flags = libc::CLONE_NEWIPC;
        }
        if plan.clone_flags & flag(LinuxNamespaceType::Mount) == 0 {
            // Its mounts would appear in the host's mount namespace, which this runtime never does.
            return Err(RuntimeError::Unsupported(
                "a container without a mount namespace of its own".to_owned(),
            ));
        }
        Ok(plan)
    }

    /// Tells whether the container makes a namespace of that kind.
    pub(crate) fn creates(&self, kind: LinuxNamespaceType) -> bool {
        match kind {
            LinuxNamespaceType::Cgroup => self.new_cgroup,
            LinuxNamespaceType::Time => self.new_time.is_some(),
            LinuxNamespaceType::Ipc if self.late_flags != 0 => true,
            other => self.clone_flags & flag(other) != 0,
        }
    }

    /// Tells whether the container has a namespace of that kind that is not the caller's.
    pub(crate) fn separates(&self, kind: LinuxNamespaceType) -> bool {
        let by_path = match kind {
            LinuxNamespaceType::User => matches!(self.user, UserNamespace::Joined(_)),
            other => self.joined.iter().any(|(joined, _)| *joined == other),
        };
        by_path || self.creates(kind)
    }

    /// Opens the namespaces to join, by the side that enters them.
    pub(crate) fn open_joined(&self) -> Result<JoinedNamespaces> {
        let mut opened = JoinedNamespaces::default();
        let all_by_caller = !matches!(self.user, UserNamespace::Shared);
        for (kind, path) in &self.joined {
            let namespace = OpenedNamespace { kind: *kind, fd: open_namespace(path)? };
            if all_by_caller || *kind == LinuxNamespaceType::Pid {
                opened.by_caller.push(namespace);
            } else {
                opened.by_child.push(namespace);
            }
        }
        if let UserNamespace::Joined(path) = &self.user {
            opened.user = Some(open_namespace(path)?);
        }
        Ok(opened)
    }
}

/// A namespace to join.
#[derive(Debug)]
pub(crate) struct OpenedNamespace {
    kind: LinuxNamespaceType,
    fd: OwnedFd,
}

impl OpenedNamespace {
    /// Enters it for good; called in the child.
    pub(crate) fn enter(&self) -> Result<()> {
        sys::setns(&self.fd, native_flag(self.kind)).step(|| format!("join the {} namespace", self.kind))
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

/// Namespaces to join, by the side that enters them.
#[derive(Debug, Default)]
pub(crate) struct JoinedNamespaces {
    pub(crate) by_caller: Vec<OpenedNamespace>,
    pub(crate) by_child: Vec<OpenedNamespace>,
    /// Needs a process in between, because there is no way back out of a user namespace.
    pub(crate) user: Option<OwnedFd>,
}

/// The caller's stay in the namespaces of a container, around one clone.
///
/// Dropping it returns to the caller's own namespaces; [`Visit::leave`] does so and reports a failure.
#[derive(Debug)]
pub(crate) struct Visit {
    own: Vec<OpenedNamespace>,
}

impl Visit {
    /// Enters the namespaces, remembering the caller's own.
    pub(crate) fn enter(namespaces: &[OpenedNamespace]) -> Result<Self> {
        let mut visit = Self { own: Vec::with_capacity(namespaces.len()) };
        for namespace in namespaces {
            let path = Path::new("/proc/self/ns").join(file_name(namespace.kind));
            visit.own.push(OpenedNamespace { kind: namespace.kind, fd: open_namespace(&path)? });
            namespace.enter()?;
        }
        Ok(visit)
    }

    /// Enters only the pid namespace of a process, for its descriptor.
    pub(crate) fn enter_pid_namespace_of(pidfd: impl AsFd) -> Result<Self> {
        let own = open_namespace(Path::new("/proc/self/ns/pid"))?;
        sys::setns(pidfd, libc::CLONE_NEWPID).step(|| "join the pid namespace of the container")?;
        Ok(Self { own: vec![OpenedNamespace { kind: LinuxNamespaceType::Pid, fd: own }] })
    }

    /// Returns to the caller's own namespaces.
    pub(crate) fn leave(mut self) -> Result<()> {
        self.return_home().step(|| "return to the caller's own namespaces")
    }

    fn return_home(&mut self) -> io::Result<()> {
        while let Some(namespace) = self.own.pop() {
            sys::setns(&namespace.fd, native_flag(namespace.kind))?;
        }
        Ok(())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // A failure here follows another that is being reported; the caller's process ends with that one.
        let _ = self.return_home();
    }
}

/// Opens a namespace file.
pub(crate) fn open_namespace(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("open the namespace {}", path.display()))
}

fn flag(kind: LinuxNamespaceType) -> u64 {
    u64::from(native_flag(kind).unsigned_abs())
}

fn native_flag(kind: LinuxNamespaceType) -> i32 {
    match kind {
        LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
        LinuxNamespaceType::User => libc::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
        LinuxNamespaceType::Network => libc::CLONE_NEWNET,
        LinuxNamespaceType::Time => CLONE_NEWTIME,
    }
}

/// From `linux/sched.h`; the libc crate lacks it.
pub(crate) const CLONE_NEWTIME: i32 = 0x80;

fn file_name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mnt",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "net",
        LinuxNamespaceType::Time => "time_for_children",
    }
}

/// Writes mappings in the form of `/proc/<pid>/uid_map`.
pub(crate) fn mapping_lines(mappings: Option<&[LinuxIdMapping]>, what: &str) -> Result<String> {
    let mappings = mappings.unwrap_or_default();
    if mappings.is_empty() {
        return Err(RuntimeError::InvalidSpec(format!("a user namespace needs linux.{what}Mappings")));
    }
    let mut lines = String::new();
    for mapping in mappings {
        use std::fmt::Write as _;
        let written = writeln!(lines, "{} {} {}", mapping.container_id(), mapping.host_id(), mapping.size());
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    }
    Ok(lines)
}

fn time_offsets(linux: Option<&Linux>) -> String {
    let mut lines = String::new();
    for (clock, offset) in linux.and_then(|linux| linux.time_offsets().as_ref()).into_iter().flatten() {
        let seconds = offset.secs().unwrap_or(0);
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        lines.push_str(&format!("{clock} {seconds} {nanoseconds}\n"));
    }
    lines
}
