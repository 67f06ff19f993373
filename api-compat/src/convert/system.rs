//! What the daemon says of itself.
//!
//! Start reading at [`version`].

use node_agent::api::system::SystemInfo;

use crate::model::Texts;
use crate::model::system::{ComponentVersion, PlatformName, SystemVersion};
use crate::state::{Component, DaemonInfo};
use crate::version::MAX_VERSION;

/// The product's name, in `docker version`.
const PRODUCT: &str = "Shoal";

/// The architecture in Go's names.
fn go_architecture() -> String {
    shoal_types::Platform::host().architecture
}

/// The versions of the daemon and its parts.
pub(crate) fn version(daemon: &DaemonInfo, info: &SystemInfo) -> SystemVersion {
    let details: Texts = [
        ("ApiVersion", MAX_VERSION.to_string()),
        ("Arch", go_architecture()),
        ("BuildTime", daemon.build_time.clone()),
        ("Experimental", daemon.experimental.to_string()),
        ("GitCommit", daemon.commit.clone()),
        ("GoVersion", daemon.compiler.clone()),
        ("KernelVersion", info.kernel.clone()),
        ("MinAPIVersion", daemon.min_api_version.to_string()),
        ("Os", "linux".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let engine = ComponentVersion {
        name: "Engine".to_owned(),
        version: daemon.version.clone(),
        details: Some(details),
    };
    SystemVersion {
        platform: PlatformName { name: PRODUCT.to_owned() },
        components: std::iter::once(engine).chain(daemon.components.iter().map(component)).collect(),
        version: daemon.version.clone(),
        api_version: MAX_VERSION.to_string(),
        min_api_version: daemon.min_api_version.to_string(),
        git_commit: daemon.commit.clone(),
        go_version: daemon.compiler.clone(),
        os: "linux".to_owned(),
        arch: go_architecture(),
        kernel_version: info.kernel.clone(),
        experimental: daemon.experimental,
        build_time: daemon.build_time.clone(),
    }
}

fn component(component: &Component) -> ComponentVersion {
    ComponentVersion {
        name: component.name.clone(),
        version: component.version.clone(),
        details: Some(Texts::from([("GitCommit".to_owned(), component.commit.clone())])),
    }
}
