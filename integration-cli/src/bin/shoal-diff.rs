//! `shoal-diff [--left NAME] [--right NAME] [--accepted FILE] SCRIPT...`: shows where two daemons answer differently.
//!
//! A NAME is `dockerd`, `shoald`, a path, or `unix://SOCKET` of a daemon that runs already; by default the reference is on
//! the left (`SHOAL_TEST_REFERENCE` names another) and Shoal on the right (`SHOAL_TEST_DAEMON`). Each script runs on
//! daemons of its own. Prints a line `request<TAB>field<TAB>left<TAB>right` for each difference that is not accepted, and each
//! entry of the accepted ones that nothing needs; ends with 1 when there was any of either. See `integration_cli::diff`
//! for the form of scripts and of FILE.
#![expect(clippy::print_stdout, reason = "its output is its result")]
#![expect(clippy::expect_used, reason = "a wrong call ends the program with a message")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use integration_cli::diff::{Accepted, Difference, Script, compare};
use integration_cli::{Daemon, DaemonOptions, Implementation, Session, guard, images};
use lexopt::prelude::{Long, Value, ValueExt};

fn main() -> ExitCode {
    if guard::run_as_guard(&std::env::args().collect::<Vec<_>>()) {
        return ExitCode::SUCCESS;
    }
    let Some(call) = Call::read() else {
        println!("usage: shoal-diff [--left NAME] [--right NAME] [--accepted FILE] SCRIPT...");
        return ExitCode::from(2);
    };
    let read = |path: &Path| std::fs::read_to_string(path).expect("a readable list");
    let accepted = Accepted::parse(&call.accepted.as_deref().map(read).unwrap_or_default());
    let (mut requests, mut found) = (0, 0);
    for path in &call.scripts {
        let script = Script::parse(&std::fs::read_to_string(path).expect("a readable script"));
        let all = call.differences(&script);
        let (known, new): (Vec<_>, Vec<_>) = all.iter().partition(|difference| accepted.has(difference));
        println!(
            "# {}: {} requests, {} differences accepted, {} not",
            path.display(),
            script.requests(),
            known.len(),
            new.len()
        );
        new.iter().for_each(|difference| println!("{difference}"));
        requests += script.requests();
        found += new.len();
    }
    let unused = accepted.unused();
    unused.iter().for_each(|entry| println!("# nothing needs the entry {entry}"));
    println!(
        "# {requests} requests, {found} differences that are not accepted, {} entries unused",
        unused.len()
    );
    if found + unused.len() == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// What the command line asks for.
struct Call {
    left: String,
    right: String,
    accepted: Option<PathBuf>,
    scripts: Vec<PathBuf>,
}

impl Call {
    fn read() -> Option<Self> {
        let chosen = |name: &str, other: &str| std::env::var(name).unwrap_or_else(|_| other.to_owned());
        let mut call = Self {
            left: chosen("SHOAL_TEST_REFERENCE", "dockerd"),
            right: chosen("SHOAL_TEST_DAEMON", "shoald"),
            accepted: None,
            scripts: Vec::new(),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next().expect("readable arguments") {
            match argument {
                Long("left") => call.left = parser.value().and_then(ValueExt::string).ok()?,
                Long("right") => call.right = parser.value().and_then(ValueExt::string).ok()?,
                Long("accepted") => call.accepted = Some(parser.value().ok()?.into()),
                Value(script) => call.scripts.push(PathBuf::from(script)),
                _ => return None,
            }
        }
        Some(call)
    }

    /// What differs between two fresh daemons that are sent the script.
    fn differences(&self, script: &Script) -> Vec<Difference> {
        let daemons = [&self.left, &self.right]
            .map(|name| Daemon::start(Implementation::named(name), &DaemonOptions::default()));
        let sessions = daemons.each_ref().map(|daemon| Session::new(daemon.clone(), "diff"));
        for session in &sessions {
            session.load(&[images::busybox()]);
        }
        let differences = compare(script, &sessions[0], &sessions[1]);
        for session in &sessions {
            // Networks that a script leaves keep their bridges while the daemon is away, in both.
            session.docker("network prune --force");
        }
        drop(sessions);
        for (name, daemon) in [&self.left, &self.right].into_iter().zip(daemons) {
            daemon.teardown().iter().for_each(|problem| println!("# left behind by {name}: {problem}"));
        }
        differences
    }
}
