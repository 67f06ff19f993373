//! SIGHUP: the configuration file is read again.

use integration_cli::condition::eventually;
use integration_cli::{DaemonOptions, OwnDaemon, Test, cases};
use rustix::process::Signal;
use serde_json::{Value, json};

cases![
    a_reload_applies_what_may_change,
    a_reload_is_told_as_an_event_with_the_settings,
    a_broken_file_changes_nothing,
    a_reload_does_not_touch_containers,
    settings_that_may_not_change_stay,
];

fn write(d: &OwnDaemon, config: &str) {
    std::fs::write(d.daemon().machine().root().join("daemon.json"), config).unwrap();
    d.daemon().signal(Signal::HUP);
}

fn info(d: &OwnDaemon) -> Value {
    d.get("/info").expect(200).json()
}

fn a_reload_applies_what_may_change(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::config(&json!({"labels": ["a=b"], "debug": false})));
    assert_eq!(info(&d)["Labels"], json!(["a=b"]));
    let config = json!({
        "labels": ["c=d"], "debug": true, "insecure-registries": ["reg.test:5000"], "registry-mirrors": ["http://mirror.test"],
        "runtimes": {"later": {"path": "/usr/sbin/runc"}}, "default-runtime": "later",
    });
    write(&d, &config.to_string());
    eventually("the labels are the new ones", || (info(&d)["Labels"] == json!(["c=d"])).then_some(()));
    let info = info(&d);
    assert_eq!(info["Debug"], true);
    assert_eq!(info["RegistryConfig"]["Mirrors"], json!(["http://mirror.test/"]));
    assert!(info["RegistryConfig"]["IndexConfigs"]["reg.test:5000"].is_object());
    assert_eq!(info["DefaultRuntime"], "later");
    assert!(info["Runtimes"]["later"].is_object());
}

fn a_reload_is_told_as_an_event_with_the_settings(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::default());
    let mut recording = d.record_events(&json!({"type": ["daemon"]}));
    write(&d, &json!({"labels": ["c=d"], "max-concurrent-downloads": 7}).to_string());
    let event = recording.wait_for("daemon reload");
    assert_eq!(event.attribute("labels"), "[\"c=d\"]");
    assert_eq!(event.attribute("max-concurrent-downloads"), "7");
    assert_eq!(event.attribute("debug"), "false");
    assert_eq!(event.id, info(&d)["ID"].as_str().unwrap());
}

fn a_broken_file_changes_nothing(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::config(&json!({"labels": ["a=b"]})));
    d.daemon().announce("reload");
    d.daemon().announce("configuration");
    for broken in ["{", r#"{"labels": ["c=d"], "banana": 1}"#, r#"{"labels": ["bad"]}"#] {
        let before = d.daemon().log_text().len();
        write(&d, broken);
        eventually("the log tells", || (d.daemon().log_text().len() > before).then_some(()));
        assert_eq!(info(&d)["Labels"], json!(["a=b"]), "{broken}");
    }
    write(&d, &json!({"labels": ["e=f"]}).to_string());
    eventually("a sound file is taken again", || (info(&d)["Labels"] == json!(["e=f"])).then_some(()));
}

fn a_reload_does_not_touch_containers(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let container = d.start("-p 80 busybox park");
    let before = d.inspect(&container);
    write(&d, &json!({"labels": ["a=b"]}).to_string());
    eventually("the label is there", || (info(&d)["Labels"] == json!(["a=b"])).then_some(()));
    let after = d.inspect(&container);
    assert_eq!(after["State"], before["State"]);
    assert_eq!(after["NetworkSettings"], before["NetworkSettings"]);
}

fn settings_that_may_not_change_stay(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::config(&json!({"bip": "10.55.0.1/24"})));
    let root = info(&d)["DockerRootDir"].clone();
    write(&d, &json!({"bip": "10.56.0.1/24", "data-root-of-nobody": 1}).to_string());
    write(&d, &json!({"bip": "10.56.0.1/24", "labels": ["a=b"]}).to_string());
    d.daemon().announce("data-root-of-nobody");
    d.daemon().announce("configuration");
    eventually("the label is there", || (info(&d)["Labels"] == json!(["a=b"])).then_some(()));
    assert_eq!(info(&d)["DockerRootDir"], root);
    assert_eq!(d.get("/networks/bridge").expect(200).json()["IPAM"]["Config"][0]["Subnet"], "10.55.0.0/24");
}
