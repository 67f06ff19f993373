//! `shoald uninstall`: nothing of Shoal is left on the machine.

use integration_cli::{DaemonOptions, Implementation, Test, cases, leftovers, skip};

cases![uninstall_removes_everything, uninstall_does_not_touch_what_a_running_daemon_has];

fn require_shoal(t: &Test) {
    if !matches!(t.implementation(), Implementation::Shoald(_)) {
        skip("the reference is removed by the distribution's package manager");
    }
}

fn uninstall_removes_everything(t: &Test) {
    require_shoal(t);
    let d = t.own_daemon(&DaemonOptions::default());
    let machine = d.daemon().machine();
    let network = d.name("net");
    d.docker(&format!("network create {network}")).ok();
    let outside = d.directory("outside");
    std::fs::write(outside.join("kept"), "x").unwrap();
    let mounted = d.name("mounted");
    let options = format!("-o type=none -o o=bind -o device={}", outside.display());
    d.docker(&format!("volume create {options} {mounted}")).ok();
    d.start(&format!(
        "--restart always --network {network} -p 7400:80 -v {mounted}:/data -v /anon busybox park"
    ));
    d.start("--ipc shareable -v named:/data busybox park");
    d.run("busybox true").ok();
    d.daemon().stop();
    let outcome = d.daemon().run_verb("uninstall");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let left = leftovers::on(machine);
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(d.host("nft list ruleset").ok(), "");
    assert!(!d.host("ip -o link").ok().contains("shoal0"));
    for directory in ["data", "exec", "docker.sock", "daemon.pid"] {
        assert!(!machine.root().join(directory).exists(), "{directory} is left");
    }
    // What lay in a volume that is somebody else's directory is not ours to delete.
    assert!(outside.join("kept").exists());
    // And once more: there is nothing to do.
    assert_eq!(d.daemon().run_verb("uninstall").code, 0);
}

fn uninstall_does_not_touch_what_a_running_daemon_has(t: &Test) {
    require_shoal(t);
    let d = t.own_daemon(&DaemonOptions::default());
    let container = d.start("busybox park");
    let outcome = d.daemon().run_verb("uninstall");
    assert!(outcome.code != 0 && outcome.stderr.contains("is still running"), "{outcome:?}");
    assert_eq!(d.status(&container), "running");
}
