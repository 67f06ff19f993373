//! The description of Shoal's API: written to a file, checked against that file, compared with others.
//!
//! Start reading at [`document`] and [`generate`]. The description comes from the model types and the list of operations
//! in api-compat; nothing is written here by hand but `coverage.toml`, which says what is refused or partial and why.
//! Running commands is xtask's.

mod compare;
mod coverage;
mod error;
mod validate;

use std::path::{Path, PathBuf};

use serde_json::Value;

pub use compare::{Difference, compare};
pub use coverage::{Coverage, coverage};
pub use error::SwaggerError;
pub use validate::{Validator, Violation};

/// The newest version of the API, the one that is written to a file.
pub const NEWEST: u16 = 56;
/// The oldest version of the API.
pub const OLDEST: u16 = 24;

/// The description of version 1.`minor`, an OpenAPI 3.1 document.
pub fn document(minor: u16) -> Value {
    api_compat::Api::describe(minor)
}

/// The file in `dir` that holds the newest description.
pub fn description_file(dir: &Path) -> PathBuf {
    dir.join(format!("v1.{NEWEST}.json"))
}

/// The newest description as it stands in its file.
pub fn text() -> Result<String, SwaggerError> {
    let mut text = serde_json::to_string_pretty(&document(NEWEST)).map_err(SwaggerError::Json)?;
    text.push('\n');
    Ok(text)
}

/// Writes the newest description to its file in `dir`.
pub fn generate(dir: &Path) -> Result<PathBuf, SwaggerError> {
    let file = description_file(dir);
    std::fs::write(&file, text()?).map_err(|source| SwaggerError::Io { file: file.clone(), source })?;
    Ok(file)
}

/// Whether the file in `dir` is what would be generated now.
pub fn is_current(dir: &Path) -> Result<bool, SwaggerError> {
    let file = description_file(dir);
    let written = std::fs::read_to_string(&file).map_err(|source| SwaggerError::Io { file, source })?;
    Ok(written == text()?)
}

/// The directory of this crate, where the file is committed.
pub fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
