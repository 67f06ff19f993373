//! The node's port for volumes, and what it costs to ask.
//!
//! Start reading at the implementation of [`Volumes`]. Making and removing is `mod.rs`; this file filters, counts and
//! prunes.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use async_trait::async_trait;
use shoal_types::volume::{Volume, VolumeSpec};

use super::plugin::VolumePlugin;
use super::{LOCAL_DRIVER, VolumeStore, run_blocking};
use crate::api::Pruned;
use crate::api::events::EventKind;
use crate::api::volumes::{OfMissing, PruneScope, VolumeFilter, VolumePruneFilter, VolumeUsage, Volumes};
use crate::error::NodeError;

#[async_trait]
impl Volumes for VolumeStore {
    async fn create(&self, spec: VolumeSpec) -> Result<Volume, NodeError> {
        let volumes = self.clone();
        // In a task of its own, so that a client that goes away does not leave a directory without a record.
        let made = tokio::spawn(async move { Self::create(&volumes, spec, None).await });
        made.await.map_err(|source| NodeError::failed("create a volume", source))?
    }

    async fn list(&self, filter: VolumeFilter) -> Result<(Vec<Volume>, Vec<String>), NodeError> {
        let names = compile(&filter.names)?;
        let warnings = self.discover(None).await;
        let passes = |volume: &Volume, is_used: bool| {
            filter.dangling.is_none_or(|dangling| dangling != is_used)
                && (filter.drivers.is_empty() || filter.drivers.contains(&volume.driver))
                && (filter.names.is_empty()
                    || filter.names.contains(&volume.name)
                    || names.iter().any(|name| name.is_match(&volume.name)))
                && filter.labels.matches(|key| label(volume, key))
        };
        let volumes = self.with_entries(|entries| {
            let passing =
                entries.values().filter(|entry| passes(&entry.volume, !entry.references.is_empty()));
            passing.map(|entry| entry.volume.clone()).collect()
        });
        Ok((volumes, warnings))
    }

    async fn inspect(&self, name: &str) -> Result<(Volume, BTreeMap<String, serde_json::Value>), NodeError> {
        if self.get(name).is_none() {
            self.discover(Some(name)).await;
        }
        let volume = self.get(name).ok_or_else(|| NodeError::NoSuchVolume(name.to_owned()))?;
        Ok(self.with_status(volume).await)
    }

    async fn remove(&self, name: &str, missing: OfMissing) -> Result<(), NodeError> {
        let (volumes, name) = (self.clone(), name.to_owned());
        let removed = tokio::spawn(async move { Self::remove(&volumes, &name, missing).await });
        removed.await.map_err(|source| NodeError::failed("remove a volume", source))?
    }

    async fn prune(&self, filter: VolumePruneFilter) -> Result<Pruned, NodeError> {
        let Ok(_pruning) = self.shared.pruning.try_lock() else {
            return Err(NodeError::conflict("a prune operation is already running"));
        };
        let mut pruned = Pruned::default();
        for usage in self.usage().await? {
            let volume = &usage.volume;
            let is_meant = usage.references == 0
                && volume.driver == LOCAL_DRIVER
                && volume.options.as_ref().is_none_or(BTreeMap::is_empty)
                && (volume.anonymous || filter.scope == PruneScope::All)
                && filter.until.is_none_or(|until| volume.created < until)
                && filter.labels.matches(|key| label(volume, key));
            // A container may have come to refer to it since; then it simply stays.
            if is_meant && Self::remove(self, &volume.name, OfMissing::Succeed).await.is_ok() {
                pruned.removed.push(volume.name.clone());
                pruned.reclaimed += u64::try_from(usage.size).unwrap_or(0);
            }
        }
        let attributes = BTreeMap::from([("reclaimed".to_owned(), pruned.reclaimed.to_string())]);
        self.shared.events.publish(EventKind::Volume, "prune", "", attributes);
        Ok(pruned)
    }

    async fn usage(&self) -> Result<Vec<VolumeUsage>, NodeError> {
        let volumes = self.with_entries(|entries| {
            entries.values().map(|entry| (entry.volume.clone(), entry.references.len())).collect::<Vec<_>>()
        });
        let measure = |(volume, references): (Volume, usize)| {
            // What a plugin keeps is not ours to walk through.
            let is_ours = volume.driver == LOCAL_DRIVER;
            let size = is_ours.then(|| directory_size(Path::new(&volume.mountpoint))).flatten();
            let size = size.and_then(|size| i64::try_from(size).ok());
            VolumeUsage { volume, size: size.unwrap_or(-1), references }
        };
        run_blocking(move || volumes.into_iter().map(measure).collect()).await
    }
}

impl VolumeStore {
    /// Adds what the volume's plugin has to say of it.
    async fn with_status(&self, mut volume: Volume) -> (Volume, BTreeMap<String, serde_json::Value>) {
        if volume.driver == LOCAL_DRIVER {
            return (volume, BTreeMap::new());
        }
        let found = match VolumePlugin::find(&self.shared.plugins, &volume.driver).await {
            Ok(plugin) => plugin.get(&volume.name).await,
            Err(_) => None,
        };
        let found = found.unwrap_or_default();
        if !found.mountpoint.is_empty() {
            volume.mountpoint = found.mountpoint;
        }
        (volume, found.status)
    }
}

fn label<'a>(volume: &'a Volume, key: &str) -> Option<&'a str> {
    volume.labels.as_ref()?.get(key).map(String::as_str)
}

fn compile(patterns: &[String]) -> Result<Vec<regex_lite::Regex>, NodeError> {
    let compile_one = |pattern: &String| {
        regex_lite::Regex::new(pattern)
            .map_err(|_| NodeError::invalid(format!("invalid filter 'name=[{pattern}]'")))
    };
    patterns.iter().map(compile_one).collect()
}

/// Bytes of all files below a directory, a file with several names counted once. `None` when it cannot be read.
fn directory_size(root: &Path) -> Option<u64> {
    let mut seen = std::collections::HashSet::new();
    let mut waiting = vec![root.to_owned()];
    let mut total = 0;
    while let Some(directory) = waiting.pop() {
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(_) if directory != root => continue,
            Err(_) => return None,
        };
        for entry in entries.flatten() {
            // Something may vanish while it is counted.
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                waiting.push(entry.path());
            } else if found.nlink() == 1 || seen.insert((found.dev(), found.ino())) {
                total += found.size();
            }
        }
    }
    Some(total)
}
