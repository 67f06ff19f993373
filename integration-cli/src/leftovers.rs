//! Says what a daemon left behind after all containers were removed and it was told to stop.
//!
//! Looks with the kernel's eyes only: processes, cgroups, mounts, interfaces, network namespaces. What a daemon keeps
//! on purpose (its own bridge, its files) is not a leftover.

use std::collections::BTreeSet;
use std::fs;

use crate::guard;
use crate::machine::Machine;
use crate::process::run;

/// Lists what is left on `machine`; empty when the daemon was tidy.
#[must_use]
pub fn on(machine: &Machine) -> Vec<String> {
    let mut found = Vec::new();
    let mut processes = guard::members(machine.name());
    processes.extend(in_namespaces_of(machine));
    found.extend(processes.iter().map(|pid| format!("process {pid}: {}", command_line(*pid))));
    found.extend(container_groups(machine).into_iter().map(|group| format!("cgroup {group}")));
    found.extend(mounts(machine).into_iter().map(|mount| format!("mount {mount}")));
    found.extend(interfaces(machine).into_iter().map(|interface| format!("interface {interface}")));
    found
}

/// Processes in the machine's own namespaces beside its holder, wherever their cgroup is.
fn in_namespaces_of(machine: &Machine) -> BTreeSet<i32> {
    let holder = i32::try_from(machine.inside_pid()).unwrap_or_default();
    let namespaces = |pid: &str| {
        ["net", "mnt"]
            .map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok().filter(|_| pid != "self"))
    };
    let ours = namespaces(&holder.to_string());
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let pids =
        processes.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    pids.filter(|pid| {
        let theirs = namespaces(&pid.to_string());
        *pid != holder && (0..2).any(|kind| ours[kind].is_some() && ours[kind] == theirs[kind])
    })
    .collect()
}

fn command_line(pid: i32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw).replace('\0', " ")
}

/// Cgroups below the machine's own, other than the one the daemon itself ran in.
fn container_groups(machine: &Machine) -> Vec<String> {
    let is_own = |path: &str| {
        path.ends_with(machine.name())
            || path.ends_with(&format!("{}/daemon", machine.name()))
            || path.ends_with(&format!("{}/containers", machine.name()))
    };
    let groups = guard::groups(machine.name()).into_iter().map(|group| group.to_string_lossy().into_owned());
    groups.filter(|group| !is_own(group)).collect()
}

/// Mounts below the machine's directory, as its mount namespace has them.
fn mounts(machine: &Machine) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", machine.inside_pid())).unwrap_or_default();
    let root = machine.root().to_string_lossy().into_owned();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned);
    points.filter(|point| point.starts_with(&root) && !is_kept(point.trim_start_matches(&root))).collect()
}

/// Mounts that a daemon without containers may keep over its stop.
///
/// The reference keeps the namespace that its host-mode sandbox stands for and, when it was to leave containers
/// running, its own directory bound onto itself.
fn is_kept(point: &str) -> bool {
    point.ends_with("/netns/default") || point == "/data"
}

/// Interfaces beside loopback, the uplink, the cable to a shared network, at most one bridge of the daemon and the one that a
/// cluster leaves behind as Docker does.
fn interfaces(machine: &Machine) -> Vec<String> {
    let mut list = machine.inside("ip");
    list.args(["-o", "link", "show"]);
    let listed = run(list, b"").ok();
    let names = listed.lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned);
    let own = ["lo", "docker0", "shoal0", "lan0", "docker_gwbridge"];
    names
        .filter(|name| !own.contains(&name.split('@').next().unwrap_or_default()) && !name.starts_with("up0"))
        .collect()
}
