//! Cleans a test machine up even when the test process is killed.
//!
//! The guard is this same executable, started again with [`COMMAND`]; it waits for the end of its standard input,
//! which the kernel brings about whatever ends the test process, and then purges. In the normal course the harness
//! purges itself (see [`Guard::purge`]) and the guard finds nothing to do.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::condition::poll;
use crate::machine::{NAME_PREFIX, cgroup_hierarchies};
use crate::process::{Running, command};

/// First argument that turns a test binary into a guard.
pub const COMMAND: &str = "__guard";

/// The running guard of one machine.
#[derive(Debug)]
pub struct Guard {
    name: String,
    root: PathBuf,
    process: Option<Running>,
}

impl Guard {
    /// Starts a guard for the machine `name`, whose files lie in `root`.
    #[must_use]
    pub fn watch(name: &str, root: &Path) -> Self {
        let mut guard = command(std::env::current_exe().expect("the path of the test binary"));
        guard.arg(COMMAND).arg(name).arg(root);
        // A Ctrl-C at the terminal ends the tests, not their clean-up.
        guard.process_group(0);
        Self { name: name.to_owned(), root: root.to_owned(), process: Some(Running::start(guard)) }
    }

    /// Purges now and dismisses the guard; returns what could not be removed.
    #[must_use]
    pub fn purge(&mut self) -> Vec<String> {
        let left = purge(&self.name, &self.root);
        if let Some(mut process) = self.process.take() {
            process.close_stdin();
            process.finish();
        }
        left
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.purge().clear();
        }
    }
}

/// Runs as a guard if the arguments say so; returns whether they did.
pub fn run_as_guard(arguments: &[String]) -> bool {
    let [_, first, name, root] = arguments else { return false };
    if first != COMMAND {
        return false;
    }
    // A guard is never started by hand; this keeps a wrong call from removing a directory of somebody's.
    assert!(
        name.starts_with(NAME_PREFIX) && Path::new(root).ends_with(name),
        "not a test machine: {name} {root}"
    );
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
    purge(name, Path::new(root)).clear();
    true
}

/// Processes in any cgroup of the machine `name`.
#[must_use]
pub fn members(name: &str) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for hierarchy in cgroup_hierarchies() {
        for group in groups_below(&hierarchy.join(name)) {
            let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            found.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
    }
    found
}

/// Cgroup directories of the machine `name`, deepest first.
#[must_use]
pub fn groups(name: &str) -> Vec<PathBuf> {
    cgroup_hierarchies().iter().flat_map(|hierarchy| groups_below(&hierarchy.join(name))).collect()
}

fn purge(name: &str, root: &Path) -> Vec<String> {
    let mut left = Vec::new();
    thaw(name);
    let ended = poll(Duration::from_secs(20), &mut || {
        let alive = members(name);
        for pid in alive.iter().copied().filter_map(Pid::from_raw) {
            kill_process(pid, Signal::KILL).ok();
        }
        alive.is_empty().then_some(())
    });
    if ended.is_none() {
        left.push(format!("processes that do not die: {:?}", members(name)));
    }
    let removed = poll(Duration::from_secs(5), &mut || {
        groups(name).iter().all(|group| fs::remove_dir(group).is_ok()).then_some(())
    });
    if removed.is_none() {
        left.push(format!("cgroups: {:?}", groups(name)));
    }
    // Mounts below the directory belong to the machine's mount namespace and end with its last process; until the
    // kernel has torn that down, removal may find a directory busy.
    let gone = poll(Duration::from_secs(20), &mut || {
        fs::remove_dir_all(root).ok();
        (!root.exists()).then_some(())
    });
    if gone.is_none() {
        left.push(format!("directory {}", root.display()));
    }
    left
}

fn thaw(name: &str) {
    for group in groups(name) {
        fs::write(group.join("freezer.state"), "THAWED").ok();
        fs::write(group.join("cgroup.freeze"), "0").ok();
    }
}

fn groups_below(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(top) else { return found };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(groups_below(&entry.path()));
        }
    }
    found.push(top.to_owned());
    found
}
