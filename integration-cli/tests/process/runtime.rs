//! `--runtime`: other OCI runtimes by name.

use integration_cli::{DaemonOptions, Test, cases};
use serde_json::json;

cases![
    the_default_runtime_is_called_runc,
    a_further_runtime_is_known_by_flag_and_by_file,
    the_default_runtime_may_be_another,
    a_runtime_whose_program_is_missing_fails_the_start,
];

fn the_default_runtime_is_called_runc(t: &Test) {
    let container = t.start("--runtime runc busybox park");
    assert_eq!(t.inspect(&container)["HostConfig"]["Runtime"], "runc");
    assert_eq!(t.exec(&container, "echo in").ok(), "in");
}

fn a_further_runtime_is_known_by_flag_and_by_file(t: &Test) {
    for options in [
        DaemonOptions::flags("--add-runtime other=/usr/sbin/runc"),
        DaemonOptions::config(
            &json!({"runtimes": {"other": {"path": "/usr/sbin/runc", "runtimeArgs": ["--debug"]}}}),
        ),
    ] {
        let d = t.own_daemon(&options);
        let info = d.get("/info").expect(200).json();
        assert_eq!(info["Runtimes"]["other"]["path"], "/usr/sbin/runc");
        let container = d.start("--runtime other busybox sh -c 'echo ran; exec park'");
        d.await_log(&container, "ran");
        assert_eq!(d.exec(&container, "echo in").ok(), "in");
        d.docker(&format!("stop {container}")).ok();
        assert_eq!(d.inspect(&container)["State"]["ExitCode"], 0);
        assert_eq!(d.run("--runtime other --memory 64m busybox sh -c 'exit 5'").code, 5);
    }
}

fn the_default_runtime_may_be_another(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::flags("--add-runtime other=/usr/sbin/runc --default-runtime other"));
    assert_eq!(d.get("/info").expect(200).json()["DefaultRuntime"], "other");
    assert_eq!(d.run("busybox echo hi").ok(), "hi");
    let container = d.create("busybox true");
    assert_eq!(d.inspect(&container)["HostConfig"]["Runtime"], "other");
}

fn a_runtime_whose_program_is_missing_fails_the_start(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::flags("--add-runtime broken=/no/such/runtime"));
    let container = d.create("--runtime broken busybox true");
    let reply = d.post(&format!("/containers/{container}/start"));
    assert!(reply.status >= 400, "{reply:?}");
    assert!(reply.message().contains("no such file or directory"), "{reply:?}");
    assert_ne!(d.status(&container), "running");
}
