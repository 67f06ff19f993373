//! `docker diff` as tables: two layers, what is on top of them, what is listed.

use super::*;
use crate::layers::apply::{Limits, apply};
use crate::layers::archive::{Entry, Time};
use crate::layers::testing::{dir, file, is_root, pack};
use crate::userns::IdMapping;

type Files = Vec<(Entry, Vec<u8>)>;

/// Directories that were unpacked from these layers, topmost last.
fn stack(layers: &[Files]) -> (tempfile::TempDir, Stack) {
    let root = tempfile::tempdir().unwrap();
    let mut places = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let place = root.path().join(number.to_string());
        std::fs::create_dir(&place).unwrap();
        apply(&mut pack(layer).as_slice(), &place, Limits::default(), &IdMapping::default()).unwrap();
        places.push(place);
    }
    let upper = places.pop().unwrap();
    places.reverse();
    let work = root.path().join("work");
    (root, Stack { lowers: places, upper, work, ids: IdMapping::default() })
}

fn listed(layers: &[Files], hidden: &[&str]) -> Vec<String> {
    let (_root, stack) = stack(layers);
    let hidden: Vec<PathBuf> = hidden.iter().map(PathBuf::from).collect();
    let letter = |kind| match kind {
        ChangeKind::Modified => 'C',
        ChangeKind::Added => 'A',
        ChangeKind::Deleted => 'D',
    };
    let changes = changes(&stack, &hidden).unwrap();
    changes.iter().map(|change| format!("{} {}", letter(change.kind), change.path)).collect()
}

fn image() -> Files {
    vec![dir("etc"), file("etc/a", "1"), file("etc/b", "1"), dir("var"), dir("var/x"), file("var/x/y", "1")]
}

#[test]
fn an_untouched_container_has_no_changes() {
    assert!(listed(&[image(), Vec::new()], &[]).is_empty());
}

#[test]
fn a_directory_that_was_only_copied_up_is_no_change() {
    assert!(listed(&[image(), vec![dir("etc")]], &[]).is_empty());
}

#[test]
fn new_changed_and_removed_files_are_listed_below_their_directories() {
    if !is_root("new_changed_and_removed_files_are_listed_below_their_directories") {
        return;
    }
    let top = vec![
        dir("etc"),
        file("etc/a", "2"),
        file("etc/.wh.b", ""),
        dir("new"),
        file("new/file", ""),
        file("etc/.wh.never-there", ""),
    ];
    let expected = ["C /etc", "C /etc/a", "D /etc/b", "A /new", "A /new/file"];
    assert_eq!(listed(&[image(), top], &[]), expected);
}

#[test]
fn a_directory_with_other_attributes_is_a_change() {
    let (entry, data) = dir("var");
    let later = Time { seconds: entry.mtime.seconds + 1, nanoseconds: 0 };
    let changed = [Entry { mode: 0o700, ..entry.clone() }, Entry { mtime: later, ..entry }];
    for entry in changed {
        assert_eq!(listed(&[image(), vec![(entry, data.clone())]], &[]), ["C /var"]);
    }
}

#[test]
fn of_a_directory_that_was_removed_and_made_again_the_old_content_is_deleted() {
    if !is_root("of_a_directory_that_was_removed_and_made_again_the_old_content_is_deleted") {
        return;
    }
    let top = vec![dir("etc"), file("etc/.wh..wh..opq", ""), file("etc/b", "2"), file("etc/c", "3")];
    assert_eq!(listed(&[image(), top], &[]), ["C /etc", "D /etc/a", "C /etc/b", "A /etc/c"]);
}

#[test]
fn what_an_upper_layer_of_the_image_hides_was_not_there() {
    if !is_root("what_an_upper_layer_of_the_image_hides_was_not_there") {
        return;
    }
    let middle = vec![dir("etc"), file("etc/.wh.a", "")];
    let top = vec![dir("etc"), file("etc/a", "2")];
    assert_eq!(listed(&[image(), middle, top], &[]), ["C /etc", "A /etc/a"]);
}

#[test]
fn hidden_paths_are_left_out_with_everything_below() {
    let top = vec![dir("var"), dir("var/x"), file("var/x/y", "2"), file("etc-like", "")];
    assert_eq!(listed(&[image(), top], &["/var/x", "/etc"]), ["A /etc-like"]);
}
