//! Mounts of images: read-only views of an image's layers, in front of the volumes.
//!
//! Start reading at the implementation of [`ContainerVolumes`]. It takes the mounts of images out of what a container asks
//! for and passes everything else on. A view is an overlay without a writable layer, mounted below the runtime
//! directory while the container runs; which layers it shows is decided when the container is made, and they are
//! pinned with its root file system, so that neither another image of the same name nor a removal changes what a
//! restart shows.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use node_runtime::OverlayRootfs;
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, move_mount};
use shoal_types::container::mounts::{MountAccess, MountSource, Propagation};
use shoal_types::container::state::{MountKind, MountPoint, MountedImage};
use shoal_types::{ContainerId, ErrorKind};

use super::{run_blocking, subpath};
use crate::api::containers::OfVolumes;
use crate::containers::ports::{
    ContainerImages, ContainerVolumes, Fill, Hold, HostMount, MountWish, ResolvedMount, VolumeHolder,
};
use crate::error::NodeError;

/// What is appended to the name of a view while a part of it is being bound.
const WHOLE: &str = ".whole";

/// Volumes, with mounts of images in front of them.
#[derive(Debug)]
pub struct ImageMounts {
    volumes: Arc<dyn ContainerVolumes>,
    images: Arc<dyn ContainerImages>,
    /// Where views are mounted, `<exec-root>/image-mounts`; gone after a reboot.
    root: PathBuf,
}

impl ImageMounts {
    /// Puts mounts of images in front of `volumes`; views are mounted below `root`.
    pub fn new(volumes: Arc<dyn ContainerVolumes>, images: Arc<dyn ContainerImages>, root: PathBuf) -> Self {
        Self { volumes, images, root }
    }

    fn directory(&self, container: ContainerId) -> PathBuf {
        self.root.join(container.to_string())
    }

    async fn resolve_image(
        &self,
        container: ContainerId,
        place: usize,
        wish: MountWish,
    ) -> Result<ResolvedMount, NodeError> {
        let MountWish { spec, spec_index, inherited } = wish;
        let MountSource::Image { reference, subpath } = &spec.source else {
            return Err(NodeError::failed("mount an image", format!("{} is none", spec.destination)));
        };
        let image = match inherited.and_then(|point| point.image) {
            // What another container shows, whatever the name means by now.
            Some(image) => image,
            None => self.find(reference).await?,
        };
        let point = MountPoint {
            kind: MountKind::Image,
            name: reference.clone(),
            source: self.directory(container).join(place.to_string()).to_string_lossy().into_owned(),
            destination: spec.destination.clone(),
            driver: String::new(),
            mode: spec.mode.clone(),
            access: MountAccess::ReadOnly,
            propagation: Propagation::Default,
            anonymous: false,
            subpath: subpath.clone(),
            spec_index,
            image: Some(image),
        };
        Ok(ResolvedMount { point, spec: Some(spec), fill: Fill::Never })
    }

    async fn find(&self, reference: &str) -> Result<MountedImage, NodeError> {
        let found = self.images.resolve(reference, None).await.map_err(|error| match error.kind() {
            // *Not found* would make clients pull the container's own image and try again.
            ErrorKind::NotFound => NodeError::invalid(error.message()),
            _ => error,
        })?;
        let manifest = found.manifest.as_ref().map_or(found.id.0, |manifest| manifest.digest);
        Ok(MountedImage { id: found.id, manifest, chain: found.chain })
    }

    async fn view(&self, point: &MountPoint) -> Result<HostMount, NodeError> {
        let layers = match point.image.as_ref().and_then(|image| image.chain) {
            Some(chain) => self.images.layers(chain).await?,
            None => Vec::new(),
        };
        let (source, part) = (PathBuf::from(&point.source), point.subpath.clone());
        let target = source.clone();
        run_blocking(move || show(layers, &part, &target)).await??;
        Ok(HostMount { destination: point.destination.clone(), source, access: MountAccess::ReadOnly })
    }

    async fn end(&self, container: ContainerId, points: &[&MountPoint]) -> Vec<NodeError> {
        let targets: Vec<PathBuf> = points.iter().map(|point| PathBuf::from(&point.source)).collect();
        let directory = self.directory(container);
        let ended = run_blocking(move || {
            let errors: Vec<std::io::Error> = targets
                .iter()
                .flat_map(|target| [subpath::unbind(target), subpath::unbind(&whole(target))])
                .filter_map(Result::err)
                .collect();
            // Fails as long as another view is there, as it shall.
            let _ = std::fs::remove_dir(directory);
            errors
        });
        match ended.await {
            Ok(errors) => {
                errors.into_iter().map(|error| NodeError::failed("unmount an image", error)).collect()
            }
            Err(error) => vec![error],
        }
    }
}

#[async_trait]
impl ContainerVolumes for ImageMounts {
    async fn resolve(
        &self,
        container: ContainerId,
        wishes: Vec<MountWish>,
    ) -> Result<Vec<ResolvedMount>, NodeError> {
        // Images first: that one is missing leaves nothing to be given back.
        let mut images = Vec::new();
        let mut others = Vec::new();
        for (place, wish) in wishes.into_iter().enumerate() {
            if matches!(wish.spec.source, MountSource::Image { .. }) {
                images.push((place, self.resolve_image(container, place, wish).await?));
            } else {
                others.push(wish);
            }
        }
        let mut resolved = self.volumes.resolve(container, others).await?;
        // In their order, each lands where it was taken out.
        for (place, mount) in images {
            resolved.insert(place.min(resolved.len()), mount);
        }
        Ok(resolved)
    }

    async fn fill(
        &self,
        container: ContainerId,
        mounts: &[ResolvedMount],
        rootfs: OwnedFd,
    ) -> Result<(), NodeError> {
        self.volumes.fill(container, mounts, rootfs).await
    }

    async fn mount(
        &self,
        container: ContainerId,
        mounts: &[ResolvedMount],
    ) -> Result<Vec<HostMount>, NodeError> {
        let is_image = |mount: &&ResolvedMount| mount.point.kind == MountKind::Image;
        if !mounts.iter().any(|mount| is_image(&mount)) {
            return self.volumes.mount(container, mounts).await;
        }
        let images: Vec<&MountPoint> = mounts.iter().filter(is_image).map(|mount| &mount.point).collect();
        let mut views = Vec::with_capacity(images.len());
        for point in &images {
            match self.view(point).await {
                Ok(view) => views.push(view),
                Err(error) => {
                    drop(self.end(container, &images).await);
                    return Err(error);
                }
            }
        }
        let others: Vec<ResolvedMount> = mounts.iter().filter(|mount| !is_image(mount)).cloned().collect();
        match self.volumes.mount(container, &others).await {
            Ok(made) => {
                views.extend(made);
                Ok(views)
            }
            Err(error) => {
                drop(self.end(container, &images).await);
                Err(error)
            }
        }
    }

    async fn unmount(&self, container: ContainerId, mounts: &[MountPoint]) -> Vec<NodeError> {
        let images: Vec<&MountPoint> = mounts.iter().filter(|point| point.kind == MountKind::Image).collect();
        let mut errors = if images.is_empty() { Vec::new() } else { self.end(container, &images).await };
        errors.extend(self.volumes.unmount(container, mounts).await);
        errors
    }

    async fn release(
        &self,
        container: ContainerId,
        mounts: &[MountPoint],
        volumes: OfVolumes,
    ) -> Vec<NodeError> {
        self.volumes.release(container, mounts, volumes).await
    }

    async fn restore(&self, holders: Vec<VolumeHolder>) {
        let running: std::collections::BTreeSet<String> = holders
            .iter()
            .filter(|holder| holder.hold == Hold::Uses)
            .map(|holder| holder.container.to_string())
            .collect();
        let root = self.root.clone();
        let swept = run_blocking(move || subpath::unbind_all(&root, |owner| running.contains(owner))).await;
        for error in swept.unwrap_or_default() {
            tracing::warn!(error = %error, "leftover of an image's mount could not be removed");
        }
        self.volumes.restore(holders).await;
    }
}

fn whole(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(WHOLE);
    PathBuf::from(name)
}

/// Mounts a view of the layers, or of a part of it, at `target`. What a crash left there is replaced. Blocks.
fn show(layers: Vec<PathBuf>, part: &str, target: &Path) -> Result<(), NodeError> {
    let failed = |source| NodeError::failed(format!("mount an image at {}", target.display()), source);
    if part.is_empty() {
        return attach(layers, target);
    }
    let whole = whole(target);
    attach(layers, &whole)?;
    let bound = subpath::bind(&whole, part, target).map_err(|source| subpath::unreachable(part, &source));
    let ended = subpath::unbind(&whole).map_err(failed);
    bound.and(ended)
}

fn attach(layers: Vec<PathBuf>, target: &Path) -> Result<(), NodeError> {
    let failed =
        |source: std::io::Error| NodeError::failed(format!("mount an image at {}", target.display()), source);
    subpath::unbind(target).map_err(failed)?;
    if let Some(parent) = target.parent() {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    }
    std::fs::create_dir(target).map_err(failed)?;
    if layers.is_empty() {
        // An image without layers is an empty directory.
        return Ok(());
    }
    let overlay = OverlayRootfs { lower: layers, upper: None, work: None, options: Vec::new() };
    let view = node_runtime::open_overlay(&overlay)
        .map_err(|source| NodeError::failed(format!("mount an image at {}", target.display()), source))?;
    move_mount(&view, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| failed(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_shows_all_layers_and_cannot_be_written() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> = ["top", "bottom"].map(|name| dir.path().join(name)).into();
        for (layer, file) in layers.iter().zip(["new", "old"]) {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
            std::fs::write(layer.join("etc").join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("etc/old", layers[0].join("link")).unwrap();
        let target = dir.path().join("run/container/0");
        for n_layers in [1, 2] {
            show(layers[..n_layers].to_vec(), "", &target).unwrap();
            assert_eq!(std::fs::read_to_string(target.join("etc/new")).unwrap(), "new");
            assert_eq!(target.join("etc/old").exists(), n_layers == 2);
            assert!(std::fs::write(target.join("etc/more"), "").is_err(), "{n_layers} layers");
        }
        show(layers.clone(), "link", &target).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        let missing = show(layers, "nowhere", &target).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::InvalidArgument);
        assert!(subpath::unbind_all(&dir.path().join("run"), |_| false).is_empty());
        show(Vec::new(), "", &target).unwrap();
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
        assert!(subpath::unbind_all(&dir.path().join("run"), |_| false).is_empty());
        assert!(!target.exists());
    }
}
