//! The daemon: versions, settings, counters.
//!
//! Start reading at [`SystemVersion`].

use serde::Serialize;

use super::{Texts, is_zero};

/// The versions of the daemon and its parts.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct SystemVersion {
    /// The product.
    pub platform: PlatformName,
    /// The daemon's parts.
    pub components: Vec<ComponentVersion>,
    /// Version of the daemon.
    pub version: String,
    /// Newest version of the API.
    pub api_version: String,
    /// Oldest version of the API.
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    /// Commit it was built from.
    pub git_commit: String,
    /// Compiler it was built with.
    pub go_version: String,
    /// Operating system.
    pub os: String,
    /// Architecture.
    pub arch: String,
    /// Release of the kernel.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kernel_version: String,
    /// Whether experimental features are on.
    #[serde(skip_serializing_if = "is_zero")]
    pub experimental: bool,
    /// When it was built.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build_time: String,
}

/// The product.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct PlatformName {
    /// Its name.
    pub name: String,
}

/// A part of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ComponentVersion {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Texts>,
}
