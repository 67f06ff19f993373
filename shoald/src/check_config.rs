//! `shoald check-config`: what this machine has of what containers need, and how to get the rest.
//!
//! Start reading at [`run`]. Nothing is changed; the kernel loads modules by itself when it is asked for what they have. Checks of
//! the daemon's settings are `shoald --validate`.

use std::path::Path;
use std::process::ExitCode;

use rustix::mount::{FsOpenFlags, fsopen};

/// How bad it is that something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// No container can run.
    Required,
    /// Something that users expect does not work.
    Useful,
}

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    name: &'static str,
    weight: Weight,
    is_there: bool,
    /// What to do when it is not.
    remedy: &'static str,
}

/// Prints what was found, or with `--quiet` only what is missing; fails when something is that containers cannot do without.
pub(crate) fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let is_quiet = arguments.into_iter().any(|argument| argument == "--quiet");
    let findings = look();
    let mut lines = String::new();
    for finding in &findings {
        let mark = match (finding.is_there, finding.weight) {
            (true, _) => "ok     ",
            (false, Weight::Required) => "MISSING",
            (false, Weight::Useful) => "missing",
        };
        if finding.is_there && !is_quiet {
            lines.push_str(&format!("{mark}  {}\n", finding.name));
        } else if !finding.is_there && (!is_quiet || finding.weight == Weight::Required) {
            lines.push_str(&format!("{mark}  {}: {}\n", finding.name, finding.remedy));
        }
    }
    crate::say(&lines);
    let is_fit = findings.iter().all(|finding| finding.is_there || finding.weight == Weight::Useful);
    if is_fit { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn look() -> Vec<Finding> {
    let required = |name, is_there, remedy| Finding { name, weight: Weight::Required, is_there, remedy };
    let useful = |name, is_there, remedy| Finding { name, weight: Weight::Useful, is_there, remedy };
    let namespace = |name: &str| Path::new("/proc/self/ns").join(name).exists();
    let filesystem = |name: &str| fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC).is_ok();
    let cgroup = |path: &str| Path::new("/sys/fs/cgroup").join(path).exists();
    let is_v2 = cgroup("cgroup.controllers");
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let controller = |name: &str| {
        if is_v2 { controllers.split_whitespace().any(|listed| listed == name) } else { cgroup(name) }
    };
    let enable_v2 = "boot with a kernel that has this controller, or mount cgroup v2 at /sys/fs/cgroup";
    vec![
        required(
            "root",
            rustix::process::geteuid().is_root(),
            "run as root; rootless mode is not supported yet",
        ),
        required(
            "kernel 5.12 or newer",
            is_at_least(&rustix::system::uname().release().to_string_lossy(), OLDEST_KERNEL),
            "mounts are made detached and changed before containers see them (mount_setattr, 5.12)",
        ),
        required(
            "overlayfs",
            filesystem("overlay"),
            "kernel option CONFIG_OVERLAY_FS, or `modprobe overlay`",
        ),
        required("mount namespace", namespace("mnt"), "kernel option CONFIG_NAMESPACES"),
        required("process namespace", namespace("pid"), "kernel option CONFIG_PID_NS"),
        required("network namespace", namespace("net"), "kernel option CONFIG_NET_NS"),
        required("host name namespace", namespace("uts"), "kernel option CONFIG_UTS_NS"),
        required("IPC namespace", namespace("ipc"), "kernel option CONFIG_IPC_NS"),
        useful("cgroup namespace", namespace("cgroup"), "kernel option CONFIG_CGROUPS"),
        useful("user namespace", namespace("user"), "kernel option CONFIG_USER_NS"),
        required("seccomp filters", has_seccomp(), "kernel option CONFIG_SECCOMP_FILTER"),
        required("memory controller", controller("memory"), enable_v2),
        required("process controller", controller("pids"), enable_v2),
        required("processor controller", controller("cpu"), enable_v2),
        useful("processor set controller", controller("cpuset"), enable_v2),
        useful("block IO controller", controller(if is_v2 { "io" } else { "blkio" }), enable_v2),
        required("device control", is_v2 || cgroup("devices"), "cgroup v2, or the devices controller of v1"),
        required("nftables", has_nftables(), "kernel option CONFIG_NF_TABLES, or `modprobe nf_tables`"),
        required("POSIX message queues", filesystem("mqueue"), "kernel option CONFIG_POSIX_MQUEUE"),
        useful(
            "AppArmor",
            has_apparmor(),
            "boot with apparmor=1 security=apparmor where the distribution uses it",
        ),
        useful(
            "raising limits (CAP_SYS_RESOURCE)",
            rustix::thread::capabilities(None)
                .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE)),
            "without it --ulimit above the hard limit and lower --oom-score-adj are left out with a warning",
        ),
    ]
}

/// The kernel with the youngest system call that every container needs: mount_setattr(2). The others are older: openat2(2)
/// is of 5.6, clone3(2) into a cgroup of 5.7, close_range(2) of 5.9.
const OLDEST_KERNEL: (u32, u32) = (5, 12);

/// Whether a release, such as `6.1.0-18-amd64`, is this one or newer. PURE.
fn is_at_least(release: &str, oldest: (u32, u32)) -> bool {
    let mut numbers = release.split(|sign: char| !sign.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= oldest,
        _ => false,
    }
}

fn has_seccomp() -> bool {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    actions.contains("errno")
}

fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// Opening the socket loads the module; the file appears with it.
fn has_nftables() -> bool {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};
    let opened =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER));
    opened.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers() {
        for (release, fits) in [
            ("5.12.0", true),
            ("5.9.16", false),
            ("6.1.0-18-amd64", true),
            ("5.4", false),
            ("strange", false),
        ] {
            assert_eq!(is_at_least(release, OLDEST_KERNEL), fits, "{release}");
        }
    }
}
