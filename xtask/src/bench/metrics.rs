//! Everything that is measured of an engine, with the target that it must meet.
//!
//! Start reading at [`METRICS`]. A number that is not listed here cannot be recorded. Targets are ratios to the peer that is named
//! first, unless the row says otherwise; they are what the project set itself, not what it reached.

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Better {
    Lower,
    Higher,
}

/// What must hold for Shoal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Target {
    /// Shown for information.
    Open,
    /// At most this part of the peer's value.
    RatioAtMost(f64),
    /// At least this many times the peer's value.
    RatioAtLeast(f64),
    /// At most this value, whatever the peer has.
    AtMost(f64),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric {
    /// `case.what`.
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    pub(super) target: Target,
    /// What the number means, for those who read only the table.
    pub(super) meaning: &'static str,
}

const fn lower(name: &'static str, unit: &'static str, target: Target, meaning: &'static str) -> Metric {
    Metric { name, unit, better: Better::Lower, target, meaning }
}

const fn higher(name: &'static str, unit: &'static str, target: Target, meaning: &'static str) -> Metric {
    Metric { name, unit, better: Better::Higher, target, meaning }
}

use Target::{AtMost, Open, RatioAtLeast, RatioAtMost};

pub(super) const METRICS: &[Metric] = &[
    lower("run.bridge", "ms", RatioAtMost(0.15), "create, start, wait, remove of `true`, bridge network"),
    lower("run.bridge.cpu", "cpu-ms", RatioAtMost(0.15), "processor time of that, container included"),
    lower("run.bridge.create", "ms", Open, "its parts"),
    lower("run.bridge.start", "ms", Open, ""),
    lower("run.bridge.wait", "ms", Open, ""),
    lower("run.bridge.remove", "ms", Open, ""),
    lower("run.none", "ms", RatioAtMost(0.15), "the same without a network"),
    lower("run.none.cpu", "cpu-ms", RatioAtMost(0.15), ""),
    lower("cli.run", "ms", RatioAtMost(0.35), "`docker run --rm IMAGE true` as a user waits for it"),
    lower("cli.run.cpu", "cpu-ms", Open, "processor time of the engine and the container"),
    lower("cli.version", "ms", Open, "`docker version`: what the client costs by itself"),
    higher("parallel.rate", "/s", RatioAtLeast(5.0), "containers created and started by 8 workers"),
    lower("parallel.cpu", "cpu-ms", Open, "processor time for each of them"),
    higher("parallel.remove", "/s", Open, "running containers removed by 8 workers"),
    lower("exec.api", "ms", RatioAtMost(0.25), "exec: create, start attached, read, inspect"),
    lower("exec.api.cpu", "cpu-ms", Open, ""),
    lower("exec.cli", "ms", Open, "`docker exec` as a user waits for it"),
    lower("idle.memory", "MiB", RatioAtMost(0.12), "PSS of all processes of the engine, no containers"),
    lower("idle.cpu", "% core", Open, "processor time while nothing happens"),
    lower("idle.wakeups", "/s", Open, "voluntary context switches while nothing happens"),
    lower("idle.container", "MiB", AtMost(0.5), "PSS added by a running container, its own processes apart"),
    lower("idle.container.cpu", "% core", Open, "processor time with 20 idle containers"),
    lower("idle.container.wakeups", "/s", Open, ""),
    lower("crowd.few", "ms", Open, "as run.bridge, with 10 containers running"),
    lower("crowd.many", "ms", Open, "as run.bridge, with 300 containers running"),
    lower("crowd.growth", "x", AtMost(1.25), "the second by the first: flat is 1"),
    lower("crowd.growth.cpu", "x", AtMost(1.25), "the same of processor time"),
    lower("pull.layers", "s", RatioAtMost(0.5), "image of 8 layers, 200 MB, from a registry on this machine"),
    lower("pull.layers.cpu", "cpu-s", Open, ""),
    lower("pull.files", "s", RatioAtMost(0.5), "image of 20,000 small files"),
    lower("pull.files.cpu", "cpu-s", Open, ""),
    higher("logs.write", "MB/s", RatioAtLeast(8.0), "a container writes 200 MB of lines, json-file"),
    lower("logs.write.cpu", "cpu-s", Open, ""),
    higher("logs.read", "MB/s", RatioAtLeast(20.0), "`docker logs` of them"),
    higher("logs.read.api", "MB/s", Open, "the same by a client that does nothing with it"),
    lower("logs.read.cpu", "cpu-s", Open, "processor time of the engine for that"),
    lower("logs.tail", "ms", Open, "`docker logs --tail 100` of them"),
    higher("logs.attach.cli", "MB/s", Open, "`docker run` with 200 MB of output, no log"),
    higher("logs.attach.api", "MB/s", Open, "the same output by a client that does nothing with it"),
    lower("restart.empty", "ms", Open, "start of the daemon until /_ping, no containers"),
    lower("restart.full", "ms", RatioAtMost(0.2), "with 100 stopped and 20 running containers"),
    lower("restart.killed", "ms", RatioAtMost(0.2), "the same after kill -9"),
    higher("list.all", "/s", RatioAtLeast(50.0), "GET /containers/json?all=1 of 300 containers"),
    higher("list.all.busy", "/s", Open, "the same on 4 connections"),
    higher("list.inspect", "/s", Open, "inspect of one of them"),
    higher("list.ping", "/s", Open, "GET /_ping"),
    higher("list.ping.busy", "/s", Open, "the same on 4 connections"),
    higher("cp.file.in", "MB/s", RatioAtLeast(2.0), "`docker cp` of one file of 200 MB"),
    higher("cp.file.out", "MB/s", RatioAtLeast(2.0), ""),
    higher("cp.tree.in", "files/s", RatioAtLeast(2.0), "`docker cp` of 5,000 files"),
    higher("cp.tree.out", "files/s", RatioAtLeast(2.0), ""),
    lower("cp.file.in.cpu", "cpu-ms", Open, "processor time of the engine for these"),
    lower("cp.file.out.cpu", "cpu-ms", Open, ""),
    lower("cp.tree.in.cpu", "cpu-ms", Open, ""),
    lower("cp.tree.out.cpu", "cpu-ms", Open, ""),
    higher("cp.api.file.in", "MB/s", Open, "the same archives over the API: sent as they lie there"),
    higher("cp.api.tree.in", "files/s", Open, ""),
    higher("cp.api.file.out", "MB/s", Open, "and counted as they come"),
    higher("cp.api.tree.out", "files/s", Open, ""),
    lower("replicas.run", "ms", RatioAtMost(0.3), "a service of 100 replicas on one node, until all run"),
    lower("replicas.run.cpu", "cpu-ms", Open, "processor time of that"),
    lower("replicas.remove", "ms", Open, "its removal, until no container is left"),
    lower("stats.cpu", "% core", AtMost(1.0), "100 containers watched by `stats`"),
];

/// What the kernel alone costs: the floor under the numbers above.
pub(super) const FLOORS: &[Metric] = &[
    lower("floor.spawn", "ms", Open, "fork, exec and wait of a static program"),
    lower("floor.namespaces", "ms", Open, "the same in new mount, uts, ipc, pid, cgroup and net namespaces"),
    lower(
        "floor.crowd.few",
        "ms",
        Open,
        "the same and floor.veth, beside the containers of crowd.few of all engines",
    ),
    lower("floor.crowd.many", "ms", Open, "and beside those of crowd.many: what the kernel alone grows"),
    lower("floor.mount", "ms", Open, "mount of an overlay of 8 layers, its directories made"),
    lower("floor.unmount", "ms", Open, "and the end of it"),
    lower("floor.veth", "ms", Open, "network namespace, veth pair between it and a bridge, address, route"),
    lower("floor.veth.delete", "ms", Open, "and the end of it"),
    lower("floor.cgroup", "ms", Open, "a directory in every cgroup hierarchy, and its removal"),
    lower("floor.container", "ms", Open, "all of the above for one program, in turn"),
    lower("floor.runtime.runc", "ms", Open, "`runc run` of `true`: no engine, overlay, veth, seccomp filter"),
    lower("floor.runtime.crun", "ms", Open, "the same by crun"),
    lower("floor.runtime.shoal", "ms", Open, "the same by `shoald runtime`"),
    lower("floor.shoald", "ms", Open, "the shoald binary started and ended: at least so much for each shim"),
    lower("floor.append", "ms", Open, "4 KiB appended and made durable: at least so much for each commit"),
    lower("floor.replace", "ms", Open, "a small file replaced durably"),
    higher("floor.ping", "/s", Open, "requests to a server of fixed answers, this load generator"),
    higher("floor.pipe", "MB/s", Open, "the lines of logs.write through a pipe"),
    higher(
        "floor.cp.file.in",
        "MB/s",
        Open,
        "`docker cp` with an engine that keeps nothing: the client alone",
    ),
    higher("floor.cp.file.out", "MB/s", Open, "and with one that hands out an archive as it lies there"),
    higher("floor.cp.tree.in", "files/s", Open, ""),
    higher("floor.cp.tree.out", "files/s", Open, ""),
    lower("floor.untar.layers", "s", Open, "tar -xz of the 8 layers, a process for each processor"),
    lower("floor.untar.files", "s", Open, "tar -xz of the 20,000 files"),
];

/// The row of that name.
pub(super) fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().chain(FLOORS).find(|metric| metric.name == name)
}

impl Target {
    /// Whether it is met; `None` when nothing is asked or the comparison is missing.
    pub(super) fn is_met(self, value: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::Open => None,
            Self::RatioAtMost(limit) => ratio.map(|ratio| ratio <= limit),
            Self::RatioAtLeast(limit) => ratio.map(|ratio| ratio >= limit),
            Self::AtMost(limit) => Some(value <= limit),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open => Ok(()),
            Self::RatioAtMost(limit) => write!(f, "x <= {limit}"),
            Self::RatioAtLeast(limit) => write!(f, "x >= {limit}"),
            Self::AtMost(limit) => write!(f, "<= {limit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_look_at_the_ratio_or_at_the_value() {
        let table = [
            (Open, 1.0, Some(0.1), None),
            (RatioAtMost(0.15), 9.0, Some(0.15), Some(true)),
            (RatioAtMost(0.15), 0.01, Some(0.16), Some(false)),
            (RatioAtMost(0.15), 9.0, None, None),
            (RatioAtLeast(5.0), 9.0, Some(4.9), Some(false)),
            (AtMost(0.5), 0.4, None, Some(true)),
            (AtMost(0.5), 0.6, Some(0.01), Some(false)),
        ];
        for (target, value, ratio, is_met) in table {
            assert_eq!(target.is_met(value, ratio), is_met, "{target:?} {value} {ratio:?}");
        }
    }

    #[test]
    fn every_name_is_unique() {
        let mut names: Vec<_> = METRICS.iter().chain(FLOORS).map(|metric| metric.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
