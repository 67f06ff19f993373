//! Archives read as Go reads them, written so that the crate `tar` reads them, damaged at random.

use std::io::Read as _;

use proptest::prelude::*;

use super::*;
use crate::layers::testing::{dir, entry, file, link, pack};

type Files = Vec<(Entry, Vec<u8>)>;

fn read_all(archive: &[u8]) -> Result<Files, ArchiveError> {
    let mut reader = ArchiveReader::new(archive);
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        reader.data().read_to_end(&mut data)?;
        found.push((entry, data));
    }
    Ok(found)
}

/// A block of a header that the crate `tar` makes.
fn header(kind: u8, name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A header and its data, padded.
fn raw(kind: u8, name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, name, data.len() as u64);
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn everything() -> Files {
    let long = "directory/".repeat(30) + "name";
    let kinds = [
        (entry(EntryKind::Fifo, "pipe"), Vec::new()),
        (Entry { device: (8, 300), ..entry(EntryKind::BlockDevice, "disk") }, Vec::new()),
        (Entry { device: (1, 3), ..entry(EntryKind::CharDevice, "null") }, Vec::new()),
        link(EntryKind::Symlink, "symlink", &long),
        link(EntryKind::HardLink, "hard", "file"),
        dir("directory/"),
        file(&long, "with a long name"),
        file("größe", "with a name that is not ASCII"),
        file("empty", ""),
        file("block", &"x".repeat(BLOCK)),
    ];
    let mut entries = kinds.to_vec();
    let (plain, data) = file("attributes", "data");
    let attributes = vec![
        (b"security.capability".to_vec(), b"\x01\0\n\x0a=5 \0".to_vec()),
        (b"user.empty-lines".to_vec(), b"\n\n".to_vec()),
    ];
    let mtime = Time { seconds: -2, nanoseconds: 999_999_999 };
    entries.push((
        Entry { mode: 0o6755, uid: u32::MAX - 1, gid: 2_097_152, mtime, xattrs: attributes, ..plain },
        data,
    ));
    entries
}

#[test]
fn what_is_written_is_read_back() {
    assert_eq!(read_all(&pack(&everything())).unwrap(), everything());
}

#[test]
fn another_reader_sees_the_same_names_and_bytes() {
    let archive = pack(&everything());
    let mut other = tar::Archive::new(archive.as_slice());
    for (theirs, (ours, data)) in other.entries().unwrap().zip(everything()) {
        let mut theirs = theirs.unwrap();
        assert_eq!(theirs.path_bytes().as_ref(), ours.path);
        assert_eq!(theirs.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default(), ours.link);
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).unwrap();
        assert_eq!(read, data, "{}", ours.display());
    }
}

#[test]
fn another_writers_long_names_are_read() {
    let long = "d/".repeat(120) + "name";
    let target = "t/".repeat(120) + "target";
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o600);
    builder.append_data(&mut header, &long, &b"data"[..]).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Symlink);
    builder.append_link(&mut header, "link", &target).unwrap();
    let read = read_all(&builder.into_inner().unwrap()).unwrap();
    assert_eq!((read[0].0.path.as_slice(), read[0].1.as_slice()), (long.as_bytes(), &b"data"[..]));
    assert_eq!((read[1].0.kind, read[1].0.link.as_slice()), (EntryKind::Symlink, target.as_bytes()));
}

#[test]
fn cases_of_doubt_are_decided_as_in_go() {
    // Nothing but files has data, whatever the header says.
    let sized = [header(b'5', "d", 4096), header(b'0', "f", 0)].concat();
    assert_eq!(read_all(&sized).unwrap().len(), 2);
    // Before POSIX a directory was a file whose name ends in a slash.
    assert_eq!(read_all(&raw(b'0', "d/", b"")).unwrap()[0].0.kind, EntryKind::Directory);
    // Global headers are skipped, although they have data.
    let global = [raw(b'g', "g", b"14 path=other\n"), raw(b'0', "f", b"1")].concat();
    assert_eq!(read_all(&global).unwrap()[0].0.path, b"f");
    // The later record counts, and an empty value takes back.
    let records = raw(b'x', "x", b"10 path=a\n10 path=b\n7 mtime=\n");
    assert!(matches!(read_all(&[records, raw(b'0', "f", b"")].concat()), Err(ArchiveError::Header)));
    let records = raw(b'x', "x", b"10 path=a\n10 path=b\n9 mtime=\n");
    let read = read_all(&[records, raw(b'0', "f", b"")].concat()).unwrap();
    assert_eq!((read[0].0.path.as_slice(), read[0].0.mtime), (&b"b"[..], Time::default()));
}

#[test]
fn archives_end_in_two_ways_and_no_other() {
    let file = raw(b'0', "f", b"1");
    let zeros = |n: usize| vec![0u8; n * BLOCK];
    for end in [Vec::new(), zeros(1), zeros(2), [zeros(2), b"rubbish".to_vec()].concat()] {
        assert_eq!(read_all(&[file.clone(), end].concat()).unwrap().len(), 1);
    }
    let after_zeros = [zeros(1), file.clone()].concat();
    assert!(matches!(read_all(&after_zeros), Err(ArchiveError::Header)));
    for cut in 1..file.len() {
        assert!(matches!(read_all(&file[..cut]), Err(ArchiveError::Truncated)), "cut at {cut}");
    }
}

#[test]
fn what_no_honest_archive_has_is_refused() {
    for kind in [b'x', b'L', b'K'] {
        let bomb = header(kind, "x", 1 << 40);
        assert!(matches!(read_all(&bomb), Err(ArchiveError::LongHeader { size, .. }) if size == 1 << 40));
    }
    assert!(matches!(read_all(&raw(b'M', "m", b"")), Err(ArchiveError::UnknownKind(b'M'))));
    let mut wrong_sum = raw(b'0', "f", b"");
    wrong_sum[0] ^= 1;
    assert!(matches!(read_all(&wrong_sum), Err(ArchiveError::Header)));
    for records in ["5 a=", "99 path=a\n", "1 a=b\n", "x path=a\n", "8 =path\n", "19 uid=99999999999\n"] {
        let archive = [raw(b'x', "x", records.as_bytes()), raw(b'0', "f", b"")].concat();
        assert!(matches!(read_all(&archive), Err(ArchiveError::Header)), "{records:?}");
    }
}

#[test]
fn sparse_files_of_pax_have_their_map_and_their_own_size() {
    let mut records = Vec::new();
    let pairs = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "holes"),
        ("GNU.sparse.realsize", "8192"),
    ];
    for (key, value) in pairs {
        pax::put(&mut records, key.as_bytes(), value.as_bytes());
    }
    let mut data = b"1\n4096\n3\n".to_vec();
    data.resize(BLOCK, 0);
    data.extend_from_slice(b"abc");
    let archive = [raw(b'x', "x", &records), raw(b'0', "GNUSparseFile.0/holes", &data)].concat();
    let read = read_all(&archive).unwrap();
    let (entry, held) = &read[0];
    assert_eq!((entry.path.as_slice(), entry.size), (&b"holes"[..], 8192));
    assert_eq!(entry.sparse, Some(vec![Extent { offset: 4096, length: 3 }]));
    assert_eq!(held, b"abc");
}

proptest! {
    /// Damage is found or harmless: nothing panics, and nothing is read that the archive does not hold.
    #[test]
    fn a_damaged_archive_is_read_or_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut archive = pack(&everything());
        for (at, byte) in damage {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        // Half of the cases are cut as well.
        let end = cut.index(archive.len() * 2).min(archive.len());
        if let Ok(read) = read_all(&archive[..end]) {
            prop_assert!(read.iter().map(|(_, data)| data.len()).sum::<usize>() <= end);
        }
    }

    /// As above, with sums that are right, so that what the fields say is looked at.
    #[test]
    fn a_header_that_lies_is_read_or_refused(
        fields in prop::collection::vec((0_usize..500, any::<u8>()), 1..8),
        kind in prop::sample::select(b"0\x001234567xgLKS5".to_vec()),
    ) {
        let mut archive = raw(kind, "name", b"20 path=abcdefghijk\n");
        for (at, byte) in fields.into_iter().filter(|(at, _)| !(148..156).contains(at)) {
            archive[at] = byte;
        }
        archive[148..156].fill(b' ');
        let sum: u32 = archive[..BLOCK].iter().map(|byte| u32::from(*byte)).sum();
        archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        if let Ok(read) = read_all(&archive) {
            prop_assert!(read.iter().map(|(_, data)| data.len()).sum::<usize>() <= archive.len());
        }
    }
}
