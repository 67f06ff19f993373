//! Mounts that appear later, on either side of a bind.

use integration_cli::{Test, cases};

cases![
    a_private_bind_sees_nothing_new,
    a_slave_bind_sees_what_the_machine_mounts,
    a_shared_bind_shows_the_machine_what_the_container_mounts,
    sharing_needs_a_shared_mount,
    mounts_below_a_bind_come_along,
];

/// A directory that is a shared mount of its own on the daemon's machine.
fn shared_directory(t: &Test) -> String {
    let path = t.directory("dir").to_str().unwrap().to_owned();
    t.host(&format!("mount -t tmpfs t {path} && mount --make-shared {path} && mkdir {path}/sub")).ok();
    path
}

fn unmount(t: &Test, path: &str) {
    t.host(&format!("umount {path}/sub 2>/dev/null; umount -l {path}")).ok();
}

fn sub_is_mounted(t: &Test, container: &integration_cli::Container) -> bool {
    t.shell(container, "grep -c ' /x/sub ' /proc/mounts || true") == "1"
}

fn a_private_bind_sees_nothing_new(t: &Test) {
    let path = shared_directory(t);
    let container = t.start(&format!("-v {path}:/x busybox park"));
    t.host(&format!("mount -t tmpfs t {path}/sub")).ok();
    assert!(!sub_is_mounted(t, &container));
    t.docker(&format!("rm -f {container}")).ok();
    unmount(t, &path);
}

fn a_slave_bind_sees_what_the_machine_mounts(t: &Test) {
    let path = shared_directory(t);
    let container = t.start(&format!("-v {path}:/x:rslave busybox park"));
    t.host(&format!("mount -t tmpfs t {path}/sub")).ok();
    assert!(sub_is_mounted(t, &container));
    assert_eq!(t.inspect(&container)["Mounts"][0]["Propagation"], "rslave");
    t.docker(&format!("rm -f {container}")).ok();
    unmount(t, &path);
}

fn a_shared_bind_shows_the_machine_what_the_container_mounts(t: &Test) {
    let path = shared_directory(t);
    let container = t.start(&format!(
        "--cap-add SYS_ADMIN --security-opt apparmor=unconfined --mount type=bind,src={path},dst=/x,bind-propagation=rshared busybox park"
    ));
    t.shell(&container, "mount -t tmpfs t /x/sub");
    assert_eq!(t.host(&format!("grep -c ' {path}/sub ' /proc/self/mounts")).ok(), "1");
    t.shell(&container, "umount /x/sub");
    assert_eq!(t.host(&format!("grep -c ' {path}/sub ' /proc/self/mounts")).stdout.trim(), "0");
    t.docker(&format!("rm -f {container}")).ok();
    unmount(t, &path);
}

fn sharing_needs_a_shared_mount(t: &Test) {
    // The machine of the test has no shared mounts of its own.
    let directory = t.directory("dir");
    let outcome = t.run(&format!("-v {}:/x:rshared busybox true", directory.display()));
    assert!(outcome.code == 125 && outcome.stderr.contains("but it is not a shared mount"), "{outcome:?}");
    let outcome = t.run(&format!("-v {}:/x:rslave busybox true", directory.display()));
    assert!(
        outcome.code == 125 && outcome.stderr.contains("but it is not a shared or slave mount"),
        "{outcome:?}"
    );
    let outcome = t.run(&format!("-v {}:/x:banana busybox true", directory.display()));
    assert_eq!(outcome.code, 125);
}

fn mounts_below_a_bind_come_along(t: &Test) {
    let path = shared_directory(t);
    t.host(&format!("mount -t tmpfs t {path}/sub && touch {path}/sub/file")).ok();
    let shown = t.run(&format!("-v {path}:/x busybox ls /x/sub")).ok();
    assert_eq!(shown, "file");
    unmount(t, &path);
}
