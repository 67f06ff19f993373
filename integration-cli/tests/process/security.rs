//! Rights: capabilities, privileged, no-new-privileges, masked and read-only paths.

use integration_cli::images::with_program;
use integration_cli::{DaemonOptions, Test, cases, condition};
use serde_json::json;

use super::status_field;

const DEFAULT: u64 = 0xa804_25fb;
const NET_ADMIN: u64 = 1 << 12;
const CHOWN: u64 = 1;

cases![
    fourteen_capabilities_by_default,
    capabilities_are_added_and_dropped,
    all_is_every_capability,
    privileged_gives_every_right,
    privileged_sees_the_hosts_devices_and_writes_sysfs,
    no_new_privileges_is_set_on_request,
    the_daemon_may_set_no_new_privileges_for_all,
    set_user_id_programs_gain_nothing_with_no_new_privileges,
    masked_paths_are_hidden,
    kernel_settings_are_read_only,
    paths_may_be_unmasked,
    the_container_cannot_mount_or_see_the_host,
    the_daemons_binary_is_not_writable_from_inside,
    no_descriptor_of_the_host_reaches_the_container,
];

fn mask(t: &Test, line: &str, field: &str) -> u64 {
    let shown = t.run(&format!("{line} busybox cat /proc/self/status")).ok();
    let value = shown.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    u64::from_str_radix(value.trim_start_matches(':').trim(), 16).unwrap()
}

fn fourteen_capabilities_by_default(t: &Test) {
    let container = t.start("busybox park");
    for field in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(status_field(t, &container, field), format!("{DEFAULT:016x}"), "{field}");
    }
    assert_eq!(status_field(t, &container, "CapAmb"), "0000000000000000");
    // Nothing inheritable: what a process starts must not get capabilities from its files by accident.
    assert_eq!(status_field(t, &container, "CapInh"), "0000000000000000");
}

fn capabilities_are_added_and_dropped(t: &Test) {
    assert_eq!(mask(t, "--cap-add NET_ADMIN", "CapEff"), DEFAULT | NET_ADMIN);
    assert_eq!(mask(t, "--cap-add cap_net_admin", "CapEff"), DEFAULT | NET_ADMIN);
    assert_eq!(mask(t, "--cap-drop CHOWN", "CapBnd"), DEFAULT & !CHOWN);
    assert_eq!(mask(t, "--cap-drop ALL", "CapBnd"), 0);
    assert_eq!(mask(t, "--cap-drop ALL --cap-add CHOWN", "CapEff"), CHOWN);
    let denied = t.run("--cap-drop CHOWN busybox chown alice /tmp");
    assert_ne!(denied.code, 0);
    assert!(denied.stderr.contains("Operation not permitted"), "{denied:?}");
}

fn all_is_every_capability(t: &Test) {
    crate::containers::skip_where_the_reference_cannot_be_privileged(t);
    let all = crate::containers::all_capabilities();
    assert_eq!(mask(t, "--cap-add ALL", "CapEff"), all);
    assert_eq!(mask(t, "--cap-add ALL --cap-drop CHOWN", "CapEff"), all & !CHOWN);
}

fn privileged_gives_every_right(t: &Test) {
    crate::containers::skip_where_the_reference_cannot_be_privileged(t);
    let container = t.start("--privileged busybox park");
    assert_eq!(
        status_field(t, &container, "CapEff"),
        format!("{:016x}", crate::containers::all_capabilities())
    );
    assert_eq!(status_field(t, &container, "Seccomp"), "0");
    t.shell(&container, "mkdir /m; mount -t tmpfs none /m; umount /m");
    let host = t.inspect(&container)["HostConfig"].clone();
    assert_eq!(host["Privileged"], true);
    assert!(host["MaskedPaths"].is_null() || host["MaskedPaths"] == json!([]), "{host}");
    assert!(host["ReadonlyPaths"].is_null() || host["ReadonlyPaths"] == json!([]), "{host}");
}

fn privileged_sees_the_hosts_devices_and_writes_sysfs(t: &Test) {
    crate::containers::skip_where_the_reference_cannot_be_privileged(t);
    let shown = t.run("--privileged busybox sh -c 'ls /dev; grep \" /sys \" /proc/mounts; grep \" /sys/fs/cgroup/memory \" /proc/mounts; echo 1 > /proc/sys/net/ipv4/ip_forward && echo written'").ok();
    assert!(shown.lines().any(|line| line == "kmsg" || line == "loop-control" || line == "vda"), "{shown}");
    assert!(shown.contains("sysfs /sys sysfs rw"), "{shown}");
    assert!(shown.ends_with("written"), "{shown}");
}

fn no_new_privileges_is_set_on_request(t: &Test) {
    let with = |option: &str| t.run(&format!("{option} busybox grep NoNewPrivs /proc/self/status")).ok();
    assert_eq!(with(""), "NoNewPrivs:\t0");
    assert_eq!(with("--security-opt no-new-privileges"), "NoNewPrivs:\t1");
    assert_eq!(with("--security-opt no-new-privileges=true"), "NoNewPrivs:\t1");
    assert_eq!(with("--security-opt no-new-privileges=false"), "NoNewPrivs:\t0");
}

fn the_daemon_may_set_no_new_privileges_for_all(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::flags("--no-new-privileges"));
    let with = |option: &str| d.run(&format!("{option} busybox grep NoNewPrivs /proc/self/status")).ok();
    assert_eq!(with(""), "NoNewPrivs:\t1");
    assert_eq!(with("--security-opt no-new-privileges=false"), "NoNewPrivs:\t0");
}

fn set_user_id_programs_gain_nothing_with_no_new_privileges(t: &Test) {
    let (prober, image) = (t.name("prober"), t.name("suid"));
    t.load(&[with_program(&format!("{prober}:latest"), &t.prober())]);
    let container = t.start(&format!("{prober} sh -c 'chmod 4755 /bin/prober; exec park'"));
    condition::eventually("the program is set-user-id", || {
        (t.shell(&container, "stat -c %a /bin/prober") == "4755").then_some(())
    });
    t.docker(&format!("commit {container} {image}")).ok();
    let effective = |option: &str| t.run(&format!("--user alice {option} {image} prober geteuid")).ok();
    assert_eq!(effective(""), "geteuid = 0");
    assert_eq!(effective("--security-opt no-new-privileges"), "geteuid = 1001");
}

fn masked_paths_are_hidden(t: &Test) {
    let script = "cat /proc/kcore 2>/dev/null | head -c 1 | wc -c; cat /proc/timer_list 2>/dev/null | wc -c; ls /proc/scsi /sys/firmware /proc/acpi 2>/dev/null | grep -v : | wc -w";
    assert_eq!(t.run(&format!("busybox sh -c '{script}'")).ok(), "0\n0\n0");
}

fn kernel_settings_are_read_only(t: &Test) {
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_helper",
    ] {
        let outcome = t.run(&format!("busybox sh -c 'test -e {path} || exit 9; echo 1 > {path}'"));
        assert_ne!(outcome.code, 0, "{path}: {outcome:?}");
        assert!(
            outcome.code == 9 || outcome.stderr.contains("Read-only") || outcome.stderr.contains("denied"),
            "{path}: {outcome:?}"
        );
    }
}

fn paths_may_be_unmasked(t: &Test) {
    let container = t.create("--security-opt systempaths=unconfined busybox true");
    let host = t.inspect(&container)["HostConfig"].clone();
    assert_eq!((&host["MaskedPaths"], &host["ReadonlyPaths"]), (&json!([]), &json!([])));
    let own = t.start_json(&json!({
        "Image": "busybox", "Cmd": ["park"], "HostConfig": {"MaskedPaths": ["/etc/group"], "ReadonlyPaths": ["/tmp"]}
    }));
    assert_eq!(t.shell(&own, "cat /etc/group"), "");
    assert_ne!(t.exec(&own, "touch /tmp/x").code, 0);
    assert_ne!(t.shell(&own, "cat /proc/timer_list | head -c 20"), "");
}

fn the_container_cannot_mount_or_see_the_host(t: &Test) {
    let outcome = t.run("busybox mount -t tmpfs none /tmp");
    assert!(outcome.code != 0 && outcome.stderr.contains("ermission denied"), "{outcome:?}");
    let shown = t.run("busybox sh -c 'ls /proc | grep -c ^[0-9]; cat /proc/1/comm; true'").ok();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].parse::<u32>().unwrap() <= 4, "{shown}");
    assert_eq!(lines[1], "sh");
}

fn the_daemons_binary_is_not_writable_from_inside(t: &Test) {
    // The way of CVE-2019-5736: a process of the runtime in the container's namespaces is opened for writing.
    let container = t.start("busybox park");
    let outcome = t.docker(&format!(
        "exec {container} sh -c 'for p in /proc/[0-9]*; do test -w $p/exe && readlink $p/exe; done'"
    ));
    assert!(outcome.stdout.lines().all(|line| line.starts_with("/bin/busybox")), "{outcome:?}");
}

fn no_descriptor_of_the_host_reaches_the_container(t: &Test) {
    let shown = t.run("busybox sh -c 'ls -l /proc/self/fd /proc/1/fd; readlink /proc/1/cwd'").ok();
    assert!(shown.ends_with("/"), "{shown}");
    for line in shown.lines().filter(|line| line.contains("->")) {
        let (descriptor, target) = line.split_once(" -> ").unwrap();
        let number: u32 = descriptor.rsplit(' ').next().unwrap().parse().unwrap();
        let harmless = number <= 2 || target.starts_with("/proc/") || target.starts_with("/bin/");
        assert!(harmless, "descriptor {number} leads to {target}");
    }
    let container = t.start("busybox park");
    let shown = t.shell(&container, "ls -l /proc/self/fd /proc/1/fd");
    for line in shown.lines().filter(|line| line.contains("->")) {
        let (descriptor, target) = line.split_once(" -> ").unwrap();
        let number: u32 = descriptor.rsplit(' ').next().unwrap().parse().unwrap();
        // The shell that runs park keeps its script open.
        let harmless = number <= 2 || target.starts_with("/proc/") || target.starts_with("/bin/");
        assert!(harmless, "descriptor {number} leads to {target}");
    }
}
