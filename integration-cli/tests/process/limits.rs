//! Resource limits, and what happens at them.

use integration_cli::{Test, cases};
use serde_json::json;

use super::{cgroup_value, is_cgroup_v2};

cases![
    the_memory_limit_is_set_in_the_cgroup,
    a_process_over_the_memory_limit_is_killed_and_reported,
    a_container_that_kills_itself_is_not_reported_as_out_of_memory,
    memory_reservation_and_shares_are_set,
    cpus_become_quota_and_period,
    cpusets_pin_the_processors,
    the_number_of_processes_is_limited,
    ulimits_are_set,
    the_daemons_default_ulimits_apply,
    the_oom_score_is_adjusted,
    update_changes_limits_of_a_running_container,
    update_refuses_conflicts,
    memory_beyond_the_present_swap_wants_both_at_once,
    containers_sit_below_the_cgroup_parent,
    unlimited_is_the_default,
    block_devices_are_throttled,
];

fn the_memory_limit_is_set_in_the_cgroup(t: &Test) {
    let container = t.start("--memory 64m busybox park");
    assert_eq!(cgroup_value(t, &container, ("memory", "memory.limit_in_bytes"), "memory.max"), "67108864");
    let host = t.inspect(&container)["HostConfig"].clone();
    assert_eq!(host["Memory"], 67_108_864);
    assert_eq!(host["MemorySwap"], 134_217_728);
}

fn a_process_over_the_memory_limit_is_killed_and_reported(t: &Test) {
    let container = t.create("--memory 16m --memory-swap 16m busybox sh -c 'tail /dev/zero'");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    t.docker(&format!("start {container}")).ok();
    let died = recording.wait_for("container die");
    assert_eq!(died.attribute("exitCode"), "137");
    recording.wait_for("container oom");
    let state = t.inspect(&container)["State"].clone();
    assert_eq!(state["OOMKilled"], true);
    assert_eq!(state["ExitCode"], 137);
    // The next run begins with a clean record.
    t.docker(&format!("rm {container}")).ok();
}

fn a_container_that_kills_itself_is_not_reported_as_out_of_memory(t: &Test) {
    let container = t.start("--init --memory 64m busybox sh -c 'kill -9 $$'");
    assert_eq!(t.wait(&container), 137);
    assert_eq!(t.inspect(&container)["State"]["OOMKilled"], false);
}

fn memory_reservation_and_shares_are_set(t: &Test) {
    let container = t.start("--memory 64m --memory-reservation 32m --cpu-shares 512 busybox park");
    let reserved = cgroup_value(t, &container, ("memory", "memory.soft_limit_in_bytes"), "memory.low");
    assert_eq!(reserved, "33554432");
    let shares = cgroup_value(t, &container, ("cpu", "cpu.shares"), "cpu.weight");
    // Until 2025 runtimes had a straight line from shares to weights, on which 512 is 20; now default is mapped to default.
    let expected: &[&str] = if is_cgroup_v2() { &["59", "20"] } else { &["512"] };
    assert!(expected.contains(&shares.as_str()), "{shares}");
}

fn cpus_become_quota_and_period(t: &Test) {
    let container = t.start("--cpus 0.5 busybox park");
    let quota = cgroup_value(t, &container, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
    assert_eq!(quota, if is_cgroup_v2() { "50000 100000" } else { "50000" });
    let container = t.start("--cpu-period 50000 --cpu-quota 10000 busybox park");
    let quota = cgroup_value(t, &container, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
    assert_eq!(quota, if is_cgroup_v2() { "10000 50000" } else { "10000" });
}

fn cpusets_pin_the_processors(t: &Test) {
    let container = t.start("--cpuset-cpus 0 busybox park");
    assert_eq!(super::status_field(t, &container, "Cpus_allowed_list"), "0");
    assert_eq!(t.shell(&container, "nproc"), "1");
}

fn the_number_of_processes_is_limited(t: &Test) {
    let container = t.start("--pids-limit 12 busybox park");
    assert_eq!(cgroup_value(t, &container, ("pids", "pids.max"), "pids.max"), "12");
    let outcome = t.docker_args(&[
        "exec",
        &container.name,
        "sh",
        "-c",
        "for i in $(seq 30); do sleep 5 & done; echo all",
    ]);
    assert!(!outcome.stdout.contains("all") || outcome.stderr.contains("fork"), "{outcome:?}");
    assert!(outcome.stderr.contains("can't fork"), "{outcome:?}");
}

fn ulimits_are_set(t: &Test) {
    let shown = t
        .run("--ulimit nofile=123:456 --ulimit core=0 busybox sh -c 'ulimit -Sn; ulimit -Hn; ulimit -c'")
        .ok();
    assert_eq!(shown, "123\n456\n0");
    let stderr = t.run("--ulimit banana=1 busybox true").fails(125);
    assert!(stderr.contains("banana"), "{stderr}");
    let body =
        json!({"Image": "busybox", "HostConfig": {"Ulimits": [{"Name": "nofile", "Soft": 20, "Hard": 10}]}});
    let reply = t.create_raw(&body);
    if reply.status == 201 {
        // Left to start by the reference.
        let id = reply.json()["Id"].as_str().unwrap().to_owned();
        assert!(t.post(&format!("/containers/{id}/start")).status >= 400);
    }
}

fn the_daemons_default_ulimits_apply(t: &Test) {
    let d = t.own_daemon(&integration_cli::DaemonOptions::flags("--default-ulimit nofile=111:222"));
    assert_eq!(d.run("busybox sh -c 'ulimit -Sn; ulimit -Hn'").ok(), "111\n222");
    assert_eq!(d.run("--ulimit nofile=33:44 busybox sh -c 'ulimit -Sn; ulimit -Hn'").ok(), "33\n44");
}

fn the_oom_score_is_adjusted(t: &Test) {
    assert_eq!(t.run("--oom-score-adj 321 busybox cat /proc/self/oom_score_adj").ok(), "321");
}

fn update_changes_limits_of_a_running_container(t: &Test) {
    let container = t.start("--memory 64m busybox park");
    let limit = |t: &Test| cgroup_value(t, &container, ("memory", "memory.limit_in_bytes"), "memory.max");
    t.docker(&format!("update --memory 32m --memory-swap 64m --pids-limit 50 --cpus 0.25 {container}")).ok();
    assert_eq!(limit(t), "33554432");
    assert_eq!(cgroup_value(t, &container, ("pids", "pids.max"), "pids.max"), "50");
    let quota = cgroup_value(t, &container, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
    assert!(quota.starts_with("25000"), "{quota}");
    let host = t.inspect(&container)["HostConfig"].clone();
    assert_eq!(
        (&host["Memory"], &host["PidsLimit"], &host["NanoCpus"]),
        (&json!(33_554_432), &json!(50), &json!(250_000_000))
    );
    let reply =
        t.post_json(&format!("/containers/{container}/update"), &json!({"Memory": 41_943_040})).expect(200);
    assert_eq!(reply.json(), json!({"Warnings": null}));
    assert_eq!(limit(t), "41943040");
    // What was not named stays.
    assert_eq!(t.inspect(&container)["HostConfig"]["PidsLimit"], 50);
    t.docker(&format!("restart -t 0 {container}")).ok();
    assert_eq!(limit(t), "41943040");
    assert!(t.past_events(&t.container_filter(&container.id)).iter().any(|event| event.action == "update"));
}

fn update_refuses_conflicts(t: &Test) {
    let container = t.start("--cpus 0.5 busybox park");
    let reply = t.post_json(&format!("/containers/{container}/update"), &json!({"CpuQuota": 20_000}));
    assert!(matches!(reply.status, 400 | 409 | 500), "{reply:?}");
    assert!(reply.message().to_lowercase().contains("conflicting options: cpu quota"), "{reply:?}");
    let reply = t.post_json(&format!("/containers/{container}/update"), &json!({"Memory": 1000}));
    reply.expect_error_holding(400, "Minimum memory limit allowed is 6MB");
    t.post_json("/containers/no-such-container/update", &json!({"Memory": 41_943_040})).expect(404);
}

fn memory_beyond_the_present_swap_wants_both_at_once(t: &Test) {
    const WORDS: &str = "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time";
    if t.get("/info").expect(200).json()["SwapLimit"] != true {
        integration_cli::skip("this kernel does not limit swap");
    }
    for flags in ["", "--memory 64m", "--memory 64m --memory-swap -1"] {
        for container in
            [t.start(&format!("{flags} busybox park")), t.create(&format!("{flags} busybox park"))]
        {
            let path = format!("/containers/{container}/update");
            let before = t.inspect(&container)["HostConfig"].clone();
            let reply = t.post_json(&path, &json!({"Memory": 200 << 20}));
            reply.expect_error_holding(409, WORDS);
            assert_eq!(t.inspect(&container)["HostConfig"], before, "{flags}");
            t.post_json(&path, &json!({"Memory": 200 << 20, "MemorySwap": 400 << 20})).expect(200);
            t.post_json(&path, &json!({"Memory": 300 << 20})).expect(200);
            let host = t.inspect(&container)["HostConfig"].clone();
            assert_eq!((&host["Memory"], &host["MemorySwap"]), (&json!(300 << 20), &json!(400 << 20)));
        }
    }
}

fn containers_sit_below_the_cgroup_parent(t: &Test) {
    let parent = format!("/{}/elsewhere", t.daemon().machine().name());
    let container = t.start(&format!("--cgroup-parent {parent} busybox park"));
    let pid = t.inspect(&container)["State"]["Pid"].to_string();
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    // cAdvisor finds containers by the full id in the last part of the path.
    let expected = format!("{parent}/{}", container.id);
    assert!(groups.lines().any(|line| line.ends_with(&expected)), "{groups}");
    assert_eq!(t.inspect(&container)["HostConfig"]["CgroupParent"], parent);
    t.docker(&format!("rm -f {container}")).ok();
    let left = t.host(&format!(
        "ls -d /sys/fs/cgroup{parent}/{0} /sys/fs/cgroup/*{parent}/{0} 2>/dev/null",
        container.id
    ));
    assert_eq!(left.stdout, "", "{left:?}");
    t.host(&format!("rmdir /sys/fs/cgroup{parent} /sys/fs/cgroup/*{parent} 2>/dev/null; true")).ok();
}

fn block_devices_are_throttled(t: &Test) {
    let disks = std::fs::read_dir("/sys/block").unwrap().flatten().map(|entry| entry.file_name());
    let disk = disks.map(|name| format!("/dev/{}", name.to_string_lossy())).find(|path| {
        // Devices without a size or a node take no limits.
        std::fs::File::open(path).is_ok() && !path.contains("ram")
    });
    let Some(disk) = disk else { integration_cli::skip("this machine has no block device") };
    let numbers = t.host(&format!("stat -c '%Hr:%Lr' {disk}")).ok();
    let container =
        t.start(&format!("--device-read-bps {disk}:1mb --device-write-iops {disk}:77 busybox park"));
    let read = cgroup_value(t, &container, ("blkio", "blkio.throttle.read_bps_device"), "io.max");
    let write = cgroup_value(t, &container, ("blkio", "blkio.throttle.write_iops_device"), "io.max");
    assert!(read.contains(&numbers) && read.contains("1048576"), "{read}");
    assert!(write.contains(&numbers) && write.contains("77"), "{write}");
    let host = t.inspect(&container)["HostConfig"].clone();
    assert_eq!(host["BlkioDeviceReadBps"], json!([{"Path": disk, "Rate": 1_048_576}]));
}

fn unlimited_is_the_default(t: &Test) {
    let container = t.start("busybox park");
    assert_eq!(cgroup_value(t, &container, ("pids", "pids.max"), "pids.max"), "max");
    let quota = cgroup_value(t, &container, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
    assert!(quota == "-1" || quota.starts_with("max"), "{quota}");
    let memory = cgroup_value(t, &container, ("memory", "memory.limit_in_bytes"), "memory.max");
    assert!(memory == "max" || memory.parse::<u64>().unwrap() > 1 << 50, "{memory}");
}
