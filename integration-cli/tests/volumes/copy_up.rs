//! An empty volume takes what the image has at its place.

use integration_cli::images::{Image, directory, file, symlink};
use integration_cli::{Test, cases};
use serde_json::{Value, json};

use super::volume;

cases![
    an_empty_volume_takes_content_owner_and_mode_of_the_image,
    copying_happens_at_create,
    a_volume_that_is_not_empty_is_left_alone,
    nocopy_leaves_the_volume_empty,
    a_volume_over_a_missing_directory_takes_nothing,
    an_anonymous_volume_of_the_image_takes_content,
    a_volume_over_a_file_is_refused,
    the_second_container_sees_the_first_ones_files,
];

fn image(t: &Test) -> String {
    image_with(t, &json!({}))
}

fn image_with(t: &Test, config: &Value) -> String {
    let name = t.name("content");
    let layer = vec![
        directory("data", 0o750).owned_by(1001, 50),
        file("data/file", 0o640, "from the image").owned_by(1001, 50),
        directory("data/sub", 0o700),
        file("data/sub/deep", 0o600, "deep"),
        symlink("data/link", "file"),
        file("data/runs", 0o4755, "#!/bin/sh\necho ran\n"),
    ];
    t.load(&[Image::on_busybox(&format!("{name}:latest"), config, &[layer])]);
    name
}

fn an_empty_volume_takes_content_owner_and_mode_of_the_image(t: &Test) {
    let (image, volume) = (image(t), volume(t, ""));
    t.create(&format!("-v {volume}:/data {image} true"));
    let script = "cd /v; stat -c %n:%a:%u:%g . file sub sub/deep runs; readlink link; cat link";
    let shown = t.run(&format!("-v {volume}:/v busybox sh -c '{script}'")).ok();
    assert_eq!(
        shown,
        ".:750:1001:50\nfile:640:1001:50\nsub:700:0:0\nsub/deep:600:0:0\nruns:4755:0:0\nfile\nfrom the image"
    );
}

fn copying_happens_at_create(t: &Test) {
    let (image, volume) = (image(t), volume(t, ""));
    let path =
        t.get(&format!("/volumes/{volume}")).expect(200).json()["Mountpoint"].as_str().unwrap().to_owned();
    assert_eq!(t.host(&format!("ls {path}")).ok(), "");
    t.create(&format!("-v {volume}:/data {image} true"));
    assert_eq!(t.host(&format!("cat {path}/file")).ok(), "from the image");
}

fn a_volume_that_is_not_empty_is_left_alone(t: &Test) {
    let (image, volume) = (image(t), volume(t, ""));
    t.run(&format!("-v {volume}:/x busybox touch /x/mine")).ok();
    assert_eq!(t.run(&format!("-v {volume}:/data {image} ls /data")).ok(), "mine");
}

fn nocopy_leaves_the_volume_empty(t: &Test) {
    let image = image(t);
    assert_eq!(t.run(&format!("-v {}:/data:nocopy {image} ls /data", volume(t, ""))).ok(), "");
    assert_eq!(
        t.run(&format!("--mount src={},dst=/data,volume-nocopy {image} ls /data", volume(t, ""))).ok(),
        ""
    );
}

fn a_volume_over_a_missing_directory_takes_nothing(t: &Test) {
    let volume = volume(t, "");
    let shown =
        t.run(&format!("-v {volume}:/fresh busybox sh -c 'ls -A /fresh; stat -c %a:%u:%g /fresh'")).ok();
    assert_eq!(shown, "755:0:0");
}

fn an_anonymous_volume_of_the_image_takes_content(t: &Test) {
    let image = image_with(t, &json!({"Volumes": {"/data": {}}}));
    let container = t.start(&format!("{image} sh -c 'cat /data/file; echo; exec park'"));
    t.await_log(&container, "from the image");
    let mount = t.inspect(&container)["Mounts"][0].clone();
    assert_eq!((&mount["Type"], &mount["Destination"]), (&json!("volume"), &json!("/data")));
}

fn a_volume_over_a_file_is_refused(t: &Test) {
    let outcome = t.run(&format!("-v {}:/etc/passwd busybox true", volume(t, "")));
    assert_ne!(outcome.code, 0, "{outcome:?}");
}

fn the_second_container_sees_the_first_ones_files(t: &Test) {
    let (image, volume) = (image(t), volume(t, ""));
    let writer = t.start(&format!("-v {volume}:/data {image} sh -c 'echo news > /data/file; exec park'"));
    integration_cli::condition::eventually("it wrote", || {
        (t.shell(&writer, "cat /data/file") == "news").then_some(())
    });
    assert_eq!(t.run(&format!("-v {volume}:/data {image} cat /data/file")).ok(), "news");
}
