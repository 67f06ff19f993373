//! Copies of what a stack shows, into a directory beside a witness.

use super::*;
use crate::layers::apply::{Limits, apply};
use crate::layers::archive::{Entry, EntryKind};
use crate::layers::testing::{Seen, dir, entry, file, is_root, link, pack, tree};
use crate::userns::IdMapping;

type Files = Vec<(Entry, Vec<u8>)>;

/// Unpacks layers, lowest first, and copies a path of what they show.
fn copied(layers: &[Files], path: &str) -> (Copied, BTreeMap<String, Seen>) {
    let root = tempfile::tempdir().unwrap();
    let mut lowers = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let place = root.path().join(number.to_string());
        std::fs::create_dir(&place).unwrap();
        apply(&mut pack(layer).as_slice(), &place, Limits::default(), &IdMapping::default()).unwrap();
        lowers.insert(0, place);
    }
    let destination = root.path().join("destination");
    std::fs::create_dir(&destination).unwrap();
    let copied = copy_tree(&lowers, path, &destination).unwrap();
    (copied, tree(&destination))
}

fn names_of(tree: &BTreeMap<String, Seen>) -> Vec<&str> {
    tree.keys().map(String::as_str).collect()
}

#[test]
fn layers_are_seen_as_one() {
    if !is_root("layers_are_seen_as_one") {
        return;
    }
    let lower = vec![dir("data"), file("data/old", "1"), file("data/gone", "1"), file("data/same", "1")];
    let upper = vec![dir("data"), file("data/old", "2"), file("data/.wh.gone", ""), file("data/new", "2")];
    let (outcome, tree) = copied(&[lower, upper], "/data");
    assert_eq!(outcome, Copied::Tree);
    assert_eq!(names_of(&tree), ["new", "old", "same"]);
    assert_eq!(tree["old"].content, b"2");
}

#[test]
fn everything_about_a_file_is_copied() {
    if !is_root("everything_about_a_file_is_copied") {
        return;
    }
    let (plain, data) = file("d/file", "content");
    let xattrs = vec![(b"user.note".to_vec(), b"1".to_vec())];
    let layer = vec![
        dir("d"),
        (Entry { mode: 0o4751, uid: 1000, gid: 50, xattrs, ..plain }, data),
        link(EntryKind::HardLink, "d/twin", "d/file"),
        link(EntryKind::Symlink, "d/link", "/etc/passwd"),
        (entry(EntryKind::Fifo, "d/pipe"), Vec::new()),
        (Entry { device: (1, 3), ..entry(EntryKind::CharDevice, "d/null") }, Vec::new()),
        (Entry { mode: 0o1777, ..entry(EntryKind::Directory, "d/sub") }, Vec::new()),
    ];
    let root = tempfile::tempdir().unwrap();
    apply(&mut pack(&layer).as_slice(), root.path(), Limits::default(), &IdMapping::default()).unwrap();
    let original = tree(&root.path().join("d"));
    assert_eq!(copied(&[layer], "/d").1, original);
    assert_eq!(original["twin"].same_as.as_deref(), Some("file"));
}

#[test]
fn links_on_the_way_are_followed_inside_the_stack() {
    let layer = vec![
        dir("real"),
        file("real/file", "1"),
        dir("a"),
        link(EntryKind::Symlink, "a/up", "../../../real"),
        link(EntryKind::Symlink, "absolute", "/a/up"),
        link(EntryKind::Symlink, "loop", "loop"),
    ];
    for path in ["/a/up", "/absolute", "/a/../real", "real/"] {
        let (outcome, tree) = copied(std::slice::from_ref(&layer), path);
        assert_eq!((outcome, names_of(&tree)), (Copied::Tree, vec!["file"]), "{path}");
    }
    let root = tempfile::tempdir().unwrap();
    apply(&mut pack(&layer).as_slice(), root.path(), Limits::default(), &IdMapping::default()).unwrap();
    let destination = tempfile::tempdir().unwrap();
    assert!(copy_tree(&[root.path().to_owned()], "/loop", destination.path()).is_err());
}

#[test]
fn what_is_no_directory_is_nothing() {
    let layer = vec![file("file", "1"), link(EntryKind::Symlink, "dangling", "nowhere")];
    for path in ["/file", "/missing", "/dangling", "/file/x"] {
        let (outcome, tree) = copied(std::slice::from_ref(&layer), path);
        assert_eq!((outcome, tree.len()), (Copied::Nothing, 0), "{path}");
    }
    assert_eq!(copied(&[], "/").0, Copied::Nothing);
}
