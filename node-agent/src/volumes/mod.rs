//! Volumes: directories that outlive containers, who uses them, and when they are mounted.
//!
//! Start reading at [`VolumeStore`], the only owner of the volume table. `local.rs` is the built-in driver, `plugin.rs` those of
//! plugins, `names.rs` the rules for names, `port.rs` the node's port, `attach.rs` what
//! containers need of it, `images.rs` the content of images in front of that, `subpath.rs` parts of volumes, `uses.rs` when content is
//! mounted. A container *refers* to a volume from its creation to its removal, and *uses* it while it runs. Binds and tmpfs are no volumes and are not known here.
//!
//! After a crash: the table says which volumes exist; references are rebuilt from the containers' records by
//! whoever owns those, through [`VolumeStore::refer`]; directories without a record are removed by
//! [`VolumeStore::sweep`], records are written after the directory is there.

mod attach;
mod images;
mod local;
mod names;
mod plugin;
mod port;
mod subpath;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shoal_types::ContainerId;
use shoal_types::volume::{Volume, VolumeScope, VolumeSpec};

pub use self::images::ImageMounts;
use self::local::LocalDriver;
pub use self::local::LocalDriverError;
use self::plugin::{PluginVolume, VolumePlugin};
use crate::api::events::EventKind;
use crate::api::volumes::OfMissing;
use crate::error::NodeError;
use crate::events::EventLog;
use crate::plugins::Plugins;
use crate::store::{Batch, Record, Store};

/// Name of the driver that is always there.
pub const LOCAL_DRIVER: &str = "local";
/// Label that Docker puts on volumes that nobody named; clients filter by it.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// A volume as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct VolumeRecord {
    volume: Volume,
    /// The container whose creation made this anonymous volume. When that container has no record at boot, its creation
    /// was cut short and the volume is nobody's. Forgotten when the volume is kept beyond the container.
    #[serde(default)]
    made_for: Option<ContainerId>,
}

impl Record for VolumeRecord {
    const TABLE: &'static str = "volumes";
}

/// What is known of one volume beyond its record.
#[derive(Debug)]
struct Entry {
    volume: Volume,
    /// As in the record.
    made_for: Option<ContainerId>,
    /// Containers that name it in their record, running or not.
    references: BTreeSet<ContainerId>,
    /// Containers that have it mounted, and how often.
    uses: BTreeMap<ContainerId, usize>,
}

/// The volumes of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct VolumeStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    events: EventLog,
    local: LocalDriver,
    plugins: Plugins,
    /// The daemon's root, which containers should not hold on to.
    data_root: PathBuf,
    /// Where subpaths are bound, `<exec-root>/subpaths`; gone after a reboot.
    subpaths: PathBuf,
    /// Never held across an await.
    entries: Mutex<BTreeMap<String, Entry>>,
    /// Held while a volume is made, removed, mounted or unmounted, so that these do not meet. They are short and
    /// rare; a container without volumes never comes here.
    changes: tokio::sync::Mutex<()>,
    /// The same for volumes of plugins: one that does not answer keeps nobody from the others.
    plugin_changes: tokio::sync::Mutex<()>,
    /// Held by the one prune that may run.
    pruning: tokio::sync::Mutex<()>,
}

/// Where volumes are and whose.
#[derive(Debug, Clone)]
pub struct VolumeSettings {
    /// The directory of all volumes, made if it does not exist.
    pub root: PathBuf,
    /// Where parts of volumes are bound while containers use them; gone after a reboot.
    pub subpaths: PathBuf,
    /// User and group on the host of new volumes: root of containers.
    pub owner: (u32, u32),
}

impl VolumeStore {
    /// Reads the table. Blocks.
    pub fn open(
        store: Store,
        events: EventLog,
        plugins: Plugins,
        settings: VolumeSettings,
    ) -> Result<Self, NodeError> {
        let VolumeSettings { root, subpaths, owner } = settings;
        let data_root = root.parent().unwrap_or(&root).to_owned();
        let local = LocalDriver::open(root, owner)
            .map_err(|source| NodeError::failed("open the volume directory", source))?;
        let entries = store
            .load::<VolumeRecord>()?
            .into_iter()
            .map(|(name, record)| {
                let VolumeRecord { volume, made_for } = record;
                (name, Entry { volume, made_for, references: BTreeSet::new(), uses: BTreeMap::new() })
            })
            .collect();
        Ok(Self {
            shared: Arc::new(Shared {
                store,
                events,
                local,
                plugins,
                data_root,
                subpaths,
                entries: Mutex::new(entries),
                changes: tokio::sync::Mutex::new(()),
                plugin_changes: tokio::sync::Mutex::new(()),
                pruning: tokio::sync::Mutex::new(()),
            }),
        })
    }

    /// Removes directories of volumes that were never recorded, and unmounts what no running container uses. For boot,
    /// after references and uses have been rebuilt.
    pub async fn sweep(&self) {
        let _changes = self.shared.changes.lock().await;
        let (known, used) = self.with_entries(|entries| {
            let used: BTreeSet<String> = entries
                .iter()
                .filter(|(_, entry)| !entry.uses.is_empty())
                .map(|(name, _)| name.clone())
                .collect();
            (entries.keys().cloned().collect::<BTreeSet<_>>(), used)
        });
        let local = self.shared.local.clone();
        let swept = tokio::task::spawn_blocking(move || local.sweep(&known, &used)).await;
        for error in swept.unwrap_or_default() {
            tracing::warn!(error = %error, "leftover of a volume could not be removed");
        }
        let users: BTreeSet<String> = self.with_entries(|entries| {
            entries.values().flat_map(|entry| entry.uses.keys()).map(ContainerId::to_string).collect()
        });
        let subpaths = self.shared.subpaths.clone();
        let unbound =
            run_blocking(move || subpath::unbind_all(&subpaths, |container| users.contains(container))).await;
        for error in unbound.unwrap_or_default() {
            tracing::warn!(error = %error, "leftover of a volume's subpath could not be removed");
        }
    }

    /// Where a part of a volume is bound for one mount of a container.
    fn subpath_target(&self, container: ContainerId, destination: &str) -> PathBuf {
        // A destination is cleaned and absolute, so that hex of it is unique and a valid file name up to its length.
        let name: String = destination.bytes().map(|byte| format!("{byte:02x}")).collect();
        let name = name.get(name.len().saturating_sub(200)..).unwrap_or(&name);
        self.shared.subpaths.join(container.to_string()).join(name)
    }

    /// Makes a volume and lets `container` refer to it from the start, so that no prune comes in between.
    pub async fn create(
        &self,
        spec: VolumeSpec,
        container: Option<ContainerId>,
    ) -> Result<Volume, NodeError> {
        let anonymous = spec.name.is_empty();
        let name = if anonymous { ContainerId::random().to_string() } else { spec.name.clone() };
        names::check(&name)?;
        let driver = if spec.driver.is_empty() { LOCAL_DRIVER } else { &spec.driver };
        let _turn = self.turn(driver).await;
        if let Some(existing) = self.existing(&name, &spec.driver, container)? {
            return Ok(existing);
        }
        let (mountpoint, scope) = self.make(&name, driver, spec.options.clone().unwrap_or_default()).await?;
        let volume = Volume {
            name: name.clone(),
            driver: driver.to_owned(),
            mountpoint,
            options: spec.options,
            labels: labels(spec.labels, anonymous),
            created: Timestamp::now(),
            anonymous,
            scope,
        };
        self.record(volume.clone(), container).await?;
        self.publish("create", &name, driver, []);
        Ok(volume)
    }

    /// Waits until nothing else is made, removed, mounted or unmounted among the volumes of a driver's kind.
    async fn turn(&self, driver: &str) -> tokio::sync::MutexGuard<'_, ()> {
        if driver == LOCAL_DRIVER {
            self.shared.changes.lock().await
        } else {
            self.shared.plugin_changes.lock().await
        }
    }

    /// The same for a volume that exists; a volume never changes its driver.
    async fn turn_of(&self, name: &str) -> tokio::sync::MutexGuard<'_, ()> {
        let driver = self.get(name).map_or_else(|| LOCAL_DRIVER.to_owned(), |volume| volume.driver);
        self.turn(&driver).await
    }

    /// Makes a volume's content, or the plugin make it. Returns where it is and where it is the same.
    async fn make(
        &self,
        name: &str,
        driver: &str,
        options: BTreeMap<String, String>,
    ) -> Result<(String, VolumeScope), NodeError> {
        let in_context =
            |kind, error: String| NodeError::Refused { kind, message: format!("create {name}: {error}") };
        if driver == LOCAL_DRIVER {
            let (local, at) = (self.shared.local.clone(), name.to_owned());
            let made = run_blocking(move || local.create(&at, &options)).await?;
            let made = made.map_err(|error| in_context(error.kind(), error.to_string()))?;
            return Ok((made.display().to_string(), VolumeScope::Local));
        }
        let plugin = VolumePlugin::find(&self.shared.plugins, driver).await.map_err(|error| {
            in_context(error.kind(), format!("error looking up volume plugin {driver}: {}", error.message()))
        })?;
        let found = match plugin.get(name).await {
            // Made elsewhere, or before our records were lost: it is taken over as it is.
            Some(found) => found,
            None => {
                let made = plugin.create(name, &options).await;
                made.map_err(|error| in_context(error.kind(), error.message()))?;
                plugin.get(name).await.unwrap_or_default()
            }
        };
        Ok((found.mountpoint, plugin.scope().await))
    }

    /// Makes a volume durable and known. One that was made for a container and by nobody's name goes with it.
    async fn record(&self, volume: Volume, container: Option<ContainerId>) -> Result<(), NodeError> {
        let name = volume.name.clone();
        let made_for = container.filter(|_| volume.anonymous);
        let record = VolumeRecord { volume: volume.clone(), made_for };
        self.shared.store.commit(Batch::new().put(name.clone(), &record)?).await?;
        let references = container.into_iter().collect();
        let entry = Entry { volume, made_for, references, uses: BTreeMap::new() };
        self.with_entries(|entries| entries.insert(name, entry));
        Ok(())
    }

    /// Looks for volumes that plugins have and that are not known here: all of them, or the one of this name. They are
    /// known from then on, so that they can be referred to. A plugin that does not answer is told in the warnings.
    async fn discover(&self, name: Option<&str>) -> Vec<String> {
        let mut warnings = Vec::new();
        for driver in self.shared.plugins.present(plugin::SUBSYSTEM).await {
            let Ok(plugin) = VolumePlugin::find(&self.shared.plugins, &driver).await else { continue };
            let found = match name {
                Some(name) => plugin.get(name).await.into_iter().collect(),
                None => plugin.list().await.unwrap_or_else(|error| {
                    warnings.push(format!("error while listing volumes of {driver}: {}", error.message()));
                    Vec::new()
                }),
            };
            for found in found {
                if let Err(error) = self.take_over(&plugin, found).await {
                    tracing::warn!(volume.driver = driver, %error, "volume of a plugin is not known");
                }
            }
        }
        warnings
    }

    async fn take_over(&self, plugin: &VolumePlugin, found: PluginVolume) -> Result<(), NodeError> {
        let _turn = self.turn(plugin.name()).await;
        if names::check(&found.name).is_err() || self.get(&found.name).is_some() {
            return Ok(());
        }
        let volume = Volume {
            name: found.name,
            driver: plugin.name().to_owned(),
            mountpoint: found.mountpoint,
            options: None,
            labels: None,
            created: found.created_at.parse().unwrap_or(Timestamp::UNIX_EPOCH),
            anonymous: false,
            scope: plugin.scope().await,
        };
        self.record(volume, None).await
    }

    /// The volume that already has the name, unless it is another driver's.
    fn existing(
        &self,
        name: &str,
        driver: &str,
        container: Option<ContainerId>,
    ) -> Result<Option<Volume>, NodeError> {
        self.with_entries(|entries| {
            let Some(entry) = entries.get_mut(name) else { return Ok(None) };
            let found = &entry.volume.driver;
            if !driver.is_empty() && driver != found {
                return Err(NodeError::conflict(format!(
                    "create {name}: driver '{found}' already has volume '{name}': volume name must be unique"
                )));
            }
            entry.references.extend(container);
            Ok(Some(entry.volume.clone()))
        })
    }

    /// One volume by its exact name.
    pub fn get(&self, name: &str) -> Option<Volume> {
        self.with_entries(|entries| entries.get(name).map(|entry| entry.volume.clone()))
    }

    /// Lets a container refer to a volume; false when there is no such volume. For boot, and for `--volumes-from`.
    pub fn refer(&self, name: &str, container: ContainerId) -> bool {
        self.with_entries(|entries| {
            entries.get_mut(name).map(|entry| entry.references.insert(container)).is_some()
        })
    }

    /// Ends a container's reference. The volume stays.
    pub fn forget(&self, name: &str, container: ContainerId) {
        self.with_entries(|entries| {
            if let Some(entry) = entries.get_mut(name) {
                entry.references.remove(&container);
            }
        });
    }

    /// Removes a volume that nothing refers to.
    pub async fn remove(&self, name: &str, missing: OfMissing) -> Result<(), NodeError> {
        let _turn = self.turn_of(name).await;
        let found = self.with_entries(|entries| {
            entries.get(name).map(|entry| (entry.volume.clone(), entry.made_for, entry.references.clone()))
        });
        let Some((volume, made_for, references)) = found else {
            return match missing {
                OfMissing::Succeed => Ok(()),
                OfMissing::Fail => Err(NodeError::NoSuchVolume(name.to_owned())),
            };
        };
        if !references.is_empty() {
            let ids: Vec<String> = references.iter().map(ContainerId::to_string).collect();
            return Err(NodeError::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                ids.join(", ")
            )));
        }
        // First the record: a directory without one is swept at boot, and a record without a directory would be a volume
        // that has lost its content.
        self.shared.store.commit(Batch::new().delete::<VolumeRecord>(name)).await?;
        if let Err(error) = self.unmake(name, &volume.driver).await {
            let record = VolumeRecord { volume, made_for };
            self.shared.store.commit(Batch::new().put(name, &record)?).await?;
            return Err(error);
        }
        self.with_entries(|entries| entries.remove(name));
        self.publish("destroy", name, &volume.driver, []);
        Ok(())
    }

    /// Removes a volume's content.
    async fn unmake(&self, name: &str, driver: &str) -> Result<(), NodeError> {
        let in_context =
            |kind, error: String| NodeError::Refused { kind, message: format!("remove {name}: {error}") };
        if driver == LOCAL_DRIVER {
            let (local, at) = (self.shared.local.clone(), name.to_owned());
            let removed = run_blocking(move || local.remove(&at)).await?;
            return removed.map_err(|error| in_context(error.kind(), error.to_string()));
        }
        let removed = async { VolumePlugin::find(&self.shared.plugins, driver).await?.remove(name).await };
        removed.await.map_err(|error| in_context(error.kind(), error.message()))
    }

    /// Keeps an anonymous volume for good: it outlives the container that it was made for.
    async fn keep(&self, name: &str) -> Result<(), NodeError> {
        let _turn = self.turn_of(name).await;
        let volume = self.with_entries(|entries| {
            let entry = entries.get_mut(name)?;
            entry.made_for.take().map(|_| entry.volume.clone())
        });
        let Some(volume) = volume else { return Ok(()) };
        let record = VolumeRecord { volume, made_for: None };
        Ok(self.shared.store.commit(Batch::new().put(name, &record)?).await?)
    }

    /// Removes anonymous volumes of containers whose creation was cut short. For boot, when all references are known.
    async fn remove_abandoned(&self, containers: &BTreeSet<ContainerId>) {
        let is_abandoned = |entry: &Entry| {
            entry.references.is_empty() && entry.made_for.is_some_and(|id| !containers.contains(&id))
        };
        let abandoned: Vec<String> = self.with_entries(|entries| {
            let found = entries.iter().filter(|(_, entry)| is_abandoned(entry));
            found.map(|(name, _)| name.clone()).collect()
        });
        for name in abandoned {
            match self.remove(&name, OfMissing::Succeed).await {
                Ok(()) => {
                    tracing::info!(volume.name = name, "removed a volume of a container that was never made");
                }
                Err(error) => {
                    tracing::warn!(volume.name = name, %error, "leftover volume could not be removed");
                }
            }
        }
    }

    /// Publishes an event about a volume; what is `known` of it is added to its driver's name.
    pub fn publish<const N: usize>(
        &self,
        action: &str,
        name: &str,
        driver: &str,
        known: [(&str, String); N],
    ) {
        let attributes = std::iter::once(("driver", driver.to_owned())).chain(known);
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value)).collect();
        self.shared.events.publish(EventKind::Volume, action, name, attributes);
    }

    fn with_entries<T>(&self, look: impl FnOnce(&mut BTreeMap<String, Entry>) -> T) -> T {
        look(&mut self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn labels(given: Option<BTreeMap<String, String>>, anonymous: bool) -> Option<BTreeMap<String, String>> {
    if !anonymous {
        return given;
    }
    let mut labels = given.unwrap_or_default();
    labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
    Some(labels)
}

async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| NodeError::failed("run file system work", source))
}

#[cfg(test)]
mod tests;
