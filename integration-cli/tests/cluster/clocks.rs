//! Clocks that are set while daemons run: forward, backward, and past the end of every certificate.
//!
//! Start reading at any case. Each daemon runs with libfaketime before the C library, which adds to the time of day what stands in a
//! file; clocks that only measure are left alone, as they are when an administrator sets the time. A daemon that is
//! linked statically cannot be led astray like this, so there these cases are skipped.

use std::fs;
use std::path::{Path, PathBuf};

use integration_cli::condition::within;
use integration_cli::{DaemonOptions, OwnDaemon, Test, cases};
use rustix::process::Signal;
use serde_json::Value;

use super::faults::leader;
use super::{Cluster, REST, options};

cases![
    clocks_that_are_set_stop_neither_writes_nor_tasks,
    a_cluster_whose_certificates_have_all_expired_comes_back_by_itself,
];

/// Where the package libfaketime puts it.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];

/// A cluster whose nodes' clocks are the test's.
struct Clocks {
    cluster: Cluster,
    library: &'static str,
}

impl Clocks {
    #[track_caller]
    fn formed(t: &Test, managers: usize, workers: usize) -> Self {
        let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
        let library = library.unwrap_or_else(|| integration_cli::skip("needs libfaketime"));
        let cluster = Cluster::of(t, managers + workers);
        let clocks = Self { cluster, library };
        for number in 1..=clocks.cluster.nodes.len() {
            let node = clocks.cluster.node(number);
            node.daemon().announce("");
            node.daemon().stop();
            // The library leaves something there when its program is killed.
            node.host("mount -t tmpfs clock /dev/shm").ok();
            clocks.set(number, "+0");
            clocks.start(number);
        }
        clocks.set(1, "+3d");
        if clocks.days_ahead(1) != 3 {
            integration_cli::skip("needs a daemon that is linked dynamically");
        }
        clocks.set(1, "+0");
        clocks.cluster.form(managers);
        clocks
    }

    /// Starts a daemon that was stopped, with a clock of the test's.
    fn start(&self, number: usize) {
        let file = self.file(number);
        let environment = [
            ("LD_PRELOAD", self.library),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        self.cluster.node(number).daemon().start_again(&DaemonOptions { environment, ..options(number) });
    }

    fn file(&self, number: usize) -> PathBuf {
        self.cluster.node(number).daemon().machine().root().join("clock")
    }

    /// Sets the clock of a node, relative to the machine's.
    fn set(&self, number: usize, offset: &str) {
        let file = self.file(number);
        // Read at any time, so never half written.
        let new = file.with_extension("new");
        fs::write(&new, offset).unwrap();
        fs::rename(&new, &file).unwrap();
    }

    /// How far a daemon's clock is before this machine's, by what it says of itself.
    fn days_ahead(&self, number: usize) -> i64 {
        let said = self.cluster.node(number).docker("info --format {{.SystemTime}}").ok();
        let seconds = |time: &str| self.cluster.node(number).host(&format!("date -d '{time}' +%s")).ok();
        let (theirs, ours) = (seconds(&said), seconds("now"));
        let ahead = theirs.trim().parse::<i64>().unwrap() - ours.trim().parse::<i64>().unwrap();
        (ahead + 43_200).div_euclid(86_400)
    }

    /// Waits until something can be written through a node, and makes sure that a service is carried out.
    #[track_caller]
    fn works(&self, through: usize, what: &str) {
        let node = self.cluster.node(through);
        within(REST, &format!("{what}: a write is acknowledged"), || {
            (node.docker("service update --detach --label-add at=now web").code == 0).then_some(())
        });
        let name = what.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        node.docker(&format!("service create --detach --no-resolve-image --name {name} busybox park")).ok();
        self.cluster.await_running(through, &name, 1);
        node.docker(&format!("service rm {name}")).ok();
    }

    fn end(self) {
        self.cluster.dissolve();
        for node in &self.cluster.nodes {
            node.daemon().stop();
            node.host("umount /dev/shm").ok();
        }
    }
}

fn ids(tasks: &[Value]) -> Vec<String> {
    let mut ids: Vec<String> = tasks.iter().map(|task| task["ID"].to_string()).collect();
    ids.sort();
    ids
}

fn clocks_that_are_set_stop_neither_writes_nor_tasks(t: &Test) {
    let clocks = Clocks::formed(t, 3, 1);
    let cluster = &clocks.cluster;
    cluster
        .node(1)
        .docker("service create --detach --no-resolve-image --name web --replicas 4 busybox park")
        .ok();
    let before = cluster.await_running(1, "web", 4);
    let leads = leader(cluster, 1).expect("somebody leads");
    let follows = leads % 3 + 1;
    for (who, number) in [("leader", leads), ("follower", follows), ("worker", 4)] {
        for (offset, where_to) in [("+26h", "ahead"), ("-50m", "behind"), ("+0", "right again")] {
            clocks.set(number, offset);
            clocks.works(leads, &format!("{who} {where_to}"));
        }
    }
    // Who comes to lead while its clock is behind, after one whose clock was ahead.
    clocks.set(leads, "+26h");
    clocks.set(follows, "-50m");
    clocks.works(leads, "ahead");
    cluster.node(leads).daemon().stop();
    clocks.works(follows, "behind");
    clocks.start(leads);
    (1..=4).for_each(|number| clocks.set(number, "+0"));
    clocks.works(leads, "in the end");
    cluster.await_ready(4);
    assert_eq!(ids(&cluster.await_running(leads, "web", 4)), ids(&before), "no task was touched");
    clocks.end();
}

fn a_cluster_whose_certificates_have_all_expired_comes_back_by_itself(t: &Test) {
    let clocks = Clocks::formed(t, 3, 1);
    let cluster = &clocks.cluster;
    cluster
        .node(1)
        .docker("service create --detach --no-resolve-image --name web --replicas 4 busybox park")
        .ok();
    let before = cluster.await_running(1, "web", 4);
    // Certificates hold for 90 days.
    (1..=4).for_each(|number| clocks.set(number, "+100d"));
    within(REST, "every node has renewed its certificate", || {
        let has_renewed = |node: &OwnDaemon| {
            let log = node.daemon().log_text();
            ["certificate renewed", "certificate is renewed"].iter().any(|text| log.contains(text))
        };
        cluster.nodes.iter().all(has_renewed).then_some(())
    });
    // Connections that were open went on. Now each daemon makes its own anew.
    for node in &cluster.nodes {
        node.daemon().signal(Signal::STOP);
    }
    for node in &cluster.nodes {
        node.daemon().signal(Signal::CONT);
    }
    cluster.await_ready(4);
    clocks.works(2, "after all have expired");
    // The same with nobody there when they expire.
    for node in &cluster.nodes {
        node.daemon().stop();
    }
    for number in 1..=4 {
        clocks.set(number, "+200d");
        clocks.start(number);
    }
    clocks.works(2, "after all have expired at rest");
    cluster.await_ready(4);
    assert_eq!(ids(&cluster.await_running(2, "web", 4)), ids(&before), "no task was touched");
    clocks.end();
}
