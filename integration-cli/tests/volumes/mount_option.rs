//! `--mount`, the explicit form.

use integration_cli::condition::eventually;
use integration_cli::{Test, cases};
use serde_json::json;

cases![
    a_bind_mount_needs_its_source,
    bind_and_volume_mounts_work,
    read_only_mounts_cannot_be_written,
    tmpfs_mounts_take_size_and_mode,
    a_volume_mount_without_source_is_anonymous,
    volume_options_make_the_volume,
    mounts_are_echoed_and_shown,
    a_subpath_of_a_volume_may_be_mounted,
    an_image_may_be_mounted,
    a_part_of_an_image_may_be_mounted,
    a_mounted_image_is_held_and_outlives_its_removal,
    create_mountpoint_makes_the_source,
];

fn a_bind_mount_needs_its_source(t: &Test) {
    let outcome = t.run("--mount type=bind,src=/no/such/path,dst=/x busybox true");
    outcome.fails_saying(125, "bind source path does not exist: /no/such/path");
    assert!(!std::path::Path::new("/no/such").exists());
}

fn bind_and_volume_mounts_work(t: &Test) {
    let (directory, volume) = (t.directory("dir"), t.name("vol"));
    let line = format!(
        "--mount type=bind,src={},dst=/bound --mount type=volume,src={volume},dst=/data",
        directory.display()
    );
    t.run(&format!("{line} busybox sh -c 'echo x > /bound/file; echo y > /data/file'")).ok();
    assert_eq!(std::fs::read_to_string(directory.join("file")).unwrap(), "x\n");
    assert_eq!(t.run(&format!("{line} busybox cat /bound/file /data/file")).ok(), "x\ny");
}

fn read_only_mounts_cannot_be_written(t: &Test) {
    let (directory, volume) = (t.directory("dir"), t.name("vol"));
    for mount in
        [format!("type=bind,src={},dst=/x,readonly", directory.display()), format!("src={volume},dst=/x,ro")]
    {
        let outcome = t.run(&format!("--mount {mount} busybox touch /x/file"));
        assert!(outcome.code != 0 && outcome.stderr.contains("Read-only file system"), "{outcome:?}");
    }
}

fn tmpfs_mounts_take_size_and_mode(t: &Test) {
    let shown = t.run("--mount type=tmpfs,dst=/scratch,tmpfs-size=1m,tmpfs-mode=1750 busybox sh -c 'stat -c %a /scratch; grep scratch /proc/mounts'").ok();
    assert!(
        shown.starts_with("1750\n") && shown.contains("size=1024k") && shown.contains("tmpfs /scratch tmpfs"),
        "{shown}"
    );
    let container = t.start("--mount type=tmpfs,dst=/scratch busybox sh -c 'touch /scratch/x; exec park'");
    let mounts = t.inspect(&container)["Mounts"].clone();
    assert_eq!(mounts[0]["Type"], "tmpfs");
    assert_eq!(mounts[0]["Destination"], "/scratch");
    t.docker(&format!("restart -t 1 {container}")).ok();
    let plain =
        t.start("--mount type=tmpfs,dst=/scratch busybox sh -c 'ls /scratch; touch /scratch/x; exec park'");
    t.docker(&format!("restart -t 1 {plain}")).ok();
    assert_eq!(t.logs(&plain), "", "a tmpfs is empty after a restart");
}

fn a_volume_mount_without_source_is_anonymous(t: &Test) {
    let container = t.create("--mount dst=/data busybox true");
    let mount = t.inspect(&container)["Mounts"][0].clone();
    let name = mount["Name"].as_str().unwrap().to_owned();
    assert_eq!((mount["Type"].as_str(), name.len()), (Some("volume"), 64));
    t.docker(&format!("rm -v {container}")).ok();
    t.get(&format!("/volumes/{name}")).expect(404);
}

fn volume_options_make_the_volume(t: &Test) {
    let volume = t.name("vol");
    t.create(&format!(
        "--mount type=volume,src={volume},dst=/data,volume-label=a=b,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs busybox true"
    ));
    let made = t.get(&format!("/volumes/{volume}")).expect(200).json();
    assert_eq!(made["Labels"], json!({"a": "b"}));
    assert_eq!(made["Options"], json!({"type": "tmpfs", "device": "tmpfs"}));
}

fn mounts_are_echoed_and_shown(t: &Test) {
    let volume = t.name("vol");
    let mounts = json!([
        {"Type": "volume", "Source": volume, "Target": "/data", "ReadOnly": true, "VolumeOptions": {"NoCopy": true}},
        {"Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 448}},
    ]);
    let container =
        t.create_json(&json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Mounts": mounts}}));
    let inspected = t.inspect(&container);
    assert_eq!(inspected["HostConfig"]["Mounts"], mounts);
    let shown = inspected["Mounts"].as_array().unwrap();
    let data = shown.iter().find(|mount| mount["Destination"] == "/data").unwrap();
    assert_eq!(
        (&data["Type"], &data["Name"], &data["RW"]),
        (&json!("volume"), &json!(volume), &json!(false))
    );
}

fn a_subpath_of_a_volume_may_be_mounted(t: &Test) {
    t.newer_than_reference(1, 45, "VolumeOptions.Subpath");
    t.newer_client(26, "--mount volume-subpath");
    let volume = t.name("vol");
    t.run(&format!("-v {volume}:/data busybox sh -c 'mkdir -p /data/a/b; echo deep > /data/a/b/file'")).ok();
    let shown = t.run(&format!("--mount src={volume},dst=/x,volume-subpath=a/b busybox cat /x/file")).ok();
    assert_eq!(shown, "deep");
    let outcome = t.run(&format!("--mount src={volume},dst=/x,volume-subpath=missing busybox true"));
    assert_eq!(outcome.code, 127, "{outcome:?}");
    let outcome = t.run(&format!("--mount src={volume},dst=/x,volume-subpath=../.. busybox true"));
    assert_eq!(outcome.code, 125, "{outcome:?}");
}

fn an_image_may_be_mounted(t: &Test) {
    t.newer_than_reference(1, 48, "mounts of type image");
    t.newer_client(28, "--mount type=image");
    let shown = t.run("--mount type=image,src=busybox,dst=/image busybox sh -c 'cat /image/etc/group | wc -l; touch /image/x'");
    assert!(shown.stdout.starts_with('6') && shown.stderr.contains("Read-only"), "{shown:?}");
}

fn a_part_of_an_image_may_be_mounted(t: &Test) {
    t.newer_than_reference(1, 48, "mounts of type image");
    t.newer_client(28, "--mount type=image");
    let mount = |part: &str| format!("--mount type=image,src=busybox,dst=/part,image-subpath={part}");
    assert_eq!(t.run(&format!("{} busybox sh -c 'ls /part | grep -c group'", mount("etc"))).ok(), "1");
    assert_eq!(
        t.run(&format!("{} busybox head -n 1 /part", mount("etc/passwd"))).ok(),
        "root:x:0:0:root:/root:/bin/sh"
    );
    t.run(&format!("{} busybox true", mount("not-there"))).fails_saying(127, "no such file or directory");
    t.run("--mount type=image,src=busybox,dst=/part,image-subpath=../x busybox true")
        .fails_saying(125, "subpath");
    let missing = t.run("--mount type=image,src=no/such:image,dst=/x busybox true");
    assert!(missing.stderr.contains("No such image: no/such:image"), "{missing:?}");
}

fn a_mounted_image_is_held_and_outlives_its_removal(t: &Test) {
    t.newer_than_reference(1, 48, "mounts of type image");
    t.newer_client(28, "--mount type=image");
    let image = t.name("mounted");
    t.docker_with_input(&format!("import - {image}:1"), &archive_of("kept", b"kept\n")).ok();
    let container = t.start(&format!(
        "--mount type=image,src={image}:1,dst=/image busybox sh -c 'cat /image/kept; exec park'"
    ));
    let shown = t.inspect(&container);
    assert_eq!(shown["Mounts"][0]["Type"], "image");
    assert_eq!(shown["Mounts"][0]["Name"], format!("{image}:1"));
    assert_eq!(shown["Mounts"][0]["RW"], false);
    let id = t.docker(&format!("image inspect -f '{{{{.Id}}}}' {image}:1")).ok();
    t.docker(&format!("rmi {image}:1")).fails_saying(1, "is using its referenced image");
    t.docker(&format!("rmi -f {id}")).fails_saying(1, "cannot be forced");
    t.docker(&format!("stop -t 1 {container}")).ok();
    assert_eq!(t.docker(&format!("cp {container}:/image/kept -")).stdout.matches("kept").count(), 2);
    t.docker(&format!("rmi -f {id}")).ok();
    t.docker(&format!("start {container}")).ok();
    eventually("the second run has read the image", || (t.logs(&container) == "kept\nkept").then_some(()));
    t.docker(&format!("rm -f {container}")).ok();
}

/// A tar with one small file.
fn archive_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(content.len()).unwrap());
    header.set_mode(0o644);
    header.set_cksum();
    archive.append_data(&mut header, name, content).unwrap();
    archive.into_inner().unwrap()
}

fn create_mountpoint_makes_the_source(t: &Test) {
    t.newer_than_reference(1, 42, "BindOptions.CreateMountpoint");
    let source = t.directory("dir").join("new");
    let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Mounts": [{
        "Type": "bind", "Source": source, "Target": "/x", "BindOptions": {"CreateMountpoint": true},
    }]}});
    let name = t.name("c");
    t.post_json(&format!("/v1.42/containers/create?name={name}"), &body).expect(201);
    t.post(&format!("/containers/{name}/start")).expect(204);
    assert!(source.is_dir());
}
