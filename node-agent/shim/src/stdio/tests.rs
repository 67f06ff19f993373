//! What becomes of output when a process has ended.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::*;
use crate::launch::{LogConfig, LogFileConfig};

#[test]
fn what_lies_in_the_pipes_when_the_time_is_over_is_collected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let file = LogFileConfig {
        path: path.clone(),
        max_size: None,
        max_files: 1,
        compress: false,
        attrs: BTreeMap::new(),
    };
    let poller = Poller::new().unwrap();
    let mut session = Session::new(SessionId(0), EndOfInput::ClosesInput);
    session.set_log(LogWriter::open(&LogConfig::JsonFile(file)).unwrap());
    let plan = Plan { stdin: false, stdout: true, stderr: true, owner: None, null: NullDevice::Machine };
    let ends = session.open_pipes(plan, &poller).unwrap();
    session.release(&poller).unwrap();
    let lines: String = (0..10_000).map(|number| format!("{number:09}\n")).collect();
    // Somebody else holds the other ends open, and nobody had the time to read.
    let mut writer = std::fs::File::from(ends.stdout);
    writer.write_all(lines.as_bytes()).unwrap();
    session.drain(Instant::now(), &poller).unwrap();
    assert!(!session.is_drained());
    session.finish(&poller).unwrap();
    let logged = std::fs::read_to_string(path).unwrap();
    assert_eq!(logged.lines().count(), 10_000);
    assert!(logged.contains("000009999"));
}
