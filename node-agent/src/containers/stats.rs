//! What a container uses: the kernel's counters, read once or again and again.
//!
//! Start reading at [`Engine::statistics`]. Reading is some small files on a blocking thread; nothing is read for a container
//! that nobody asks about. Figures that clients compute (percentages) are theirs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use node_runtime::cgroup::Cgroup;
use shoal_types::container::networking::NetworkMode;

use super::slot::Presence;
use super::{Engine, Handle, Shared, run_blocking};
use crate::api::containers::ContainerView;
use crate::api::streams::{InterfaceCounters, StatsMode, StatsReading, StatsSample};
use crate::error::NodeError;
use crate::runtime::cgroup;

/// Time between two readings.
const INTERVAL: Duration = Duration::from_secs(1);
/// The kernel counts processor time of the machine in ticks of 10 ms (`USER_HZ`), which is fixed for programs.
const NANOS_PER_TICK: u64 = 10_000_000;

/// What a stream of samples remembers.
struct Sampling {
    handle: Handle,
    shared: Arc<Shared>,
    previous: Option<StatsReading>,
    begin: Begin,
}

/// Whether a stream of samples has begun.
#[derive(Debug, PartialEq, Eq)]
enum Begin {
    Ahead,
    Done,
}

impl Engine {
    /// Measures what a container uses.
    pub(super) async fn statistics(
        &self,
        name: &str,
        mode: StatsMode,
    ) -> Result<BoxStream<'static, Result<StatsSample, NodeError>>, NodeError> {
        let handle = self.find(name)?;
        let shared = Arc::clone(&self.shared);
        Ok(match mode {
            StatsMode::OneShot => {
                let current = read(&shared, &handle.view()).await?;
                let sample = sample(&handle.view(), current, None);
                stream::iter([Ok(sample)]).boxed()
            }
            StatsMode::Once => stream::once(async move { measure_twice(&shared, &handle).await }).boxed(),
            StatsMode::Stream => {
                let sampling = Sampling { handle, shared, previous: None, begin: Begin::Ahead };
                stream::unfold(sampling, next).boxed()
            }
        })
    }
}

async fn measure_twice(shared: &Arc<Shared>, handle: &Handle) -> Result<StatsSample, NodeError> {
    let previous = read(shared, &handle.view()).await?;
    if previous.is_some() {
        // Rates are what lies between two readings, and the time between them is the measure.
        tokio::time::sleep(INTERVAL).await;
    }
    let view = handle.view();
    let current = read(shared, &view).await?;
    Ok(sample(&view, current, previous))
}

async fn next(mut sampling: Sampling) -> Option<(Result<StatsSample, NodeError>, Sampling)> {
    if sampling.begin == Begin::Done {
        // Clients expect a sample in this rhythm, whether or not anything has happened.
        tokio::time::sleep(INTERVAL).await;
    }
    sampling.begin = Begin::Done;
    let published = sampling.handle.slot().published();
    if published.presence == Presence::Removed {
        return None;
    }
    // A container that ends in this moment is one that does not run.
    let current = read(&sampling.shared, &published.view).await.unwrap_or(None);
    let sample = sample(&published.view, current.clone(), sampling.previous.take());
    sampling.previous = current;
    Some((Ok(sample), sampling))
}

fn sample(
    view: &ContainerView,
    current: Option<StatsReading>,
    previous: Option<StatsReading>,
) -> StatsSample {
    StatsSample { id: view.id, name: view.name.clone(), current, previous }
}

/// Reads everything; `None` when the container does not run.
async fn read(shared: &Arc<Shared>, view: &ContainerView) -> Result<Option<StatsReading>, NodeError> {
    let Some(pid) = view.state.run().map(|run| run.pid) else { return Ok(None) };
    let path = cgroup::path_of(view.id, &view.spec.resources, &shared.config());
    let has_network = !matches!(view.spec.networking.mode, NetworkMode::Host | NetworkMode::None);
    let host = Arc::clone(&shared.host);
    run_blocking(move || {
        let readings = Cgroup::at(Path::new(&path))
            .and_then(|cgroup| cgroup.readings())
            .map_err(|source| NodeError::failed("read the container's counters", source))?;
        let of_network =
            |has: bool| has.then(|| fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default());
        let cpu = fs::read_to_string("/proc/stat").unwrap_or_default();
        Ok(Some(StatsReading {
            at: Timestamp::now(),
            cgroup: readings,
            system_cpu: parse_system_cpu(&cpu),
            online_cpus: u32::try_from(host.n_cpus).unwrap_or(u32::MAX),
            machine_memory: host.memory,
            interfaces: of_network(has_network).map(|text| parse_interfaces(&text)).unwrap_or_default(),
        }))
    })
    .await?
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
        let figures: Vec<u64> = figures.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
        let figure = |index: usize| figures.get(index).copied().unwrap_or(0);
        let counters = InterfaceCounters {
            rx_bytes: figure(0),
            rx_packets: figure(1),
            rx_errors: figure(2),
            rx_dropped: figure(3),
            tx_bytes: figure(8),
            tx_packets: figure(9),
            tx_errors: figure(10),
            tx_dropped: figure(11),
        };
        Some((name.trim().to_owned(), counters)).filter(|(name, _)| name != "lo")
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
