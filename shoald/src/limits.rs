//! Limits of the daemon's own process.
//!
//! Start reading at [`raise_descriptors`]. Limits of containers are theirs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets the daemon open as many files as it may: each attached client and each running container holds a few. Returns
/// the limit that it was started with, which shims get back ([`node_agent::shim_client::ProcessShims`]).
pub(crate) fn raise_descriptors() -> Rlimit {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "limit of open files stays low");
    }
    limit
}
