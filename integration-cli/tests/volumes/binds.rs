//! `-v`: directories and files of the machine, and volumes by name.

use integration_cli::{Test, cases};
use serde_json::json;

cases![
    a_directory_is_shared_both_ways,
    a_read_only_bind_cannot_be_written,
    a_missing_directory_is_made,
    a_file_may_be_bound,
    the_owner_and_content_of_a_bind_stay,
    a_bind_inside_a_volume_and_a_volume_inside_a_bind,
    the_target_is_made_in_the_container,
    binds_are_shown_by_inspect,
    named_volumes_are_made_on_demand,
    a_destination_alone_is_an_anonymous_volume,
    a_bind_over_an_image_directory_hides_it,
    symlinks_of_the_image_do_not_lead_out,
    the_socket_of_the_daemon_may_be_bound,
];

fn a_directory_is_shared_both_ways(t: &Test) {
    let directory = t.directory("dir");
    std::fs::write(directory.join("from-machine"), "hello").unwrap();
    let container = t.start(&format!("-v {}:/shared busybox park", directory.display()));
    assert_eq!(t.shell(&container, "cat /shared/from-machine; echo there > /shared/from-container"), "hello");
    assert_eq!(std::fs::read_to_string(directory.join("from-container")).unwrap(), "there\n");
    std::fs::write(directory.join("later"), "news").unwrap();
    assert_eq!(t.shell(&container, "cat /shared/later"), "news");
}

fn a_read_only_bind_cannot_be_written(t: &Test) {
    let directory = t.directory("dir");
    let outcome = t.run(&format!("-v {}:/shared:ro busybox touch /shared/x", directory.display()));
    assert!(outcome.code != 0 && outcome.stderr.contains("Read-only file system"), "{outcome:?}");
    let outcome =
        t.run(&format!("-v {}:/shared:ro busybox mount -o remount,rw /shared", directory.display()));
    assert_ne!(outcome.code, 0);
}

fn a_missing_directory_is_made(t: &Test) {
    let directory = t.directory("dir").join("not/there");
    t.run(&format!("-v {}:/shared busybox touch /shared/x", directory.display())).ok();
    assert!(directory.join("x").exists());
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let made = std::fs::metadata(&directory).unwrap();
    assert_eq!((made.permissions().mode() & 0o777, made.uid()), (0o755, 0));
}

fn a_file_may_be_bound(t: &Test) {
    let file = t.directory("dir").join("motd");
    std::fs::write(&file, "welcome\n").unwrap();
    let shown = t
        .run(&format!(
            "-v {}:/etc/motd busybox sh -c 'cat /etc/motd; echo changed > /etc/motd'",
            file.display()
        ))
        .ok();
    assert_eq!(shown, "welcome");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "changed\n");
}

fn the_owner_and_content_of_a_bind_stay(t: &Test) {
    let directory = t.directory("dir");
    std::os::unix::fs::chown(&directory, Some(1234), Some(5678)).unwrap();
    // /home/alice has an owner and the image's content would be copied into a volume; a bind is left alone.
    let shown = t
        .run(&format!(
            "-v {}:/etc busybox sh -c '/bin/busybox stat -c %u:%g /etc; /bin/busybox ls /etc'",
            directory.display()
        ))
        .ok();
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some("1234:5678"));
    // The three files every container gets, and nothing of the image.
    let files: Vec<&str> = lines.collect();
    assert!(
        files.iter().all(|file| ["hostname", "hosts", "mtab", "resolv.conf"].contains(file)),
        "{files:?}"
    );
}

fn a_bind_inside_a_volume_and_a_volume_inside_a_bind(t: &Test) {
    let (directory, volume) = (t.directory("dir"), t.name("vol"));
    std::fs::create_dir(directory.join("inner")).unwrap();
    std::fs::write(directory.join("file"), "bound").unwrap();
    let shown = t.run(&format!(
        "-v {volume}:/a -v {0}:/a/b -v {0}:/c -v {volume}:/c/inner busybox sh -c 'cat /a/b/file; echo; echo x > /a/mark; ls /c/inner'",
        directory.display()
    ));
    assert_eq!(shown.ok(), "bound\nb\nmark");
}

fn the_target_is_made_in_the_container(t: &Test) {
    let directory = t.directory("dir");
    let shown =
        t.run(&format!("-v {}:/deep/ly/nested busybox stat -c %a:%u /deep/ly", directory.display())).ok();
    assert_eq!(shown, "755:0");
}

fn binds_are_shown_by_inspect(t: &Test) {
    let (directory, volume) = (t.directory("dir"), t.name("vol"));
    let container = t.create(&format!("-v {}:/bound:ro -v {volume}:/data busybox true", directory.display()));
    let inspected = t.inspect(&container);
    // The client sends them in any order.
    let mut binds: Vec<&str> = inspected["HostConfig"]["Binds"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|bind| bind.as_str())
        .collect();
    binds.sort_unstable();
    assert_eq!(binds, [format!("{}:/bound:ro", directory.display()), format!("{volume}:/data")]);
    let mut mounts = inspected["Mounts"].as_array().unwrap().clone();
    mounts.sort_by_key(|mount| mount["Destination"].to_string());
    assert_eq!(
        mounts[0],
        json!({
            "Type": "bind", "Source": directory, "Destination": "/bound", "Mode": "ro", "RW": false, "Propagation": "rprivate",
        })
    );
    let source = t.get(&format!("/volumes/{volume}")).expect(200).json()["Mountpoint"].clone();
    assert_eq!(
        mounts[1],
        json!({
            "Type": "volume", "Name": volume, "Source": source, "Destination": "/data", "Driver": "local",
            "Mode": "z", "RW": true, "Propagation": "",
        })
    );
}

fn named_volumes_are_made_on_demand(t: &Test) {
    let volume = t.name("vol");
    t.get(&format!("/volumes/{volume}")).expect(404);
    t.create(&format!("-v {volume}:/data busybox true"));
    // At create, not at start.
    assert_eq!(t.get(&format!("/volumes/{volume}")).expect(200).json()["Labels"], serde_json::Value::Null);
}

fn a_destination_alone_is_an_anonymous_volume(t: &Test) {
    let container = t.create("-v /data busybox true");
    let inspected = t.inspect(&container);
    assert_eq!(inspected["HostConfig"]["Binds"], serde_json::Value::Null);
    assert_eq!(inspected["Config"]["Volumes"], json!({"/data": {}}));
    let mount = &inspected["Mounts"][0];
    assert_eq!(
        (&mount["Type"], &mount["Destination"], &mount["RW"]),
        (&json!("volume"), &json!("/data"), &json!(true))
    );
    assert_eq!(mount["Name"].as_str().unwrap().len(), 64);
}

fn a_bind_over_an_image_directory_hides_it(t: &Test) {
    let directory = t.directory("dir");
    assert_eq!(t.run(&format!("-v {}:/home busybox ls -A /home", directory.display())).ok(), "");
    // What the image has there is not copied to the machine.
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

fn symlinks_of_the_image_do_not_lead_out(t: &Test) {
    use integration_cli::images::{Image, symlink};
    let (image, outside) = (t.name("links"), t.directory("outside"));
    let link = vec![symlink("data", outside.to_str().unwrap()), symlink("up", "../../../../../../../..")];
    t.load(&[Image::on_busybox(&format!("{image}:latest"), &json!({}), &[link])]);
    let directory = t.directory("dir");
    std::fs::write(directory.join("mark"), "x").unwrap();
    // The link means a path inside the container, whatever lies there on the machine.
    let shown =
        t.run(&format!("-v {}:/data {image} sh -c 'ls /data; touch /data/new'", directory.display())).ok();
    assert_eq!(shown, "mark");
    assert_eq!(
        std::fs::read_dir(&outside).unwrap().count(),
        0,
        "the machine's directory was reached through the link"
    );
    assert!(directory.join("new").exists());
    let shown = t.run(&format!("-v {}:/up/bound {image} ls /bound", directory.display())).ok();
    assert!(shown.contains("mark"), "{shown}");
}

fn the_socket_of_the_daemon_may_be_bound(t: &Test) {
    let socket = t.daemon().socket().to_owned();
    let container = t.start(&format!("-v {}:/var/run/docker.sock busybox park", socket.display()));
    assert_eq!(t.shell(&container, "test -S /var/run/docker.sock && echo socket"), "socket");
}
