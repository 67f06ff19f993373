//! `shoal-diff [--left NAME] [--right NAME] SCRIPT...`: shows where two daemons answer differently.
//!
//! A NAME is `dockerd`, `shoald` or a path; by default the reference is on the left and Shoal on the right. Each script
//! runs on daemons of its own. Prints a line `request<TAB>field<TAB>left<TAB>right` for each difference and ends with 1
//! when there was any. See `integration_cli::diff` for the form of scripts.
#![expect(clippy::print_stdout, reason = "its output is its result")]
#![expect(clippy::expect_used, reason = "a wrong call ends the program with a message")]

use std::path::PathBuf;
use std::process::ExitCode;

use integration_cli::diff::{Script, compare};
use integration_cli::{Daemon, DaemonOptions, Implementation, Session, guard, images};
use lexopt::prelude::{Long, Value, ValueExt};

fn main() -> ExitCode {
    if guard::run_as_guard(&std::env::args().collect::<Vec<_>>()) {
        return ExitCode::SUCCESS;
    }
    let (mut left, mut right, mut scripts) = ("dockerd".to_owned(), "shoald".to_owned(), Vec::new());
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().expect("readable arguments") {
        match argument {
            Long("left") => left = parser.value().and_then(ValueExt::string).expect("a name after --left"),
            Long("right") => right = parser.value().and_then(ValueExt::string).expect("a name after --right"),
            Value(script) => scripts.push(PathBuf::from(script)),
            _ => {
                println!("usage: shoal-diff [--left NAME] [--right NAME] SCRIPT...");
                return ExitCode::from(2);
            }
        }
    }
    let mut differing = 0;
    for path in scripts {
        let script = Script::parse(&std::fs::read_to_string(&path).expect("a readable script"));
        let daemons =
            [&left, &right].map(|name| Daemon::start(Implementation::named(name), &DaemonOptions::default()));
        let sessions = daemons.each_ref().map(|daemon| Session::new(daemon.clone(), "diff"));
        for session in &sessions {
            session.load(&[images::busybox()]);
        }
        let differences = compare(&script, &sessions[0], &sessions[1]);
        println!("# {}: {} differences", path.display(), differences.len());
        differences.iter().for_each(|difference| println!("{difference}"));
        differing += differences.len();
        drop(sessions);
        for daemon in daemons {
            daemon.teardown().iter().for_each(|problem| println!("# left behind: {problem}"));
        }
    }
    if differing == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
