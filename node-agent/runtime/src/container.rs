//! The types that a caller hands in and gets back: what to create, with which stdio, and the handle of a container.
//!
//! Start reading at [`CreateRequest`], then [`Container`]. How a container is made is in `create.rs`; how a process is
//! added to one is in `exec.rs`. Nothing here keeps state on disk: the shim owns its bundle directory, the command
//! line keeps its own state file (`state.rs`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::error::Warning;
use crate::seccomp::Program;

/// Everything that [`crate::create()`] needs to know.
#[derive(Debug)]
pub struct CreateRequest<'a> {
    /// The name of the container; used in cgroup paths, keyrings and hook states, not checked for uniqueness.
    pub id: &'a str,
    /// The bundle directory, absolute; relative paths of the spec start here.
    pub bundle: &'a Path,
    /// The configuration. `root.path` is used only with [`RootfsSource::FromSpec`].
    pub spec: &'a Spec,
    /// Where the root file system comes from.
    pub rootfs: RootfsSource,
    /// What the process gets as descriptors 0, 1 and 2.
    pub stdio: Stdio<'a>,
    /// How the created container waits for its start.
    pub gate: Gate,
    /// Where the system call filter comes from.
    pub seccomp: SeccompSource<'a>,
    /// From [`crate::empty_mounts::open`]; without it, or where the container forbids it, the caller's mounts are copied.
    pub empty_mounts: Option<BorrowedFd<'a>>,
    /// Choices of the OCI command line that have no place in the spec.
    pub options: CreateOptions,
}

impl<'a> CreateRequest<'a> {
    /// Makes a request with the choices of the embedded use: rootfs from the spec, inherited stdio, a private gate and
    /// the filter compiled from the spec.
    #[must_use]
    pub fn new(id: &'a str, bundle: &'a Path, spec: &'a Spec) -> Self {
        Self {
            id,
            bundle,
            spec,
            rootfs: RootfsSource::FromSpec,
            stdio: Stdio::Inherit,
            gate: Gate::Private,
            seccomp: SeccompSource::FromSpec,
            empty_mounts: None,
            options: CreateOptions::default(),
        }
    }
}

/// Choices of the OCI command line that have no place in the spec.
#[derive(Debug, Clone, Copy, Default)]
pub struct CreateOptions {
    /// How the old root is left behind.
    pub root_switch: RootSwitch,
    /// Whether the process gets a session keyring of its own.
    pub keyring: Keyring,
    /// How many descriptors after 2 the process keeps (`--preserve-fds`).
    pub preserved_fds: u32,
}

/// How the old root is left behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RootSwitch {
    /// pivot_root(2), the only safe way.
    #[default]
    Pivot,
    /// chroot(2) after moving the mount, for hosts that run from the initial ram disk (`--no-pivot`).
    Chroot,
}

/// Whether the process gets a session keyring of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keyring {
    /// A new session keyring named after the container.
    #[default]
    New,
    /// The caller's session keyring (`--no-new-keyring`).
    Inherited,
}

/// Where the root file system of a container comes from.
///
/// It is always attached inside the container's mount namespace only; the host never sees a mount of it, and killing
/// every process of a container leaves none behind.
#[derive(Debug, Clone)]
pub enum RootfsSource {
    /// The directory that `root.path` of the spec names.
    FromSpec,
    /// This directory, with the mounts below it.
    Path(PathBuf),
    /// An overlay of these directories.
    Overlay(OverlayRootfs),
}

/// The layers of an overlay root file system.
#[derive(Debug, Clone, Default)]
pub struct OverlayRootfs {
    /// Lower directories, the topmost first; at least one, at most 500 (kernel limit).
    pub lower: Vec<PathBuf>,
    /// The writable layer; without it the root is read-only.
    pub upper: Option<PathBuf>,
    /// An empty directory on the same file system as `upper`.
    pub work: Option<PathBuf>,
    /// More options of the overlay file system, for example `("index", Some("off"))` or `("userxattr", None)`.
    pub options: Vec<(String, Option<String>)>,
}

/// What a process gets as descriptors 0, 1 and 2.
#[derive(Debug, Clone, Copy)]
pub enum Stdio<'a> {
    /// The caller's own.
    Inherit,
    /// These, which stay the caller's property.
    Fds {
        /// Becomes descriptor 0.
        stdin: BorrowedFd<'a>,
        /// Becomes descriptor 1.
        stdout: BorrowedFd<'a>,
        /// Becomes descriptor 2.
        stderr: BorrowedFd<'a>,
    },
    /// A new pseudo terminal of the container's own devpts; its master comes back in the result.
    Terminal(TerminalSize),
}

/// The size of a terminal in characters; zero means unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// How a created container waits for its start.
#[derive(Debug)]
pub enum Gate {
    /// For [`Container::start`] of the process that created it; when that process dies, the container ends unstarted.
    Private,
    /// For a connection to this listening unix stream socket, so that another process can start it.
    Listener(OwnedFd),
}

/// Where the system call filter of a container comes from.
#[derive(Debug, Clone, Copy)]
pub enum SeccompSource<'a> {
    /// Compiled now from `linux.seccomp` of the spec (none when the spec has none); takes well under a millisecond.
    FromSpec,
    /// Compiled before from the same `linux.seccomp`; its flags and listener still come from the spec.
    Compiled(&'a Program),
}

/// What [`crate::create()`] returns: the container, waiting at its gate.
#[derive(Debug)]
pub struct Created {
    /// The handle.
    pub container: Container,
    /// The master of the pseudo terminal, with [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
    /// What was asked for and could not be had.
    pub warnings: Vec<Warning>,
}

/// A container whose init process is a child of the calling process, or was found again by its record.
///
/// The caller reaps the init process (it is an ordinary child); dropping the handle changes nothing for the container,
/// except that one which still waits at a private gate ends.
#[derive(Debug)]
pub struct Container {
    pub(crate) record: ContainerRecord,
    pub(crate) pidfd: OwnedFd,
    /// The private gate, until it was used.
    pub(crate) gate: Option<OwnedFd>,
}

/// What must be remembered to find a container again after the creating process is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// The name given at create.
    pub id: String,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// The pid of the init process in the pid namespace of the creator.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: with the pid it names one process for ever.
    pub start_time: u64,
    /// The cgroup, with its directory in every hierarchy.
    pub cgroup: Cgroup,
}

impl Container {
    /// Returns the pid of the init process in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.record.pid
    }

    /// Borrows the pid descriptor of the init process; it polls readable when the process has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Borrows the cgroup: limits, readings, freezing, OOM events.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.record.cgroup
    }

    /// Returns what must be written down to find the container again with [`Container::from_record`].
    #[must_use]
    pub fn record(&self) -> &ContainerRecord {
        &self.record
    }
}

/// Everything that [`crate::exec()`] needs to know.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// The running container.
    pub container: &'a Container,
    /// The configuration that the container was created with: namespaces, filter and limits come from it.
    pub spec: &'a Spec,
    /// The process to add. Capabilities, labels and `noNewPrivileges` are taken from it as they stand.
    pub process: &'a Process,
    /// What the process gets as descriptors 0, 1 and 2.
    pub stdio: Stdio<'a>,
    /// Where the system call filter comes from; the container's own, never none unless the spec has none.
    pub seccomp: SeccompSource<'a>,
    /// How many descriptors after 2 the process keeps (`--preserve-fds`).
    pub preserved_fds: u32,
}

/// A process that was added to a container and has been executed.
#[derive(Debug)]
pub struct ExecProcess {
    /// Its pid in the caller's pid namespace; it is a child of the caller, who reaps it.
    pub pid: i32,
    /// Polls readable when the process has ended.
    pub pidfd: OwnedFd,
    /// The master of the pseudo terminal, with [`Stdio::Terminal`].
    pub terminal: Option<OwnedFd>,
    /// What was asked for and could not be had.
    pub warnings: Vec<Warning>,
}
