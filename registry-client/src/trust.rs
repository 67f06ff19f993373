//! TLS towards servers that are no registries, with the same roots and the same verifier.
//!
//! Start reading at [`towards_server`]. What registries' directories of certificates add is `net/trust.rs`.

use std::path::PathBuf;

use rustls::ClientConfig;

use crate::error::RegistryError;
use crate::net::trust::{self, Identity, SystemRoots};

/// How one server is spoken to.
#[derive(Debug, Clone, Default)]
pub struct ServerTrust {
    /// Authorities to trust in place of the system's; PEM.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key; PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether the server has to prove who it is.
    pub is_proven: bool,
}

/// Builds the configuration for a server. Reads files, so it blocks.
pub fn towards_server(wanted: &ServerTrust) -> Result<ClientConfig, RegistryError> {
    let identity = if wanted.is_proven { Identity::Proven } else { Identity::Unproven };
    let own = wanted.identity.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    trust::server_config(identity, wanted.ca_file.as_deref(), own, &SystemRoots::default())
}
