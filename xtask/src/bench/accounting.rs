//! What an engine costs: processor time, memory and wake-ups of every process that is its own.
//!
//! Start reading at [`Account`]. An engine is started in a control group of its own and its containers are put below the same
//! directory, so that processor time is complete whichever process of the engine spends it and whatever has ended meanwhile.
//! Containers' own processes are told apart by their process namespace.

use std::collections::BTreeMap;
use std::fs::{read_link, read_to_string};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::samples::Milliseconds;

/// The top directory of ours in every hierarchy.
pub(super) const TOP: &str = "shoal-bench";

/// How long an engine may go on after an answer before it counts as one that never rests.
const SETTLING: Duration = Duration::from_millis(200);
/// An engine that uses less than [`AT_REST`] in a stretch of this length is done.
const REST: Duration = Duration::from_millis(5);
const AT_REST: Milliseconds = 0.2;

/// The control group of one engine.
#[derive(Debug)]
pub(super) struct Account {
    directory: PathBuf,
    /// Where containers belong, as engines name it.
    containers: String,
}

/// Proportional memory of an engine's processes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) mebibytes: f64,
    /// Count and mebibytes by program.
    pub(super) by_program: BTreeMap<String, (usize, f64)>,
}

impl Account {
    /// Makes the groups of an engine.
    pub(super) fn open(name: &str) -> Result<Self> {
        let directory = hierarchy()?.join(TOP).join(name);
        let account = Self { directory, containers: format!("/{TOP}/{name}/containers") };
        let daemon = account.daemon_group();
        std::fs::create_dir_all(&daemon).with_context(|| format!("create {}", daemon.display()))?;
        Ok(account)
    }

    /// The group that the daemon is started in. A leaf, because cgroup v2 wants processes in leaves only.
    pub(super) fn daemon_group(&self) -> PathBuf {
        self.directory.join("daemon")
    }

    /// Parent group of all containers.
    pub(super) fn container_parent(&self) -> &str {
        &self.containers
    }

    /// Processor time so far, of everything that ever ran below the engine's directory.
    pub(super) fn cpu(&self) -> Result<Milliseconds> {
        let statistics = read_to_string(self.directory.join("cpu.stat")).unwrap_or_default();
        if let Some(used) = statistics.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
            return Ok(used.parse::<f64>()? / 1e3);
        }
        let used = read_to_string(self.directory.join("cpuacct.usage"))?;
        Ok(used.trim().parse::<f64>()? / 1e6)
    }

    /// Waits until the engine is done with what it does after it has answered, which its next request would otherwise pay.
    pub(super) fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + SETTLING;
        let mut before = self.cpu()?;
        while Instant::now() < deadline {
            // Rest is a property of a stretch of time.
            std::thread::sleep(REST);
            let now = self.cpu()?;
            if now - before < AT_REST {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// Memory of the engine's own processes.
    pub(super) fn memory(&self) -> Result<Memory> {
        let mut memory = Memory::default();
        for pid in self.processes()? {
            // A process that ends meanwhile costs nothing.
            let Some(mebibytes) = proportional_memory(pid) else { continue };
            let program = read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
            let entry = memory.by_program.entry(program).or_default();
            entry.0 += 1;
            entry.1 += mebibytes;
            memory.mebibytes += mebibytes;
        }
        Ok(memory)
    }

    /// How often threads of the engine's own processes have gone to sleep so far.
    pub(super) fn voluntary_switches(&self) -> Result<u64> {
        Ok(self.processes()?.into_iter().map(switches).sum())
    }

    fn processes(&self) -> Result<Vec<u32>> {
        let home = read_link("/proc/self/ns/pid")?;
        let all = members(&self.directory);
        let is_own = |pid: &u32| read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|space| space == home);
        Ok(all.into_iter().filter(is_own).collect())
    }
}

/// Processes in a group and below. Shared with the removal of what an earlier run left.
pub(super) fn members(directory: &Path) -> Vec<u32> {
    let own = read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    pids.extend(children(directory).iter().flat_map(|child| members(child)));
    pids
}

/// Groups directly below a group.
pub(super) fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Mount points of all hierarchies.
pub(super) fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = read_to_string("/proc/self/mountinfo")?;
    Ok(parse_hierarchies(&mounts).into_iter().map(|(path, _)| path).collect())
}

/// The hierarchy whose processor times are read: version 2 where there is one, else cpuacct.
fn hierarchy() -> Result<PathBuf> {
    let mounts = read_to_string("/proc/self/mountinfo")?;
    let mut all = parse_hierarchies(&mounts);
    all.retain(|(_, use_)| *use_ != Use::Other);
    all.sort_by_key(|(_, use_)| *use_);
    let (path, _) = all.into_iter().next().context("neither cgroup2 nor cpuacct is mounted")?;
    Ok(path)
}

/// What a hierarchy is good for here, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Version2,
    ProcessorTime,
    Other,
}

/// Lines of mountinfo: `id parent dev root MOUNTPOINT options... - TYPE source SUPEROPTIONS` (proc_pid_mountinfo(5)).
fn parse_hierarchies(mounts: &str) -> Vec<(PathBuf, Use)> {
    let parse = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let path = PathBuf::from(mount.split(' ').nth(4)?);
        let mut kind = kind.split(' ');
        match kind.next()? {
            "cgroup2" => Some((path, Use::Version2)),
            "cgroup" if kind.nth(1)?.split(',').any(|name| name == "cpuacct") => {
                Some((path, Use::ProcessorTime))
            }
            "cgroup" => Some((path, Use::Other)),
            _ => None,
        }
    };
    mounts.lines().filter_map(parse).collect()
}

fn proportional_memory(pid: u32) -> Option<f64> {
    let rollup = read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

fn switches(pid: u32) -> u64 {
    let threads = children(Path::new(&format!("/proc/{pid}/task")));
    let of_thread = |thread: &PathBuf| {
        let status = read_to_string(thread.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    threads.iter().filter_map(of_thread).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_in_every_layout() {
        let hybrid = "30 20 0:1 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                      31 30 0:2 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                      32 30 0:3 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      33 30 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = parse_hierarchies(hybrid);
        let expected = [
            ("/sys/fs/cgroup/cpu,cpuacct", Use::ProcessorTime),
            ("/sys/fs/cgroup/memory", Use::Other),
            ("/sys/fs/cgroup/unified", Use::Version2),
        ];
        assert_eq!(found, expected.map(|(path, use_)| (PathBuf::from(path), use_)));
    }
}
