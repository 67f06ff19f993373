//! podman's service as a peer: what it wants to be told.
//!
//! Start reading at [`configure`]. podman has no daemon that owns containers; its service answers the same API.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::sandbox::HUB;

/// crun refuses a hybrid layout whose second version has controllers, so podman gets a view without that part. Mounts stay
/// shared, so that the next service finds what this one mounted.
const HIDE_UNIFIED: &str = r#"if [ -d /sys/fs/cgroup/unified ]; then
    mount --make-rprivate /sys/fs/cgroup && umount -l /sys/fs/cgroup/unified
fi
exec "$@""#;

/// Writes configuration files, and adds to a command line what must come before podman itself.
pub(super) fn configure(command: &mut Command, state: &Path) -> Result<()> {
    let configuration = state.join("configuration");
    std::fs::create_dir_all(configuration.join("networks"))?;
    // podman's own limits are higher than some virtual machines allow.
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let most: u64 = std::fs::read_to_string("/proc/sys/kernel/pid_max")?.trim().parse()?;
    let files = hard_limit(&limits, "Max open files");
    let processes = hard_limit(&limits, "Max processes").min(most);
    let containers = format!(
        "[containers]\nlog_driver = \"k8s-file\"\n\
         default_ulimits = [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n\
         [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
         [network]\nnetwork_config_dir = \"{}\"\n",
        configuration.join("networks").display()
    );
    let registries = format!(
        "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nlocation = \"{HUB}:5000\"\ninsecure = true\n"
    );
    std::fs::write(configuration.join("containers.conf"), containers)?;
    std::fs::write(configuration.join("registries.conf"), registries)?;
    command
        .env("CONTAINERS_CONF", configuration.join("containers.conf"))
        .env("CONTAINERS_REGISTRIES_CONF", configuration.join("registries.conf"))
        .args(["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", HIDE_UNIFIED, "sh"]);
    Ok(())
}

/// Lines of /proc/PID/limits: name, soft limit, hard limit, unit; numbers or `unlimited`.
fn hard_limit(limits: &str, name: &str) -> u64 {
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|limit| limit.parse().ok()).unwrap_or(u64::MAX)
}

/// The arguments after `podman`.
pub(super) fn arguments(data: &str, state: &Path, socket: &str) -> Vec<String> {
    let path = |name: &str| state.join(name).display().to_string();
    let (exec, temporary) = (path("exec"), path("tmp"));
    ["--root", data, "--runroot", &exec, "--tmpdir", &temporary, "--storage-driver", "overlay"]
        .into_iter()
        .chain(["system", "service", "--time=0", socket])
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_limit_is_the_second_number() {
        let limits = "Max processes             100       96344                processes\n\
                      Max open files            1024      unlimited            files\n";
        assert_eq!(hard_limit(limits, "Max processes"), 96344);
        assert_eq!(hard_limit(limits, "Max open files"), u64::MAX);
    }
}
