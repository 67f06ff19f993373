//! Volumes of plugins: the calls of the subsystem `VolumeDriver`.
//!
//! Start reading at [`VolumePlugin::find`]. A plugin keeps its volumes itself; what the engine keeps of them is the same record as
//! of its own, so that labels and references work alike. Which volumes exist is asked of the plugin whenever somebody
//! wants to know.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shoal_types::ErrorKind;
use shoal_types::volume::VolumeScope;

use crate::error::NodeError;
use crate::plugins::{Plugin, PluginError, Plugins};

/// The subsystem of volume drivers.
pub(super) const SUBSYSTEM: &str = "VolumeDriver";

/// A plugin that keeps volumes.
#[derive(Debug, Clone)]
pub(super) struct VolumePlugin(Arc<Plugin>);

/// What a plugin says of one of its volumes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct PluginVolume {
    /// Its name.
    pub(super) name: String,
    /// Where its content is, if that is known before it is mounted.
    pub(super) mountpoint: String,
    /// Whatever the plugin has to say.
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) status: BTreeMap<String, serde_json::Value>,
    /// When it was made, RFC 3339; empty if it does not say.
    pub(super) created_at: String,
}

/// Go programs write empty maps as `null`.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, serde_json::Value>, D::Error> {
    Option::<BTreeMap<String, serde_json::Value>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[derive(Serialize)]
struct ByName<'a> {
    #[serde(rename = "Name")]
    name: &'a str,
}

#[derive(Serialize)]
struct ByUse<'a> {
    #[serde(rename = "Name")]
    name: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
}

#[derive(Serialize)]
struct Create<'a> {
    #[serde(rename = "Name")]
    name: &'a str,
    #[serde(rename = "Opts")]
    options: &'a BTreeMap<String, String>,
}

/// An answer: what was asked for, or why it could not be done.
#[derive(Deserialize)]
struct Answer<T> {
    #[serde(rename = "Err", default)]
    err: Option<String>,
    #[serde(flatten)]
    content: T,
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
struct Mounted {
    #[serde(rename = "Mountpoint", default)]
    mountpoint: String,
}

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "Volume", default)]
    volume: Option<PluginVolume>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "Volumes", default)]
    volumes: Option<Vec<PluginVolume>>,
}

#[derive(Deserialize)]
struct Capable {
    #[serde(rename = "Capabilities", default)]
    capabilities: Capabilities,
}

#[derive(Deserialize, Default)]
struct Capabilities {
    #[serde(rename = "Scope", default)]
    scope: String,
}

impl VolumePlugin {
    /// Finds the plugin that a driver's name means.
    pub(super) async fn find(plugins: &Plugins, driver: &str) -> Result<Self, NodeError> {
        plugins.get(driver, SUBSYSTEM).await.map(Self)
    }

    /// The driver's name.
    pub(super) fn name(&self) -> &str {
        self.0.name()
    }

    /// Makes a volume.
    pub(super) async fn create(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<(), NodeError> {
        self.ask::<Nothing>("Create", &Create { name, options }).await.map(drop)
    }

    /// Removes a volume.
    pub(super) async fn remove(&self, name: &str) -> Result<(), NodeError> {
        self.ask::<Nothing>("Remove", &ByName { name }).await.map(drop)
    }

    /// Makes a volume's content available for a user and says where it is.
    pub(super) async fn mount(&self, name: &str, user: &str) -> Result<PathBuf, NodeError> {
        let mounted: Mounted = self.ask("Mount", &ByUse { name, id: user }).await?;
        let path = PathBuf::from(mounted.mountpoint);
        if !path.is_absolute() {
            return Err(NodeError::failed(
                format!("mount a volume of {}", self.name()),
                std::io::Error::other("the plugin gave no absolute path"),
            ));
        }
        Ok(path)
    }

    /// Ends a user's use.
    pub(super) async fn unmount(&self, name: &str, user: &str) -> Result<(), NodeError> {
        self.ask::<Nothing>("Unmount", &ByUse { name, id: user }).await.map(drop)
    }

    /// One volume; `None` if the plugin has none of that name, or does not say.
    pub(super) async fn get(&self, name: &str) -> Option<PluginVolume> {
        let found: Found = self.ask("Get", &ByName { name }).await.ok()?;
        found.volume.filter(|volume| volume.name == name)
    }

    /// All volumes of the plugin.
    pub(super) async fn list(&self) -> Result<Vec<PluginVolume>, NodeError> {
        let listed: Listed = self.ask("List", &()).await?;
        Ok(listed.volumes.unwrap_or_default())
    }

    /// Whether the volumes are the same on every machine. A plugin that does not say has local ones.
    pub(super) async fn scope(&self) -> VolumeScope {
        match self.ask::<Capable>("Capabilities", &()).await {
            Ok(capable) if capable.capabilities.scope.eq_ignore_ascii_case("global") => VolumeScope::Global,
            _ => VolumeScope::Local,
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        arguments: &(impl Serialize + Sync),
    ) -> Result<T, NodeError> {
        let told = |message: String| NodeError::Refused { kind: ErrorKind::Internal, message };
        let method = format!("{SUBSYSTEM}.{method}");
        let answer: Result<Answer<T>, PluginError> = self.0.call(&method, arguments).await;
        match answer.map_err(|error| told(error.to_string()))? {
            Answer { err: Some(err), .. } if !err.is_empty() => Err(told(err)),
            Answer { content, .. } => Ok(content),
        }
    }
}
