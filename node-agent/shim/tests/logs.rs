//! The promises about the log: byte for byte what the container wrote, in files that stay within their bounds.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use node_shim::protocol::{Call, Event, LogConfig, LogFileConfig};
use serde_json::Value;

use crate::support::{Container, Machine, Runtime, is_privileged, under_every_runtime, wait_until};

fn file_log(container: &mut Container) -> &mut LogFileConfig {
    match &mut container.launch.log {
        LogConfig::JsonFile(file) => file,
        other => panic!("{other:?}"),
    }
}

/// Docker's way to read a json-file: every line an object, the texts in order.
fn parse(text: &str) -> String {
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["log"].as_str().unwrap().to_owned())
        .collect()
}

fn read_rotated(path: &Path) -> String {
    let mut text = String::new();
    match fs::File::open(path) {
        Ok(file) => flate2::read::GzDecoder::new(file).read_to_string(&mut text).map(drop).unwrap(),
        Err(error) => panic!("{}: {error}", path.display()),
    }
    text
}

#[test]
fn the_log_is_what_was_written_byte_for_byte() {
    under_every_runtime(|machine, runtime| {
        // Long lines, empty lines, every character that JSON escapes, an end without a newline.
        let mut expected = String::new();
        for n in 0..200 {
            expected.push_str(&"<&>\"\\\t€🦀".repeat(n * 7 % 40));
            expected.push_str(&"x".repeat(n * 997 % 40_000));
            expected.push_str(if n % 5 == 0 { "\n\n" } else { "\n" });
        }
        expected.push_str("no newline");
        let mut container = machine.container(runtime, "cat /tmp/input");
        fs::create_dir_all(container.dir.join("upper/tmp")).unwrap();
        fs::write(container.dir.join("upper/tmp/input"), &expected).unwrap();
        let mut daemon = container.spawn();
        daemon.run();
        assert_eq!(daemon.exit().code, 0);
        assert!(container.logged_text("stdout") == expected, "the log differs from the output");
    });
}

#[test]
fn times_are_whole_and_never_go_back() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "seq 1000; seq 1000 >&2");
        let mut daemon = container.spawn();
        daemon.run();
        daemon.exit();
        let text = fs::read_to_string(container.dir.join("log.json")).unwrap();
        let mut last = jiff::Timestamp::UNIX_EPOCH;
        for line in text.lines() {
            let entry: Value = serde_json::from_str(line).unwrap();
            let time = entry["time"].as_str().unwrap();
            assert_eq!(time.len(), "2026-01-02T03:04:05.000000006Z".len());
            let time: jiff::Timestamp = time.parse().unwrap();
            assert!(time >= last);
            last = time;
        }
        assert_eq!(text.lines().count(), 2000);
    });
}

#[test]
fn rotated_files_are_bounded_compressed_and_in_order() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "seq 100000");
        let file = file_log(&mut container);
        let (path, max_size) = (file.path.clone(), 1_000_000);
        file.max_size = Some(max_size);
        file.max_files = 4;
        file.compress = true;
        let mut daemon = container.spawn();
        daemon.run();
        daemon.exit();
        daemon.done(Call::Shutdown);
        container.expect_shim_to_end();
        let rotated = |n: u32, suffix: &str| path.with_file_name(format!("log.json.{n}{suffix}"));
        let texts: Vec<String> = (1..4)
            .rev()
            .map(|n| {
                assert!(!rotated(n, "").exists(), "file {n} is there twice or not compressed");
                read_rotated(&rotated(n, ".gz"))
            })
            .chain([fs::read_to_string(&path).unwrap()])
            .collect();
        assert!(!rotated(4, ".gz").exists());
        for text in &texts {
            assert!(text.len() as u64 <= max_size + 200);
        }
        let kept = parse(&texts.concat());
        let all: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
        assert!(all.ends_with(&kept) && kept.len() > 100_000, "{} bytes kept", kept.len());
    });
}

#[test]
fn a_full_disk_loses_entries_and_nothing_else() {
    if !is_privileged() {
        return;
    }
    let machine = Machine::new();
    for runtime in Runtime::available() {
        let small_disk = SmallDisk::mount(&machine.path("small"));
        let mut container = machine.container(runtime, "seq 200000; echo end >&2; sleep 1000");
        file_log(&mut container).path = small_disk.path.join("log.json");
        let mut daemon = container.spawn();
        let mut client = daemon.attach(crate::support::ALL_STREAMS);
        let reader = std::thread::spawn(move || client.read_streams());
        daemon.run();
        loop {
            if let Event::LogTrouble { message } = daemon.event() {
                assert!(message.contains("No space left"), "{message}");
                break;
            }
        }
        daemon.done(Call::Kill { signal: 9, scope: node_shim::protocol::KillScope::Init });
        daemon.exit();
        let (stdout, _) = reader.join().unwrap();
        assert!(stdout.starts_with("1\n2\n"));
        let text = fs::read_to_string(small_disk.path.join("log.json")).unwrap();
        assert!(text.ends_with('\n'), "no entry is torn");
        parse(&text);
        daemon.done(Call::Shutdown);
        container.expect_shim_to_end();
    }
}

/// A file system of a megabyte.
struct SmallDisk {
    path: std::path::PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", path, "tmpfs", flags, c"size=1m").unwrap();
        Self { path: path.to_owned() }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_log_goes_on_in_the_next_run() {
    under_every_runtime(|machine, runtime| {
        let mut first = machine.container(runtime, "echo first");
        let mut daemon = first.spawn();
        daemon.run();
        daemon.exit();
        // What a kill -9 in the middle of a write leaves.
        let path = first.dir.join("log.json");
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, br#"{"log":"torn"#))
            .unwrap();
        let mut second = machine.container(runtime, "echo second");
        file_log(&mut second).path = path.clone();
        let mut daemon = second.spawn();
        daemon.run();
        daemon.exit();
        assert_eq!(parse(&fs::read_to_string(&path).unwrap()), "first\nsecond\n");
    });
}

#[test]
fn entries_are_there_as_soon_as_a_line_is_complete() {
    under_every_runtime(|machine, runtime| {
        let script = "printf part; read a; echo whole; read b";
        let mut container =
            machine.container(runtime, script).with_stdin(node_shim::protocol::StdinMode::Open);
        let mut daemon = container.spawn();
        let mut client = daemon.attach(crate::support::ALL_STREAMS);
        daemon.run();
        client.write(b"a\n");
        wait_until("the line is logged", || container.logged_text("stdout") == "partwhole\n");
        client.write(b"b\n");
        daemon.exit();
        assert_eq!(container.logged().len(), 1, "one line is one entry");
    });
}
