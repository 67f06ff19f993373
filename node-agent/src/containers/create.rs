//! From a client's wish to a container that can be started.
//!
//! Start reading at [`Shared::create`], which runs as a task of its own: a client that goes away gets its container all the
//! same. Nothing of the container is visible before its record is durable; when a step fails, what was made before is
//! given back in reverse order and the name is free again. After a crash the writable layer goes with its record, which
//! was never written; a volume that was made for it stays, as one that nobody refers to.

use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use shoal_types::ContainerId;
use shoal_types::container::mounts::{MountAccess, MountSource};
use shoal_types::container::networking::NetworkMode;
use shoal_types::container::security::{IpcMode, PidMode};
use shoal_types::container::spec::ContainerSpec;
use shoal_types::container::state::MountPoint;

use super::lifecycle::{Condition, Lifecycle};
use super::links;
use super::mounts::{self, Lent};
use super::ports::{
    Fill, NamespaceOwner, NetworkRequest, PreparedNetworks, ResolvedImage, ResolvedMount, Rootfs,
};
use super::record::{ContainerRecord, LinkRecord, MountRecord, StateRecord};
use super::slot::Slot;
use super::{Shared, actor, defaults, merge, names, validate, view};
use crate::api::containers::{CreateContainer, Created, OfVolumes};
use crate::api::images::Descriptor;
use crate::crash_point::crash_point;
use crate::error::{ErrorChain, NodeError};
use crate::store::Batch;

/// How often a name is invented before the id serves as one.
const NAME_ATTEMPTS: u32 = 6;

/// What has been made so far of a container, to be given back if a later step fails.
#[derive(Debug, Default)]
struct Made {
    name: Option<String>,
    mounts: Vec<MountPoint>,
    networks: Step,
    rootfs: Step,
    directory: Step,
}

/// Whether a step has been taken.
#[derive(Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Ahead,
    Taken,
}

impl Shared {
    /// Makes a container.
    pub(super) async fn create(self: &Arc<Self>, request: CreateContainer) -> Result<Created, NodeError> {
        let id = ContainerId::random();
        let mut made = Made::default();
        match self.try_create(id, request, &mut made).await {
            Ok(warnings) => Ok(Created { id, warnings }),
            Err(error) => {
                self.give_back(id, made).await;
                Err(error)
            }
        }
    }

    async fn try_create(
        self: &Arc<Self>,
        id: ContainerId,
        request: CreateContainer,
        made: &mut Made,
    ) -> Result<Vec<String>, NodeError> {
        let CreateContainer { name, mut spec, requested } = request;
        let name = name.as_deref().filter(|name| !name.is_empty()).map(names::check).transpose()?;
        let config = self.config();
        let mut warnings = validate::check(&mut spec, &config, &self.host)?;
        let image = self.resolve_image(&spec).await?;
        if let Some(image) = &image {
            warnings.extend(image.warning.clone());
            merge::merge(&mut spec, &image.config);
        }
        let command = merge::command(&mut spec.process)?;
        let name = self.reserve(name, id)?;
        made.name = Some(name.clone());
        self.resolve_peers(&mut spec, id)?;
        defaults::fill(&mut spec, id, &config, &self.host);
        let links = self.resolve_links(&spec)?;
        let prepared = self.prepare_networks(id, &name, &mut spec, made).await?;
        warnings.extend(prepared.warnings);
        let mounts = self.resolve_mounts(id, &spec, made).await?;
        crash_point("creation: volumes made");
        let (rootfs, batch) =
            self.seams.images.create_rootfs(id, image.as_ref(), &spec.storage_options, Batch::new()).await?;
        made.rootfs = Step::Taken;
        let batch = self.pin_images(id, &mounts, batch).await?;
        crash_point("creation: writable layer made");
        self.furnish(id, &spec, &rootfs, &mounts).await?;
        made.directory = Step::Taken;
        let directory = self.directory(id);
        super::run_blocking(move || make_directory(&directory))
            .await?
            .map_err(|source| NodeError::failed("make the container's directory", source))?;
        crash_point("creation: directory made");
        let record = ContainerRecord {
            name,
            created: Timestamp::now(),
            image_id: image.as_ref().map(|image| image.id),
            image_manifest: image.as_ref().and_then(manifest_with_platform),
            spec: Arc::new(spec),
            requested,
            command,
            mounts: mounts.into_iter().map(MountRecord::from).collect(),
            endpoints: prepared.statuses,
            links,
        };
        self.register(id, record, batch).await?;
        Ok(warnings)
    }

    async fn resolve_image(&self, spec: &ContainerSpec) -> Result<Option<ResolvedImage>, NodeError> {
        if spec.image.is_empty() {
            return Ok(None);
        }
        self.seams.images.resolve(&spec.image, spec.platform.as_ref()).await.map(Some)
    }

    /// Reserves the name that was asked for, or invents one.
    fn reserve(&self, name: Option<&str>, id: ContainerId) -> Result<String, NodeError> {
        if let Some(name) = name {
            self.reserve_name(name, id)?;
            return Ok(name.to_owned());
        }
        for attempt in 0..NAME_ATTEMPTS {
            let name = names::invent(attempt);
            if self.reserve_name(&name, id).is_ok() {
                return Ok(name);
            }
        }
        let name = id.short();
        self.reserve_name(&name, id)?;
        Ok(name)
    }

    /// Replaces names of containers by ids, so that renaming those does not matter. One that does not exist is left; the
    /// start will say so.
    fn resolve_peers(&self, spec: &mut ContainerSpec, id: ContainerId) -> Result<(), NodeError> {
        let id_of = |name: &str| self.find_slot(name).ok().map(|slot| slot.id());
        let names = [
            match &mut spec.networking.mode {
                NetworkMode::Container(name) => Some((name, "network")),
                _ => None,
            },
            match &mut spec.namespaces.ipc {
                IpcMode::Container(name) => Some((name, "IPC")),
                _ => None,
            },
            match &mut spec.namespaces.pid {
                PidMode::Container(name) => Some((name, "PID")),
                _ => None,
            },
        ];
        for (name, what) in names.into_iter().flatten() {
            match id_of(name) {
                Some(peer) if peer == id => {
                    return Err(NodeError::invalid(format!("cannot join own {what} namespace")));
                }
                Some(peer) => *name = peer.to_string(),
                // Whose network is joined may still be made before the start.
                None if what == "network" => {}
                None => return Err(NodeError::invalid(format!("No such container: {name}"))),
            }
        }
        Ok(())
    }

    /// Finds the containers that are linked to. A missing one is a mistake of the request: *not found* would make
    /// clients pull the image again.
    fn resolve_links(&self, spec: &ContainerSpec) -> Result<Vec<LinkRecord>, NodeError> {
        let resolve = |link: &String| {
            let (name, alias) = links::parse(link)?;
            let target = self.find_slot(name).map_err(|error| {
                NodeError::invalid(format!("could not get container for {name}: {error}"))
            })?;
            if target.view().spec.networking.mode == NetworkMode::Host {
                return Err(NodeError::invalid(
                    "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
                ));
            }
            Ok(LinkRecord { target: target.id(), alias: alias.to_owned() })
        };
        spec.networking.links.iter().map(resolve).collect()
    }

    async fn prepare_networks(
        &self,
        id: ContainerId,
        name: &str,
        spec: &mut ContainerSpec,
        made: &mut Made,
    ) -> Result<PreparedNetworks, NodeError> {
        if spec.networking.disabled {
            return Ok(PreparedNetworks::default());
        }
        let request = NetworkRequest {
            container: id,
            name: name.to_owned(),
            hostname: self.hostname(spec),
            domainname: spec.process.domainname.clone(),
            networking: spec.networking.clone(),
            sysctls: Vec::new(),
            owner: NamespaceOwner::Host,
            links: Vec::new(),
        };
        let prepared = self.seams.networks.prepare(&request).await?;
        made.networks = Step::Taken;
        spec.networking.endpoints.clone_from(&prepared.endpoints);
        Ok(prepared)
    }

    async fn resolve_mounts(
        &self,
        id: ContainerId,
        spec: &ContainerSpec,
        made: &mut Made,
    ) -> Result<Vec<ResolvedMount>, NodeError> {
        if spec.mounts.is_empty() {
            return Ok(Vec::new());
        }
        let lenders = spec.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::VolumesFrom { container } => Some((container, mount.access)),
            _ => None,
        });
        let lent = lenders.map(|(name, access)| self.lend(name, access)).collect::<Result<_, _>>()?;
        let wishes = mounts::settle(&spec.mounts, lent)?;
        let resolved = self.seams.volumes.resolve(id, wishes).await?;
        made.mounts = resolved.iter().map(|mount| mount.point.clone()).collect();
        Ok(resolved)
    }

    /// Keeps the layers of mounted images, like those below the root file system.
    async fn pin_images(
        &self,
        id: ContainerId,
        mounts: &[ResolvedMount],
        mut batch: Batch,
    ) -> Result<Batch, NodeError> {
        for (place, mount) in mounts.iter().enumerate() {
            if let Some(chain) = mount.point.image.as_ref().and_then(|image| image.chain) {
                batch = self.seams.images.pin(id, place, chain, batch).await?;
            }
        }
        Ok(batch)
    }

    fn lend(&self, name: &str, access: MountAccess) -> Result<Lent, NodeError> {
        // As with links, a missing container must not look like a missing image.
        let lender = self.find_slot(name).map_err(|error| NodeError::invalid(error.message()))?;
        let mounts = mounts::of_view(&lender.view());
        Ok(Lent { mounts, access })
    }

    /// Makes the working directory and fills new volumes from the image. Looks at the root file system only if it must.
    async fn furnish(
        &self,
        id: ContainerId,
        spec: &ContainerSpec,
        rootfs: &Rootfs,
        mounts: &[ResolvedMount],
    ) -> Result<(), NodeError> {
        let directory = Some(spec.process.working_dir.as_str()).filter(|path| !matches!(*path, "" | "/"));
        let fills = mounts.iter().any(|mount| mount.fill == Fill::IfEmpty);
        if directory.is_none() && !fills {
            return Ok(());
        }
        let root = self.seams.mounter.open_rootfs(rootfs).await?;
        if let Some(path) = directory {
            self.seams.mounter.make_directory(&root, path, rootfs.ids.root()).await?;
        }
        if fills {
            self.seams.volumes.fill(id, mounts, root).await?;
        }
        Ok(())
    }

    /// Makes the container durable, then known, then tells of it.
    async fn register(
        self: &Arc<Self>,
        id: ContainerId,
        record: ContainerRecord,
        batch: Batch,
    ) -> Result<(), NodeError> {
        let condition = Condition::default();
        let key = id.to_string();
        let batch =
            batch.put(key.clone(), &record)?.put(key, &StateRecord { condition: condition.clone() })?;
        self.commit(batch).await?;
        self.links().insert(id, &record.links);
        let life = Lifecycle::new(id, condition, self.rules(&record.spec));
        let core = actor::Core::new(id, record, life);
        self.hold_image(&core);
        let published = view::publish(&core, self);
        let view = Arc::clone(&published.view);
        self.know(Slot::new(core, published));
        self.emit(&view, "create", []);
        Ok(())
    }

    /// Gives back what was made of a container that will not be.
    async fn give_back(&self, id: ContainerId, made: Made) {
        let mut errors = Vec::new();
        if made.directory == Step::Taken {
            let directory = self.directory(id);
            let removed = super::run_blocking(move || std::fs::remove_dir_all(directory)).await;
            let removed = removed.and_then(|removed| match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(NodeError::failed("remove the container's directory", error))
                }
                _ => Ok(()),
            });
            errors.extend(removed.err());
        }
        if made.rootfs == Step::Taken {
            // Its record was never committed, so that there is none to delete.
            errors.extend(self.seams.images.remove_rootfs(id, Batch::new()).await.err());
        }
        if !made.mounts.is_empty() {
            errors.extend(self.seams.volumes.release(id, &made.mounts, OfVolumes::RemoveAnonymous).await);
        }
        if made.networks == Step::Taken {
            self.seams.networks.forget(id).await;
        }
        if let Some(name) = &made.name {
            self.release_name(name, id);
        }
        for error in errors {
            let error = ErrorChain(&error);
            tracing::warn!(container.id = %id, %error, "leftover of a container that was not made");
        }
    }
}

/// The manifest that the container stands on, with the platform it is for: only a manifest out of an index tells it itself.
fn manifest_with_platform(image: &ResolvedImage) -> Option<Descriptor> {
    let manifest = image.manifest.clone()?;
    Some(Descriptor {
        platform: manifest.platform.clone().or_else(|| Some(image.platform.clone())),
        ..manifest
    })
}

fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o710).create(path)
}
