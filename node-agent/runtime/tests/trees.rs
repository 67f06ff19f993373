//! The files of a running container as a tree that is attached nowhere.
//!
//! Start reading at the first test.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use node_runtime::RootDirectory;
use node_runtime::trees::copy_of;
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;

use crate::support::{Bench, wait_until};

fn read(tree: &RootDirectory, path: &str) -> Option<String> {
    let file = tree.open(path.as_ref(), OFlags::RDONLY).ok()?;
    std::io::read_to_string(fs::File::from(file)).ok()
}

fn process(bench: &mut Bench) -> OwnedFd {
    pidfd_open(Pid::from_raw(bench.pid("c")).unwrap(), PidfdFlags::empty()).unwrap()
}

#[test]
fn a_running_container_shows_its_volumes_and_memory_but_not_what_the_kernel_makes_up() {
    let Some(mut bench) = Bench::new() else { return };
    fs::create_dir(bench.host("volume")).unwrap();
    let volume = bench.host("volume");
    bench.add_mount(
        json!({ "destination": "/data/in", "type": "bind", "source": volume, "options": ["rbind", "ro"] }),
    );
    bench.add_mount(json!({ "destination": "/memory", "type": "tmpfs", "source": "tmpfs" }));
    bench.set_script(
        "echo in memory >/memory/file; ln -s /etc/passwd /memory/link; echo >/tmp/mark; exec sleep 1000",
    );
    assert!(bench.create("c").status.success());
    bench.ours_ok(&["start", "c"]);
    fs::write(bench.host("volume/file"), "in the volume").unwrap();
    let mark = bench.rootfs().join("tmp/mark");
    wait_until("the program has written", || mark.exists());
    let paths = ["/memory", "/data/in", "/tmp", "/nothing"].map(PathBuf::from);
    let init = process(&mut bench);
    let tree = RootDirectory::new(copy_of(init.as_fd(), &paths).unwrap());
    assert_eq!(read(&tree, "/memory/file").as_deref(), Some("in memory\n"));
    assert_eq!(read(&tree, "/data/in/file").as_deref(), Some("in the volume"));
    assert!(
        read(&tree, "/memory/link").unwrap().starts_with("root:"),
        "a link leads to the container's own root"
    );
    for path in ["/proc/self", "/sys/kernel", "/dev/null"] {
        assert!(tree.open(path.as_ref(), OFlags::PATH).is_err(), "{path}");
    }
    let create = OFlags::WRONLY | OFlags::CREATE;
    let write = |path: &str| {
        let (directory, name) = path.rsplit_once('/').unwrap();
        let directory = tree.open(directory.as_ref(), OFlags::PATH).unwrap();
        rustix::fs::openat(directory, name, create, rustix::fs::Mode::from_raw_mode(0o644)).map(drop)
    };
    assert_eq!(write("/data/in/new").unwrap_err(), rustix::io::Errno::ROFS);
    write("/memory/new").unwrap();
    assert_eq!(bench.ours_ok(&["exec", "c", "ls", "/memory"]), "file\nlink\nnew\n");
    // The container's own mounts are as they were.
    assert!(bench.ours_ok(&["exec", "c", "ls", "/proc/self/ns"]).contains("mnt"));
    drop(tree);
    bench.ours_ok(&["kill", "c", "KILL"]);
    wait_until("the container has stopped", || bench.status("c")["status"] == "stopped");
    assert!(copy_of(init.as_fd(), &paths).is_err(), "its process has ended");
}
