//! The lines that pull, push, load, import and build write while they work.
//!
//! Start reading at [`ProgressMessage`].

use serde::Serialize;

use super::is_zero;

/// One line.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename = "CreateImageInfo")]
pub struct ProgressMessage {
    /// Text to print as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// What happens.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// How far it has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The same as a bar. Below 1.52.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    /// To which layer, or to what.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// The same as a text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// A result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Aux>,
}

/// How far something has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProgressDetail {
    /// So many bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// Of so many.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorDetail {
    /// Exit code of what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// In words.
    pub message: String,
}

/// A result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Aux {
    /// Of a push.
    Push(PushResult),
    /// Of a build.
    Build(BuildResult),
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct PushResult {
    /// Its tag.
    pub tag: String,
    /// Its digest.
    pub digest: String,
    /// Bytes of its manifest.
    pub size: u64,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BuildResult {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
}
