//! `--init`: a first process that reaps and passes signals on.

use integration_cli::condition::eventually;
use integration_cli::{DaemonOptions, Test, cases};

cases![
    init_is_the_first_process_and_the_command_its_child,
    init_reaps_orphans,
    init_passes_signals_and_the_exit_code_on,
    the_daemon_may_use_init_by_default,
];

fn init_is_the_first_process_and_the_command_its_child(t: &Test) {
    let shown =
        t.run("--init busybox sh -c 'tr \"\\0\" \" \" < /proc/1/cmdline; echo; echo $$; echo $PPID'").ok();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].contains("docker-init") || lines[0].contains("init"), "{shown}");
    assert_ne!(lines[1], "1");
    assert_eq!(lines[2], "1");
}

fn init_reaps_orphans(t: &Test) {
    let zombies = "grep -s '^State:.Z' /proc/[0-9]*/status | wc -l";
    let container = t.start("--init busybox park");
    // An orphan that ends: without init it would stay as a zombie of park.
    t.shell(&container, "(sh -c 'sleep 0.1 &') ; true");
    eventually("the orphan is reaped", || {
        let sleeping = t.shell(&container, "pidof sleep || true");
        (sleeping.split(' ').count() <= 1 && t.shell(&container, zombies) == "0").then_some(())
    });
}

fn init_passes_signals_and_the_exit_code_on(t: &Test) {
    let container =
        t.start("--init busybox sh -c 'trap \"exit 21\" TERM; echo ready; while true; do sleep 0.05; done'");
    t.await_log(&container, "ready");
    t.docker(&format!("stop {container}")).ok();
    assert_eq!(t.inspect(&container)["State"]["ExitCode"], 21);
    // Even a process that ignores TERM by being the first one ends, because now it is not the first one.
    let container = t.start("--init busybox sleep 1000");
    t.docker(&format!("stop -t 30 {container}")).ok();
    assert_eq!(t.inspect(&container)["State"]["ExitCode"], 143);
}

fn the_daemon_may_use_init_by_default(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::flags("--init"));
    let shown = d.run("busybox sh -c 'echo $$'").ok();
    assert_ne!(shown, "1");
    assert_eq!(d.run("--init=false busybox sh -c 'echo $$'").ok(), "1");
}
