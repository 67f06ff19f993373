//! What this machine can do: controllers, processors, confinement. Read once, at boot.
//!
//! Start reading at [`Host`]; [`Host::read`] asks the kernel. Deciding what follows for a container is `validate/`'s
//! and `runtime/`'s. A value of its own makes those decisions testable for machines that are not this one.

use std::fs;
use std::path::{Path, PathBuf};

use shoal_types::Platform;

/// Facts about the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What images must fit.
    pub platform: Platform,
    /// Processors.
    pub n_cpus: usize,
    /// Version of the cgroup hierarchy.
    pub cgroup_version: CgroupVersion,
    /// Whether the kernel has cgroup namespaces.
    pub cgroup_namespaces: bool,
    /// Limits that the kernel can enforce.
    pub limits: Limits,
    /// Processors that may be handed out, such as `0-7`; empty when unknown.
    pub cpus: String,
    /// Memory nodes that may be handed out.
    pub mems: String,
    /// Whether containers are confined by AppArmor; told by whoever has loaded the profile.
    pub apparmor: bool,
    /// Whether read-only binds can include what is mounted below (Linux 5.12 and later).
    pub recursive_read_only: bool,
    /// Whether unprivileged ping sockets can be allowed (`net.ipv4.ping_group_range`).
    pub ping_group_range: bool,
    /// Whether low ports can be opened to everybody (`net.ipv4.ip_unprivileged_port_start`).
    pub unprivileged_port_start: bool,
    /// Whether the kernel forwards IPv4; a container on a network is cut off otherwise.
    pub ipv4_forwarding: bool,
    /// Bytes of memory.
    pub memory: u64,
    /// Capabilities that the daemon has and so can give, as the kernel's mask.
    pub capabilities: u64,
}

/// Version of the cgroup hierarchy. A hybrid host counts as version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy for each controller.
    V1,
    /// One for all.
    V2,
}

/// Limits that the kernel can enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Memory.
    pub memory: bool,
    /// Memory below which it is not reclaimed first.
    pub memory_reservation: bool,
    /// Swap.
    pub swap: bool,
    /// Readiness to swap.
    pub swappiness: bool,
    /// Stalling instead of killing.
    pub oom_kill_disable: bool,
    /// Processes.
    pub pids: bool,
    /// Period and quota of the processor scheduler.
    pub cpu_quota: bool,
    /// Processor shares.
    pub cpu_shares: bool,
    /// Real-time scheduling.
    pub cpu_realtime: bool,
    /// Processor sets.
    pub cpuset: bool,
    /// Weight of block IO.
    pub blkio_weight: bool,
    /// Weight by device.
    pub blkio_weight_device: bool,
    /// Rates of block IO by device.
    pub blkio_throttle: bool,
}

impl Limits {
    /// A kernel that can do everything.
    pub const ALL: Self = Self {
        memory: true,
        memory_reservation: true,
        swap: true,
        swappiness: true,
        oom_kill_disable: true,
        pids: true,
        cpu_quota: true,
        cpu_shares: true,
        cpu_realtime: true,
        cpuset: true,
        blkio_weight: true,
        blkio_weight_device: true,
        blkio_throttle: true,
    };
}

impl Host {
    /// Asks the kernel. Blocks for some file reads.
    pub fn read() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").exists();
        let (limits, cpuset_dir) = if is_v2 { read_v2(root) } else { read_v1(root) };
        let first_line = |names: [&str; 2]| {
            names.iter().find_map(|name| fs::read_to_string(cpuset_dir.join(name)).ok()).unwrap_or_default()
        };
        Self {
            platform: Platform::host(),
            n_cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cgroup_version: if is_v2 { CgroupVersion::V2 } else { CgroupVersion::V1 },
            cgroup_namespaces: Path::new("/proc/self/ns/cgroup").exists(),
            limits,
            cpus: first_line(["cpuset.cpus.effective", "cpuset.cpus"]).trim().to_owned(),
            mems: first_line(["cpuset.mems.effective", "cpuset.mems"]).trim().to_owned(),
            apparmor: false,
            recursive_read_only: kernel_is_at_least(5, 12),
            ping_group_range: Path::new("/proc/sys/net/ipv4/ping_group_range").exists(),
            unprivileged_port_start: Path::new("/proc/sys/net/ipv4/ip_unprivileged_port_start").exists(),
            ipv4_forwarding: reads_as("/proc/sys/net/ipv4/ip_forward", "1"),
            memory: total_memory(),
            capabilities: own_capabilities(),
        }
    }

    /// A machine that can do everything, with this version of cgroups; for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn capable(cgroup_version: CgroupVersion) -> Self {
        Self {
            platform: Platform::host(),
            n_cpus: 8,
            cgroup_version,
            cgroup_namespaces: true,
            limits: Limits {
                swappiness: cgroup_version == CgroupVersion::V1,
                oom_kill_disable: cgroup_version == CgroupVersion::V1,
                cpu_realtime: cgroup_version == CgroupVersion::V1,
                ..Limits::ALL
            },
            cpus: "0-7".to_owned(),
            mems: "0".to_owned(),
            apparmor: false,
            recursive_read_only: true,
            ping_group_range: true,
            unprivileged_port_start: true,
            ipv4_forwarding: true,
            memory: 16 << 30,
            capabilities: (1 << 41) - 1,
        }
    }
}

/// What the controllers of version 1 can do, and where processor sets are described.
fn read_v1(root: &Path) -> (Limits, PathBuf) {
    let has = |controller: &str, file: &str| root.join(controller).join(file).exists();
    let limits = Limits {
        memory: has("memory", "memory.limit_in_bytes"),
        memory_reservation: has("memory", "memory.soft_limit_in_bytes"),
        swap: has("memory", "memory.memsw.limit_in_bytes"),
        swappiness: has("memory", "memory.swappiness"),
        oom_kill_disable: has("memory", "memory.oom_control"),
        pids: root.join("pids").is_dir(),
        cpu_quota: has("cpu", "cpu.cfs_quota_us"),
        cpu_shares: has("cpu", "cpu.shares"),
        cpu_realtime: has("cpu", "cpu.rt_period_us"),
        cpuset: has("cpuset", "cpuset.cpus"),
        blkio_weight: has("blkio", "blkio.weight"),
        blkio_weight_device: has("blkio", "blkio.weight_device"),
        blkio_throttle: has("blkio", "blkio.throttle.read_bps_device"),
    };
    (limits, root.join("cpuset"))
}

/// What the controllers of version 2 can do. The root group has no limit files, so swap is looked for in a group below.
fn read_v2(root: &Path) -> (Limits, PathBuf) {
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &str| controllers.split_whitespace().any(|controller| controller == name);
    let groups = || fs::read_dir(root).into_iter().flatten().flatten();
    let has_file_below = |file: &str| groups().any(|group| group.path().join(file).exists());
    let limits = Limits {
        memory: has("memory"),
        memory_reservation: has("memory"),
        swap: has("memory") && has_file_below("memory.swap.max"),
        swappiness: false,
        oom_kill_disable: false,
        pids: has("pids"),
        cpu_quota: has("cpu"),
        cpu_shares: has("cpu"),
        cpu_realtime: false,
        cpuset: has("cpuset"),
        blkio_weight: has("io"),
        blkio_weight_device: has("io"),
        blkio_throttle: has("io"),
    };
    (limits, root.to_owned())
}

fn reads_as(path: &str, wanted: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == wanted)
}

fn total_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

fn own_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_read() {
        let host = Host::read();
        assert!(host.n_cpus > 0 && host.memory > 0);
    }

    #[test]
    fn controllers_of_version_2_are_read_from_a_tree() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        fs::create_dir(root.path().join("system.slice")).unwrap();
        let (limits, _) = read_v2(root.path());
        assert!(limits.memory && !limits.swap && limits.cpu_quota && limits.blkio_throttle);
        fs::write(root.path().join("system.slice/memory.swap.max"), "max").unwrap();
        assert!(read_v2(root.path()).0.swap);
    }

    #[test]
    fn controllers_of_version_1_are_read_from_a_tree() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("memory")).unwrap();
        fs::write(root.path().join("memory/memory.limit_in_bytes"), "").unwrap();
        let (limits, _) = read_v1(root.path());
        assert_eq!(limits, Limits { memory: true, ..Limits::default() });
    }
}
