//! What a reader must find, checked against the entries that were written, in both formats.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::log::frames::LocalFormat;
use crate::log::json::JsonFormat;
use crate::log::{EntryFormat, LineEnd, LogWriter};

/// An entry that does not borrow.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    stream: Stream,
    time: Timestamp,
    text: Vec<u8>,
    attrs: String,
}

fn read_all(reader: &mut LogReader) -> (Vec<Owned>, Progress) {
    let mut entries = Vec::new();
    let progress = reader.read(|entry| {
        entries.push(Owned {
            stream: entry.stream,
            time: entry.time,
            text: entry.text.to_vec(),
            attrs: String::from_utf8(entry.attrs.to_vec()).unwrap(),
        });
        ControlFlow::Continue(())
    });
    (entries, progress.unwrap())
}

fn texts(entries: &[Owned]) -> String {
    entries.iter().map(|entry| String::from_utf8(entry.text.clone()).unwrap()).collect()
}

fn file(path: PathBuf, max_size: Option<u64>, max_files: u32) -> LogFileConfig {
    LogFileConfig { path, max_size, max_files, compress: false, attrs: BTreeMap::new() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// One written entry for each second that is given: its text is the second's number.
fn encode(format: Format, seconds: &[i64]) -> Vec<u8> {
    let attrs = BTreeMap::new();
    let mut bytes = Vec::new();
    let mut append = |writer: &mut dyn EntryFormat| {
        for second in seconds {
            writer.begin(Stream::Stdout, at(*second));
            writer.append(second.to_string().as_bytes(), LineEnd::Newline, &mut bytes);
        }
    };
    match format {
        Format::Json => append(&mut JsonFormat::new(&attrs)),
        Format::Local => append(&mut LocalFormat::new(&attrs)),
    }
    bytes
}

fn config(format: Format, file: LogFileConfig) -> LogConfig {
    match format {
        Format::Json => LogConfig::JsonFile(file),
        Format::Local => LogConfig::Local(file),
    }
}

/// Lays a log out in files, the oldest first, the last one being the current file; all others may be compressed.
fn lay_out(path: &Path, format: Format, parts: &[(Vec<i64>, bool)]) {
    for (position, (seconds, is_compressed)) in parts.iter().enumerate() {
        let index = parts.len() - 1 - position;
        let bytes = encode(format, seconds);
        let name = |suffix: String| path.with_file_name(format!("log{suffix}"));
        match (index, is_compressed) {
            (0, _) => fs::write(path, bytes).unwrap(),
            (_, false) => fs::write(name(format!(".{index}")), bytes).unwrap(),
            (_, true) => {
                let target = fs::File::create(name(format!(".{index}.gz"))).unwrap();
                let mut encoder = GzEncoder::new(target, Compression::fast());
                io::Write::write_all(&mut encoder, &bytes).unwrap();
                encoder.finish().unwrap();
            }
        }
    }
}

#[test]
fn what_was_written_is_read_back() {
    for format in [Format::Json, Format::Local] {
        let dir = tempfile::tempdir().unwrap();
        let mut file = file(dir.path().join("log"), None, 1);
        file.attrs = BTreeMap::from([("k<".to_owned(), "v\"".to_owned())]);
        let config = config(format, file);
        let mut writer = LogWriter::open(&config).unwrap();
        let output = "plain\n\ttab \"quoted\" back\\slash <&>\né€🦀\u{2028}\n\n";
        writer.write(Stream::Stdout, output.as_bytes());
        writer.write(Stream::Stderr, &b"x".repeat(20_000));
        writer.finish();
        let mut reader = LogReader::open(&config, LogQuery::default()).unwrap().unwrap();
        let (entries, progress) = read_all(&mut reader);
        assert_eq!(progress, Progress::CaughtUp);
        let (stdout, stderr): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.stream == Stream::Stdout);
        assert_eq!(texts(&stdout), output);
        assert_eq!(stdout.len(), 4);
        assert_eq!(
            stderr.iter().map(|entry| entry.text.len()).collect::<Vec<_>>(),
            [16_384, 20_000 - 16_384]
        );
        let attrs: BTreeMap<String, String> = serde_json::from_str(&stdout[0].attrs).unwrap();
        assert_eq!(attrs["k<"], "v\"");
    }
}

#[test]
fn bytes_that_are_not_text_survive_in_the_local_format() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig::Local(file(dir.path().join("log"), None, 1));
    let mut writer = LogWriter::open(&config).unwrap();
    let output: Vec<u8> = (0..=255).collect();
    writer.write(Stream::Stdout, &output);
    writer.finish();
    let (entries, _) = read_all(&mut LogReader::open(&config, LogQuery::default()).unwrap().unwrap());
    assert_eq!(entries.into_iter().flat_map(|entry| entry.text).collect::<Vec<u8>>(), output);
}

#[test]
fn entries_of_other_engines_are_read_and_nonsense_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let text = concat!(
        r#"{"log":"docker\n","stream":"stderr","time":"2026-11-21T09:23:22.37851673Z"}"#,
        "\n",
        r#"{"time":"2026-11-21T09:23:23Z","stream":"stdout","attrs":{"a":"b"},"log":"other \ud83e\udd80\n"}"#,
        "\nnot json\n{\"log\":\"no time\"}\n\0\0\0\n",
        r#"{"log":"last","stream":"stdout","time":"2026-11-21T09:23:24.5Z"}"#,
        "\n",
        r#"{"log":"not whole"#,
    );
    fs::write(&path, text).unwrap();
    let config = LogConfig::JsonFile(file(path, None, 1));
    let (entries, _) = read_all(&mut LogReader::open(&config, LogQuery::default()).unwrap().unwrap());
    assert_eq!(texts(&entries), "docker\nother 🦀\nlast");
    assert_eq!(entries[0].time, "2026-11-21T09:23:22.37851673Z".parse().unwrap());
    assert_eq!(entries[1].attrs, r#"{"a":"b"}"#);
}

#[test]
fn a_log_that_does_not_exist_yet_is_empty_and_then_read() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig::JsonFile(file(dir.path().join("log"), None, 1));
    let mut reader = LogReader::open(&config, LogQuery::default()).unwrap().unwrap();
    assert_eq!(read_all(&mut reader), (Vec::new(), Progress::CaughtUp));
    let mut writer = LogWriter::open(&config).unwrap();
    writer.write(Stream::Stdout, b"now\n");
    assert_eq!(texts(&read_all(&mut reader).0), "now\n");
    assert!(LogReader::open(&LogConfig::None, LogQuery::default()).unwrap().is_none());
}

#[test]
fn a_break_comes_after_the_entry_and_reading_goes_on_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    lay_out(&path, Format::Json, &[(vec![1, 2], false), (vec![3, 4], false)]);
    let config = LogConfig::JsonFile(file(path, None, 2));
    let mut reader = LogReader::open(&config, LogQuery::default()).unwrap().unwrap();
    for expected in 1..=4 {
        let mut seen = Vec::new();
        let progress = reader.read(|entry| {
            seen.push(entry.time);
            ControlFlow::Break(())
        });
        assert_eq!((progress.unwrap(), seen), (Progress::More, vec![at(expected)]));
    }
    assert_eq!(read_all(&mut reader), (Vec::new(), Progress::CaughtUp));
}

/// A writer that rotates as fast as it can, and a reader that follows: everything once, in order, whatever the reader
/// met of the renames.
#[test]
fn following_loses_and_repeats_nothing_across_rotations() {
    for format in [Format::Json, Format::Local] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(format, file(dir.path().join("log"), Some(4000), 1000));
        let n_lines = 8_000;
        let mut reader = LogReader::open(&config, LogQuery::default()).unwrap().unwrap();
        let mut watcher = LogWatcher::new().unwrap();
        watcher.watch(&dir.path().join("log")).unwrap();
        let writer_config = config.clone();
        let writer = std::thread::spawn(move || {
            let mut writer = LogWriter::open(&writer_config).unwrap();
            for n in 0..n_lines {
                writer.write(Stream::Stdout, format!("{n}\n").as_bytes());
            }
            writer.finish();
        });
        let mut seen = String::new();
        let expected: String = (0..n_lines).map(|n| format!("{n}\n")).collect();
        loop {
            let is_closed = writer.is_finished();
            seen.push_str(&texts(&read_all(&mut reader).0));
            if is_closed {
                break;
            }
            let mut polled = [rustix::event::PollFd::new(&watcher, rustix::event::PollFlags::IN)];
            let patience = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            rustix::event::poll(&mut polled, Some(&patience)).unwrap();
            watcher.take_news().unwrap();
        }
        writer.join().unwrap();
        let first_wrong = seen.lines().zip(expected.lines()).find(|(seen, expected)| seen != expected);
        assert!(seen == expected, "{format:?}: {} bytes of {}, {first_wrong:?}", seen.len(), expected.len());
    }
}

#[test]
fn a_follower_that_is_late_finds_the_files_that_were_rotated_and_compressed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let config = LogConfig::JsonFile(file(path.clone(), None, 10));
    lay_out(&path, Format::Json, &[(vec![1], false), (vec![2, 3], false)]);
    let mut reader = LogReader::open(&config, LogQuery::default()).unwrap().unwrap();
    assert_eq!(texts(&read_all(&mut reader).0), "1\n2\n3\n");
    // The file grows once more before it is rotated away; then two more follow, of which one is compressed already.
    fs::write(dir.path().join("log.old"), encode(Format::Json, &[2, 3, 4])).unwrap();
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut log| io::Write::write_all(&mut log, &encode(Format::Json, &[4])))
        .unwrap();
    fs::remove_file(dir.path().join("log.1")).unwrap();
    fs::rename(&path, dir.path().join("log.3")).unwrap();
    lay_out(&path, Format::Json, &[(vec![5], true), (vec![6], false), (vec![7], false)]);
    assert_eq!(texts(&read_all(&mut reader).0), "4\n5\n6\n7\n");
    // Its own file is compressed, and another rotation comes.
    assert_eq!(read_all(&mut reader).0, []);
    fs::rename(&path, dir.path().join("log.gone")).unwrap();
    lay_out(&path, Format::Json, &[(vec![6], true), (vec![7], true), (vec![8], false)]);
    fs::remove_file(dir.path().join("log.1")).unwrap();
    assert_eq!(texts(&read_all(&mut reader).0), "8\n");
}

/// A burst is read from its pipe at once, so that all of its entries have one time, and it may fill several files.
#[test]
fn files_whose_entries_are_of_one_moment_are_all_read() {
    for is_compressed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let config = LogConfig::JsonFile(file(path.clone(), None, 10));
        lay_out(&path, Format::Json, &[(vec![5, 5], false)]);
        let mut follower = LogReader::open(&config, LogQuery::default()).unwrap().unwrap();
        assert_eq!(texts(&read_all(&mut follower).0), "5\n5\n");
        fs::rename(&path, dir.path().join("log.3")).unwrap();
        lay_out(&path, Format::Json, &[(vec![5, 5, 5], false), (vec![5], false), (vec![5; 4], false)]);
        if is_compressed {
            for index in 1..4 {
                let plain = dir.path().join(format!("log.{index}"));
                let target = fs::File::create(dir.path().join(format!("log.{index}.gz"))).unwrap();
                crate::log::rotation::compress(fs::File::open(&plain).unwrap(), target).unwrap();
                fs::remove_file(plain).unwrap();
            }
        }
        assert_eq!(read_all(&mut follower).0.len(), 8, "{is_compressed}");
        let mut reader = LogReader::open(&config, LogQuery::default()).unwrap().unwrap();
        assert_eq!(read_all(&mut reader).0.len(), 10, "{is_compressed}");
        let tail = LogQuery { tail: Some(7), ..LogQuery::default() };
        let mut reader = LogReader::open(&config, tail).unwrap().unwrap();
        assert_eq!(read_all(&mut reader).0.len(), 7, "{is_compressed}");
    }
}

#[test]
fn a_log_of_one_file_is_followed_when_it_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let config = LogConfig::JsonFile(file(path.clone(), None, 1));
    fs::write(&path, encode(Format::Json, &[1, 2, 3])).unwrap();
    let mut reader = LogReader::open(&config, LogQuery::default()).unwrap().unwrap();
    assert_eq!(texts(&read_all(&mut reader).0), "1\n2\n3\n");
    let log = fs::OpenOptions::new().write(true).open(&path).unwrap();
    log.set_len(0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&log, &encode(Format::Json, &[4]), 0).unwrap();
    assert_eq!(texts(&read_all(&mut reader).0), "4\n");
}

#[test]
fn a_watcher_tells_which_log_has_news() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut watcher = LogWatcher::new().unwrap();
    let [first, second] = dirs.each_ref().map(|dir| watcher.watch(&dir.path().join("log")).unwrap());
    assert_eq!(watcher.take_news().unwrap(), []);
    fs::write(dirs[1].path().join("log"), "x").unwrap();
    assert_eq!(watcher.take_news().unwrap(), [second]);
    let again = watcher.watch(&dirs[0].path().join("log")).unwrap();
    assert_eq!(again, first);
    watcher.unwatch(again);
    fs::write(dirs[0].path().join("log"), "x").unwrap();
    assert_eq!(watcher.take_news().unwrap(), [first], "the other watch of the same log goes on");
    watcher.unwatch(first);
    fs::write(dirs[0].path().join("log"), "y").unwrap();
    let news = watcher.take_news().unwrap();
    fs::write(dirs[0].path().join("log"), "z").unwrap();
    assert_eq!(watcher.take_news().unwrap(), [], "after {news:?}");
}

/// A log in some files, as (seconds, compressed), and a query in seconds.
fn any_log() -> impl Strategy<Value = Vec<(Vec<i64>, bool)>> {
    let part = (proptest::collection::vec(0..3_i64, 0..60), any::<bool>());
    proptest::collection::vec(part, 1..5).prop_map(|parts| {
        let mut now = 1000;
        let mut advance = |step: i64| {
            now += step;
            now
        };
        // A rotated file has entries: it was full.
        let n_parts = parts.len();
        parts
            .into_iter()
            .enumerate()
            .map(|(position, (mut steps, is_compressed))| {
                if position + 1 < n_parts {
                    steps.insert(0, 1);
                }
                // A file that begins in the very moment of a compressed one is taken for it.
                if let Some(first) = steps.first_mut() {
                    *first = (*first).max(1);
                }
                (steps.into_iter().map(&mut advance).collect(), is_compressed)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_query_finds_what_a_look_at_all_entries_finds(
        parts in any_log(),
        since in proptest::option::of(990..1300_i64),
        until in proptest::option::of(990..1300_i64),
        tail in proptest::option::of(0..100_u64),
        is_local in any::<bool>(),
    ) {
        let format = if is_local { Format::Local } else { Format::Json };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        lay_out(&path, format, &parts);
        let all: Vec<i64> = parts.iter().flat_map(|(seconds, _)| seconds.clone()).collect();
        let n_skipped = tail.map_or(0, |tail| all.len().saturating_sub(usize::try_from(tail).unwrap()));
        let expected: Vec<i64> = all[n_skipped..]
            .iter()
            .copied()
            .filter(|second| since.is_none_or(|since| *second >= since) && until.is_none_or(|until| *second <= until))
            .collect();
        let query = LogQuery { since: since.map(at), until: until.map(at), tail };
        let mut reader = LogReader::open(&config(format, file(path, None, 9)), query).unwrap().unwrap();
        let found: Vec<i64> = read_all(&mut reader).0.iter().map(|entry| entry.time.as_second()).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_big_file_is_searched_and_not_read_for_since_and_tail() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let seconds: Vec<i64> = (0..200_000).collect();
    fs::write(&path, encode(Format::Json, &seconds)).unwrap();
    let config = LogConfig::JsonFile(file(path, None, 1));
    for (query, first) in [
        (LogQuery { since: Some(at(123_456)), ..LogQuery::default() }, 123_456),
        (LogQuery { tail: Some(7), ..LogQuery::default() }, 199_993),
    ] {
        let mut reader = LogReader::open(&config, query).unwrap().unwrap();
        let (entries, _) = read_all(&mut reader);
        assert_eq!(entries.first().map(|entry| entry.time), Some(at(first)));
        assert_eq!(entries.len(), 200_000 - usize::try_from(first).unwrap());
        // The place where reading began, which the reader has left: asked of a second one.
        let reader = LogReader::open(&config, query).unwrap().unwrap();
        let n_before = reader.ahead.iter().map(Source::begins_at).sum::<u64>();
        let wanted_begin = encode(Format::Json, &seconds[..usize::try_from(first).unwrap()]).len() as u64;
        assert!(wanted_begin - n_before <= 128 * 1024, "begins at {n_before}, wanted is {wanted_begin}");
    }
}
