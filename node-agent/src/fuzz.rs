//! What is tried with input from nowhere: archives, and the words that clients and images bring.
//!
//! Start reading at [`archives`]. The bodies are run by the tests with changed seeds, and by libFuzzer
//! (integration-cli/fuzz/libfuzzer); each panics when something is wrong.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use bytes::BytesMut;

use crate::containers::fuzz_access::{Accounts, DetachKeys, parse_link, parse_signal, resolve_user};
use crate::layers::archive::path::{LayerPath, meaning};
use crate::layers::archive::{ArchiveReader, ArchiveWriter, Entry, EntryKind};
use crate::layers::compression::decompress_buffered;
use crate::logs::settings::{check, parse_size};
use crate::shim_client::frames::decode;

/// Size of a header.
const BLOCK: usize = 512;
/// How much of what is packed is looked at: a kilobyte can stand for a gigabyte.
const MOST_UNPACKED: u64 = 1 << 20;

/// Archives to begin with, packed and not.
pub const ARCHIVES: &[&[u8]] = &[
    // Of `printf x >f; ln f g; ln -s f h; tar --format=posix -c f g h`, without the zeros behind the last entry.
    include_bytes!("fuzz/posix.tar"),
    // Of `tar --format=gnu -S -c` of a file with two holes, below a directory with a name of 120 letters.
    include_bytes!("fuzz/gnu-sparse.tar"),
    // Of `tar --format=posix -S -c` of the same file.
    include_bytes!("fuzz/posix-sparse.tar"),
    b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0",
    b"\x28\xb5\x2f\xfd\x20\x01\x09\0\0a",
];

/// No archive makes the reader panic or take more than there is, and what it understands it understands again after it was
/// written by ourselves. Headers are tried with the checksum that they have and with the right one.
pub fn archives(input: &[u8]) {
    read_archive(input);
    let mut mended = input.to_vec();
    mend_checksums(&mut mended);
    read_archive(&mended);
    if let Ok((_, unpacked)) = decompress_buffered(input) {
        let mut bytes = Vec::new();
        if unpacked.take(MOST_UNPACKED).read_to_end(&mut bytes).is_ok() {
            read_archive(&bytes);
        }
    }
}

fn read_archive(input: &[u8]) {
    let mut reader = ArchiveReader::new(input);
    let mut n_bytes = 0;
    while let Ok(Some(entry)) = reader.next_entry() {
        let mut data = Vec::new();
        let is_whole = reader.data().read_to_end(&mut data).is_ok();
        n_bytes += data.len();
        assert!(n_bytes <= input.len(), "{n_bytes} bytes out of {}", input.len());
        if let Ok(path) = LayerPath::parse(&entry.path)
            && let Some((parents, name)) = path.split_last()
        {
            assert!(!name.contains(&b'/') && name != b"..", "{entry:?}");
            // What a name means is asked for its own sake.
            let _ = meaning(parents, name);
        }
        if let Some(extents) = &entry.sparse {
            let mut end = 0;
            for extent in extents {
                assert!(extent.offset >= end, "{entry:?}");
                end = extent.offset + extent.length;
            }
            assert!(end <= entry.size, "{entry:?}");
        } else if is_whole && is_writable(&entry) {
            assert_eq!(written_and_read(&entry, &data), Some(entry));
        }
    }
}

/// Whether archives have a form for it: names end at a NUL, a file whose name ends in a slash is a directory, and an attribute
/// with an empty value is one that is not there.
fn is_writable(entry: &Entry) -> bool {
    let has_nul = entry.path.contains(&0) || entry.link.contains(&0);
    let is_directory = entry.kind == EntryKind::File && entry.path.ends_with(b"/");
    let is_link = matches!(entry.kind, EntryKind::HardLink | EntryKind::Symlink);
    let is_odd =
        |(name, value): &(Vec<u8>, Vec<u8>)| name.contains(&b'=') || name.is_empty() || value.is_empty();
    !has_nul
        && !is_directory
        && !entry.path.is_empty()
        && (is_link || entry.link.is_empty())
        && !entry.xattrs.iter().any(is_odd)
}

fn written_and_read(entry: &Entry, data: &[u8]) -> Option<Entry> {
    let mut writer = ArchiveWriter::new(Vec::new());
    writer.append(entry, &mut io::Cursor::new(data)).ok()?;
    let bytes = writer.finish().ok()?;
    ArchiveReader::new(bytes.as_slice()).next_entry().ok()?
}

/// Puts the right checksum into every header, so that a change elsewhere gets further than that.
fn mend_checksums(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = archive.get_mut(at..at + BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            return;
        }
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = String::from_utf8_lossy(&header[124..135]).into_owned();
        let size = usize::from_str_radix(digits.trim_matches([' ', '\0']), 8).unwrap_or(0);
        at = at.saturating_add(BLOCK).saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK));
        if at > archive.len() {
            return;
        }
    }
}

/// Texts to begin with for [`options`]: one to a line, a key and a value each.
pub const OPTIONS: &[&[u8]] = &[
    b"max-size=10m\nmax-file=3\nmode=non-blocking\nmax-buffer-size=4m",
    b"labels-regex=^(a|b)[0-9]{2,}\nenv=A,B\ntag={{.Name}}/{{.ID}}\ncompress=true",
    b"syslog-address=tcp+tls://[::1]:514\nsyslog-format=rfc5424micro\nsyslog-facility=daemon",
    b"fluentd-address=unix:///run/f.sock\nfluentd-async=true\nfluentd-retry-wait=1s\nfluentd-max-retries=3",
    b"gelf-address=udp://a:12201\ngelf-compression-type=gzip\ngelf-compression-level=1",
    b"ctrl-p,ctrl-q\nSIGRTMIN+3\n/db:/web/db\n/db:/web/\n1.5GiB\nuser:group",
];

/// Options of logs, sizes, signals, links, keys and users are taken or refused.
pub fn options(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let pairs: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    for driver in ["json-file", "local", "none", "syslog", "fluentd", "gelf", "journald"] {
        // Each is asked for what it makes of the same options.
        let _ = check(driver, &pairs);
    }
    for line in text.lines() {
        let _ = (parse_size(line), DetachKeys::parse(line));
        if let Ok(signal) = parse_signal(line) {
            assert!((1..=64).contains(&signal), "{line:?} is {signal}");
        }
        if let Ok((_, alias)) = parse_link(line) {
            assert!(!alias.is_empty() && !alias.contains('/'), "{line:?}");
        }
    }
    let accounts = Accounts::parse(&[Some(input.to_vec()), Some(input.to_vec())]);
    for user in text.lines() {
        if let Ok(user) = resolve_user(user, &[], &accounts) {
            assert!(i32::try_from(user.uid).is_ok() && i32::try_from(user.gid).is_ok(), "{user:?}");
        }
    }
}

/// Messages of a shim to begin with.
pub const SHIM_FRAMES: &[&[u8]] =
    &[b"\0\0\0\x02{}", b"\0\0\0\x16{\"Exited\":{\"code\":137}}", b"\xff\xff\xff\xff", b"\0\0\0\0"];

/// Frames of a shim are taken apart to the last byte, and each takes some.
pub fn shim_frames(input: &[u8]) {
    let mut buffer = BytesMut::from(input);
    loop {
        let before = buffer.len();
        match decode::<serde_json::Value>(&mut buffer) {
            Ok(Some(_)) => assert!(buffer.len() < before),
            Ok(None) | Err(_) => break,
        }
    }
}

#[cfg(test)]
fuzz_harness::explored! {
    archives_read_back: archives(ARCHIVES);
    options_do_no_harm: options(OPTIONS);
    frames_do_no_harm: shim_frames(SHIM_FRAMES);
}
