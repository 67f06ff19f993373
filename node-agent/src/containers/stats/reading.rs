//! One reading of what a container uses. Blocks for as long as it takes to read some small files.
//!
//! Start reading at [`read`]. Figures that clients compute (percentages) are theirs.

use std::fs::{self, File};
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::path::Path;

use jiff::Timestamp;
use node_runtime::cgroup::{Cgroup, Counters, Readings};
use rustix::fs::{Mode, OFlags};
use shoal_types::container::networking::NetworkMode;

use crate::api::containers::ContainerView;
use crate::api::streams::{InterfaceCounters, StatsReading};
use crate::containers::config::EngineConfig;
use crate::containers::host::Host;
use crate::error::NodeError;
use crate::runtime::cgroup;

/// The kernel counts processor time of the machine in ticks of 10 ms (`USER_HZ`), which is fixed for programs.
const NANOS_PER_TICK: u64 = 10_000_000;
/// Room for the interfaces of an ordinary container, and more than the kernel gives at once.
const READ_LEN: usize = 8 << 10;
/// What is shorter is the whole: a line is far shorter than what then is left of the page that the kernel fills.
const SURELY_WHOLE: usize = 2 << 10;

/// One run of a container: what there is to read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pid: u32,
    started_at: Timestamp,
    cgroup: String,
    network: Network,
}

/// Whether a container has interfaces of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Own,
    None,
}

impl Subject {
    /// `None` when the container does not run.
    pub(super) fn of(view: &ContainerView, config: &EngineConfig) -> Option<Self> {
        let run = view.state.run()?;
        let network = match view.spec.networking.mode {
            NetworkMode::Host | NetworkMode::None => Network::None,
            _ => Network::Own,
        };
        let cgroup = cgroup::path_of(view.id, &view.spec.resources, config);
        Some(Self { pid: run.pid, started_at: run.started_at, cgroup, network })
    }
}

/// What a reading says of the machine.
#[derive(Debug)]
pub(super) struct MachineReading {
    system_cpu: u64,
    online_cpus: u32,
    memory: u64,
}

impl MachineReading {
    /// The machine as it is now.
    pub(super) fn take(host: &Host) -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self {
            system_cpu: parse_system_cpu(&stat),
            online_cpus: u32::try_from(host.n_cpus).unwrap_or(u32::MAX),
            memory: host.memory,
        }
    }
}

/// Finds a container's counters.
pub(super) fn open_counters(subject: &Subject) -> Result<Counters, NodeError> {
    Cgroup::at(Path::new(&subject.cgroup))
        .map(|cgroup| Counters::of(&cgroup))
        .map_err(|source| NodeError::failed("read the container's counters", source))
}

/// Reads everything; `None` if the container has ended before its owner knows.
pub(super) fn read(
    subject: &Subject,
    counters: &mut Counters,
    machine: &MachineReading,
) -> Option<StatsReading> {
    let cgroup = counters.read();
    if cgroup == Readings::default() {
        return None;
    }
    let interfaces = match subject.network {
        // Not kept open: that would keep the network namespace.
        Network::Own => read_interfaces(subject.pid).unwrap_or_default(),
        Network::None => Vec::new(),
    };
    Some(StatsReading {
        at: Timestamp::now(),
        cgroup,
        system_cpu: machine.system_cpu,
        online_cpus: machine.online_cpus,
        machine_memory: machine.memory,
        interfaces,
    })
}

/// The interfaces of a process, from the kernel's table of them.
fn read_interfaces(pid: u32) -> Option<Vec<(String, InterfaceCounters)>> {
    let path = format!("/proc/{pid}/net/dev");
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut room = [MaybeUninit::uninit(); READ_LEN];
    let (text, _) = rustix::io::read(&file, &mut room[..]).ok()?;
    if text.len() < SURELY_WHOLE {
        return str::from_utf8(text).ok().map(parse_interfaces);
    }
    let mut text = text.to_vec();
    File::from(file).read_to_end(&mut text).ok()?;
    str::from_utf8(&text).ok().map(parse_interfaces)
}

/// Processor time of the machine in nanoseconds: the first seven figures of the first line, as dockerd adds them.
fn parse_system_cpu(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let ticks = line.into_iter().flat_map(str::split_whitespace).take(7);
    let sum = ticks.filter_map(|figure| figure.parse::<u64>().ok()).fold(0u64, u64::saturating_add);
    sum.saturating_mul(NANOS_PER_TICK)
}

/// The interfaces of `/proc/PID/net/dev` but the loopback one.
fn parse_interfaces(text: &str) -> Vec<(String, InterfaceCounters)> {
    let parse = |line: &str| {
        let (name, figures) = line.split_once(':')?;
        let name = name.trim();
        if name == "lo" {
            return None;
        }
        let mut columns = [0; 12];
        for (column, figure) in columns.iter_mut().zip(figures.split_ascii_whitespace()) {
            *column = figure.parse().unwrap_or(0);
        }
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, .., tx_bytes, tx_packets, tx_errors, tx_dropped] =
            columns;
        let counters = InterfaceCounters {
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
        };
        Some((name.to_owned(), counters))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_the_sum_of_the_first_seven_figures() {
        let stat = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(parse_system_cpu(stat), 28 * NANOS_PER_TICK);
        assert_eq!(parse_system_cpu(""), 0);
    }

    #[test]
    fn interfaces_are_read_without_loopback() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
                    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n  \
                    eth0:    1       2    3    4    5     6          7         8      9      10    11    12    13     14       15         16\n";
        let interfaces = parse_interfaces(text);
        assert_eq!(interfaces.len(), 1);
        let (name, counters) = &interfaces[0];
        assert_eq!(name, "eth0");
        assert_eq!((counters.rx_bytes, counters.rx_dropped), (1, 4));
        assert_eq!((counters.tx_bytes, counters.tx_packets, counters.tx_dropped), (9, 10, 12));
    }
}
