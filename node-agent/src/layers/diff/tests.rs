//! Layers out of directories: what is packed unpacks to the same, and nothing is packed that a layer cannot have.

use std::path::PathBuf;

use super::*;
use crate::layers::apply::{Limits, apply};
use crate::layers::archive::ArchiveReader;
use crate::layers::testing::{dir, entry, file, is_root, link, pack, tree};
use crate::userns::{IdMapping, IdRange};

/// A stack whose upper directory is filled with these, on top of an empty base and an empty image.
fn stack(entries: &[(Entry, Vec<u8>)]) -> (tempfile::TempDir, Stack) {
    let root = tempfile::tempdir().unwrap();
    let places: Vec<PathBuf> = ["upper", "base", "image"].map(|name| root.path().join(name)).to_vec();
    for place in &places {
        std::fs::create_dir(place).unwrap();
    }
    let [upper, base, image] = places.try_into().unwrap();
    apply(&mut pack(entries).as_slice(), &upper, Limits::default(), &IdMapping::default()).unwrap();
    let work = root.path().join("work");
    (root, Stack { lowers: vec![base, image], upper, work, ids: IdMapping::default() })
}

fn paths(archive: &[u8]) -> Vec<String> {
    let mut reader = ArchiveReader::new(archive);
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        found.push(entry.display());
    }
    found
}

#[test]
fn a_layer_unpacks_to_the_directory_it_was_made_of_and_is_always_the_same() {
    if !is_root("a_layer_unpacks_to_the_directory_it_was_made_of_and_is_always_the_same") {
        return;
    }
    let (owned, data) = file("d/owned", "content");
    let entries = [
        dir("d"),
        (Entry { mode: 0o2755, uid: 1, gid: 2, ..owned }, data),
        link(EntryKind::HardLink, "d/twin", "d/owned"),
        link(EntryKind::Symlink, "link", "/nowhere"),
        file("d/.wh.gone", ""),
        dir("opaque"),
        file("opaque/.wh..wh..opq", ""),
        (Entry { device: (7, 8), ..entry(EntryKind::BlockDevice, "disk") }, Vec::new()),
    ];
    let (_root, stack) = stack(&entries);
    let layer = write_layer(&stack, Vec::new()).unwrap();
    assert_eq!(write_layer(&stack, Vec::new()).unwrap(), layer);
    let again = tempfile::tempdir().unwrap();
    apply(&mut layer.as_slice(), again.path(), Limits::default(), &IdMapping::default()).unwrap();
    assert_eq!(tree(again.path()), tree(&stack.upper));
    let names = ["d/", "d/.wh.gone", "d/owned", "d/twin", "disk", "link", "opaque/", "opaque/.wh..wh..opq"];
    assert_eq!(paths(&layer), names);
}

#[test]
fn the_root_has_an_entry_only_if_it_differs_from_the_images() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_root, stack) = stack(&[]);
    assert!(paths(&write_layer(&stack, Vec::new()).unwrap()).is_empty());
    std::fs::set_permissions(&stack.upper, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(paths(&write_layer(&stack, Vec::new()).unwrap()), ["./"]);
}

#[test]
fn what_a_layer_cannot_hold_is_left_out() {
    let (_root, stack) = stack(&[file("file", "1")]);
    // The container has made them by itself: they hide nothing.
    std::fs::write(stack.upper.join(".wh.file"), "").unwrap();
    std::fs::write(stack.upper.join(".wh..wh..opq"), "").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(stack.upper.join("socket")).unwrap();
    assert_eq!(paths(&write_layer(&stack, Vec::new()).unwrap()), ["file"]);
}

#[test]
fn an_overlay_that_hides_content_elsewhere_is_refused() {
    if !is_root("an_overlay_that_hides_content_elsewhere_is_refused") {
        return;
    }
    for attribute in REDIRECTS {
        let (_root, stack) = stack(&[dir("moved")]);
        let path = stack.upper.join("moved");
        rustix::fs::setxattr(&path, attribute, b"/other", rustix::fs::XattrFlags::empty()).unwrap();
        assert!(write_layer(&stack, Vec::new()).is_err());
    }
}

#[test]
fn usage_counts_each_file_once_and_not_the_root() {
    let entries = [
        dir("d"),
        file("d/file", "12345"),
        link(EntryKind::HardLink, "d/twin", "d/file"),
        link(EntryKind::Symlink, "link", "abc"),
    ];
    let (_root, stack) = stack(&entries);
    assert_eq!(usage(&stack.upper).unwrap(), Usage { bytes: 8, inodes: 3 });
    assert_eq!(usage(&stack.lowers[0]).unwrap(), Usage::default());
}

#[test]
fn owners_are_the_hosts_on_disk_and_the_images_in_archives() {
    use std::os::unix::fs::MetadataExt as _;
    if !is_root("owners_are_the_hosts_on_disk_and_the_images_in_archives") {
        return;
    }
    let range = |outside| vec![IdRange { inside: 0, outside, length: 100 }];
    let ids = IdMapping::new(range(300_000), range(400_000));
    let (owned, data) = file("implied/owned", "content");
    // CAP_NET_RAW, permitted and effective (linux/capability.h, revision 2).
    let capability = [&[1, 0, 0, 2, 0, 0x20][..], &[0; 14]].concat();
    let xattrs = vec![(b"security.capability".to_vec(), capability)];
    let entry = Entry { uid: 7, gid: 8, xattrs, ..owned };
    let root = tempfile::tempdir().unwrap();
    let upper = root.path().to_owned();
    let unpack = |entry: &Entry| {
        apply(&mut pack(&[(entry.clone(), data.clone())]).as_slice(), &upper, Limits::default(), &ids)
    };
    unpack(&entry).unwrap();
    let owner = |path: &str| {
        let found = std::fs::symlink_metadata(upper.join(path)).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!((owner("implied"), owner("implied/owned")), ((300_000, 400_000), (300_007, 400_008)));
    let stack = Stack { lowers: Vec::new(), upper: upper.clone(), work: PathBuf::new(), ids: ids.clone() };
    let archive = write_layer(&stack, Vec::new()).unwrap();
    let mut reader = ArchiveReader::new(archive.as_slice());
    let mut packed = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        packed.push((entry.uid, entry.gid, entry.xattrs));
    }
    assert_eq!(packed, [(0, 0, Vec::new()), (7, 8, entry.xattrs.clone())]);
    let error = unpack(&Entry { uid: 100, ..entry }).unwrap_err();
    assert!(error.to_string().contains("cannot be mapped to a host ID"), "{error}");
}
