//! Modes of pid, ipc, uts and cgroup namespaces. Network modes are in `networks`.

use integration_cli::{DaemonOptions, Test, cases};

cases![
    every_namespace_is_the_containers_own,
    pid_host_shows_the_machines_processes,
    pid_of_another_container_is_joined,
    ipc_modes_share_and_separate,
    ipc_of_a_private_container_cannot_be_joined,
    uts_host_shares_the_hostname,
    the_cgroup_namespace_may_be_private,
    a_container_whose_partner_is_gone_does_not_start,
    the_daemon_chooses_the_default_ipc_mode,
];

fn links(t: &Test, line: &str) -> Vec<String> {
    let script = "for n in mnt net pid ipc uts; do readlink /proc/self/ns/$n; done";
    t.run(&format!("{line} busybox sh -c '{script}'")).ok().lines().map(str::to_owned).collect()
}

fn of_the_machine(t: &Test, kind: &str) -> String {
    t.host(&format!("readlink /proc/self/ns/{kind}")).ok()
}

fn every_namespace_is_the_containers_own(t: &Test) {
    // Both at once: the number of a namespace that is gone is given to the next one.
    let script = "for n in mnt net pid ipc uts; do readlink /proc/self/ns/$n; done";
    let containers = [t.start("busybox park"), t.start("busybox park")];
    let [first, second] = containers
        .map(|container| -> Vec<String> { t.shell(&container, script).lines().map(str::to_owned).collect() });
    for (kind, (one, other)) in ["mnt", "net", "pid", "ipc", "uts"].iter().zip(first.iter().zip(&second)) {
        assert_ne!(*one, of_the_machine(t, kind), "{kind}");
        assert_ne!(one, other, "{kind}");
    }
}

fn pid_host_shows_the_machines_processes(t: &Test) {
    assert_eq!(links(t, "--pid host")[2], of_the_machine(t, "pid"));
    let container = t.start("--pid host busybox park");
    assert_eq!(t.inspect(&container)["HostConfig"]["PidMode"], "host");
}

fn pid_of_another_container_is_joined(t: &Test) {
    let first = t.start("busybox sh -c 'exec park'");
    let shown = t
        .run(&format!(
            "--pid container:{first} busybox sh -c 'cat /proc/1/cmdline | tr \"\\0\" \" \"; echo; echo $$'"
        ))
        .ok();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].contains("park"), "{shown}");
    assert_ne!(lines[1], "1");
    let second = t.create(&format!("--pid container:{first} busybox true"));
    let mode = t.inspect(&second)["HostConfig"]["PidMode"].as_str().unwrap().to_owned();
    // Newer daemons store the id, so that a rename does no harm.
    assert!(mode == format!("container:{}", first.id) || mode == format!("container:{first}"), "{mode}");
    let outcome = t.run("--pid container:no-such-container busybox true");
    assert!(
        outcome.code == 125 && outcome.stderr.contains("No such container: no-such-container"),
        "{outcome:?}"
    );
}

fn ipc_modes_share_and_separate(t: &Test) {
    let shareable = t.start("--ipc shareable busybox sh -c 'echo shared > /dev/shm/note; exec park'");
    integration_cli::condition::eventually("the note is there", || {
        (t.exec(&shareable, "test -s /dev/shm/note").code == 0).then_some(())
    });
    assert_eq!(t.run(&format!("--ipc container:{shareable} busybox cat /dev/shm/note")).ok(), "shared");
    assert_ne!(t.run("--ipc private busybox cat /dev/shm/note").code, 0);
    assert_eq!(links(t, "--ipc host")[3], of_the_machine(t, "ipc"));
    assert_ne!(t.run("--ipc none busybox touch /dev/shm/x").stderr, "x");
    let none = t.run("--ipc none busybox sh -c 'grep -c \" /dev/shm \" /proc/mounts'");
    assert_eq!(none.stdout.trim(), "0");
}

fn ipc_of_a_private_container_cannot_be_joined(t: &Test) {
    let private = t.start("--ipc private busybox park");
    let outcome = t.run(&format!("--ipc container:{private} busybox true"));
    assert_eq!(outcome.code, 125);
    assert!(outcome.stderr.contains("non-shareable IPC"), "{outcome:?}");
}

fn uts_host_shares_the_hostname(t: &Test) {
    assert_eq!(links(t, "--uts host")[4], of_the_machine(t, "uts"));
    assert_eq!(t.run("--uts host busybox hostname").ok(), t.host("hostname").ok());
}

fn the_cgroup_namespace_may_be_private(t: &Test) {
    let private = t.run("--cgroupns private busybox cat /proc/self/cgroup").ok();
    assert!(private.lines().all(|line| line.ends_with(":/")), "{private}");
    let host = t.run("--cgroupns host busybox cat /proc/self/cgroup").ok();
    assert!(host.lines().any(|line| line.len() > 60), "{host}");
    let container = t.create("busybox true");
    let default = t.inspect(&container)["HostConfig"]["CgroupnsMode"].clone();
    assert_eq!(default, if super::is_cgroup_v2() { "private" } else { "host" });
}

fn a_container_whose_partner_is_gone_does_not_start(t: &Test) {
    let partner = t.start("busybox park");
    let container =
        t.create(&format!("--pid container:{partner} --network container:{partner} busybox true"));
    t.docker(&format!("rm -f {partner}")).ok();
    let reply = t.post(&format!("/containers/{container}/start"));
    assert!(reply.status >= 400, "{reply:?}");
    reply.expect_error_holding(reply.status, &partner.id[..12]);
}

fn the_daemon_chooses_the_default_ipc_mode(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::flags("--default-ipc-mode shareable"));
    let container = d.create("busybox true");
    assert_eq!(d.inspect(&container)["HostConfig"]["IpcMode"], "shareable");
}
