//! When the content of volumes is mounted: while containers use it.
//!
//! Start reading at [`VolumeStore::mount`]. Uses are counted for each container, because a plugin is told of its first and its last one;
//! the local driver mounts what has options, once for all.

use std::path::PathBuf;

use shoal_types::ContainerId;
use shoal_types::volume::Volume;

use super::plugin::VolumePlugin;
use super::{LOCAL_DRIVER, VolumeStore, run_blocking};
use crate::error::NodeError;

impl VolumeStore {
    /// Makes a volume's content available for one more use by a container, and says where it is.
    pub async fn mount(&self, name: &str, container: ContainerId) -> Result<PathBuf, NodeError> {
        let _turn = self.turn_of(name).await;
        let volume = self.get(name).ok_or_else(|| NodeError::NoSuchVolume(name.to_owned()))?;
        let path = self.bring_up(&volume, container).await.map_err(|error| NodeError::Refused {
            kind: error.kind(),
            message: format!("error while mounting volume '{}': {}", volume.mountpoint, error.message()),
        })?;
        self.with_entries(|entries| {
            if let Some(entry) = entries.get_mut(name) {
                *entry.uses.entry(container).or_default() += 1;
            }
        });
        Ok(path)
    }

    /// Makes the content available. A plugin is told of a container's first use of a volume only.
    async fn bring_up(&self, volume: &Volume, container: ContainerId) -> Result<PathBuf, NodeError> {
        let name = volume.name.clone();
        if volume.driver == LOCAL_DRIVER {
            let options = volume.options.clone().unwrap_or_default();
            let local = self.shared.local.clone();
            let mounted = run_blocking(move || local.mount(&name, &options)).await?;
            return mounted
                .map_err(|error| NodeError::Refused { kind: error.kind(), message: error.to_string() });
        }
        let is_used = self.with_entries(|entries| {
            entries.get(&name).is_some_and(|entry| entry.uses.contains_key(&container))
        });
        if is_used && !volume.mountpoint.is_empty() {
            return Ok(PathBuf::from(&volume.mountpoint));
        }
        let plugin = VolumePlugin::find(&self.shared.plugins, &volume.driver).await?;
        let path = plugin.mount(&name, &container.to_string()).await?;
        self.with_entries(|entries| {
            if let Some(entry) = entries.get_mut(&name) {
                entry.volume.mountpoint = path.display().to_string();
            }
        });
        Ok(path)
    }

    /// Records that a container that was found running uses a volume. For boot.
    pub fn adopt_use(&self, name: &str, container: ContainerId) {
        self.with_entries(|entries| {
            if let Some(entry) = entries.get_mut(name) {
                *entry.uses.entry(container).or_default() += 1;
            }
        });
    }

    /// Ends one use by a container; the last one unmounts.
    pub async fn unmount(&self, name: &str, container: ContainerId) -> Result<(), NodeError> {
        let _turn = self.turn_of(name).await;
        let ended = self.with_entries(|entries| {
            let entry = entries.get_mut(name)?;
            if let Some(uses) = entry.uses.get_mut(&container) {
                *uses -= 1;
                if *uses == 0 {
                    entry.uses.remove(&container);
                }
            }
            let is_last_of_container = !entry.uses.contains_key(&container);
            let has_options = entry.volume.options.as_ref().is_some_and(|options| !options.is_empty());
            let is_last = entry.uses.is_empty() && has_options;
            let is_local = entry.volume.driver == LOCAL_DRIVER;
            (if is_local { is_last } else { is_last_of_container }).then(|| entry.volume.driver.clone())
        });
        let Some(driver) = ended else { return Ok(()) };
        if driver != LOCAL_DRIVER {
            let plugin = VolumePlugin::find(&self.shared.plugins, &driver).await?;
            let unmounted = plugin.unmount(name, &container.to_string()).await;
            return unmounted.map_err(|error| NodeError::failed(format!("unmount volume {name}"), error));
        }
        let local = self.shared.local.clone();
        let at = name.to_owned();
        run_blocking(move || local.unmount(&at))
            .await?
            .map_err(|error| NodeError::failed(format!("unmount volume {name}"), error))
    }
}
