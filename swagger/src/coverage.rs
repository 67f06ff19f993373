//! What is refused or partial, and why: `coverage.toml`.
//!
//! Start reading at [`Coverage`].

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::SwaggerError;

/// What is refused or partial, and why. Whatever is not named here is supported.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Coverage {
    /// Operations that are answered but do nothing, by name; the reason.
    pub refused: BTreeMap<String, String>,
    /// Operations that do less than they might, by name; what they lack.
    pub partial: BTreeMap<String, String>,
    /// Names that descriptions of others have and ours lacks on purpose; the reason. `A.b` is the field `b` of `A`
    /// wherever it stands; the name of an operation may stand in front.
    pub lacks: BTreeMap<String, String>,
    /// Names that ours has and descriptions of others lack; the reason.
    pub adds: BTreeMap<String, String>,
}

/// Reads `coverage.toml`.
pub fn coverage() -> Result<Coverage, SwaggerError> {
    toml::from_str(include_str!("../coverage.toml")).map_err(SwaggerError::Coverage)
}
