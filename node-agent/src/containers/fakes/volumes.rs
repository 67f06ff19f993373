//! Volumes without a file system: they are names, and who refers to and uses them is counted.
//!
//! Start reading at [`FakeVolumes`]. What it does not do: drivers, checks of paths, copying.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use shoal_types::ContainerId;
use shoal_types::container::mounts::{MountAccess, MountSource, Propagation, VolumeCopy};
use shoal_types::container::state::{MountKind, MountPoint};

use super::Faults;
use crate::api::containers::OfVolumes;
use crate::containers::ports::{
    ContainerVolumes, Fill, Hold, HostMount, MountWish, ResolvedMount, VolumeHolder,
};
use crate::error::NodeError;

/// Volumes in memory.
#[derive(Debug)]
pub struct FakeVolumes {
    faults: Faults,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    volumes: BTreeSet<String>,
    references: BTreeMap<String, BTreeSet<ContainerId>>,
    users: BTreeSet<ContainerId>,
}

impl FakeVolumes {
    /// No volumes.
    pub fn new(faults: Faults) -> Self {
        Self { faults, state: Mutex::default() }
    }

    /// Names of the volumes that exist.
    pub fn names(&self) -> Vec<String> {
        self.state().volumes.iter().cloned().collect()
    }

    /// Containers that have anything mounted.
    pub fn users(&self) -> Vec<ContainerId> {
        self.state().users.iter().copied().collect()
    }

    /// Containers that refer to any volume.
    pub fn referrers(&self) -> BTreeSet<ContainerId> {
        self.state().references.values().flatten().copied().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn point(wish: &MountWish) -> MountPoint {
    let mut point = MountPoint {
        kind: MountKind::Bind,
        name: String::new(),
        source: String::new(),
        destination: wish.spec.destination.clone(),
        driver: String::new(),
        mode: wish.spec.mode.clone(),
        access: wish.spec.access,
        propagation: Propagation::Default,
        anonymous: false,
        subpath: String::new(),
        spec_index: wish.spec_index,
        image: None,
    };
    match &wish.spec.source {
        MountSource::Bind { path, propagation, .. } => {
            point.source.clone_from(path);
            point.propagation =
                if *propagation == Propagation::Default { Propagation::Rprivate } else { *propagation };
        }
        MountSource::Volume { name, subpath, .. } => {
            point.kind = MountKind::Volume;
            point.anonymous = name.is_empty();
            point.name = if point.anonymous { ContainerId::random().to_string() } else { name.clone() };
            point.source = format!("/fake/volumes/{}/_data", point.name);
            point.driver = "local".to_owned();
            point.subpath.clone_from(subpath);
        }
        MountSource::Tmpfs { .. } => point.kind = MountKind::Tmpfs,
        MountSource::Image { reference, .. } => {
            point.kind = MountKind::Image;
            point.name.clone_from(reference);
            point.access = MountAccess::ReadOnly;
        }
        MountSource::VolumesFrom { .. } => {}
    }
    point
}

fn fill_of(wish: &MountWish) -> Fill {
    match &wish.spec.source {
        MountSource::Volume { copy: VolumeCopy::FromImage, .. } => Fill::IfEmpty,
        MountSource::Volume { .. }
        | MountSource::Bind { .. }
        | MountSource::Tmpfs { .. }
        | MountSource::Image { .. }
        | MountSource::VolumesFrom { .. } => Fill::Never,
    }
}

#[async_trait]
impl ContainerVolumes for FakeVolumes {
    async fn resolve(
        &self,
        container: ContainerId,
        wishes: Vec<MountWish>,
    ) -> Result<Vec<ResolvedMount>, NodeError> {
        let call = self.faults.enter("volumes.resolve").await?;
        let mut resolved = Vec::new();
        {
            let mut state = self.state();
            for wish in wishes {
                let point = wish.inherited.clone().unwrap_or_else(|| point(&wish));
                if point.kind == MountKind::Volume {
                    state.volumes.insert(point.name.clone());
                    state.references.entry(point.name.clone()).or_default().insert(container);
                }
                let fill = if wish.inherited.is_some() { Fill::Never } else { fill_of(&wish) };
                resolved.push(ResolvedMount { point, spec: Some(wish.spec), fill });
            }
        }
        call.done().await;
        Ok(resolved)
    }

    async fn fill(
        &self,
        _container: ContainerId,
        _mounts: &[ResolvedMount],
        _rootfs: OwnedFd,
    ) -> Result<(), NodeError> {
        let call = self.faults.enter("volumes.fill").await?;
        call.done().await;
        Ok(())
    }

    async fn mount(
        &self,
        container: ContainerId,
        mounts: &[ResolvedMount],
    ) -> Result<Vec<HostMount>, NodeError> {
        let call = self.faults.enter("volumes.mount").await?;
        self.state().users.insert(container);
        call.done().await;
        Ok(mounts
            .iter()
            .filter(|mount| mount.point.kind != MountKind::Tmpfs)
            .map(|mount| HostMount {
                destination: mount.point.destination.clone(),
                source: PathBuf::from(&mount.point.source),
                access: mount.point.access,
            })
            .collect())
    }

    async fn unmount(&self, container: ContainerId, _mounts: &[MountPoint]) -> Vec<NodeError> {
        let call = match self.faults.enter("volumes.unmount").await {
            Ok(call) => call,
            Err(error) => return vec![error],
        };
        self.state().users.remove(&container);
        call.done().await;
        Vec::new()
    }

    async fn release(
        &self,
        container: ContainerId,
        mounts: &[MountPoint],
        volumes: OfVolumes,
    ) -> Vec<NodeError> {
        let call = match self.faults.enter("volumes.release").await {
            Ok(call) => call,
            Err(error) => return vec![error],
        };
        {
            let mut state = self.state();
            for mount in mounts.iter().filter(|mount| mount.kind == MountKind::Volume) {
                let is_free = state.references.get_mut(&mount.name).is_none_or(|references| {
                    references.remove(&container);
                    references.is_empty()
                });
                if is_free && mount.anonymous && volumes == OfVolumes::RemoveAnonymous {
                    state.volumes.remove(&mount.name);
                }
            }
            state.references.retain(|_, references| !references.is_empty());
        }
        call.done().await;
        Vec::new()
    }

    async fn restore(&self, holders: Vec<VolumeHolder>) {
        let mut state = self.state();
        state.users.clear();
        state.references.clear();
        for holder in holders {
            if holder.hold == Hold::Uses {
                state.users.insert(holder.container);
            }
            for mount in holder.mounts.iter().filter(|mount| mount.kind == MountKind::Volume) {
                state.references.entry(mount.name.clone()).or_default().insert(holder.container);
            }
        }
    }
}
