//! The node's port for files of containers.
//!
//! Start reading at the implementation of [`ContainerFiles`]. What changes something runs as a task of its own, so that a
//! client that goes away leaves nothing half done that could be completed.

use std::path::PathBuf;
use std::time::Instant;

use async_trait::async_trait;
use node_runtime::RootDirectory;
use rustix::fs::{AtFlags, OFlags, StatVfsMountFlags, StatxFlags};
use rustix::io::Errno;
use shoal_types::ImageId;
use shoal_types::container::state::ContainerState;

use super::pack::{Top, pack};
use super::path::Wanted;
use super::root::{self, Purpose, Scope};
use super::stream::produce;
use super::unpack::{Target, unpack};
use super::{Files, stat};
use crate::api::containers::ContainerView;
use crate::api::files::{
    CommitRequest, ContainerFiles, PathChange, PathStat, UnpackOptions, UnpackOwnership,
};
use crate::api::{ByteSource, ByteStream};
use crate::containers::mounter::read_all;
use crate::containers::{Handle, run_blocking};
use crate::error::NodeError;
use crate::figures::Action;
use crate::images::source::SourceReader;
use crate::layers::{Stack, changes};
use crate::runtime::user;

/// Where the runtime and the engine mount something in every container.
const OWN_PLACES: [&str; 6] = ["/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
/// Texts of Docker.
const ROOT_IS_READ_ONLY: &str = "container rootfs is marked read-only";
const VOLUME_IS_READ_ONLY: &str = "mounted volume is marked read-only";
const NO_DIRECTORY: &str = "extraction point is not a directory";

#[async_trait]
impl ContainerFiles for Files {
    async fn stat(&self, name: &str, path: &str) -> Result<PathStat, NodeError> {
        let handle = self.engine.find(name)?;
        let root = root::open(&handle, Purpose::Read, Scope::WithMounts).await?;
        let (name, path) = (name.to_owned(), path.to_owned());
        run_blocking(move || {
            let wanted = Wanted::parse(&path);
            let found =
                stat::find(&root, &wanted).map_err(|errno| stat::explain(errno, &name, &path, &wanted))?;
            Ok(stat::describe(&root, &wanted, &found))
        })
        .await?
    }

    async fn read_archive(&self, name: &str, path: &str) -> Result<(PathStat, ByteStream), NodeError> {
        let handle = self.engine.find(name)?;
        let root = root::open(&handle, Purpose::Read, Scope::WithMounts).await?;
        let (name, path) = (name.to_owned(), path.to_owned());
        let (described, top) = run_blocking(move || {
            let wanted = Wanted::parse(&path);
            let explain = |errno| stat::explain(errno, &name, &path, &wanted);
            let found = stat::find(&root, &wanted).map_err(explain)?;
            let top = Top::of(&root, &wanted, &found).map_err(explain)?;
            Ok::<_, NodeError>((stat::describe(&root, &wanted, &found), top))
        })
        .await??;
        handle.emit("archive-path", []);
        let ids = handle.ids();
        let archive = produce(move |sink| {
            pack(&top, &ids, sink).map_err(|source| NodeError::failed("pack the container's files", source))
        });
        Ok((described, archive))
    }

    async fn write_archive(
        &self,
        name: &str,
        path: &str,
        options: UnpackOptions,
        archive: ByteSource,
    ) -> Result<(), NodeError> {
        let handle = self.engine.find(name)?;
        let (name, path) = (name.to_owned(), path.to_owned());
        let work = async move {
            let root = root::open(&handle, Purpose::Write, Scope::WithMounts).await?;
            let (view, ids) = (handle.view(), handle.ids());
            let archive = SourceReader::start(archive);
            run_blocking(move || {
                let directory = extraction_point(&root, &view, &name, &path)?;
                let owner = match options.ownership {
                    UnpackOwnership::ContainerUser => container_user(&root, &view)?,
                    UnpackOwnership::FromArchive => None,
                };
                let mounts = places(&view);
                let target = Target { root: &root, directory, replace: options.replace, owner, mounts, ids };
                let unpacked = unpack(target, archive);
                release(root);
                unpacked
            })
            .await??;
            handle.emit("extract-to-dir", []);
            Ok(())
        };
        tokio::spawn(work).await.map_err(|source| NodeError::failed("unpack an archive", source))?
    }

    async fn export(&self, name: &str) -> Result<ByteStream, NodeError> {
        let handle = self.engine.find(name)?;
        refuse_half_removed(&handle, "export")?;
        let in_words = |error| NodeError::failed(format!("Error exporting container {name}"), error);
        let root = root::open(&handle, Purpose::Read, Scope::RootOnly).await.map_err(in_words)?;
        handle.emit("export", []);
        let ids = handle.ids();
        Ok(produce(move |sink| {
            let failed = |source: std::io::Error| NodeError::failed("export the container", source);
            let top = Top::everything(&root).map_err(|errno| failed(errno.into()))?;
            pack(&top, &ids, sink).map_err(failed)
        }))
    }

    async fn changes(&self, name: &str) -> Result<Vec<PathChange>, NodeError> {
        let start = Instant::now();
        let handle = self.engine.find(name)?;
        let rootfs = handle.rootfs().await?;
        let hidden = places(&handle.view());
        let stack = Stack { lowers: rootfs.lowers, upper: rootfs.upper, work: rootfs.work, ids: rootfs.ids };
        let found = run_blocking(move || Ok(changes(&stack, &hidden)?)).await?;
        self.engine.figures().noted(Action::ContainerChanges, start, found)
    }

    async fn commit(&self, name: &str, request: CommitRequest) -> Result<ImageId, NodeError> {
        let handle = self.engine.find(name)?;
        refuse_half_removed(&handle, "commit")?;
        let (files, start) = (self.clone(), Instant::now());
        let committed = tokio::spawn(async move { files.commit_container(&handle, request).await })
            .await
            .map_err(|source| NodeError::failed("commit a container", source))?;
        self.engine.figures().noted(Action::ContainerCommit, start, committed)
    }
}

/// Where something is mounted in a container while it runs.
fn places(view: &ContainerView) -> Vec<PathBuf> {
    let wanted = view.mounts.iter().map(|mount| mount.destination.as_str());
    OWN_PLACES.into_iter().chain(wanted).map(PathBuf::from).collect()
}

fn refuse_half_removed(handle: &Handle, verb: &str) -> Result<(), NodeError> {
    let how = match handle.view().state {
        ContainerState::Dead { .. } => "is Dead",
        ContainerState::Removing { .. } => "is being removed",
        _ => return Ok(()),
    };
    Err(NodeError::conflict(format!("You cannot {verb} container {} which {how}", handle.id())))
}

/// The directory to unpack into, free of links; refuses what is no directory and what cannot be written to.
fn extraction_point(
    root: &RootDirectory,
    view: &ContainerView,
    name: &str,
    path: &str,
) -> Result<String, NodeError> {
    let wanted = Wanted::parse(path);
    let explain = |errno| match errno {
        Errno::NOTDIR => NodeError::invalid(NO_DIRECTORY),
        errno => stat::explain(errno, name, path, &wanted),
    };
    let directory = root.open(wanted.path.as_ref(), OFlags::PATH | OFlags::DIRECTORY).map_err(explain)?;
    let mount = |fd| {
        rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|found| found.stx_mnt_id)
    };
    let top = root.open("/".as_ref(), OFlags::PATH | OFlags::DIRECTORY).map_err(explain)?;
    let is_in_root = mount(&directory).map_err(explain)? == mount(&top).map_err(explain)?;
    let flags = rustix::fs::fstatvfs(&directory).map_err(explain)?.f_flag;
    if is_in_root && view.spec.security.readonly_rootfs {
        return Err(NodeError::invalid(ROOT_IS_READ_ONLY));
    }
    if !is_in_root && flags.contains(StatVfsMountFlags::RDONLY) {
        return Err(NodeError::invalid(VOLUME_IS_READ_ONLY));
    }
    Ok(stat::resolve(root, &wanted.path))
}

/// Whom the container runs as; `None` if nobody has said so, then files keep the archive's owners.
fn container_user(root: &RootDirectory, view: &ContainerView) -> Result<Option<(u32, u32)>, NodeError> {
    let wish = &view.spec.process.user;
    if wish.is_empty() {
        return Ok(None);
    }
    let files = read_all(root, &user::FILES.map(PathBuf::from))?;
    let found = user::resolve(wish, &[], &user::Accounts::parse(&files))?;
    Ok(Some((found.uid, found.gid)))
}

/// Closes a tree that was written to: the kernel may write all of it to disk first, which no client waits for.
fn release(root: RootDirectory) {
    tokio::task::spawn_blocking(move || drop(root));
}
