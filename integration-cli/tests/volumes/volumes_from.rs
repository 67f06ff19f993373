//! `--volumes-from`.

use integration_cli::{Test, cases};
use serde_json::json;

cases![
    binds_and_volumes_of_another_container_come_along,
    a_mode_may_make_them_read_only,
    own_mounts_take_precedence,
    a_missing_container_is_refused,
    the_volume_stays_when_its_first_container_goes,
];

fn binds_and_volumes_of_another_container_come_along(t: &Test) {
    let (directory, volume) = (t.directory("dir"), t.name("vol"));
    std::fs::write(directory.join("file"), "bound").unwrap();
    let first = t.start(&format!(
        "-v {}:/bound:ro -v {volume}:/data -v /anon --tmpfs /scratch busybox park",
        directory.display()
    ));
    t.shell(&first, "echo shared > /data/file; echo anon > /anon/file");
    let second = t.start(&format!("--volumes-from {first} busybox park"));
    assert_eq!(t.shell(&second, "cat /bound/file; echo; cat /data/file /anon/file"), "bound\nshared\nanon");
    // A tmpfs is a container's own, and what was read-only stays so.
    assert_eq!(t.shell(&second, "test -d /scratch || echo none"), "none");
    assert_ne!(t.exec(&second, "touch /bound/x").code, 0);
    assert_eq!(t.inspect(&second)["HostConfig"]["VolumesFrom"], json!([first.name]));
}

fn a_mode_may_make_them_read_only(t: &Test) {
    let first = t.start("-v /data busybox park");
    let reader = t.start(&format!("--volumes-from {first}:ro busybox park"));
    assert_ne!(t.exec(&reader, "touch /data/x").code, 0);
    let writer = t.start(&format!("--volumes-from {first}:rw busybox park"));
    assert_eq!(t.exec(&writer, "touch /data/x").code, 0);
    assert_eq!(t.run(&format!("--volumes-from {first}:banana busybox true")).code, 125);
}

fn own_mounts_take_precedence(t: &Test) {
    let (first_volume, own_volume) = (t.name("vol"), t.name("vol"));
    let first = t.create(&format!("-v {first_volume}:/data busybox true"));
    let second = t.create(&format!("--volumes-from {first} -v {own_volume}:/data busybox true"));
    let mounts = t.inspect(&second)["Mounts"].clone();
    assert_eq!(mounts.as_array().unwrap().len(), 1);
    assert_eq!(mounts[0]["Name"], own_volume.as_str());
}

fn a_missing_container_is_refused(t: &Test) {
    let outcome = t.run("--volumes-from no-such-container busybox true");
    assert!(outcome.code == 125 && outcome.stderr.contains("no-such-container"), "{outcome:?}");
}

fn the_volume_stays_when_its_first_container_goes(t: &Test) {
    let first = t.start("-v /data busybox park");
    t.shell(&first, "echo kept > /data/file");
    let second = t.start(&format!("--volumes-from {first} busybox park"));
    t.docker(&format!("rm -f -v {first}")).ok();
    assert_eq!(t.shell(&second, "cat /data/file"), "kept");
}
