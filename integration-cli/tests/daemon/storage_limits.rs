//! How much a container may write (`--storage-opt`), on a disk with project quotas and on one without.

use integration_cli::{DaemonOptions, Implementation, Test, cases};

cases![
    a_container_writes_up_to_its_limit,
    a_default_limit_holds_for_containers_that_do_not_say,
    limits_are_refused_where_the_disk_has_none,
];

const UNSUPPORTED: &str = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";
/// Writes eight megabytes and says how it went.
const WRITE: &str = "sh -c 'dd if=/dev/zero of=/file bs=1M count=8 2>&1 && sync'";

/// A daemon whose files are on a disk of its own that has project quotas.
fn on_limiting_disk(t: &Test, flags: &str) -> DaemonOptions {
    if !matches!(t.implementation(), Implementation::Shoald(_)) {
        integration_cli::skip("the reference limits containers on xfs only");
    }
    let directory = t.directory("disk");
    let (image, point) = (directory.join("image"), directory.join("probe"));
    std::fs::create_dir_all(&point).unwrap();
    std::fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
    let make = format!(
        "mkfs.ext4 -q -O quota,project -E quotatype=prjquota {0} && unshare --mount --propagation private mount -o loop,prjquota {0} {1}",
        image.display(),
        point.display()
    );
    let mut command = integration_cli::process::command("sh");
    command.args(["-c", &make]);
    if integration_cli::process::run(command, b"").code != 0 {
        integration_cli::skip("needs mkfs.ext4, loop devices and quotas in the kernel");
    }
    let mount = format!(
        "for a; do [ \"$before\" = --data-root ] && root=$a; before=$a; done; mkdir -p $root; \
         mountpoint -q $root || mount -o loop,prjquota {} $root || exit 1; exec \"$@\"",
        image.display()
    );
    let wrapper = ["sh", "-c", &mount, "sh"].map(str::to_owned).to_vec();
    DaemonOptions { wrapper, ..DaemonOptions::flags(flags) }
}

fn a_container_writes_up_to_its_limit(t: &Test) {
    let options = on_limiting_disk(t, "");
    let d = t.own_daemon(&options);
    assert_eq!(d.run(&format!("busybox {WRITE}")).code, 0);
    let limited = d.run(&format!("--storage-opt size=4m busybox {WRITE}"));
    assert_ne!(limited.code, 0, "{limited:?}");
    let shown = d.run("--storage-opt size=4m busybox df -m /").ok();
    let size = shown.lines().last().and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned);
    assert_eq!(size.as_deref(), Some("4"), "{shown}");

    let container = d.docker("create --storage-opt SIZE=4m busybox park").ok();
    let described = d.get(&format!("/containers/{container}/json")).expect(200).json();
    assert_eq!(described["HostConfig"]["StorageOpt"]["SIZE"], "4m");
    super::restart(&d, &options);
    d.docker(&format!("start {container}")).ok();
    let written = d.docker(&format!("exec {container} {WRITE}"));
    assert_ne!(written.code, 0, "after a restart of the daemon: {written:?}");
    d.docker(&format!("exec {container} sh -c 'rm /file; echo again >/file'")).ok();
    d.docker(&format!("rm -f {container}")).ok();

    d.run("--storage-opt size=banana busybox").fails_saying(125, "invalid size: 'banana'");
    d.run("--storage-opt banana=1 busybox").fails_saying(125, "Unknown option banana");
}

fn a_default_limit_holds_for_containers_that_do_not_say(t: &Test) {
    let d = t.own_daemon(&on_limiting_disk(t, "--storage-opt overlay2.size=4m"));
    assert_ne!(d.run(&format!("busybox {WRITE}")).code, 0);
    assert_eq!(d.run(&format!("--storage-opt size=16m busybox {WRITE}")).code, 0);
}

fn limits_are_refused_where_the_disk_has_none(t: &Test) {
    t.run("--storage-opt size=1g busybox true").fails_saying(125, UNSUPPORTED);
    let outcome = t.refuse_to_start(&DaemonOptions::flags("--storage-opt overlay2.size=1g"));
    assert!(outcome.code != 0 && outcome.stderr.contains("overlay2.size"), "{outcome:?}");
    let outcome = t.refuse_to_start(&DaemonOptions::flags("--storage-opt overlay2.banana=1"));
    assert!(outcome.code != 0 && outcome.stderr.contains("unknown option overlay2.banana"), "{outcome:?}");
}
