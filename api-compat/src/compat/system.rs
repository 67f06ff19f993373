//! What the daemon says of itself, as older versions expect it.
//!
//! Start reading at [`info`].

use crate::model::system::SystemInfo;
use crate::version::ApiVersion;

/// Turns the information back.
pub(crate) fn info(info: &mut SystemInfo, version: ApiVersion) {
    if version.is_below(25) {
        info.execution_driver = Some("<not supported>".to_owned());
        info.security_options = info.security_options.iter().map(|option| bare_name(option)).collect();
    }
    if version.is_below(41) {
        info.cgroup_version.clear();
    }
    if version.is_below(42) {
        info.kernel_memory = Some(false);
    }
    if version.is_below(44) {
        info.cdi_spec_dirs = None;
    }
    if version.is_below(49) {
        info.registry_config.allow_nondistributable_artifacts_cidrs = Some(None);
        info.registry_config.allow_nondistributable_artifacts_hostnames = Some(None);
        info.firewall_backend = None;
        for commit in [&mut info.containerd_commit, &mut info.runc_commit, &mut info.init_commit] {
            commit.expected = Some(commit.id.clone());
        }
    }
    if version.is_below(50) {
        info.discovered_devices.clear();
        info.bridge_nf_iptables = Some(false);
        info.bridge_nf_ip6tables = Some(false);
    }
    if version.is_below(52) {
        info.kernel_memory_tcp = Some(false);
    }
}

/// `seccomp` of `name=seccomp,profile=builtin`.
fn bare_name(option: &str) -> String {
    option.split(',').find_map(|part| part.strip_prefix("name=")).unwrap_or(option).to_owned()
}
