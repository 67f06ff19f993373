//! The configuration file and its quarrels with the command line.

use integration_cli::{DaemonOptions, Test, cases, skip};
use serde_json::json;

cases![
    unknown_keys_are_refused_by_name,
    an_option_given_twice_is_refused_with_both_values,
    a_file_that_is_no_json_is_refused,
    a_value_of_the_wrong_type_is_refused,
    options_of_the_file_take_effect,
    validate_checks_and_exits,
    the_version_is_printed,
    an_unknown_flag_is_refused,
    a_second_daemon_on_the_same_files_is_refused,
    an_empty_file_is_fine,
    runtimes_may_be_given_in_both_places,
    a_bad_log_level_is_refused,
    help_lists_the_flags,
    the_storage_driver_is_chosen_by_flag,
    containers_have_the_limits_that_the_daemon_was_started_with,
];

fn with_config(text: &str) -> DaemonOptions {
    DaemonOptions { config: Some(text.to_owned()), ..DaemonOptions::default() }
}

fn unknown_keys_are_refused_by_name(t: &Test) {
    let outcome = t.refuse_to_start(&with_config(r#"{"banana": true, "debug": true}"#));
    assert_ne!(outcome.code, 0, "{outcome:?}");
    assert!(
        outcome.stderr.contains("the following directives don't match any configuration option: banana"),
        "{outcome:?}"
    );
}

fn an_option_given_twice_is_refused_with_both_values(t: &Test) {
    let options = DaemonOptions {
        flags: vec!["--log-level=debug".to_owned()],
        ..with_config(r#"{"log-level": "info"}"#)
    };
    let outcome = t.refuse_to_start(&options);
    assert_ne!(outcome.code, 0, "{outcome:?}");
    let text = "the following directives are specified both as a flag and in the configuration file: log-level: (from flag: debug, from file: info)";
    assert!(outcome.stderr.contains(text), "{outcome:?}");
    let lists =
        DaemonOptions { flags: vec!["--label=a=b".to_owned()], ..with_config(r#"{"labels": ["c=d"]}"#) };
    let outcome = t.refuse_to_start(&lists);
    assert!(
        outcome.code != 0 && outcome.stderr.contains("labels: (from flag: [a=b], from file: [c=d])"),
        "{outcome:?}"
    );
}

fn a_file_that_is_no_json_is_refused(t: &Test) {
    for text in ["{", "banana", "{\"debug\": tru}"] {
        let outcome = t.refuse_to_start(&with_config(text));
        assert_ne!(outcome.code, 0, "{text}: {outcome:?}");
        assert!(outcome.stderr.contains("unable to configure the Docker daemon with file"), "{outcome:?}");
    }
}

fn a_value_of_the_wrong_type_is_refused(t: &Test) {
    let outcome = t.refuse_to_start(&with_config(r#"{"debug": "banana"}"#));
    assert_ne!(outcome.code, 0, "{outcome:?}");
    let outcome = t.refuse_to_start(&with_config(r#"{"labels": ["no-equals-sign"]}"#));
    assert_ne!(outcome.code, 0, "{outcome:?}");
}

fn options_of_the_file_take_effect(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::config(&json!({
        "debug": true, "labels": ["a=b"], "default-shm-size": "3M", "bip": "10.55.0.1/24", "dns": ["192.0.2.77"],
        "insecure-registries": ["reg.test:5000"], "max-concurrent-downloads": 2, "shutdown-timeout": 5,
    })));
    let info = d.get("/info").expect(200).json();
    assert_eq!((&info["Debug"], &info["Labels"]), (&json!(true), &json!(["a=b"])));
    assert!(info["RegistryConfig"]["IndexConfigs"]["reg.test:5000"].is_object(), "{info}");
    let container = d.start("busybox park");
    assert_eq!(d.inspect(&container)["HostConfig"]["ShmSize"], 3 << 20);
    assert!(d.address(&container, "bridge").starts_with("10.55.0."));
    assert!(d.shell(&container, "cat /etc/resolv.conf").contains("nameserver 192.0.2.77"));
    d.docker(&format!("stop {container}")).ok();
}

/// Runs the daemon's program with flags that make it print something and end.
fn run_daemon(t: &Test, arguments: &[&str]) -> integration_cli::Outcome {
    use integration_cli::Implementation::{Dockerd, External, Shoald};
    let program = match t.implementation() {
        Shoald(path) | Dockerd(path) => path.clone(),
        External(_) => skip("needs the daemon's program"),
    };
    let mut command = integration_cli::process::command(program);
    command.args(arguments);
    integration_cli::process::run(command, b"")
}

fn validate_checks_and_exits(t: &Test) {
    t.newer_than_reference(1, 42, "the flag --validate");
    let directory = t.directory("config");
    let (good, bad) = (directory.join("good.json"), directory.join("bad.json"));
    std::fs::write(&good, r#"{"debug": true}"#).unwrap();
    std::fs::write(&bad, r#"{"banana": true}"#).unwrap();
    let outcome = run_daemon(t, &["--validate", "--config-file", good.to_str().unwrap()]);
    assert!(
        outcome.code == 0 && (outcome.stdout.clone() + &outcome.stderr).contains("configuration OK"),
        "{outcome:?}"
    );
    let outcome = run_daemon(t, &["--validate", "--config-file", bad.to_str().unwrap()]);
    assert!(outcome.code != 0 && outcome.stderr.contains("banana"), "{outcome:?}");
    let outcome =
        run_daemon(t, &["--validate", "--config-file", directory.join("missing.json").to_str().unwrap()]);
    assert_ne!(outcome.code, 0);
}

fn the_version_is_printed(t: &Test) {
    let shown = run_daemon(t, &["--version"]).ok();
    assert!(shown.to_lowercase().contains("version"), "{shown}");
}

fn an_unknown_flag_is_refused(t: &Test) {
    let outcome = run_daemon(t, &["--banana"]);
    assert!(outcome.code != 0 && outcome.stderr.contains("banana"), "{outcome:?}");
}

fn a_second_daemon_on_the_same_files_is_refused(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::default());
    let outcome = d.daemon().start_beside();
    assert_ne!(outcome.code, 0, "{outcome:?}");
    let text = d.by_age("is still running", "pid file found");
    assert!(outcome.stderr.contains(text), "{outcome:?}");
    // The first one is not disturbed.
    d.get("/_ping").expect(200);
}

fn an_empty_file_is_fine(t: &Test) {
    t.newer_than_reference(1, 42, "an empty configuration file, which /dev/null is to test suites");
    let d = t.bare_daemon(&with_config(""));
    d.get("/_ping").expect(200);
}

fn runtimes_may_be_given_in_both_places(t: &Test) {
    let options = DaemonOptions {
        flags: vec!["--add-runtime=flag=/usr/sbin/runc".to_owned()],
        ..with_config(r#"{"runtimes": {"file": {"path": "/usr/sbin/runc"}}}"#)
    };
    let d = t.bare_daemon(&options);
    let runtimes = d.get("/info").expect(200).json()["Runtimes"].clone();
    assert!(runtimes["file"].is_object(), "{runtimes}");
}

fn a_bad_log_level_is_refused(t: &Test) {
    let outcome = t.refuse_to_start(&DaemonOptions::flags("--log-level banana"));
    assert!(outcome.code != 0 && outcome.stderr.contains("banana"), "{outcome:?}");
}

fn the_storage_driver_is_chosen_by_flag(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::flags("--storage-driver overlay2"));
    let driver = d.get("/info").expect(200).json()["Driver"].clone();
    // Newer daemons call the same thing by the name of its snapshotter.
    assert!(driver == "overlay2" || driver == "overlayfs", "{driver}");
    assert_eq!(d.run("busybox echo hi").ok(), "hi");
    let outcome = t.refuse_to_start(&DaemonOptions::flags("--storage-driver banana"));
    assert!(outcome.code != 0 && outcome.stderr.contains("banana"), "{outcome:?}");
}

fn containers_have_the_limits_that_the_daemon_was_started_with(t: &Test) {
    if t.implementation().is_reference() {
        skip(
            "the reference's helpers raise the limit for themselves and their containers, as programs in Go do",
        );
    }
    let wrapper = ["prlimit", "--nofile=900:2000"].map(str::to_owned).to_vec();
    let d = t.own_daemon(&DaemonOptions { wrapper, ..DaemonOptions::default() });
    assert_eq!(d.run("busybox sh -c 'ulimit -Sn; ulimit -Hn'").ok(), "900\n2000");
}

fn help_lists_the_flags(t: &Test) {
    let shown = run_daemon(t, &["--help"]).ok();
    for flag in [
        "--host",
        "--data-root",
        "--exec-root",
        "--config-file",
        "--debug",
        "--tlsverify",
        "--registry-mirror",
        "--bip",
    ] {
        assert!(shown.contains(flag), "{flag} in {shown}");
    }
}
