//! The machine, as its kernel and its files describe it.
//!
//! Start reading at [`read`]. Blocks for a few small files; what cannot be read is left empty rather than failing the
//! whole answer.

use std::path::Path;

use crate::api::system::{Controllers, SystemInfo};

/// Where cgroup hierarchies are.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Everything that the machine says.
pub(super) fn read() -> SystemInfo {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let release = os_release();
    let is_v2 = Path::new(CGROUP_ROOT).join("cgroup.controllers").exists();
    let controllers = if is_v2 { controllers_v2() } else { controllers_v1() };
    let forwarding = |family: &str| read_text(&format!("/proc/sys/net/{family}")).trim() == "1";
    let ipv4_forwarding = forwarding("ipv4/ip_forward");
    SystemInfo {
        storage_driver: "overlayfs".to_owned(),
        storage_status: vec![("driver-type".to_owned(), "io.containerd.snapshotter.v1".to_owned())],
        log_drivers: crate::logs::settings::drivers(),
        network_drivers: ["bridge", "host", "macvlan", "null", "overlay"].map(str::to_owned).to_vec(),
        volume_drivers: vec!["local".to_owned()],
        controllers,
        ipv4_forwarding,
        open_files: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        cgroup_version: if is_v2 { 2 } else { 1 },
        cgroup_driver: "cgroupfs".to_owned(),
        kernel: text(uname.release()),
        operating_system: release.0,
        os_version: release.1,
        architecture: text(uname.machine()),
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory: memory(),
        hostname: text(uname.nodename()),
        firewall: ("nftables".to_owned(), Vec::new()),
        warnings: warnings(controllers, is_v2, ipv4_forwarding),
        ..SystemInfo::default()
    }
}

fn read_text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Name and version of the distribution (os-release(5)).
fn os_release() -> (String, String) {
    let file = read_text("/etc/os-release");
    let file = if file.is_empty() { read_text("/usr/lib/os-release") } else { file };
    parse_os_release(&file)
}

fn parse_os_release(file: &str) -> (String, String) {
    let value = |key: &str| {
        let found = file.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.map(|value| value.trim().trim_matches(['"', '\'']).to_owned()).unwrap_or_default()
    };
    let name = value("PRETTY_NAME");
    (if name.is_empty() { "Linux".to_owned() } else { name }, value("VERSION_ID"))
}

/// Bytes of memory.
fn memory() -> u64 {
    let file = read_text("/proc/meminfo");
    let line = file.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn controllers_v1() -> Controllers {
    let has = |path: &str| Path::new(CGROUP_ROOT).join(path).exists();
    Controllers {
        memory: has("memory/memory.limit_in_bytes"),
        swap: has("memory/memory.memsw.limit_in_bytes"),
        cpu_period: has("cpu/cpu.cfs_period_us"),
        cpu_quota: has("cpu/cpu.cfs_quota_us"),
        cpu_shares: has("cpu/cpu.shares"),
        cpuset: has("cpuset/cpuset.cpus"),
        pids: has("pids"),
        oom_kill_disable: has("memory/memory.oom_control"),
    }
}

fn controllers_v2() -> Controllers {
    let listed = read_text(&format!("{CGROUP_ROOT}/cgroup.controllers"));
    let has = |name: &str| listed.split_whitespace().any(|listed| listed == name);
    let (memory, cpu) = (has("memory"), has("cpu"));
    Controllers {
        memory,
        swap: memory && has_swap_accounting(),
        cpu_period: cpu,
        cpu_quota: cpu,
        cpu_shares: cpu,
        cpuset: has("cpuset"),
        pids: has("pids"),
        oom_kill_disable: false,
    }
}

/// The root has no swap file of its own; any child tells whether the kernel accounts swap.
fn has_swap_accounting() -> bool {
    let children = std::fs::read_dir(CGROUP_ROOT).into_iter().flatten().flatten();
    children
        .map(|child| child.path())
        .filter(|path| path.join("memory.max").exists())
        .any(|path| path.join("memory.swap.max").exists())
}

/// Sentences about what the machine lacks, as dockerd words them.
fn warnings(controllers: Controllers, is_v2: bool, ipv4_forwarding: bool) -> Vec<String> {
    let lacking = [
        (controllers.memory, "WARNING: No memory limit support"),
        (controllers.swap, "WARNING: No swap limit support"),
        (controllers.cpu_period, "WARNING: No cpu cfs period support"),
        (controllers.cpu_quota, "WARNING: No cpu cfs quota support"),
        (controllers.cpu_shares, "WARNING: No cpu shares support"),
        (controllers.cpuset, "WARNING: No cpuset support"),
        (controllers.pids, "WARNING: No pids limit support"),
        (controllers.oom_kill_disable || is_v2, "WARNING: No oom kill disable support"),
        (ipv4_forwarding, "WARNING: IPv4 forwarding is disabled"),
    ];
    lacking.into_iter().filter(|(has, _)| !has).map(|(_, text)| text.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_read_with_and_without_quotes() {
        let file = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=12\n";
        assert_eq!(parse_os_release(file), ("Debian GNU/Linux 12 (bookworm)".to_owned(), "12".to_owned()));
        assert_eq!(parse_os_release(""), ("Linux".to_owned(), String::new()));
    }

    #[test]
    fn this_machine_has_processors_memory_and_a_kernel() {
        let machine = read();
        assert!(machine.cpus > 0 && machine.memory > 0 && !machine.kernel.is_empty());
        assert!(matches!(machine.cgroup_version, 1 | 2));
    }
}
