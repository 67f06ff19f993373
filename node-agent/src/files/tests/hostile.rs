//! What hostile archives and hostile containers try: to reach the outside, and to make the engine open what acts.
//!
//! Start reading at the first test. Every race has a thread that exchanges a directory for a link as fast as it can, until
//! the other side has done its work many times.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};

use super::*;
use crate::layers::archive::EntryKind;
use crate::layers::testing::{self, file, link};
use crate::userns::IdMapping;

const ROUNDS: usize = 300;

/// Does something again and again while `dir/victim` is now a directory and now a link to the outside.
fn while_exchanged(place: &Place, work: impl Fn()) {
    let (victim, other) = (place.inside("dir/victim"), place.inside("dir/other"));
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let is_link = |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_symlink());
                if !is_link(&victim) && !is_link(&other) {
                    // At the start, and when the other side has replaced the link.
                    let _ = fs::create_dir(&victim);
                    let _ = fs::remove_dir_all(&other);
                    let _ = symlink(place.outside(), &other);
                }
                let _ = rustix::fs::renameat_with(CWD, &victim, CWD, &other, RenameFlags::EXCHANGE);
            }
        });
        for _ in 0..ROUNDS {
            work();
        }
        is_done.store(true, Ordering::Relaxed);
    });
    place.assert_outside_is_untouched();
}

#[test]
fn unpacking_never_follows_a_link_to_the_outside_even_if_it_appears_meanwhile() {
    let below = [
        file("victim/secret", "overwritten"),
        testing::dir("victim/new"),
        link(EntryKind::HardLink, "victim/hard", "victim/secret"),
    ];
    let whole: Vec<_> = std::iter::once(testing::dir("victim")).chain(below.iter().cloned()).collect();
    let flat = [file("secret", "overwritten"), testing::dir("new"), file("new/file", "x")];
    for (directory, entries) in [("/dir", &below[..]), ("/dir", &whole), ("/dir/victim", &flat)] {
        let place = Place::new();
        let archive = testing::pack(entries);
        // Whether a round succeeds depends on the moment.
        while_exchanged(&place, || drop(place.unpack(directory, &archive)));
    }
}

#[test]
fn packing_never_reads_the_outside() {
    let place = Place::new();
    while_exchanged(&place, || {
        let root = place.root();
        for path in ["/dir", "/dir/victim", "/dir/victim/", "/dir/victim/secret"] {
            let wanted = Wanted::parse(path);
            let Ok(found) = stat::find(&root, &wanted) else { continue };
            let Ok(top) = Top::of(&root, &wanted, &found) else { continue };
            let mut bytes = Vec::new();
            // An entry that vanishes at the top is an error.
            let _ = pack(&top, &IdMapping::default(), &mut bytes);
            assert!(!bytes.windows(6).any(|window| window == b"secret"), "{path}");
        }
    });
}

#[test]
fn links_of_the_archive_lead_to_the_inside() {
    let place = Place::new();
    let outside = place.outside();
    let outside = outside.to_str().unwrap();
    let dots = "../".repeat(20);
    for target in [outside, &format!("{dots}{outside}"), "/proc/self/root"] {
        let archive =
            testing::pack(&[link(EntryKind::Symlink, "evil", target), file("evil/secret", "overwritten")]);
        let _ = place.unpack("/dir", &archive);
    }
    place.assert_outside_is_untouched();
    // An absolute link leads to the container's own root.
    let archive = testing::pack(&[link(EntryKind::Symlink, "etc", "/etc"), file("etc/new", "x")]);
    place.unpack("/dir", &archive).unwrap();
    assert_eq!(fs::read_to_string(place.inside("etc/new")).unwrap(), "x");
}

#[test]
fn names_and_hard_links_that_lead_out_are_refused() {
    let place = Place::new();
    for archive in [
        testing::pack(&[file("../x", "x")]),
        testing::pack(&[file("a/../../../x", "x")]),
        testing::pack(&[link(EntryKind::HardLink, "x", "../../outside/secret")]),
        testing::pack(&[link(EntryKind::HardLink, "x", place.outside().join("secret").to_str().unwrap())]),
        testing::pack(&[link(EntryKind::HardLink, "x", "x")]),
        testing::pack(&[link(EntryKind::HardLink, "x", "dir")]),
    ] {
        assert!(place.unpack("/dir", &archive).is_err());
    }
    assert_eq!(fs::read_dir(place.inside("")).unwrap().count(), 1, "only dir");
    place.assert_outside_is_untouched();
    // An absolute name is taken from the directory, as in Docker.
    place.unpack("/dir", &testing::pack(&[file("/abs", "x")])).unwrap();
    assert!(place.inside("dir/abs").is_file() && !Path::new("/abs").exists());
}

#[test]
fn what_stands_in_the_way_is_replaced_and_never_opened() {
    if !testing::is_root("making devices") {
        return;
    }
    let place = Place::new();
    let dir = fs::File::open(place.inside("dir")).unwrap();
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(&dir, "fifo", rustix::fs::FileType::Fifo, mode, 0).unwrap();
    symlink(place.outside().join("secret"), place.inside("dir/link")).unwrap();
    let archive = testing::pack(&[file("fifo", "x"), file("link", "x")]);
    place.unpack("/dir", &archive).unwrap();
    for name in ["dir/fifo", "dir/link"] {
        assert!(place.inside(name).symlink_metadata().unwrap().is_file(), "{name}");
    }
    place.assert_outside_is_untouched();
}

#[test]
fn a_file_that_shrinks_while_it_is_packed_leaves_the_archive_whole() {
    let place = Place::new();
    let path = place.inside("dir/log");
    fs::write(&path, vec![b'x'; 4 << 20]).unwrap();
    fs::write(place.inside("dir/next"), "next").unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            while !is_done.load(Ordering::Relaxed) {
                file.set_len(0).unwrap();
                file.set_len(4 << 20).unwrap();
            }
        });
        for _ in 0..20 {
            let entries = place.pack("/dir");
            assert_eq!(names(&entries), ["dir/", "dir/log", "dir/next"]);
            assert_eq!(entries[2].1, b"next");
        }
        is_done.store(true, Ordering::Relaxed);
    });
}
