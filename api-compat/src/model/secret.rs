//! Secrets and configs.
//!
//! Start reading at [`Secret`]; [`Config`] is the same for files that are no secret.

use serde::{Deserialize, Serialize};

use super::Texts;
use super::bytes::Base64;
use super::cluster::{Driver, ObjectVersion};
use super::time::Time;

/// A secret; its content is never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Secret {
    /// Id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Version.
    pub version: ObjectVersion,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// What was asked for.
    pub spec: SecretSpec,
}

/// A wish for a secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct SecretSpec {
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Labels.
    pub labels: Texts,
    /// The content, in base64.
    #[serde(skip_serializing_if = "Base64::is_empty")]
    pub data: Base64,
    /// What gives the content, if the cluster does not keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// What fills the content in for each task, if it is a template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templating: Option<Driver>,
}

/// A config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// Id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Version.
    pub version: ObjectVersion,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
    /// What was asked for.
    pub spec: ConfigSpec,
}

/// A wish for a config.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ConfigSpec {
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Labels.
    pub labels: Texts,
    /// The content, in base64.
    #[serde(skip_serializing_if = "Base64::is_empty")]
    pub data: Base64,
    /// What fills the content in for each task, if it is a template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templating: Option<Driver>,
}

/// A secret or config that was made. Docker's description has `Id` here; its daemon says `ID`, and clients look for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FileCreateResponse {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
}
