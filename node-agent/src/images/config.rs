//! Image configs: the JSON that says how an image is run and what its layers are.
//!
//! Start reading at [`ImageConfig::parse`] (OCI image spec, config.md, and Docker's additions). Pure. Configs come from
//! registries and archives; fields that nobody needs may have any form.

use std::collections::BTreeMap;

use jiff::Timestamp;
use registry_client::PlatformSpec;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shoal_types::{DiffId, Platform};

use crate::api::images::ImageRunConfig;

/// An image config as it is read and written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ImageConfig {
    /// What it is built for.
    #[serde(flatten)]
    pub(super) platform: PlatformSpec,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<Timestamp>,
    /// Who made it.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub(super) author: String,
    /// The version of the engine that made it.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub(super) docker_version: String,
    /// How it is run, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) config: Option<Box<RawValue>>,
    /// Its layers.
    #[serde(default)]
    pub(super) rootfs: RootFs,
    /// How it was made, oldest first.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) history: Vec<HistoryItem>,
}

/// The layers of a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    /// Bottom first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One step of how an image was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct HistoryItem {
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<Timestamp>,
    /// By which command.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub(super) created_by: String,
    /// By whom.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub(super) author: String,
    /// Why.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub(super) comment: String,
    /// Whether it added no layer.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "std::ops::Not::not")]
    pub(super) empty_layer: bool,
}

impl ImageConfig {
    /// Reads a config.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        // RawValue cannot be read through `flatten`, so the document is read in two halves.
        #[derive(Deserialize)]
        struct Rest {
            #[serde(default)]
            created: Option<Timestamp>,
            #[serde(default, deserialize_with = "null_is_default")]
            author: String,
            #[serde(default, deserialize_with = "null_is_default")]
            docker_version: String,
            #[serde(default)]
            config: Option<Box<RawValue>>,
            #[serde(default, deserialize_with = "null_is_default")]
            rootfs: RootFs,
            #[serde(default, deserialize_with = "null_is_default")]
            history: Vec<HistoryItem>,
        }
        let platform: PlatformSpec = serde_json::from_slice(bytes)?;
        let Rest { created, author, docker_version, config, rootfs, history } =
            serde_json::from_slice(bytes)?;
        Ok(Self { platform, created, author, docker_version, config, rootfs, history })
    }

    /// The platform, normalised. One that is not stated is this machine's, as in Docker.
    pub(super) fn platform(&self) -> Platform {
        let host = Platform::host();
        let or =
            |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
        Platform::new(
            &or(&self.platform.os, &host.os),
            &or(&self.platform.architecture, &host.architecture),
            self.platform.variant.as_deref().unwrap_or_default(),
        )
    }

    /// How the image is run.
    pub(super) fn run_config(&self) -> Result<ImageRunConfig, serde_json::Error> {
        // Go writes what is not there as null.
        let fields: BTreeMap<String, serde_json::Value> = match &self.config {
            Some(config) => serde_json::from_str::<Option<_>>(config.get())?.unwrap_or_default(),
            None => BTreeMap::new(),
        };
        let fields = fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
        serde_json::from_value(serde_json::Value::Object(fields))
    }
}

pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_configs_are_read() {
        let json = br#"{"architecture":"arm64","variant":"v8","os":"linux","created":"2024-01-02T03:04:05.123456789Z",
            "author":null,"container":"abc","container_config":{"Cmd":["/bin/sh"]},"docker_version":"20.10.7",
            "config":{"Hostname":"","Domainname":"","User":null,"AttachStdin":false,"ExposedPorts":{"80/tcp":{}},
            "Env":["A=1"],"Cmd":["sh"],"Image":"sha256:x","Volumes":null,"WorkingDir":"","OnBuild":null,"Labels":{"a":"b"}},
            "rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]},
            "history":[{"created":"2024-01-02T03:04:05Z","created_by":"x","empty_layer":true},{"created_by":null}]}"#;
        let config = ImageConfig::parse(json).unwrap();
        assert_eq!(config.platform().to_string(), "linux/arm64");
        assert_eq!((config.history.len(), config.rootfs.diff_ids.len()), (2, 1));
        let run = config.run_config().unwrap();
        assert_eq!((run.cmd, run.user), (Some(vec!["sh".to_owned()]), String::new()));
        assert_eq!(run.labels.unwrap()["a"], "b");
        assert!(config.config.unwrap().get().starts_with(r#"{"Hostname":"""#));
    }

    #[test]
    fn a_minimal_config_is_for_this_machine_and_runs_nothing() {
        let config = ImageConfig::parse(b"{}").unwrap();
        assert_eq!(config.platform(), Platform::host());
        assert_eq!(config.run_config().unwrap(), ImageRunConfig::default());
        assert_eq!(
            ImageConfig::parse(br#"{"config":null,"rootfs":null,"history":null}"#).unwrap().rootfs,
            RootFs::default()
        );
    }

    #[test]
    fn configs_are_written_in_the_specifications_form() {
        let mut config = ImageConfig::parse(br#"{"os":"linux","architecture":"amd64"}"#).unwrap();
        config.history.push(HistoryItem { created_by: "make".to_owned(), ..HistoryItem::default() });
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"make"}]}"#
        );
    }
}
