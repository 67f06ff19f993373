//! PURE. Namespaces in the runtime spec: own ones, those of other containers, none for the host's.
//!
//! Start reading at [`build`].

use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType};
use shoal_types::container::security::{CgroupMode, IpcMode, PidMode, UtsMode};

use crate::runtime::inputs::{NetworkNamespace, SpecInputs};
use crate::userns::IdRange;

/// The namespaces that a container has or joins; one that is left out is the host's.
pub(super) fn build(inputs: &SpecInputs) -> Vec<LinuxNamespace> {
    let namespaces = &inputs.spec.namespaces;
    let of_process =
        |pid: Option<u32>, name: &str| pid.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/{name}")));
    let mut built = vec![own(LinuxNamespaceType::Mount)];
    if let Some(path) = &inputs.user_namespace {
        built.push(at(LinuxNamespaceType::User, Some(path.clone())));
    }
    match &inputs.network {
        NetworkNamespace::Host => {}
        NetworkNamespace::At(path) => built.push(at(LinuxNamespaceType::Network, Some(path.clone()))),
        NetworkNamespace::Peer => {
            built.push(at(LinuxNamespaceType::Network, of_process(inputs.peers.network, "net")));
        }
    }
    if namespaces.uts == UtsMode::Private {
        built.push(own(LinuxNamespaceType::Uts));
    }
    match &namespaces.pid {
        PidMode::Private => built.push(own(LinuxNamespaceType::Pid)),
        PidMode::Container(_) => {
            built.push(at(LinuxNamespaceType::Pid, of_process(inputs.peers.pid, "pid")));
        }
        PidMode::Host => {}
    }
    match &namespaces.ipc {
        IpcMode::DaemonDefault | IpcMode::None | IpcMode::Private | IpcMode::Shareable => {
            built.push(own(LinuxNamespaceType::Ipc));
        }
        IpcMode::Container(_) => {
            built.push(at(LinuxNamespaceType::Ipc, of_process(inputs.peers.ipc, "ipc")));
        }
        IpcMode::Host => {}
    }
    if namespaces.cgroup == Some(CgroupMode::Private) {
        built.push(own(LinuxNamespaceType::Cgroup));
    }
    built
}

/// A mapping as runtimes read it.
pub(super) fn mappings(ranges: &[IdRange]) -> Vec<LinuxIdMapping> {
    let mapping = |range: &IdRange| {
        let mapping = LinuxIdMappingBuilder::default();
        // Nothing is left to default, so nothing can be missing.
        mapping.container_id(range.inside).host_id(range.outside).size(range.length).build().ok()
    };
    ranges.iter().filter_map(mapping).collect()
}

fn own(kind: LinuxNamespaceType) -> LinuxNamespace {
    at(kind, None)
}

fn at(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path);
    namespace
}
