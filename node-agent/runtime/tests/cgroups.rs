//! Limits, counters and the removal of cgroups, on whichever version this host has.

use std::fs;

use node_runtime::cgroup::{Cgroup, Counters};
use serde_json::json;

use crate::support::{Bench, wait_until};

fn is_v2() -> bool {
    fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok()
}

/// Checks a file of the container's cgroup, by its names on v1 and on v2.
fn check(bench: &Bench, v1: (&str, &str, &str), v2: (&str, &str)) {
    let (controller, file, expected) = if is_v2() { ("", v2.0, v2.1) } else { v1 };
    let value = bench.cgroup_file("c", controller, file).unwrap_or_else(|| panic!("no {controller} {file}"));
    assert_eq!(value.trim(), expected, "{controller} {file}");
}

#[test]
fn limits_are_in_force_and_can_be_changed() {
    let Some(mut bench) = Bench::new() else { return };
    bench.config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20, "reservation": 32 << 20 });
    bench.config["linux"]["resources"]["cpu"] =
        json!({ "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0" });
    bench.config["linux"]["resources"]["pids"] = json!({ "limit": 33 });
    bench.start_sleeper("c");
    check(&bench, ("memory", "memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
    check(&bench, ("memory", "memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432"));
    check(&bench, ("cpu", "cpu.shares", "512"), ("cpu.weight", "59"));
    check(&bench, ("cpu", "cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"));
    check(&bench, ("cpuset", "cpuset.cpus", "0"), ("cpuset.cpus", "0"));
    check(&bench, ("pids", "pids.max", "33"), ("pids.max", "33"));
    bench.ours_ok(&[
        "update",
        "--memory",
        "33554432",
        "--pids-limit",
        "44",
        "--cpu-quota",
        "20000",
        "--cpu-period",
        "50000",
        "c",
    ]);
    check(&bench, ("memory", "memory.limit_in_bytes", "33554432"), ("memory.max", "33554432"));
    check(&bench, ("cpu", "cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 50000"));
    check(&bench, ("pids", "pids.max", "44"), ("pids.max", "44"));
    let forks = bench.ours(&["exec", "c", "sh", "-c", "for i in $(seq 60); do sleep 5 & done"]);
    assert!(String::from_utf8_lossy(&forks.stderr).contains("can't fork"), "{forks:?}");
}

#[test]
fn devices_are_controlled() {
    let Some(mut bench) = Bench::new() else { return };
    bench.config["linux"]["resources"]["devices"] = json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "w" }]);
    bench.start_sleeper("c");
    let script = "mknod /tmp/mem c 1 1; mknod /tmp/msg c 1 11; mknod /tmp/null c 1 3; \
        (head -c 1 </tmp/mem) 2>&1; (echo >/tmp/null) 2>&1 && echo null ok; \
        (: >/tmp/msg) 2>&1 && echo write ok; (head -c 1 </tmp/msg) 2>&1";
    let output = bench.ours(&["exec", "c", "sh", "-c", script]);
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    let denied = "Operation not permitted";
    assert!(seen.contains(&format!("/tmp/mem: {denied}")) && seen.contains("null ok"), "{output:?}");
    assert!(seen.contains("write ok") && seen.contains(&format!("/tmp/msg: {denied}")), "{output:?}");
}

#[test]
fn counters_move_and_processes_are_listed() {
    let Some(mut bench) = Bench::new() else { return };
    bench.start_sleeper("c");
    let cgroup = Cgroup::at(std::path::Path::new(&bench.cgroup_of("c"))).unwrap();
    assert_eq!(cgroup.pids().unwrap(), [bench.pid("c")]);
    let mut counters = Counters::of(&cgroup);
    let before = counters.read();
    bench.ours_ok(&["exec", "c", "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"]);
    let after = counters.read();
    assert!(after.cpu.usage > before.cpu.usage, "{before:?} {after:?}");
    assert!(after.memory.usage > 0 && !after.memory.stat.is_empty());
    assert_eq!(after.pids.current, 1);
    assert_eq!(cgroup.readings().memory.stat.len(), after.memory.stat.len());
    let stats: serde_json::Value = serde_json::from_str(&bench.ours_ok(&["events", "--stats", "c"])).unwrap();
    assert_eq!(stats["data"]["pids"]["current"], 1);
}

#[test]
fn a_process_killed_for_lack_of_memory_is_told() {
    let Some(mut bench) = Bench::new() else { return };
    bench.config["linux"]["resources"]["memory"] = json!({ "limit": 16 << 20, "swap": 16 << 20 });
    bench.start_sleeper("c");
    let cgroup = Cgroup::at(std::path::Path::new(&bench.cgroup_of("c"))).unwrap();
    let mut events = cgroup.oom_events().unwrap();
    assert_eq!(events.take().unwrap(), 0);
    let hungry = bench.ours(&["exec", "c", "sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1"]);
    assert_eq!(hungry.status.code(), Some(137), "{hungry:?}");
    let mut polled = [rustix::event::PollFd::new(&events, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(
        rustix::event::poll(&mut polled, Some(&patience)).unwrap(),
        1,
        "the descriptor never became readable"
    );
    assert_eq!(events.take().unwrap(), 1);
    assert_eq!(cgroup.oom_kills().unwrap(), 1);
    assert_eq!(bench.status("c")["status"], "running");
}

#[test]
fn freezing_stops_and_killing_reaches_all() {
    let Some(mut bench) = Bench::new() else { return };
    bench.namespaces().retain(|namespace| namespace["type"] != "pid");
    bench.set_script("for i in 1 2 3; do sleep 1000 & done; exec sleep 1000");
    assert!(bench.create("c").status.success());
    bench.ours_ok(&["start", "c"]);
    let cgroup = Cgroup::at(std::path::Path::new(&bench.cgroup_of("c"))).unwrap();
    wait_until("all processes run", || cgroup.pids().unwrap().len() == 4);
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    bench.ours_ok(&["kill", "--all", "c", "KILL"]);
    wait_until("all processes are gone", || cgroup.pids().unwrap().is_empty());
    assert!(!cgroup.is_frozen().unwrap());
}

#[test]
fn a_cgroup_with_children_of_the_containers_own_is_removed() {
    let Some(mut bench) = Bench::new() else { return };
    bench.start_sleeper("c");
    let cgroup = Cgroup::at(std::path::Path::new(&bench.cgroup_of("c"))).unwrap();
    let directory = cgroup.controller_directory("pids").unwrap();
    fs::create_dir_all(directory.join("own/deeper")).unwrap();
    bench.ours_ok(&["delete", "--force", "c"]);
    assert!(!directory.exists());
    cgroup.remove().unwrap();
}
