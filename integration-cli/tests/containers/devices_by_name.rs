//! Devices by name (CDI) and `--gpus`.

use integration_cli::{DaemonOptions, OwnDaemon, Test, cases};
use serde_json::json;

cases![
    a_device_by_name_brings_its_variables_mounts_and_nodes,
    gpus_are_devices_of_the_class_gpu,
    a_device_that_nobody_describes_is_refused,
    the_specifications_are_told_and_can_be_switched_off,
];

const SPEC: &str = r#"{
  "cdiVersion": "0.6.0",
  "kind": "vendor.test/gpu",
  "containerEdits": {"env": ["SHARED=yes"]},
  "devices": [
    {"name": "0", "containerEdits": {
      "env": ["GPU=0"],
      "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null"}],
      "mounts": [{"hostPath": "/etc/docker", "containerPath": "/vendor", "options": ["ro", "bind"]}]}},
    {"name": "1", "containerEdits": {"env": ["GPU=1"]}}
  ]
}"#;

fn with_devices(t: &Test) -> OwnDaemon {
    t.newer_than_reference(1, 50, "devices by name");
    let d = t.own_daemon(&DaemonOptions::flags("--cdi-spec-dir /etc/docker/cdi"));
    let directory = d.daemon().machine().path_inside("/etc/docker/cdi");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("vendor.json"), SPEC).unwrap();
    d
}

fn a_device_by_name_brings_its_variables_mounts_and_nodes(t: &Test) {
    t.newer_client(25, "--device takes names");
    let d = with_devices(t);
    let script = "echo $SHARED $GPU; ls /vendor; stat -c %t:%T /dev/gpu0; echo x > /dev/gpu0 && echo written";
    let shown = d.run(&format!("--device vendor.test/gpu=0 busybox sh -c '{script}'")).ok();
    assert_eq!(shown, "yes 0\ncdi\n1:3\nwritten");
    let container = d.start("--device vendor.test/gpu=1 busybox park");
    let requests = &d.inspect(&container)["HostConfig"]["DeviceRequests"];
    assert_eq!(
        (&requests[0]["Driver"], &requests[0]["DeviceIDs"]),
        (&json!("cdi"), &json!(["vendor.test/gpu=1"]))
    );
}

fn gpus_are_devices_of_the_class_gpu(t: &Test) {
    let d = with_devices(t);
    assert_eq!(d.run("--gpus 1 busybox sh -c 'echo $GPU'").ok(), "0");
    assert_eq!(d.run("--gpus device=1 busybox sh -c 'echo $GPU'").ok(), "1");
    d.run("--gpus 3 busybox true").fails_saying(125, "there are 2");
}

fn a_device_that_nobody_describes_is_refused(t: &Test) {
    t.newer_client(25, "--device takes names");
    let d = with_devices(t);
    let refused = d.run("--device vendor.test/gpu=9 busybox true");
    refused.fails_saying(125, "CDI device injection failed: unresolvable CDI devices vendor.test/gpu=9");
}

fn the_specifications_are_told_and_can_be_switched_off(t: &Test) {
    t.newer_client(25, "--device takes names");
    let d = with_devices(t);
    let info = d.get("/v1.50/info").json();
    assert_eq!(info["CDISpecDirs"], json!(["/etc/docker/cdi"]));
    let ids: Vec<&str> =
        info["DiscoveredDevices"].as_array().unwrap().iter().map(|d| d["ID"].as_str().unwrap()).collect();
    assert_eq!(ids, ["vendor.test/gpu=0", "vendor.test/gpu=1"]);
    let off = t.own_daemon(&DaemonOptions::config(&json!({"features": {"cdi": false}})));
    assert_eq!(off.get("/v1.50/info").json()["CDISpecDirs"], json!([]));
    off.run("--device vendor.test/gpu=0 busybox true")
        .fails_saying(125, "could not select device driver \"cdi\" with capabilities: []");
}
