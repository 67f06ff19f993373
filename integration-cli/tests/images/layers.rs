//! What layers may hold besides files and directories, and how many of them there may be.

use integration_cli::images::{Image, directory, file, tar_of};
use integration_cli::{Container, Test, cases};
use serde_json::json;
use tar::{Builder, EntryType, Header};

cases![
    hard_links_are_kept,
    device_nodes_and_pipes_are_made,
    long_paths_are_kept,
    extended_attributes_are_kept,
    modes_and_owners_are_kept,
    a_hundred_layers_are_stacked,
    an_upper_layer_may_replace_a_directory_by_a_link,
];

/// Writes a layer by hand, for entries the simple form does not have.
fn layer(write: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    write(&mut builder);
    builder.into_inner().unwrap()
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size as u64);
    header
}

/// A running container of busybox with these layers on top.
fn start(t: &Test, layers: Vec<Vec<u8>>) -> Container {
    let name = t.name("layers");
    let mut image = Image::on_busybox(&format!("{name}:latest"), &json!({}), &[]);
    image.layers.extend(layers);
    t.load(&[image]);
    t.start(&format!("{name} park"))
}

fn hard_links_are_kept(t: &Test) {
    let linked = layer(|tar| {
        tar.append_data(&mut header(EntryType::Regular, 0o644, 3), "original", &b"one"[..]).unwrap();
        tar.append_link(&mut header(EntryType::Link, 0o644, 0), "linked", "original").unwrap();
    });
    let container = start(t, vec![linked]);
    // Whether a write through one name is seen through the other is the file system's business, not the archive's.
    assert_eq!(t.shell(&container, "stat -c %h /original /linked; cat /linked"), "2\n2\none");
}

fn device_nodes_and_pipes_are_made(t: &Test) {
    let nodes = layer(|tar| {
        let mut null = header(EntryType::Char, 0o666, 0);
        null.set_device_major(1).unwrap();
        null.set_device_minor(3).unwrap();
        tar.append_data(&mut null, "my-null", &b""[..]).unwrap();
        tar.append_data(&mut header(EntryType::Fifo, 0o600, 0), "my-pipe", &b""[..]).unwrap();
    });
    let container = start(t, vec![nodes]);
    let shown =
        t.shell(&container, "stat -c '%F %t:%T %a' /my-null; stat -c '%F %a' /my-pipe; echo x > /my-null");
    assert_eq!(shown, "character special file 1:3 666\nfifo 600");
}

fn long_paths_are_kept(t: &Test) {
    let deep: String = (0..30).map(|number| format!("directory-number-{number:02}/")).collect();
    let long = format!("{}{}", deep, "f".repeat(200));
    let container = start(t, vec![tar_of(&[file(&long, 0o644, "deep down")])]);
    assert_eq!(t.shell(&container, &format!("cat /{long}")), "deep down");
}

fn extended_attributes_are_kept(t: &Test) {
    // CAP_NET_RAW, permitted and effective, in the kernel's second form.
    let capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let attributes = layer(|tar| {
        let extensions: [(&str, &[u8]); 2] =
            [("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.user.colour", b"red")];
        tar.append_pax_extensions(extensions).unwrap();
        tar.append_data(&mut header(EntryType::Regular, 0o755, 3), "capable", &b"one"[..]).unwrap();
    });
    let container = start(t, vec![attributes]);
    let pid = t.inspect(&container)["State"]["Pid"].to_string();
    let path = format!("/proc/{pid}/root/capable");
    let read = |name: &str| {
        let mut value = [0u8; 64];
        let length =
            rustix::fs::getxattr(&path, name, &mut value).unwrap_or_else(|error| panic!("{name}: {error}"));
        value[..length].to_vec()
    };
    assert_eq!(read("security.capability"), capability);
    if t.api_at_least(1, 42) {
        // The reference keeps only the attribute that carries capabilities.
        assert_eq!(read("user.colour"), b"red");
    }
}

fn modes_and_owners_are_kept(t: &Test) {
    let entries = [
        file("plain", 0o640, "x").owned_by(12, 34),
        file("set-ids", 0o6755, "x"),
        directory("sticky", 0o1777),
        file("great-owner", 0o600, "x").owned_by(2_000_000, 3_000_000),
    ];
    let container = start(t, vec![tar_of(&entries)]);
    let shown = t.shell(&container, "cd /; stat -c '%n %a %u:%g %Y' plain set-ids sticky great-owner");
    assert_eq!(
        shown,
        "plain 640 12:34 1700000000\nset-ids 6755 0:0 1700000000\nsticky 1777 0:0 1700000000\n\
         great-owner 600 2000000:3000000 1700000000"
    );
}

fn a_hundred_layers_are_stacked(t: &Test) {
    let layers = (0..100).map(|number| {
        tar_of(&[
            file(&format!("f{number}"), 0o644, format!("{number}\n")),
            file("last", 0o644, format!("{number}\n")),
        ])
    });
    let container = start(t, layers.collect());
    assert_eq!(t.shell(&container, "ls / | grep -c ^f; cat /last /f0 /f99"), "100\n99\n0\n99");
}

fn an_upper_layer_may_replace_a_directory_by_a_link(t: &Test) {
    use integration_cli::images::symlink;
    let lower =
        tar_of(&[directory("place", 0o755), file("place/old", 0o644, "old"), directory("other", 0o755)]);
    let upper = tar_of(&[symlink("place", "other"), file("other/new", 0o644, "new")]);
    let container = start(t, vec![lower, upper]);
    assert_eq!(t.shell(&container, "readlink /place; ls /place"), "other\nnew");
}
