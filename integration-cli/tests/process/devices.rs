//! Devices: the usual ones, given ones, and no others.

use integration_cli::{Test, cases};
use serde_json::json;

cases![
    the_usual_devices_are_there,
    a_given_device_is_there_with_its_rights,
    other_devices_are_denied,
    device_rules_open_further_numbers,
    a_missing_device_fails_the_start,
    standard_streams_and_the_console_are_there,
];

fn the_usual_devices_are_there(t: &Test) {
    let shown = t.run("busybox sh -c 'ls /dev | tr \"\\n\" \" \"; for d in null zero full random urandom tty; do stat -c \"%n %t:%T %a\" /dev/$d; done'").ok();
    let names: Vec<&str> = shown.lines().next().unwrap().split(' ').collect();
    for name in [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    for line in [
        "/dev/null 1:3 666",
        "/dev/zero 1:5 666",
        "/dev/full 1:7 666",
        "/dev/random 1:8 666",
        "/dev/urandom 1:9 666",
        "/dev/tty 5:0 666",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    assert_eq!(
        t.run(
            "busybox sh -c 'head -c 5 /dev/zero | wc -c; echo x > /dev/null; head -c 3 /dev/urandom | wc -c'"
        )
        .ok(),
        "5\n3"
    );
}

fn a_given_device_is_there_with_its_rights(t: &Test) {
    let shown = t.run("--device /dev/zero:/dev/mine busybox sh -c 'stat -c %t:%T /dev/mine; head -c 4 /dev/mine | wc -c'").ok();
    assert_eq!(shown, "1:5\n4");
    let container = t.create("--device /dev/zero:/dev/mine:r busybox true");
    assert_eq!(
        t.inspect(&container)["HostConfig"]["Devices"],
        json!([{"PathOnHost": "/dev/zero", "PathInContainer": "/dev/mine", "CgroupPermissions": "r"}])
    );
}

fn other_devices_are_denied(t: &Test) {
    // 1:11 is the kernel's message buffer, which no container gets.
    let outcome = t.run("busybox sh -c 'mknod /kmsg c 1 11 && cat /kmsg'");
    assert!(outcome.code != 0 && outcome.stderr.contains("ermi"), "{outcome:?}");
    assert_ne!(t.run("busybox sh -c 'mknod /d b 254 0 && head -c 1 /d'").code, 0);
}

fn device_rules_open_further_numbers(t: &Test) {
    // No kernel has 1:2 any more, so an allowed open fails for another reason than a denied one.
    let script = "mknod /odd c 1 2; head -c 1 /odd";
    let denied = t.run(&format!("busybox sh -c '{script}'"));
    assert!(denied.stderr.contains("Operation not permitted"), "{denied:?}");
    let allowed = t.run(&format!("--device-cgroup-rule 'c 1:2 rwm' busybox sh -c '{script}'"));
    assert!(!allowed.stderr.contains("Operation not permitted"), "{allowed:?}");
    let body = json!({"Image": "busybox", "HostConfig": {"DeviceCgroupRules": ["banana"]}});
    let reply = t.create_raw(&body);
    if reply.status == 201 {
        let id = reply.json()["Id"].as_str().unwrap().to_owned();
        assert!(t.post(&format!("/containers/{id}/start")).status >= 400);
    }
}

fn a_missing_device_fails_the_start(t: &Test) {
    let outcome = t.run("--device /dev/no-such-device busybox true");
    assert!(outcome.code == 125 || outcome.code == 127, "{outcome:?}");
    assert!(outcome.stderr.contains("no such file or directory"), "{outcome:?}");
}

fn standard_streams_and_the_console_are_there(t: &Test) {
    let shown = t.run(
        "busybox sh -c 'echo to-out > /dev/stdout; echo to-err > /dev/stderr; readlink /dev/stdin; readlink /dev/fd'",
    );
    assert_eq!(
        (shown.stdout.as_str(), shown.stderr.as_str()),
        ("to-out\n/proc/self/fd/0\n/proc/self/fd\n", "to-err\n")
    );
    let terminal = t.start("-t busybox sh -c 'test -c /dev/console && echo console; exec park'");
    t.await_log(&terminal, "console");
}
