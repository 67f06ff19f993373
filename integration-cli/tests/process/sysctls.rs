//! Kernel settings of a container's own namespaces.

use integration_cli::images::with_program;
use integration_cli::{Test, cases};

cases![
    settings_of_own_namespaces_are_applied,
    settings_of_the_machine_are_refused,
    settings_of_a_shared_namespace_are_refused,
    unprivileged_users_may_ping_and_bind_low_ports,
];

fn settings_of_own_namespaces_are_applied(t: &Test) {
    let shown = t.run("--sysctl net.ipv4.ip_default_ttl=77 --sysctl kernel.msgmax=9000 busybox sh -c 'cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax'").ok();
    assert_eq!(shown, "77\n9000");
}

fn settings_of_the_machine_are_refused(t: &Test) {
    let outcome = t.run("--sysctl kernel.panic=5 busybox true");
    assert_eq!(outcome.code, 125, "{outcome:?}");
    assert!(outcome.stderr.contains("kernel.panic"), "{outcome:?}");
}

fn settings_of_a_shared_namespace_are_refused(t: &Test) {
    let outcome = t.run("--network host --sysctl net.ipv4.ip_default_ttl=77 busybox true");
    assert_eq!(outcome.code, 125, "{outcome:?}");
    assert!(outcome.stderr.contains("net.ipv4.ip_default_ttl"), "{outcome:?}");
}

fn unprivileged_users_may_ping_and_bind_low_ports(t: &Test) {
    let shown = t.run("busybox sh -c 'cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start'").ok();
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words, ["0", "2147483647", "0"]);
    let bound =
        t.run("--user alice --cap-drop ALL busybox sh -c 'nc -l -p 80 & sleep 0.1; netstat -ltn'").ok();
    assert!(bound.contains(":80 "), "{bound}");
    let image = t.name("prober");
    t.load(&[with_program(&format!("{image}:latest"), &t.prober())]);
    // A datagram socket for ICMP is what an unprivileged ping uses.
    let answer = t.run(&format!("--user alice --cap-drop ALL {image} prober socket:2,2,1")).ok();
    assert!(answer.starts_with("socket = "), "{answer}");
}
