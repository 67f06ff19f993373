//! Layers applied to a directory beside a witness: every attribute set, every hostile entry refused, nothing outside touched.

use std::path::PathBuf;

use super::*;
use crate::layers::archive::Time;
use crate::layers::testing::{Seen, dir, entry, file, is_root, link, pack, tree};
use crate::layers::{Stack, diff};
use crate::userns::IdMapping;

type Tree = BTreeMap<String, Seen>;
type Files = Vec<(Entry, Vec<u8>)>;

/// A directory with a witness beside the stage: nothing outside the stage may ever change.
struct Yard {
    dir: tempfile::TempDir,
}

impl Yard {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("stage")).unwrap();
        std::fs::write(dir.path().join("witness"), "untouched").unwrap();
        Self { dir }
    }

    fn stage(&self) -> PathBuf {
        self.dir.path().join("stage")
    }

    fn apply_bytes(&self, archive: &[u8], limits: Limits) -> Result<Applied, LayerError> {
        let mut archive = archive;
        let applied = apply(&mut archive, &self.stage(), limits, &IdMapping::default());
        let outside: Vec<String> = tree(self.dir.path())
            .into_iter()
            .filter(|(path, _)| path != "stage" && !path.starts_with("stage/"))
            .map(|(path, seen)| format!("{path} {:o} {:?}", seen.entry.mode, seen.content))
            .collect();
        assert_eq!(outside, [format!("witness 644 {:?}", b"untouched")]);
        applied
    }

    fn apply(&self, entries: &[(Entry, Vec<u8>)]) -> Result<Applied, LayerError> {
        self.apply_bytes(&pack(entries), Limits::default())
    }
}

/// Applies and looks; checks that the running sums are right.
fn applied(entries: &[(Entry, Vec<u8>)]) -> (Tree, Applied) {
    let yard = Yard::new();
    let applied = yard.apply(entries).unwrap();
    assert_eq!(applied.usage, diff::usage(&yard.stage()).unwrap());
    (tree(&yard.stage()), applied)
}

fn refusal(entries: &[(Entry, Vec<u8>)]) -> String {
    let yard = Yard::new();
    let error = yard.apply(entries).unwrap_err();
    crate::error::ErrorChain(&error).to_string()
}

#[test]
fn everything_that_an_archive_says_of_a_file_is_set() {
    if !is_root("everything_that_an_archive_says_of_a_file_is_set") {
        return;
    }
    let mtime = Time { seconds: 1_600_000_000, nanoseconds: 123_456_789 };
    let full = |kind, path: &str, mode| Entry { mode, uid: 1000, gid: 50, mtime, ..entry(kind, path) };
    let cap = (b"security.capability".to_vec(), b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec());
    let user = (b"user.note".to_vec(), b"line\nline".to_vec());
    let entries = [
        (Entry { xattrs: vec![user.clone()], ..full(EntryKind::Directory, "d", 0o1777) }, Vec::new()),
        (Entry { size: 3, xattrs: vec![cap, user], ..full(EntryKind::File, "d/f", 0o4755) }, b"abc".to_vec()),
        (full(EntryKind::Fifo, "d/p", 0o622), Vec::new()),
        (Entry { device: (1, 3), ..full(EntryKind::CharDevice, "d/null", 0o666) }, Vec::new()),
        (Entry { device: (7, 300), ..full(EntryKind::BlockDevice, "d/loop", 0o660) }, Vec::new()),
        (Entry { link: b"/nowhere/at/all".to_vec(), ..full(EntryKind::Symlink, "d/s", 0o777) }, Vec::new()),
        (full(EntryKind::Directory, "sgid", 0o2755), Vec::new()),
        (entry(EntryKind::Directory, "sgid/plain"), Vec::new()),
        file("sgid/plain/f", ""),
        file("sgid/g", ""),
    ];
    let (tree, _) = applied(&entries);
    for (wanted, data) in &entries {
        let seen = &tree[std::str::from_utf8(&wanted.path).unwrap()];
        assert_eq!(&seen.entry, wanted);
        assert_eq!(&seen.content, data);
    }
}

#[test]
fn hard_links_share_an_inode_even_before_and_through_directories() {
    let entries = [
        file("a/one", "x"),
        link(EntryKind::HardLink, "b/two", "a/one"),
        link(EntryKind::HardLink, "three", "./a/../a/one".trim_start_matches("./a/../")),
    ];
    let (tree, applied) = applied(&entries);
    assert_eq!(tree["three"].same_as.as_deref(), Some("a/one"));
    assert_eq!(tree["b/two"].same_as.as_deref(), Some("a/one"));
    assert_eq!(applied.usage, Usage { bytes: 1, inodes: 3 });
}

#[test]
fn directories_that_are_only_implied_are_reported() {
    let (tree, applied) = applied(&[file("a/b/f", ""), dir("a/c"), dir("a")]);
    assert_eq!(applied.implied, BTreeSet::from([b"".to_vec(), b"a/b".to_vec()]));
    assert_eq!(tree["a"].entry.mtime.seconds, 1_700_000_000);
}

#[test]
fn directories_keep_the_archives_time_although_files_are_added_later() {
    let (tree, _) =
        applied(&[dir("d"), dir("d/e"), file("d/e/x", "1"), file("d/y", "2"), file("d/e/z", "3")]);
    assert_eq!(tree["d"].entry.mtime.seconds, 1_700_000_000);
    assert_eq!(tree["d/e"].entry.mtime.seconds, 1_700_000_000);
}

#[test]
fn whiteouts_take_overlayfs_form() {
    if !is_root("whiteouts_take_overlayfs_form") {
        return;
    }
    let (tree, _) = applied(&[
        file("etc/.wh.gone", ""),
        dir("opaque"),
        file("opaque/.wh..wh..opq", ""),
        file("opaque/kept", ""),
        (Entry { device: (0, 0), ..entry(EntryKind::CharDevice, "raw") }, Vec::new()),
    ]);
    assert!(tree["etc/gone"].is_whiteout && tree["raw"].is_whiteout);
    assert!(tree["opaque"].is_opaque && !tree["opaque/kept"].is_whiteout);
}

#[test]
fn a_whiteout_never_hides_what_its_own_layer_brings() {
    if !is_root("a_whiteout_never_hides_what_its_own_layer_brings") {
        return;
    }
    let (tree, _) = applied(&[
        file("a", "new"),
        file(".wh.a", ""),
        file(".wh.b", ""),
        file("b", "new"),
        dir("c"),
        file(".wh.c", ""),
        file(".wh.d", ""),
        dir("d"),
        file(".wh.e", ""),
        file("e/below", "new"),
    ]);
    assert_eq!((&tree["a"].content[..], &tree["b"].content[..]), (&b"new"[..], &b"new"[..]));
    assert!(tree["c"].is_opaque && tree["d"].is_opaque && tree["e"].is_opaque);
    assert!(!tree.contains_key(".wh.a"));
}

#[test]
fn later_entries_replace_earlier_ones() {
    let (tree, _) = applied(&[
        file("f", "first"),
        file("f", "second"),
        dir("d"),
        file("d/x", "1"),
        file("d", "a file now"),
        file("g", "a directory soon"),
        dir("g"),
        file("g/y", "2"),
        dir("keep"),
        file("keep/z", "3"),
        (Entry { mode: 0o700, ..entry(EntryKind::Directory, "keep") }, Vec::new()),
        link(EntryKind::Symlink, "s", "f"),
        file("s", "no link any more"),
    ]);
    let contents: Vec<(&str, &[u8])> =
        tree.iter().map(|(path, seen)| (path.as_str(), &seen.content[..])).collect();
    let expected: [(&str, &[u8]); 8] = [
        ("d", b"a file now"),
        ("f", b"second"),
        ("g", b""),
        ("g/y", b"2"),
        ("keep", b""),
        ("keep/z", b"3"),
        ("s", b"no link any more"),
        ("z", b""),
    ];
    assert_eq!(contents, expected[..7]);
    assert_eq!(tree["keep"].entry.mode, 0o700);
}

#[test]
fn links_that_the_archive_made_are_followed_inside_the_layer() {
    let (tree, _) = applied(&[
        dir("usr"),
        dir("usr/lib"),
        link(EntryKind::Symlink, "lib", "usr/lib"),
        file("lib/x.so", "in usr/lib"),
        link(EntryKind::Symlink, "abs", "/usr"),
        file("abs/y", "in usr"),
        link(EntryKind::Symlink, "up", "../../../.."),
        file("up/z", "in the root"),
        link(EntryKind::Symlink, "etc", "/stage-has-no/such"),
        file("etc/passwd", "made inside"),
    ]);
    assert_eq!(tree["usr/lib/x.so"].content, b"in usr/lib");
    assert_eq!(tree["usr/y"].content, b"in usr");
    assert_eq!(tree["z"].content, b"in the root");
    assert_eq!(tree["stage-has-no/such/passwd"].content, b"made inside");
}

#[test]
fn hostile_entries_are_refused_and_touch_nothing_outside() {
    let symlink = |path, target| link(EntryKind::Symlink, path, target);
    let hard_link = |path, target| link(EntryKind::HardLink, path, target);
    let cases: Vec<(&str, Files)> = vec![
        ("leads out", vec![file("../witness", "overwritten")]),
        ("leads out", vec![file("a/../../witness", "overwritten")]),
        ("leads out", vec![dir("..")]),
        ("leads out", vec![symlink("x/../../y", "z")]),
        ("leads out", vec![hard_link("stolen", "../witness")]),
        ("leads out", vec![hard_link("stolen", "a/../../witness")]),
        ("whiteout of nothing", vec![file(".wh...", "")]),
        ("whiteout of nothing", vec![file("a/.wh..", "")]),
        ("below a whiteout", vec![file(".wh.a/b", "")]),
        ("too many symbolic links", vec![symlink("a", "b"), symlink("b", "a"), file("a/x", "")]),
        ("not a directory", vec![file("f", ""), file("f/x", "")]),
        ("the root", vec![file(".", "")]),
        ("the root", vec![symlink("/", "/etc")]),
        ("to the root", vec![hard_link("x", "/")]),
        ("to a directory", vec![dir("d"), hard_link("x", "d")]),
        ("to itself", vec![file("f", ""), hard_link("f", "f")]),
        ("without a target", vec![symlink("x", "")]),
        ("device number", vec![(Entry { device: (4096, 0), ..entry(EntryKind::CharDevice, "x") }, vec![])]),
        ("owner", vec![(Entry { uid: u32::MAX, ..entry(EntryKind::File, "x") }, vec![])]),
        ("too long", vec![file(&"x".repeat(256), "")]),
        ("too long", vec![file(&"x/".repeat(2100), "")]),
    ];
    for (text, entries) in cases {
        let error = refusal(&entries);
        assert!(
            error.contains(text),
            "{text:?} not in {error:?} for {:?}",
            entries.last().map(|(e, _)| e.display())
        );
    }
}

#[test]
fn a_path_with_nul_is_refused() {
    // The fields end at a NUL; only extended headers can carry one.
    let mut long = vec![b'a'; 120];
    long[60] = 0;
    let error = refusal(&[(Entry { path: long, ..entry(EntryKind::File, "") }, Vec::new())]);
    assert!(error.contains("NUL"), "{error}");
}

#[test]
fn a_symbolic_link_to_outside_is_data_and_not_a_way() {
    let (tree, _) = applied(&[
        link(EntryKind::Symlink, "out", "../../../../etc"),
        link(EntryKind::Symlink, "p", "/proc/self/root"),
        file("p/witness", "inside"),
        link(EntryKind::HardLink, "hosts", "out/hosts"),
    ]);
    assert_eq!(tree["out"].entry.link, b"../../../../etc");
    assert_eq!(tree["proc/self/root/witness"].content, b"inside");
    assert!(!tree.contains_key("hosts"), "the link waits for a lower layer to have etc/hosts");
}

#[test]
fn a_hard_link_to_a_symbolic_link_does_not_follow_it() {
    let (tree, _) =
        applied(&[link(EntryKind::Symlink, "s", "/etc/passwd"), link(EntryKind::HardLink, "h", "s")]);
    assert_eq!(tree["h"].entry.link, b"/etc/passwd");
}

#[test]
fn attributes_that_steer_overlayfs_are_left_out() {
    let xattrs = [&b"trusted.overlay.redirect"[..], b"trusted.overlay.metacopy", b"user.overlay.opaque"]
        .map(|name| (name.to_vec(), b"/etc".to_vec()))
        .to_vec();
    // Reading back fails if one of them is there.
    let (tree, _) = applied(&[(Entry { xattrs, ..entry(EntryKind::Directory, "d") }, Vec::new())]);
    assert!(tree["d"].entry.xattrs.is_empty());
}

#[test]
fn limits_stop_bombs() {
    let limits = Limits { entries: 10, bytes: 1000, free_bytes: 0 };
    let many: Vec<_> = (0..11).map(|i| file(&format!("f{i}"), "")).collect();
    let deep = [file("a/b/c/d/e/f/g/h/i/j/k", "")];
    let twice = [file("f", &"x".repeat(600)), file("f", &"x".repeat(600))];
    let huge = Entry { size: 1 << 40, ..entry(EntryKind::File, "f") };
    for entries in [&many[..], &deep, &twice] {
        let error = Yard::new().apply_bytes(&pack(entries), limits).unwrap_err();
        assert!(matches!(error, LayerError::Archive(ArchiveError::TooLarge { .. })), "{error}");
    }
    let mut header = Vec::new();
    let mut writer = crate::layers::archive::ArchiveWriter::new(&mut header);
    // The data is missing: the header alone is enough to refuse it.
    assert!(writer.append(&huge, &mut std::io::empty()).is_err());
    let error = Yard::new().apply_bytes(&header, limits).unwrap_err();
    assert!(matches!(error, LayerError::Archive(ArchiveError::TooLarge { .. })), "{error}");
}

#[test]
fn a_full_disk_is_not_filled_to_the_brim() {
    let limits = Limits { free_bytes: u64::MAX / 2, ..Limits::default() };
    let error = Yard::new().apply_bytes(&pack(&[file("f", "x")]), limits).unwrap_err();
    assert!(crate::error::ErrorChain(&error).to_string().contains("No space left"), "{error}");
}

#[test]
fn aufs_leftovers_are_understood() {
    let (tree, applied) = applied(&[
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/1.2", "shared"),
        link(EntryKind::HardLink, "a", ".wh..wh.plnk/1.2"),
        file(".wh..wh.aufs", ""),
        file("d/.wh..wh.orph", ""),
    ]);
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(tree["a"].content, b"shared");
    assert_eq!(applied.usage.inodes, 1);
}

#[test]
fn missing_targets_of_hard_links_are_deferred() {
    let (tree, applied) = applied(&[dir("a"), link(EntryKind::HardLink, "a/x", "below/file")]);
    assert!(!tree.contains_key("a/x"));
    assert_eq!(applied.deferred_links, BTreeMap::from([(b"a/x".to_vec(), b"below/file".to_vec())]));
}

#[test]
fn a_cut_archive_is_an_error_wherever_it_is_cut() {
    let whole = pack(&[dir("d"), file("d/f", &"x".repeat(1000)), file(&"long/".repeat(60), "y")]);
    for length in (1..whole.len() - 1024).step_by(211) {
        if length % 512 == 0 {
            continue;
        }
        assert!(Yard::new().apply_bytes(&whole[..length], Limits::default()).is_err(), "cut at {length}");
    }
}

#[test]
fn what_is_packed_unpacks_to_the_same() {
    if !is_root("what_is_packed_unpacks_to_the_same") {
        return;
    }
    let entries = [
        dir("d"),
        file("d/a", "1"),
        link(EntryKind::HardLink, "d/b", "d/a"),
        link(EntryKind::Symlink, "d/s", "a"),
        file("d/.wh.gone", ""),
        dir("o"),
        file("o/.wh..wh..opq", ""),
        (Entry { device: (5, 1), ..entry(EntryKind::CharDevice, "console") }, Vec::new()),
        file(&format!("{}/{}", "long".repeat(40), "name".repeat(50)), "2"),
    ];
    let yard = Yard::new();
    yard.apply(&entries).unwrap();
    let ids = IdMapping::default();
    let stack = Stack { lowers: Vec::new(), upper: yard.stage(), work: PathBuf::new(), ids };
    let first = diff::write_layer(&stack, Vec::new()).unwrap();
    let again = Yard::new();
    again.apply_bytes(&first, Limits::default()).unwrap();
    assert_eq!(tree(&yard.stage()), tree(&again.stage()));
    let stack = Stack { upper: again.stage(), ..stack };
    assert_eq!(first, diff::write_layer(&stack, Vec::new()).unwrap(), "the same tree gives the same bytes");
}
