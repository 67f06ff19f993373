//! What containers need of volumes and of the other things that can be mounted.
//!
//! Start reading at the implementation of [`ContainerVolumes`]. A container refers to its volumes as long as it exists
//! and uses them while it runs; binds and tmpfs only pass through here to be checked.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use shoal_types::container::mounts::{
    MissingSource, MountOrigin, MountSource, MountSpec, Propagation, VolumeCopy,
};
use shoal_types::container::state::{MountKind, MountPoint};
use shoal_types::volume::VolumeSpec;
use shoal_types::{ContainerId, ErrorKind};

use super::{LOCAL_DRIVER, VolumeStore, run_blocking, subpath};
use crate::api::containers::OfVolumes;
use crate::api::volumes::OfMissing;
use crate::containers::ports::{
    ContainerVolumes, Fill, Hold, HostMount, MountWish, ResolvedMount, VolumeHolder,
};
use crate::error::NodeError;
use crate::layers::copy_tree;

/// What inspect shows as the mode of a local volume that was asked for without one; as in dockerd, not of one that the
/// image declares or another container lends.
const VOLUME_MODE: &str = "z";

#[async_trait]
impl ContainerVolumes for VolumeStore {
    async fn resolve(
        &self,
        container: ContainerId,
        wishes: Vec<MountWish>,
    ) -> Result<Vec<ResolvedMount>, NodeError> {
        // Before any volume is made: a mount that is refused must leave none behind.
        let propagations =
            wishes.iter().map(|wish| self.bind_propagation(wish)).collect::<Result<Vec<_>, _>>()?;
        let mut resolved = Vec::with_capacity(wishes.len());
        for (wish, propagation) in wishes.into_iter().zip(propagations) {
            match self.resolve_one(container, wish, propagation).await {
                Ok(mount) => resolved.push(mount),
                Err(error) => {
                    let points: Vec<MountPoint> = resolved.into_iter().map(|mount| mount.point).collect();
                    let _ =
                        ContainerVolumes::release(self, container, &points, OfVolumes::RemoveAnonymous).await;
                    return Err(error);
                }
            }
        }
        Ok(resolved)
    }

    async fn fill(
        &self,
        container: ContainerId,
        mounts: &[ResolvedMount],
        rootfs: OwnedFd,
    ) -> Result<(), NodeError> {
        for mount in mounts.iter().filter(|mount| mount.fill == Fill::IfEmpty) {
            let root_of_volume = self.mount(&mount.point.name, container).await?;
            let Ok(path) = self.narrow(container, &mount.point, root_of_volume).await else {
                // What is not there cannot be filled; the start will say so.
                self.unmount(&mount.point.name, container).await?;
                continue;
            };
            // With the dot the path is a directory; without, it is a link, which is not followed.
            let root = PathBuf::from(format!("/proc/self/fd/{}/.", rootfs.as_raw_fd()));
            let destination = mount.point.destination.clone();
            let filled = run_blocking(move || {
                if is_empty(&path) { copy_tree(&[root], &destination, &path).map(drop) } else { Ok(()) }
            })
            .await;
            let points = std::slice::from_ref(&mount.point);
            let errors = ContainerVolumes::unmount(self, container, points).await;
            errors.into_iter().next().map_or(Ok(()), Err)?;
            filled?.map_err(|source| {
                NodeError::failed(format!("fill volume {} from the image", mount.point.name), source)
            })?;
        }
        Ok(())
    }

    async fn mount(
        &self,
        container: ContainerId,
        mounts: &[ResolvedMount],
    ) -> Result<Vec<HostMount>, NodeError> {
        let mut made = Vec::with_capacity(mounts.len());
        for (place, mount) in mounts.iter().enumerate() {
            match self.mount_one(container, mount).await {
                Ok(host_mount) => made.extend(host_mount),
                Err(error) => {
                    let points: Vec<MountPoint> =
                        mounts[..place].iter().map(|mount| mount.point.clone()).collect();
                    let _ = ContainerVolumes::unmount(self, container, &points).await;
                    return Err(error);
                }
            }
        }
        Ok(made)
    }

    async fn unmount(&self, container: ContainerId, mounts: &[MountPoint]) -> Vec<NodeError> {
        let mut errors = Vec::new();
        for point in mounts.iter().filter(|point| point.kind == MountKind::Volume) {
            if !point.subpath.is_empty() {
                let target = self.subpath_target(container, &point.destination);
                match run_blocking(move || subpath::unbind(&target)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => errors.push(NodeError::failed("unmount a volume's subpath", error)),
                    Err(error) => errors.push(error),
                }
            }
            errors.extend(self.unmount(&point.name, container).await.err());
        }
        errors
    }

    async fn release(
        &self,
        container: ContainerId,
        mounts: &[MountPoint],
        volumes: OfVolumes,
    ) -> Vec<NodeError> {
        let mut errors = Vec::new();
        for point in mounts.iter().filter(|point| point.kind == MountKind::Volume) {
            self.forget(&point.name, container);
            if !point.anonymous || volumes == OfVolumes::Keep {
                errors.extend(self.keep(&point.name).await.err());
                continue;
            }
            match self.remove(&point.name, OfMissing::Succeed).await {
                // Another container has taken it over by --volumes-from.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    errors.extend(self.keep(&point.name).await.err());
                }
                outcome => errors.extend(outcome.err()),
            }
        }
        errors
    }

    async fn restore(&self, holders: Vec<VolumeHolder>) {
        let containers = holders.iter().map(|holder| holder.container).collect();
        for holder in holders {
            for point in holder.mounts.iter().filter(|point| point.kind == MountKind::Volume) {
                if !self.refer(&point.name, holder.container) {
                    tracing::warn!(
                        container.id = %holder.container,
                        volume.name = point.name,
                        "a container refers to a volume that does not exist"
                    );
                }
                if holder.hold == Hold::Uses {
                    self.adopt_use(&point.name, holder.container);
                }
            }
        }
        self.remove_abandoned(&containers).await;
        self.sweep().await;
    }
}

impl VolumeStore {
    async fn resolve_one(
        &self,
        container: ContainerId,
        wish: MountWish,
        propagation: Propagation,
    ) -> Result<ResolvedMount, NodeError> {
        let MountWish { spec, spec_index, inherited } = wish;
        if let Some(mut point) = inherited {
            if point.kind == MountKind::Volume && !self.refer(&point.name, container) {
                return Err(NodeError::Refused {
                    kind: ErrorKind::Internal,
                    message: format!("get {}: no such volume", point.name),
                });
            }
            point.access = spec.access;
            point.spec_index = None;
            return Ok(ResolvedMount { point, spec: Some(spec), fill: Fill::Never });
        }
        let mut point = MountPoint {
            kind: MountKind::Bind,
            name: String::new(),
            source: String::new(),
            destination: spec.destination.clone(),
            driver: String::new(),
            mode: spec.mode.clone(),
            access: spec.access,
            propagation: Propagation::Default,
            anonymous: false,
            subpath: String::new(),
            spec_index,
            image: None,
        };
        let mut fill = Fill::Never;
        match &spec.source {
            MountSource::Bind { path, .. } => {
                point.source.clone_from(path);
                point.propagation = propagation;
            }
            MountSource::Volume { subpath, copy, propagation, .. } => {
                let volume = self.create(volume_spec(&spec.source), Some(container)).await?;
                if *copy == VolumeCopy::FromImage {
                    fill = Fill::IfEmpty;
                }
                point.kind = MountKind::Volume;
                point.anonymous = volume.anonymous;
                point.name = volume.name;
                point.source = volume.mountpoint;
                point.driver = volume.driver;
                point.propagation = *propagation;
                point.subpath.clone_from(subpath);
                let is_asked_for = matches!(spec.origin, MountOrigin::Bind | MountOrigin::Mount);
                if point.mode.is_empty() && is_asked_for && point.driver == LOCAL_DRIVER {
                    VOLUME_MODE.clone_into(&mut point.mode);
                }
            }
            MountSource::Tmpfs { .. } => point.kind = MountKind::Tmpfs,
            MountSource::Image { .. } => {
                return Err(not_a_volume(&spec.destination));
            }
            MountSource::VolumesFrom { container } => {
                return Err(NodeError::failed(
                    "resolve mounts",
                    format!("volumes of {container} were not looked up"),
                ));
            }
        }
        Ok(ResolvedMount { point, spec: Some(spec), fill })
    }

    /// How a bind travels, if what is wished for is one and can be had.
    fn bind_propagation(&self, wish: &MountWish) -> Result<Propagation, NodeError> {
        let MountSource::Bind { path, propagation, missing, .. } = &wish.spec.source else {
            return Ok(Propagation::Default);
        };
        if wish.inherited.is_some() {
            return Ok(Propagation::Default);
        }
        if *missing == MissingSource::Refuse {
            check_bind_source(path)?;
        }
        propagation_near(&self.shared.data_root, path, *propagation)
    }

    async fn mount_one(
        &self,
        container: ContainerId,
        mount: &ResolvedMount,
    ) -> Result<Option<HostMount>, NodeError> {
        let point = &mount.point;
        let source = match point.kind {
            MountKind::Tmpfs => return Ok(None),
            MountKind::Bind => {
                make_missing(&point.source, mount.spec.as_ref(), self.shared.local.owner()).await?;
                PathBuf::from(&point.source)
            }
            MountKind::Volume => {
                let root = self.mount(&point.name, container).await?;
                match self.narrow(container, point, root).await {
                    Ok(path) => path,
                    Err(error) => {
                        let _ = self.unmount(&point.name, container).await;
                        return Err(error);
                    }
                }
            }
            MountKind::Image => return Err(not_a_volume(&point.destination)),
        };
        Ok(Some(HostMount { destination: point.destination.clone(), source, access: point.access }))
    }

    /// The path to bind of a volume: its root, or a directory in it that cannot be exchanged for another meanwhile.
    async fn narrow(
        &self,
        container: ContainerId,
        point: &MountPoint,
        root: PathBuf,
    ) -> Result<PathBuf, NodeError> {
        if point.subpath.is_empty() {
            return Ok(root);
        }
        let target = self.subpath_target(container, &point.destination);
        let (wanted, bound) = (point.subpath.clone(), target.clone());
        run_blocking(move || subpath::bind(&root, &wanted, &bound))
            .await?
            .map_err(|source| subpath::unreachable(&point.subpath, &source))?;
        Ok(target)
    }
}

/// Images are mounted by [`super::ImageMounts`], through which everybody comes here.
fn not_a_volume(destination: &str) -> NodeError {
    NodeError::failed("mount a volume", format!("{destination} is the content of an image"))
}

fn volume_spec(source: &MountSource) -> VolumeSpec {
    let MountSource::Volume { name, driver, options, labels, .. } = source else {
        return VolumeSpec::default();
    };
    let given = |pairs: &BTreeMap<String, String>| (!pairs.is_empty()).then(|| pairs.clone());
    VolumeSpec { name: name.clone(), driver: driver.clone(), options: given(options), labels: given(labels) }
}

/// How a bind travels that shows the daemon's root, or lies in it: a private copy of what is mounted there would keep it
/// busy when the daemon wants to be rid of it.
fn propagation_near(data_root: &Path, path: &str, wanted: Propagation) -> Result<Propagation, NodeError> {
    if !Path::new(path).starts_with(data_root) && !data_root.starts_with(path) {
        return Ok(wanted);
    }
    let name = match wanted {
        Propagation::Default => return Ok(Propagation::Rslave),
        Propagation::Rslave | Propagation::Rshared => return Ok(wanted),
        Propagation::Private => "private",
        Propagation::Rprivate => "rprivate",
        Propagation::Shared => "shared",
        Propagation::Slave => "slave",
    };
    Err(NodeError::invalid(format!(
        "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within the daemon root, daemon root: {data_root:?}, bind mount source: {path:?}, propagation: {name:?}"
    )))
}

fn check_bind_source(path: &str) -> Result<(), NodeError> {
    // One stat of a path that the client has just named; a hanging network mount would hang the start as well.
    if Path::new(path).symlink_metadata().is_ok() {
        return Ok(());
    }
    Err(NodeError::invalid(format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {path}"
    )))
}

/// Makes the directory of a bind that `-v` asked for and that does not exist; what is made belongs to `owner`.
async fn make_missing(path: &str, spec: Option<&MountSpec>, owner: (u32, u32)) -> Result<(), NodeError> {
    let is_wanted = spec.is_none_or(|spec| {
        matches!(spec.source, MountSource::Bind { missing: MissingSource::CreateDirectory, .. })
    });
    let wanted = PathBuf::from(path);
    let shown = path.to_owned();
    run_blocking(move || {
        if !is_wanted || wanted.symlink_metadata().is_ok() {
            return Ok(());
        }
        let is_missing = |path: &&Path| !path.exists();
        let missing: Vec<&Path> = wanted.ancestors().take_while(is_missing).collect();
        let give = |path: &&Path| std::os::unix::fs::lchown(path, Some(owner.0), Some(owner.1));
        std::fs::create_dir_all(&wanted).and_then(|()| missing.iter().try_for_each(give)).map_err(|source| {
            NodeError::failed(format!("error while creating mount source path '{shown}'"), source)
        })
    })
    .await?
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
