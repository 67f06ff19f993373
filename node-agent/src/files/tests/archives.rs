//! What honest clients do: copy out, copy in, look.
//!
//! Start reading at the first test.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;
use crate::api::files::PathStat;
use crate::layers::archive::EntryKind;
use crate::layers::testing;

fn describe(place: &Place, path: &str) -> Result<PathStat, NodeError> {
    let root = place.root();
    let wanted = Wanted::parse(path);
    let found = stat::find(&root, &wanted).map_err(|errno| stat::explain(errno, "c", path, &wanted))?;
    Ok(stat::describe(&root, &wanted, &found))
}

fn furnished() -> Place {
    let place = Place::new();
    fs::write(place.inside("dir/file"), "hi\n").unwrap();
    fs::create_dir(place.inside("dir/sub")).unwrap();
    symlink("dir", place.inside("link")).unwrap();
    symlink("dir/file", place.inside("flink")).unwrap();
    symlink("nowhere/x", place.inside("dangling")).unwrap();
    symlink("/dir/sub/../file", place.inside("up")).unwrap();
    symlink("loop", place.inside("loop")).unwrap();
    place
}

/// As dockerd 20.10 names them.
#[test]
fn entries_begin_with_the_name_that_was_asked_for() {
    let place = furnished();
    for (path, expected) in [
        ("/dir", &["dir/", "dir/file", "dir/sub/"][..]),
        ("dir", &["dir/", "dir/file", "dir/sub/"]),
        ("/dir/", &["dir/", "dir/file", "dir/sub/"]),
        ("/dir/.", &["./", "./file", "./sub/"]),
        ("/link", &["link"]),
        ("/link/", &["link/", "link/file", "link/sub/"]),
        ("/link/.", &["./", "./file", "./sub/"]),
        ("/link/file", &["file"]),
        ("/up", &["up"]),
        ("/dir/../dir/file", &["file"]),
    ] {
        assert_eq!(names(&place.pack(path)), expected, "{path}");
    }
    let whole = names(&place.pack("/"));
    assert_eq!(whole[..3], ["/", "/dangling", "/dir/"]);
    assert_eq!(place.pack("/dir/file")[0].1, b"hi\n");
    assert_eq!(place.pack("/link")[0].0.link, b"dir");
}

#[test]
fn a_link_is_described_by_where_it_leads_inside() {
    let place = furnished();
    for (path, name, target) in [
        ("/link", "link", "/dir"),
        ("/flink", "flink", "/dir/file"),
        ("/dangling", "dangling", "/nowhere/x"),
        ("/up", "up", "/dir/file"),
        ("/loop", "loop", ""),
        ("/link/", "link", ""),
        ("/dir/.", ".", ""),
        ("/", "/", ""),
    ] {
        let stat = describe(&place, path).unwrap();
        assert_eq!((stat.name.as_str(), stat.link_target.as_str()), (name, target), "{path}");
    }
    assert_eq!(describe(&place, "/dir/file").unwrap().size, 3);
}

#[test]
fn what_is_not_there_is_refused_with_dockers_words() {
    let place = furnished();
    let error = describe(&place, "nope/x").unwrap_err();
    assert_eq!(error.message(), "Could not find the file nope/x in container c");
    assert_eq!(error.kind(), shoal_types::ErrorKind::NotFound);
    for path in ["/dir/file/", "/dir/file/x", "/flink/"] {
        let error = describe(&place, path).unwrap_err();
        assert_eq!(error.kind(), shoal_types::ErrorKind::InvalidArgument, "{path}");
        assert!(error.message().starts_with(&format!("lstat {path}: ")), "{error}");
    }
}

#[test]
fn what_is_packed_is_the_same_when_it_is_unpacked_elsewhere() {
    if !testing::is_root("setting owners") {
        return;
    }
    let from = furnished();
    fs::hard_link(from.inside("dir/file"), from.inside("dir/twin")).unwrap();
    std::os::unix::fs::chown(from.inside("dir/sub"), Some(1000), Some(1001)).unwrap();
    fs::set_permissions(from.inside("dir/file"), fs::Permissions::from_mode(0o4711)).unwrap();
    let mode = Mode::from_raw_mode(0o640);
    let dir = fs::File::open(from.inside("dir")).unwrap();
    rustix::fs::mknodat(&dir, "fifo", rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let big = fs::File::create(from.inside("dir/hole")).unwrap();
    big.set_len(1 << 20).unwrap();
    let packed = testing::pack(&from.pack("/dir"));
    let to = Place::new();
    fs::remove_dir(to.inside("dir")).unwrap();
    to.unpack("/", &packed).unwrap();
    assert_eq!(testing::tree(&from.inside("dir")), testing::tree(&to.inside("dir")));
}

#[test]
fn directories_keep_what_is_in_them_and_files_are_replaced() {
    let place = furnished();
    let archive = testing::pack(&[
        testing::dir("dir"),
        testing::file("dir/file", "new"),
        testing::file("dir/more", "x"),
    ]);
    place.unpack("/", &archive).unwrap();
    assert_eq!(fs::read_to_string(place.inside("dir/file")).unwrap(), "new");
    assert!(place.inside("dir/sub").is_dir());
    assert_eq!(fs::metadata(place.inside("dir")).unwrap().mtime(), 1_700_000_000, "as the archive says");
    // A directory that the archive does not mention changes like any other.
    place.unpack("/dir", &testing::pack(&[testing::file("later", "x")])).unwrap();
    assert!(fs::metadata(place.inside("dir")).unwrap().mtime() > 1_700_000_000);
}

#[test]
fn an_archive_goes_where_a_link_leads_and_makes_missing_directories() {
    let place = furnished();
    place.unpack("/link", &testing::pack(&[testing::file("a/b/c", "x")])).unwrap();
    assert_eq!(fs::read_to_string(place.inside("dir/a/b/c")).unwrap(), "x");
    // `..` that stays inside is only an odd way to write a name.
    place.unpack("/dir", &testing::pack(&[testing::file("a/../odd", "x")])).unwrap();
    assert!(place.inside("dir/odd").is_file());
}

#[test]
fn kinds_are_exchanged_only_if_that_is_allowed() {
    let place = furnished();
    let over_directory = testing::pack(&[testing::file("dir", "x")]);
    let over_file = testing::pack(&[testing::dir("flink")]);
    for (archive, text) in [
        (&over_directory, "cannot overwrite directory \"/dir\" with non-directory \"/\""),
        (&over_file, "cannot overwrite non-directory \"/flink\" with directory \"/\""),
    ] {
        let error = place.unpack_as("/", archive, ReplaceKinds::Refuse, None).unwrap_err();
        assert_eq!((error.message().as_str(), error.kind()), (text, shoal_types::ErrorKind::InvalidArgument));
    }
    place.unpack("/", &over_file).unwrap();
    assert!(place.inside("flink").symlink_metadata().unwrap().is_dir());
    // There is a volume in the directory: what is in it must not go.
    assert!(place.unpack("/", &over_directory).is_err());
    assert!(place.inside("dir/file").is_file());
}

#[test]
fn files_get_the_owner_that_was_asked_for() {
    if !testing::is_root("setting owners") {
        return;
    }
    let place = furnished();
    let archive = testing::pack(&[
        testing::dir("own"),
        testing::file("own/file", "x"),
        testing::link(EntryKind::Symlink, "own/link", "file"),
    ]);
    place.unpack_as("/", &archive, ReplaceKinds::Allow, Some((1000, 1001))).unwrap();
    for path in ["own", "own/file", "own/link"] {
        let found = place.inside(path).symlink_metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (1000, 1001), "{path}");
    }
}

#[test]
fn packed_archives_are_recognised_and_broken_ones_refused() {
    let place = furnished();
    let plain = testing::pack(&[testing::file("packed", "x")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    for archive in [gzip.finish().unwrap(), zstd::encode_all(plain.as_slice(), 1).unwrap()] {
        place.unpack("/", &archive).unwrap();
        fs::remove_file(place.inside("packed")).unwrap();
    }
    place.unpack("/", b"").unwrap();
    for broken in [&plain[..600], &[7; 2048]] {
        let error = place.unpack("/", broken).unwrap_err();
        assert_eq!(error.kind(), shoal_types::ErrorKind::InvalidArgument, "{error}");
    }
}
