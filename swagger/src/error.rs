//! Why a description could not be read, written or compared.
//!
//! Start reading at [`SwaggerError`].

use std::path::PathBuf;

/// Why a description could not be read, written or compared.
#[derive(Debug, thiserror::Error)]
pub enum SwaggerError {
    /// A file could not be read or written.
    #[error("{file}", file = .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A description could not be encoded.
    #[error("encode the description")]
    Json(#[source] serde_json::Error),
    /// A reference is not YAML.
    #[error("{file}", file = .file.display())]
    Yaml {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: serde_yaml_ng::Error,
    },
    /// `coverage.toml` does not have its shape.
    #[error("coverage.toml")]
    Coverage(#[source] toml::de::Error),
}
