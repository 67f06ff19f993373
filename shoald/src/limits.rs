//! Limits of the daemon's own process.
//!
//! Start reading at [`raise_descriptors`]. Limits of containers are theirs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets the daemon open as many files as it may: each attached client and each running container holds a few. Shims get
/// back what the daemon was started with ([`node_agent::shim_client`]).
pub(crate) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "limit of open files stays low");
    }
}
