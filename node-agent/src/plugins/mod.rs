//! Plugins of the old kind (v1): programs that somebody else starts, found by a socket or a file, spoken to by JSON over
//! HTTP.
//!
//! Start reading at [`Plugins::get`]. `discovery.rs` finds a plugin by its name, `client.rs` calls it. A plugin is asked once what
//! it implements and then remembered; one that goes away and comes back is connected to anew at the next call. What is
//! asked of a plugin is its user's business: `volumes/plugin.rs`, and authorisation in api-compat. Plugins that the
//! engine itself would install and run are not known here.

pub(crate) mod client;
mod discovery;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use shoal_types::ErrorKind;

pub use self::client::{Plugin, PluginError};
use crate::error::NodeError;

/// Where plugins have their sockets.
const SOCKET_DIRS: [&str; 1] = ["/run/docker/plugins"];
/// Where files say at which address a plugin is.
const SPEC_DIRS: [&str; 2] = ["/etc/docker/plugins", "/usr/lib/docker/plugins"];

/// The plugins of this machine. Cheap to clone; clones share what they remember.
#[derive(Debug, Clone)]
pub struct Plugins {
    places: Places,
    known: Arc<Mutex<BTreeMap<String, Arc<Plugin>>>>,
}

/// Where plugins are looked for.
#[derive(Debug, Clone)]
struct Places {
    sockets: Vec<PathBuf>,
    specs: Vec<PathBuf>,
}

/// What a plugin says of itself.
#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(rename = "Implements", default)]
    implements: Vec<String>,
}

impl Default for Plugins {
    fn default() -> Self {
        Self::looking_in(SOCKET_DIRS.map(PathBuf::from).into(), SPEC_DIRS.map(PathBuf::from).into())
    }
}

impl Plugins {
    /// Plugins that are looked for in these directories.
    pub fn looking_in(sockets: Vec<PathBuf>, specs: Vec<PathBuf>) -> Self {
        Self { places: Places { sockets, specs }, known: Arc::default() }
    }

    /// Finds a plugin by name that implements a subsystem, such as `VolumeDriver` or `authz`. A missing one is an
    /// error of kind *not found*.
    pub async fn get(&self, name: &str, subsystem: &str) -> Result<Arc<Plugin>, NodeError> {
        if let Some(plugin) = self.remembered(name) {
            return if plugin.implements(subsystem) { Ok(plugin) } else { Err(misfit(name, subsystem)) };
        }
        let (places, wanted) = (self.places.clone(), name.to_owned());
        let found = tokio::task::spawn_blocking(move || discovery::find(&places, &wanted))
            .await
            .map_err(|source| NodeError::failed("look for a plugin", source))??;
        let address = found.ok_or_else(|| missing(name))?;
        let plugin = Plugin::new(name.to_owned(), address);
        let manifest: Manifest = plugin
            .call("Plugin.Activate", &())
            .await
            .map_err(|source| NodeError::failed(format!("legacy plugin {name}"), source))?;
        let plugin = Arc::new(plugin.implementing(manifest.implements));
        self.remember(&plugin);
        if plugin.implements(subsystem) { Ok(plugin) } else { Err(misfit(name, subsystem)) }
    }

    /// Names of the plugins that are there now and implement a subsystem.
    pub async fn present(&self, subsystem: &str) -> Vec<String> {
        let places = self.places.clone();
        let listed = tokio::task::spawn_blocking(move || discovery::list(&places)).await.unwrap_or_default();
        let mut present = Vec::new();
        for name in listed {
            if self.get(&name, subsystem).await.is_ok() {
                present.push(name);
            }
        }
        present
    }

    fn remembered(&self, name: &str) -> Option<Arc<Plugin>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn remember(&self, plugin: &Arc<Plugin>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(plugin.name().to_owned(), Arc::clone(plugin));
    }
}

fn missing(name: &str) -> NodeError {
    NodeError::Refused { kind: ErrorKind::NotFound, message: format!("plugin \"{name}\" not found") }
}

fn misfit(name: &str, subsystem: &str) -> NodeError {
    NodeError::Refused {
        kind: ErrorKind::NotFound,
        message: format!("plugin {name} does not implement the requested interface {subsystem}"),
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
