//! What is measured. Each case is a function; each number it records is a row of `metrics.rs`.
//!
//! Start reading at [`CASES`], whose order is the order of the run.

mod copy;
mod crowd;
mod exec;
mod idle;
mod list;
pub(super) mod logs;
mod parallel;
mod pull;
mod replicas;
mod restart;
mod run;
mod stats;

use anyhow::{Result, bail};

use super::floors;
use super::rounds::Bench;

/// One case.
pub(super) struct Case {
    pub(super) name: &'static str,
    help: &'static str,
    pub(super) run: fn(&mut Bench<'_>) -> Result<()>,
}

const CASES: &[Case] = &[
    Case { name: "floors", help: "what the kernel alone takes, no engine", run: floors::run },
    Case {
        name: "idle",
        help: "memory, processor time and wake-ups at rest, empty and with 20 containers",
        run: idle::run,
    },
    Case {
        name: "run",
        help: "one container after the other, over the API, with and without network",
        run: run::run,
    },
    Case { name: "cli", help: "docker run --rm", run: run::cli },
    Case { name: "exec", help: "a program in a running container", run: exec::run },
    Case { name: "parallel", help: "50 containers by 8 workers", run: parallel::run },
    Case {
        name: "pull",
        help: "an image of 8 layers and one of 20,000 files, from a registry here",
        run: pull::run,
    },
    Case { name: "logs", help: "200 MB of output: written, read back, attached", run: logs::run },
    Case { name: "cp", help: "docker cp of a large file and of many small ones", run: copy::run },
    Case { name: "list", help: "requests that only read, with 300 containers", run: list::run },
    Case { name: "replicas", help: "a service of 100 replicas on a cluster of one node", run: replicas::run },
    Case { name: "stats", help: "100 containers watched by stats", run: stats::run },
    Case { name: "crowd", help: "whether a start costs more when 300 containers run", run: crowd::run },
    Case {
        name: "restart",
        help: "start of the daemon with 120 containers, also after kill -9",
        run: restart::run,
    },
];

/// The cases of those names, all for none.
pub(super) fn selected(only: &[String]) -> impl Iterator<Item = &'static Case> {
    CASES.iter().filter(|case| only.is_empty() || only.iter().any(|name| name == case.name))
}

/// Refuses names that no case has.
pub(super) fn check_names(only: &[String]) -> Result<()> {
    match only.iter().find(|name| !CASES.iter().any(|case| case.name == **name)) {
        Some(unknown) => bail!("there is no case {unknown}; `cargo xtask bench --help` lists them"),
        None => Ok(()),
    }
}

/// A line for each case.
pub(super) fn help() -> String {
    CASES.iter().map(|case| format!("  {:<10}{}\n", case.name, case.help)).collect()
}
