//! PURE. The OCI runtime spec of a container.
//!
//! Start reading at [`build`]. Groups: `process.rs`, `mounts.rs`, `namespaces.rs`. What comes out has the shape that Docker
//! gives it; `tests.rs` says which.

pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod process;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use node_shim::protocol::ROOTFS_DIR;
use oci_spec::runtime::{Linux, LinuxSeccomp, Root, Spec};
use shoal_types::container::networking::NetworkMode;
use shoal_types::container::security::UtsMode;

use super::devices::Devices;
use super::inputs::{NetworkNamespace, SpecInputs};
use super::{cgroup, masks, resources};
use crate::error::NodeError;

/// Version of the runtime specification that is followed: the oldest that has all that is written. Runtimes refuse one that
/// is newer than themselves (crun 1.8 knows of 1.0 only).
const OCI_VERSION: &str = "1.0.2";

/// Makes the runtime spec from what is known at the start.
pub(crate) fn build(
    inputs: &SpecInputs,
    devices: Devices,
    seccomp: Option<Arc<LinuxSeccomp>>,
) -> Result<Spec, NodeError> {
    let mut root = Root::default();
    root.set_path(PathBuf::from(ROOTFS_DIR))
        .set_readonly(inputs.spec.security.readonly_rootfs.then_some(true));
    let shares_name = inputs.spec.namespaces.uts == UtsMode::Host;
    let mounts = mounts::build(inputs)?;
    let mut linux = linux(inputs, devices, seccomp)?;
    linux.set_rootfs_propagation(mounts.root_propagation);
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_hostname((!shares_name).then(|| inputs.hostname.clone()))
        .set_process(Some(process::build(inputs)))
        .set_mounts(Some(mounts.mounts))
        .set_annotations(annotations(inputs))
        .set_hooks(None)
        .set_linux(Some(linux));
    Ok(spec)
}

fn linux(
    inputs: &SpecInputs,
    devices: Devices,
    seccomp: Option<Arc<LinuxSeccomp>>,
) -> Result<Linux, NodeError> {
    let spec = &inputs.spec;
    let list = |paths: Vec<String>| (!paths.is_empty()).then_some(paths);
    let (masked, read_only) = masks::of(&spec.security);
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces::build(inputs)))
        .set_resources(Some(resources::all(&spec.resources, devices.rules)?))
        .set_devices((!devices.nodes.is_empty()).then_some(devices.nodes))
        .set_cgroups_path(Some(PathBuf::from(cgroup::path_of(inputs.id, &spec.resources, &inputs.config))))
        .set_sysctl(Some(sysctls(inputs)).filter(|sysctls| !sysctls.is_empty()))
        .set_seccomp(seccomp.map(Arc::unwrap_or_clone))
        .set_masked_paths(list(masked))
        .set_readonly_paths(list(read_only));
    if inputs.user_namespace.is_some() {
        // Said again beside the namespace, because runtimes that join one want to know who is root in it.
        linux
            .set_uid_mappings(Some(namespaces::mappings(inputs.ids.users())))
            .set_gid_mappings(Some(namespaces::mappings(inputs.ids.groups())));
    }
    Ok(linux)
}

/// Kernel parameters: what lets unprivileged programs ping and listen on low ports, then the user's.
fn sysctls(inputs: &SpecInputs) -> HashMap<String, String> {
    let spec = &inputs.spec;
    let mut sysctls = HashMap::new();
    let is_own_network = matches!(inputs.network, NetworkNamespace::At(_))
        && !matches!(spec.networking.mode, NetworkMode::Host | NetworkMode::Container(_));
    // The kernel wants every group of the range to be mapped.
    let is_mapped = inputs.user_namespace.is_some();
    if is_own_network && inputs.host.ping_group_range && !is_mapped {
        sysctls.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
    }
    if is_own_network && inputs.host.unprivileged_port_start {
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
    }
    if !spec.process.domainname.is_empty() && spec.namespaces.uts == UtsMode::Private {
        sysctls.insert("kernel.domainname".to_owned(), spec.process.domainname.clone());
    }
    sysctls.extend(spec.sysctls.clone());
    sysctls
}

fn annotations(inputs: &SpecInputs) -> Option<HashMap<String, String>> {
    let annotations: HashMap<String, String> = inputs.spec.annotations.clone().into_iter().collect();
    (!annotations.is_empty()).then_some(annotations)
}
