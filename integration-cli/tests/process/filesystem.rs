//! The file system a container gets: root, /dev, /proc, /sys, tmpfs, read-only.

use integration_cli::{Test, cases};
use serde_json::json;

cases![
    the_usual_mounts_have_the_usual_options,
    a_read_only_root_can_be_written_nowhere_but_in_mounts,
    tmpfs_is_mounted_with_options,
    shm_has_its_size,
    hosts_hostname_and_resolv_conf_are_writable_files,
    changes_are_listed,
    the_size_of_the_writable_layer_is_counted,
    containers_of_one_image_do_not_see_each_others_files,
    whiteouts_and_replacements_work_over_layers,
    the_root_cannot_be_left,
];

fn the_usual_mounts_have_the_usual_options(t: &Test) {
    let mounts = t.run("busybox cat /proc/mounts").ok();
    let options = |point: &str| -> Vec<String> {
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(point));
        let line = line.unwrap_or_else(|| panic!("no mount at {point} in {mounts}"));
        line.split(' ').nth(3).unwrap().split(',').map(str::to_owned).collect()
    };
    for (point, wanted) in [
        ("/proc", &["rw", "nosuid", "nodev", "noexec"][..]),
        ("/dev", &["rw", "nosuid", "size=65536k", "mode=755"]),
        ("/dev/pts", &["rw", "nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"]),
        ("/dev/mqueue", &["rw", "nosuid", "nodev", "noexec"]),
        ("/dev/shm", &["rw", "nosuid", "nodev", "noexec", "size=65536k"]),
        ("/sys", &["ro", "nosuid", "nodev", "noexec"]),
        ("/proc/sys", &["ro", "nosuid", "nodev", "noexec"]),
    ] {
        let options = options(point);
        for option in wanted {
            assert!(options.iter().any(|given| given == option), "{point} has {options:?} and not {option}");
        }
    }
    let groups = mounts
        .lines()
        .filter(|line| line.split(' ').nth(1).is_some_and(|point| point.starts_with("/sys/fs/cgroup/")));
    for line in groups {
        assert!(line.split(' ').nth(3).unwrap().starts_with("ro,"), "{line}");
    }
}

fn a_read_only_root_can_be_written_nowhere_but_in_mounts(t: &Test) {
    let volume = t.name("vol");
    let container = t.start(&format!("--read-only --tmpfs /scratch -v {volume}:/data busybox park"));
    for path in ["/x", "/etc/x", "/tmp/x", "/bin/x"] {
        let outcome = t.exec(&container, &format!("touch {path}"));
        assert!(outcome.code != 0 && outcome.stderr.contains("Read-only file system"), "{path}: {outcome:?}");
    }
    t.shell(&container, "touch /scratch/x /data/x /dev/shm/x");
    assert_eq!(t.inspect(&container)["HostConfig"]["ReadonlyRootfs"], true);
}

fn tmpfs_is_mounted_with_options(t: &Test) {
    let shown = t.run("--tmpfs /scratch:size=1m,mode=1750,uid=1001 busybox sh -c 'stat -c %a:%u /scratch; grep scratch /proc/mounts'").ok();
    let (owner, mount) = shown.split_once('\n').unwrap();
    assert_eq!(owner, "1750:1001");
    for option in ["rw", "nosuid", "nodev", "noexec", "size=1024k"] {
        assert!(mount.contains(option), "{option} in {mount}");
    }
    let runnable = t
        .run("--tmpfs /scratch:exec busybox sh -c 'cp /bin/busybox /scratch/true; /scratch/true && echo ran'")
        .ok();
    assert_eq!(runnable, "ran");
    let full = t.run("--tmpfs /scratch:size=64k busybox dd if=/dev/zero of=/scratch/f bs=1k count=200");
    assert!(full.stderr.contains("No space left on device"), "{full:?}");
    let default = t.run("--tmpfs /scratch busybox stat -c %a /scratch").ok();
    assert_eq!(default, "1777");
}

fn shm_has_its_size(t: &Test) {
    let size = |line: &str| {
        t.run(&format!(
            "{line} busybox sh -c 'df -k /dev/shm | tail -1 | awk \"{{print \\$2}}\"; stat -c %a /dev/shm'"
        ))
        .ok()
    };
    assert_eq!(size(""), "65536\n1777");
    assert_eq!(size("--shm-size 3m"), "3072\n1777");
}

fn hosts_hostname_and_resolv_conf_are_writable_files(t: &Test) {
    let container = t.start("busybox park");
    t.shell(
        &container,
        "echo 192.0.2.9 added >> /etc/hosts; echo x > /etc/hostname; echo '#x' >> /etc/resolv.conf",
    );
    assert!(t.shell(&container, "cat /etc/hosts").contains("192.0.2.9 added"));
    // They are mounts, not files of the image.
    assert_eq!(
        t.shell(&container, "grep -c ' /etc/\\(hosts\\|hostname\\|resolv.conf\\) ' /proc/mounts"),
        "3"
    );
    let before = t.run("busybox cat /etc/hosts").ok();
    assert!(!before.contains("added"), "{before}");
}

fn changes_are_listed(t: &Test) {
    let container =
        t.start("busybox sh -c 'touch /new; echo x >> /etc/passwd; rm /etc/group; mkdir /dir; touch /dir/f'");
    t.wait(&container);
    let mut changes: Vec<(String, u64)> = t
        .get(&format!("/containers/{container}/changes"))
        .expect(200)
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|change| (change["Path"].as_str().unwrap().to_owned(), change["Kind"].as_u64().unwrap()))
        .collect();
    changes.sort();
    let expected =
        [("/dir", 1), ("/dir/f", 1), ("/etc", 0), ("/etc/group", 2), ("/etc/passwd", 0), ("/new", 1)];
    assert_eq!(changes, expected.map(|(path, kind)| (path.to_owned(), kind)));
    let diff = t.docker(&format!("diff {container}")).ok();
    assert!(
        diff.lines().any(|line| line == "D /etc/group") && diff.lines().any(|line| line == "A /dir/f"),
        "{diff}"
    );
    let unchanged = t.create("busybox true");
    assert_eq!(
        t.get(&format!("/containers/{unchanged}/changes")).expect(200).json(),
        serde_json::Value::Null
    );
}

fn the_size_of_the_writable_layer_is_counted(t: &Test) {
    let container = t.start("busybox sh -c 'head -c 12345 /dev/zero > /f; ln /f /g'");
    t.wait(&container);
    let item = t.list("/containers/json?all=1&size=1", &json!({"id": [container.id]})).remove(0);
    // A hard link takes no space of its own.
    assert_eq!(item["SizeRw"], 12_345);
}

fn containers_of_one_image_do_not_see_each_others_files(t: &Test) {
    let first = t.start("busybox sh -c 'echo one > /mine; rm /etc/group; exec park'");
    integration_cli::condition::eventually("the file is there", || {
        (t.exec(&first, "test -e /mine").code == 0).then_some(())
    });
    let second = t.run("busybox sh -c 'ls /mine 2>/dev/null; wc -l < /etc/group'").ok();
    assert_eq!(second, "6");
}

fn whiteouts_and_replacements_work_over_layers(t: &Test) {
    use integration_cli::images::{Image, directory, file};
    let image = t.name("layers");
    let first = vec![
        directory("tree", 0o755),
        file("tree/keep", 0o644, "one"),
        file("tree/gone", 0o644, "one"),
        file("tree/changed", 0o644, "one"),
        directory("cleared", 0o755),
        file("cleared/old", 0o644, "one"),
        directory("becomes-file", 0o755),
        file("becomes-file/x", 0o644, "one"),
    ];
    let second = vec![
        file("tree/.wh.gone", 0o644, ""),
        file("tree/changed", 0o600, "two"),
        directory("cleared", 0o700),
        file("cleared/.wh..wh..opq", 0o644, ""),
        file("cleared/new", 0o644, "two"),
        file("becomes-file", 0o644, "two"),
    ];
    t.load(&[Image::on_busybox(&format!("{image}:latest"), &json!({}), &[first, second])]);
    let shown = t.run(&format!("{image} sh -c 'cd /; ls tree cleared; cat tree/changed becomes-file; stat -c %a tree/changed cleared; ls -a tree | grep -c wh'"));
    assert_eq!(shown.stdout, "cleared:\nnew\n\ntree:\nchanged\nkeep\ntwotwo600\n700\n0\n");
}

fn the_root_cannot_be_left(t: &Test) {
    let shown =
        t.run("busybox sh -c 'cd ../../../..; pwd; ls / | grep -c sys; stat -c %i / ; stat -c %i /..'").ok();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[..2], ["/", "1"]);
    assert_eq!(lines[2], lines[3]);
}
