//! What handlers see: the node, the cluster, and what the daemon says of itself.
//!
//! Start reading at [`ApiState`]. It is made once, by the composition root, and shared read-only.

use std::fmt;
use std::sync::Arc;

use builder::Builder;
use manager::Cluster;
use node_agent::api::Node;
use node_agent::containers::host::CgroupVersion;

use crate::version::{ApiVersion, MIN_VERSION};

/// Everything that handlers may use.
#[derive(Clone)]
pub struct ApiState {
    /// This machine.
    pub node: Node,
    /// The cluster that this machine may belong to.
    pub cluster: Cluster,
    /// Builds of images.
    pub builder: Arc<dyn Builder>,
    /// What the daemon says of itself.
    pub daemon: DaemonInfo,
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiState").field("daemon", &self.daemon).finish_non_exhaustive()
    }
}

/// What the daemon says of itself; fixed for its life.
#[derive(Debug, Clone)]
pub struct DaemonInfo {
    /// Version, such as `0.1.0`.
    pub version: String,
    /// Commit it was built from; empty when not known.
    pub commit: String,
    /// When it was built, RFC 3339; empty when not known.
    pub build_time: String,
    /// The compiler that built it.
    pub compiler: String,
    /// The oldest version of the API that is served, 1.24 at least.
    pub min_api_version: ApiVersion,
    /// Whether experimental features are on.
    pub experimental: bool,
    /// The host's cgroup version, by which requests of old clients are understood.
    pub cgroup_version: CgroupVersion,
    /// The builder that clients shall use.
    pub builder: PreferredBuilder,
    /// Parts that `docker version` lists beside the engine, such as OCI runtimes.
    pub components: Vec<Component>,
}

/// A builder, as `/_ping` recommends it to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreferredBuilder {
    /// The classic one, `POST /build` with a Dockerfile's steps.
    Classic,
    /// BuildKit, over a session.
    BuildKit,
}

impl PreferredBuilder {
    /// The header's value.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Classic => "1",
            Self::BuildKit => "2",
        }
    }
}

impl Default for DaemonInfo {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: String::new(),
            build_time: String::new(),
            compiler: String::new(),
            min_api_version: MIN_VERSION,
            experimental: false,
            cgroup_version: CgroupVersion::V2,
            builder: PreferredBuilder::BuildKit,
            components: Vec::new(),
        }
    }
}

/// A part of the daemon with a version of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Component {
    /// Name, such as `runc`.
    pub name: String,
    /// Version.
    pub version: String,
    /// Commit; empty when not known.
    pub commit: String,
}
