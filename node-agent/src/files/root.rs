//! The files of one container as one tree: its root with its volumes and binds in place.
//!
//! Start reading at [`open`]. A running container's mounts are copied from its own mount namespace, so that what it has in
//! memory (tmpfs) is seen too; a stopped one's are made as at a start. Either way the tree is attached nowhere, is gone
//! with its descriptor, and holds neither /proc nor /sys nor /dev.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use node_runtime::trees::{self, Branch, BranchAccess, BranchDepth, MissingPlace};
use node_runtime::{RootDirectory, RuntimeError};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use shoal_types::container::mounts::{BindRecursion, MountAccess, MountSource};
use shoal_types::container::state::ContainerState;

use crate::containers::Handle;
use crate::containers::mounter::{open_rootfs, open_rootfs_for_reading};
use crate::containers::mounts::of_view;
use crate::containers::ports::{HostMount, ResolvedMount};
use crate::containers::run_blocking;
use crate::error::NodeError;

/// Files that the engine binds into every container with a network of its own.
const NETWORK_FILES: [(&str, &str); 3] =
    [("/etc/hosts", "hosts"), ("/etc/hostname", "hostname"), ("/etc/resolv.conf", "resolv.conf")];
/// How often a container may be started or ended while we try to get hold of its files.
const ATTEMPTS: usize = 5;

/// What the tree is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Nothing is written.
    Read,
    /// Files are written.
    Write,
}

/// What belongs to the tree beside the root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Volumes, binds and the files of the network.
    WithMounts,
    /// Nothing.
    RootOnly,
}

/// Opens the tree of a container.
pub(super) async fn open(
    handle: &Handle,
    purpose: Purpose,
    scope: Scope,
) -> Result<RootDirectory, NodeError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let view = handle.view();
        let opened = match (&view.state, view.state.run()) {
            (ContainerState::Removing { .. }, _) => {
                return Err(NodeError::NoSuchContainer(handle.id().to_string()));
            }
            (_, Some(run)) => open_running(handle, run.pid, scope).await,
            (_, None) => open_stopped(handle, purpose, scope).await,
        };
        // Whatever was opened is this container's only if it was in the same run before and after.
        let is_settled = handle.view().state.run() == view.state.run();
        match opened {
            Ok(tree) if is_settled => return Ok(RootDirectory::new(tree)),
            Err(error) if is_settled && !is_gone(&error) || attempts == ATTEMPTS => return Err(error),
            _ if attempts == ATTEMPTS => {
                return Err(NodeError::conflict(format!(
                    "container {} is being started or stopped",
                    handle.id()
                )));
            }
            // The owner has yet to learn that the process has ended.
            _ => tokio::task::yield_now().await,
        }
    }
}

fn is_gone(error: &NodeError) -> bool {
    let NodeError::Failed { source, .. } = error else { return false };
    match source.downcast_ref::<RuntimeError>() {
        Some(RuntimeError::Step { source, .. }) => source.raw_os_error() == Some(Errno::SRCH.raw_os_error()),
        _ => source.downcast_ref::<Errno>() == Some(&Errno::SRCH),
    }
}

async fn open_running(handle: &Handle, pid: u32, scope: Scope) -> Result<OwnedFd, NodeError> {
    let mut paths = Vec::new();
    if scope == Scope::WithMounts {
        let view = handle.view();
        paths.extend(view.mounts.iter().map(|mount| PathBuf::from(&mount.destination)));
        paths.extend(NETWORK_FILES.iter().map(|(path, _)| PathBuf::from(path)));
        paths.sort();
        paths.dedup();
    }
    run_blocking(move || {
        let process = open_process(pid)
            .map_err(|errno| NodeError::failed(format!("open the container's process {pid}"), errno))?;
        trees::copy_of(process.as_fd(), &paths)
            .map_err(|source| NodeError::failed("open the container's file systems", source))
    })
    .await?
}

/// Takes hold of a container's process. One that shares the daemon's mounts is none: the pid has been reused.
fn open_process(pid: u32) -> Result<OwnedFd, Errno> {
    let known = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let process = rustix::process::pidfd_open(known, PidfdFlags::empty())?;
    let namespace = |of: &str| {
        let found = std::fs::metadata(format!("/proc/{of}/ns/mnt")).map_err(|_| Errno::SRCH)?;
        Ok::<_, Errno>((found.dev(), found.ino()))
    };
    let is_ours = namespace(&pid.to_string())? == namespace("self")?;
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    let has_ended = rustix::event::poll(&mut ended, Some(&Timespec::default()))? > 0;
    if is_ours || has_ended { Err(Errno::SRCH) } else { Ok(process) }
}

async fn open_stopped(handle: &Handle, purpose: Purpose, scope: Scope) -> Result<OwnedFd, NodeError> {
    let rootfs = handle.rootfs().await?;
    let lent = match scope {
        Scope::WithMounts => Lent::take(handle).await?,
        Scope::RootOnly => Lent::default(),
    };
    let branches = lent.branches.clone();
    let opened = run_blocking(move || {
        let assemble = |root, missing| {
            trees::assemble(root, &branches, missing)
                .map_err(|source| NodeError::failed("put together the container's file systems", source))
        };
        if purpose == Purpose::Read {
            match assemble(open_rootfs_for_reading(&rootfs)?, MissingPlace::Refuse) {
                // A container that never ran lacks the places of its mounts.
                Err(error) if lacks_place(&error) => {}
                other => return other,
            }
        }
        assemble(open_rootfs(&rootfs)?, MissingPlace::Make)
    })
    .await;
    // The tree has mounts of its own by now.
    lent.give_back(handle).await;
    opened?
}

fn lacks_place(error: &NodeError) -> bool {
    let NodeError::Failed { source, .. } = error else { return false };
    let Some(RuntimeError::Step { source, .. }) = source.downcast_ref() else { return false };
    source.raw_os_error() == Some(Errno::NOENT.raw_os_error())
}

/// What volumes have lent for as long as it takes to copy their mounts.
#[derive(Default)]
struct Lent {
    branches: Vec<Branch>,
    mounts: Vec<ResolvedMount>,
}

impl Lent {
    async fn take(handle: &Handle) -> Result<Self, NodeError> {
        let mounts = of_view(&handle.view());
        let volumes = handle.volumes();
        let made = volumes.mount(handle.id(), &mounts).await?;
        let mut branches: Vec<Branch> = made.iter().map(|made| branch(made, &mounts)).collect();
        let directory = handle.directory();
        for (path, name) in NETWORK_FILES {
            let source = directory.join(name);
            let is_claimed = mounts.iter().any(|mount| mount.point.destination == path);
            // Not made before the first start.
            if !is_claimed && source.is_file() {
                branches.push(Branch {
                    destination: path.into(),
                    source,
                    depth: BranchDepth::Single,
                    access: BranchAccess::ReadWrite,
                });
            }
        }
        Ok(Self { branches, mounts })
    }

    async fn give_back(self, handle: &Handle) {
        let points: Vec<_> = self.mounts.into_iter().map(|mount| mount.point).collect();
        if points.is_empty() {
            return;
        }
        for error in handle.volumes().unmount(handle.id(), &points).await {
            tracing::warn!(container.id = %handle.id(), error = %crate::error::ErrorChain(&error), "a volume stays mounted");
        }
    }
}

fn branch(made: &HostMount, mounts: &[ResolvedMount]) -> Branch {
    let spec =
        mounts.iter().find(|mount| mount.point.destination == made.destination).and_then(|m| m.spec.as_ref());
    let recursion = match spec.map(|spec| &spec.source) {
        Some(MountSource::Bind { recursion, .. }) => *recursion,
        _ => BindRecursion::Recursive,
    };
    Branch {
        destination: PathBuf::from(&made.destination),
        source: made.source.clone(),
        depth: match recursion {
            BindRecursion::Recursive => BranchDepth::Tree,
            BindRecursion::NonRecursive => BranchDepth::Single,
        },
        access: match made.access {
            MountAccess::ReadWrite => BranchAccess::ReadWrite,
            MountAccess::ReadOnly
            | MountAccess::ReadOnlyNonRecursive
            | MountAccess::ReadOnlyForceRecursive => BranchAccess::ReadOnly,
        },
    }
}
