//! Options of the local driver: what `mount(8)` would be told.

use integration_cli::{Test, cases};
use serde_json::json;

use super::volume;

cases![
    a_tmpfs_volume_has_its_size_and_is_empty_after_its_last_user,
    a_bind_volume_is_a_directory_of_the_machine,
    a_device_that_is_missing_fails_the_start_and_not_the_creation,
    options_are_checked,
    a_mounted_volume_is_shared_by_its_users,
];

fn a_tmpfs_volume_has_its_size_and_is_empty_after_its_last_user(t: &Test) {
    let name = volume(t, "-o type=tmpfs -o device=tmpfs -o o=size=1m,uid=1001");
    let shown = t
        .run(&format!(
            "-v {name}:/data busybox sh -c 'stat -c %u /data; df -k /data | tail -1; touch /data/x'"
        ))
        .ok();
    assert!(shown.starts_with("1001\n") && shown.contains("1024"), "{shown}");
    assert_eq!(t.run(&format!("-v {name}:/data busybox ls /data")).ok(), "");
    assert_eq!(t.host(&format!("grep -c /volumes/{name}/ /proc/self/mounts")).stdout.trim(), "0");
}

fn a_bind_volume_is_a_directory_of_the_machine(t: &Test) {
    let directory = t.directory("dir");
    std::fs::write(directory.join("file"), "here").unwrap();
    let name = volume(t, &format!("-o type=none -o o=bind -o device={}", directory.display()));
    assert_eq!(
        t.run(&format!("-v {name}:/data busybox sh -c 'cat /data/file; touch /data/new'")).ok(),
        "here"
    );
    assert!(directory.join("new").exists());
    t.docker(&format!("volume rm {name}")).ok();
    assert!(directory.join("file").exists(), "removing the volume keeps the directory");
}

fn a_device_that_is_missing_fails_the_start_and_not_the_creation(t: &Test) {
    let name = volume(t, "-o type=none -o o=bind -o device=/no/such/directory");
    let container = t.create(&format!("--mount src={name},dst=/data,volume-nocopy busybox true"));
    let reply = t.post(&format!("/containers/{container}/start"));
    assert_eq!(reply.status, 500, "{reply:?}");
    assert!(
        reply.message().contains("failed to mount local volume")
            && reply.message().contains("no such file or directory"),
        "{reply:?}"
    );
    assert_eq!(t.status(&container), "created");
}

fn options_are_checked(t: &Test) {
    let create = |options: serde_json::Value| {
        t.post_json("/volumes/create", &json!({"Name": t.name("vol"), "DriverOpts": options}))
    };
    let reply = create(json!({"banana": "1"}));
    reply.expect_error_holding(400, "invalid option");
    assert!(reply.message().contains("banana"), "{reply:?}");
    let reply = create(json!({"type": "tmpfs"}));
    reply.expect_error_holding(400, "missing required option: \"device\"");
}

fn a_mounted_volume_is_shared_by_its_users(t: &Test) {
    let name = volume(t, "-o type=tmpfs -o device=tmpfs");
    let first = t.start(&format!("-v {name}:/data busybox park"));
    t.shell(&first, "echo shared > /data/file");
    let second = t.start(&format!("-v {name}:/data busybox park"));
    assert_eq!(t.shell(&second, "cat /data/file"), "shared");
    t.docker(&format!("stop {first}")).ok();
    assert_eq!(t.shell(&second, "cat /data/file"), "shared", "one user less does not unmount");
}
