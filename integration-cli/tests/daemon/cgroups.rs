//! Where the daemon puts containers in the tree of control groups.

use integration_cli::{DaemonOptions, Test, cases};

cases![the_cgroup_parent_of_the_daemon_is_used, groups_are_removed_with_the_container];

fn groups_of(d: &integration_cli::OwnDaemon, container: &integration_cli::Container) -> String {
    let pid = d.inspect(container)["State"]["Pid"].to_string();
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
}

fn the_cgroup_parent_of_the_daemon_is_used(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let container = d.start("busybox park");
    let expected = format!("/{}/containers/{}", d.daemon().machine().name(), container.id);
    let groups = groups_of(&d, &container);
    assert!(groups.lines().any(|line| line.ends_with(&expected)), "{groups}");
}

fn groups_are_removed_with_the_container(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let container = d.start("busybox park");
    // Groups of other daemons go while this looks.
    let find = format!("find /sys/fs/cgroup -type d -name {} 2>/dev/null; true", container.id);
    assert_ne!(d.host(&find).ok(), "");
    d.docker(&format!("stop {container}")).ok();
    assert_eq!(d.host(&find).ok(), "");
    d.docker(&format!("start {container}")).ok();
    d.docker(&format!("rm -f {container}")).ok();
    assert_eq!(d.host(&find).ok(), "");
}
