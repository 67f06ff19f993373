//! Clusters of real daemons, each on a machine of its own, joined by a network that the test can cut.
//!
//! Start reading at [`Cluster`]. The number of nodes is kept small: a daemon costs a second of a processor. Cases that take long
//! belong into a suite of their own; those here are what every change has to pass.

mod availability;
mod churn;
mod clients;
mod clocks;
mod disks;
mod encrypted;
mod failover;
mod faults;
mod keys;
mod latency;
mod leaks;
mod membership;
mod overlay;
mod partitions;
mod recovery;
mod restarts;
mod rolling;
mod services;
mod spread;
mod storm;

use std::time::Duration;

use integration_cli::condition::{eventually, within};
use integration_cli::lan::Lan;
use integration_cli::{Case, DaemonOptions, OwnDaemon, Test};
use serde_json::{Value, json};

/// How long a cluster may take to come to rest. Only a broken one needs this long.
const REST: Duration = Duration::from_secs(60);

/// What daemons may say about nodes that a test takes away, and about joining while others start.
const EXPECTED: [&str; 12] = [
    "could not be made known",
    "leadership could not be handed over",
    "raft",
    "certificate could not be renewed yet",
    "this machine has become no node of a cluster",
    "the manager of this node does not run",
    "no certificate of the wanted role and authority yet",
    "task cannot be removed yet",
    "openraft",
    "dispatcher",
    "heartbeat",
    "step of a task failed",
];

pub(crate) fn cases() -> Vec<Case> {
    [
        availability::cases(),
        churn::cases(),
        clocks::cases(),
        disks::cases(),
        encrypted::cases(),
        failover::cases(),
        faults::cases(),
        keys::cases(),
        latency::cases(),
        leaks::cases(),
        membership::cases(),
        overlay::cases(),
        partitions::cases(),
        recovery::cases(),
        restarts::cases(),
        rolling::cases(),
        services::cases(),
        spread::cases(),
        storm::cases(),
    ]
    .concat()
}

/// Daemons that can reach each other.
pub(crate) struct Cluster {
    /// Before the network: a machine that is torn down takes its cable along.
    pub(crate) nodes: Vec<OwnDaemon>,
    pub(crate) lan: Lan,
}

/// Options of the daemon with this number.
pub(crate) fn options(number: usize) -> DaemonOptions {
    DaemonOptions::flags(&format!("--swarm-default-advertise-addr 192.0.2.{number}"))
}

impl Cluster {
    /// Daemons that are in no cluster yet, numbered from 1, with the suite's images.
    #[track_caller]
    pub(crate) fn of(t: &Test, size: usize) -> Self {
        Self::made_of(t, size, Test::own_daemon)
    }

    /// The same without images, for cases that run no tasks: a daemon is there much sooner.
    #[track_caller]
    pub(crate) fn bare(t: &Test, size: usize) -> Self {
        Self::made_of(t, size, Test::bare_daemon)
    }

    #[track_caller]
    fn made_of(t: &Test, size: usize, start: fn(&Test, &DaemonOptions) -> OwnDaemon) -> Self {
        if t.implementation().is_reference() {
            integration_cli::skip("the reference's nodes would share the machine's kernel objects");
        }
        let lan = Lan::create();
        let nodes = (1..=size)
            .map(|number| {
                let node = start(t, &options(number));
                EXPECTED.iter().for_each(|text| node.daemon().announce(text));
                lan.plug(node.daemon().machine(), u8::try_from(number).unwrap());
                node
            })
            .collect();
        Self { nodes, lan }
    }

    /// A cluster of so many managers and workers that are all ready.
    #[track_caller]
    pub(crate) fn formed(t: &Test, managers: usize, workers: usize) -> Self {
        let cluster = Self::of(t, managers + workers);
        cluster.form(managers);
        cluster
    }

    /// Makes a cluster of nodes that are in none; the first `managers` become managers.
    #[track_caller]
    pub(crate) fn form(&self, managers: usize) {
        self.node(1).docker("swarm init").ok();
        for number in 2..=self.nodes.len() {
            let role = if number <= managers { "manager" } else { "worker" };
            self.join(number, role);
        }
        self.await_ready(self.nodes.len());
    }

    pub(crate) fn node(&self, number: usize) -> &OwnDaemon {
        &self.nodes[number - 1]
    }

    /// Lets a node join by the token of node 1.
    #[track_caller]
    pub(crate) fn join(&self, number: usize, role: &str) {
        let token = self.node(1).docker(&format!("swarm join-token -q {role}")).ok();
        self.node(number).docker(&format!("swarm join --token {token} 192.0.2.1:2377")).ok();
    }

    #[track_caller]
    pub(crate) fn await_ready(&self, count: usize) {
        within(REST, "all nodes are ready", || {
            let nodes = self.try_list(1, "/nodes")?;
            let ready = nodes.iter().filter(|node| node["Status"]["State"] == "ready").count();
            (ready == count).then_some(())
        });
    }

    /// Objects as node `number` lists them; `None` while it cannot.
    pub(crate) fn try_list(&self, number: usize, path: &str) -> Option<Vec<Value>> {
        let reply = self.node(number).get(path);
        (reply.status == 200).then(|| reply.json().as_array().cloned().unwrap_or_default())
    }

    /// Tasks of a service that shall run and do.
    pub(crate) fn running(&self, number: usize, service: &str) -> Option<Vec<Value>> {
        let filters = json!({"service": [service], "desired-state": ["running"]});
        let tasks = self.try_list(number, &integration_cli::session::with_filters("/tasks", &filters))?;
        let runs = |task: &Value| task["Status"]["State"] == "running";
        Some(tasks.into_iter().filter(runs).collect())
    }

    /// Waits until exactly so many tasks of a service run and no other shall; returns them.
    #[track_caller]
    pub(crate) fn await_running(&self, number: usize, service: &str, count: usize) -> Vec<Value> {
        within(REST, &format!("{count} tasks of {service} run"), || {
            let filters = json!({"service": [service], "desired-state": ["running"]});
            let path = integration_cli::session::with_filters("/tasks", &filters);
            let tasks = self.try_list(number, &path)?;
            let settled =
                tasks.len() == count && tasks.iter().all(|task| task["Status"]["State"] == "running");
            settled.then_some(tasks)
        })
    }

    /// Names of the containers of tasks that run on a node.
    pub(crate) fn containers(&self, number: usize) -> Vec<String> {
        let listed = self.node(number).docker("ps --filter is-task=true --format {{.Names}}").ok();
        listed.lines().map(str::to_owned).collect()
    }

    /// Lets every node leave, so that nothing of the cluster is left on any.
    #[track_caller]
    pub(crate) fn dissolve(&self) {
        for node in self.nodes.iter().rev() {
            let left = node.docker("swarm leave --force");
            assert!(left.code == 0 || left.stderr.contains("not part of a swarm"), "{}", left.stderr);
        }
        for number in 1..=self.nodes.len() {
            eventually("tasks are gone", || self.containers(number).is_empty().then_some(()));
        }
    }
}
