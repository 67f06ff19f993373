//! The harness itself: what it promises to find, it finds. Without these its checks could be empty.

use std::time::Duration;

use integration_cli::condition::poll;
use integration_cli::http::Request;
use integration_cli::machine::cgroup_roots;
use integration_cli::process::Running;
use integration_cli::{DaemonOptions, Test, cases, leftovers};

cases![
    a_tidy_daemon_has_no_leftovers_but_itself,
    a_process_in_the_machines_namespaces_is_found,
    a_mount_below_the_roots_is_found,
    an_interface_is_found,
    a_cgroup_of_a_container_is_found,
    the_machine_is_apart_from_the_real_one,
    a_request_that_is_not_answered_fails_and_does_not_hang,
];

fn found(d: &integration_cli::OwnDaemon, what: &str) -> bool {
    leftovers::on(d.daemon().machine()).iter().any(|left| left.contains(what))
}

fn a_tidy_daemon_has_no_leftovers_but_itself(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    d.run("busybox true").ok();
    // While it runs, the daemon and what it needs are all there is, once the kernel has cleared the container's network
    // namespace away, which it does when it has time.
    let mut strange = Vec::new();
    let tidy = poll(Duration::from_secs(10), &mut || {
        strange = leftovers::on(d.daemon().machine());
        strange.retain(|left| !left.starts_with("process "));
        strange.is_empty().then_some(())
    });
    assert!(tidy.is_some(), "{strange:?}");
}

fn a_process_in_the_machines_namespaces_is_found(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::default());
    let mut sleep = d.daemon().machine().inside("sleep");
    sleep.arg("1234");
    let sleeping = Running::start(sleep);
    assert!(poll(Duration::from_secs(10), &mut || found(&d, "sleep 1234").then_some(())).is_some());
    drop(sleeping);
    assert!(poll(Duration::from_secs(10), &mut || (!found(&d, "sleep 1234")).then_some(())).is_some());
}

fn a_mount_below_the_roots_is_found(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::default());
    let path = t.directory("unused");
    let below = d.directory("left");
    d.host(&format!("mount -t tmpfs t {}", below.display())).ok();
    assert!(found(&d, &format!("mount {}", below.display())));
    d.host(&format!("umount {}", below.display())).ok();
    assert!(!found(&d, "mount "), "{}", path.display());
}

fn an_interface_is_found(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::default());
    d.host("ip link add left0 type dummy || ip link add left0 type bridge").ok();
    assert!(found(&d, "interface left0"));
    d.host("ip link del left0").ok();
    assert!(!found(&d, "interface left0"));
}

fn a_cgroup_of_a_container_is_found(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::default());
    let group = cgroup_roots().remove(0).join(d.daemon().machine().name()).join("containers/left");
    std::fs::create_dir_all(&group).unwrap();
    assert!(found(&d, "containers/left"));
    std::fs::remove_dir(&group).unwrap();
    assert!(!found(&d, "containers/left"));
}

fn the_machine_is_apart_from_the_real_one(t: &Test) {
    let here = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    for kind in ["net", "mnt"] {
        let there = t.host(&format!("readlink /proc/self/ns/{kind}")).ok();
        assert_ne!(here(kind).to_string_lossy(), there, "{kind}");
    }
    let daemon = t.daemon().pid();
    let of_daemon = std::fs::read_link(format!("/proc/{daemon}/ns/net")).unwrap();
    assert_eq!(of_daemon.to_string_lossy(), t.host("readlink /proc/self/ns/net").ok());
}

fn a_request_that_is_not_answered_fails_and_does_not_hang(t: &Test) {
    let container = t.start("busybox park");
    let waiting = t.open(Request::new("POST", &format!("/containers/{container}/wait"))).expect(200);
    waiting.read_limit(Duration::from_millis(50));
    assert!(waiting.into_reply().is_err());
}
