//! How long users wait: for the answer to a creation, and for the next leader.
//!
//! Start reading at the case. Its figures are printed and not judged; the short form is part of every run, `cargo xtask bench cluster`
//! takes the long one with a release build: `SHOAL_LATENCY="creations=1000 failovers=5"`.

use std::time::{Duration, Instant};

use integration_cli::condition::{eventually, within};
use integration_cli::http::{Client, Request};
use integration_cli::plan;
use integration_cli::report::note;
use integration_cli::{Test, cases};
use serde_json::{Value, json};

use super::faults::leader;
use super::{Cluster, REST, options};

cases![creations_are_answered_and_leaders_replaced];

/// What is done how often.
#[derive(Debug, Clone, Copy)]
struct Plan {
    creations: usize,
    failovers: usize,
}

impl Plan {
    fn from_environment() -> Self {
        let [creations, failovers] = plan::numbers("SHOAL_LATENCY", [("creations", 30), ("failovers", 1)]);
        Self { creations, failovers }
    }
}

fn creations_are_answered_and_leaders_replaced(t: &Test) {
    let plan = Plan::from_environment();
    note(&format!("{plan:?}"));
    let cluster = Cluster::bare(t, 3);
    cluster.form(3);
    cluster.nodes.iter().for_each(|node| node.daemon().announce(""));
    let leads = eventually("somebody leads", || leader(&cluster, 1));
    for (whom, number) in [("the leader", leads), ("a follower", leads % 3 + 1)] {
        let client = Client::new(cluster.node(number).daemon().socket());
        let mut taken: Vec<Duration> =
            (0..plan.creations).map(|n| create(&client, &format!("s{number}-{n}"))).collect();
        taken.sort_unstable();
        let at = |hundredths: usize| taken[(taken.len() * hundredths / 100).min(taken.len() - 1)];
        note(&format!(
            "{} creations asked of {whom}: median {:?}, p99 {:?}, longest {:?}",
            plan.creations,
            at(50),
            at(99),
            at(100)
        ));
    }
    let waits: Vec<Duration> = (0..plan.failovers).map(|round| fail_over(&cluster, round)).collect();
    note(&format!("writes succeeded after the leader was killed: {waits:?}"));
    cluster.dissolve();
}

/// Creates a service that no node can take, so that managers have all their work and nodes none. How long the answer took.
#[track_caller]
fn create(client: &Client, name: &str) -> Duration {
    let template = json!({
        "ContainerSpec": {"Image": "busybox"}, "Placement": {"Constraints": ["node.labels.nowhere==true"]},
    });
    let spec = json!({"Name": name, "TaskTemplate": template, "Mode": {"Replicated": {"Replicas": 1}}});
    let request = Request::new("POST", "/services/create").json(&spec);
    let begun = Instant::now();
    client.send(&request).expect("an answer").expect(201);
    begun.elapsed()
}

/// Kills the leader. How long it takes until another manager acknowledges a write.
#[track_caller]
fn fail_over(cluster: &Cluster, round: usize) -> Duration {
    let number = eventually("somebody leads", || leader(cluster, 1));
    let client = Client::new(cluster.node(number % 3 + 1).daemon().socket());
    let config = json!({"Name": format!("after{round}"), "Data": "eA=="});
    let request = Request::new("POST", "/configs/create").json(&config);
    cluster.node(number).daemon().kill();
    let killed = Instant::now();
    within(REST, "writes succeed again", || {
        let reply = client.send(&request).ok()?;
        (reply.status == 201 || reply.message().contains("already exists")).then_some(())
    });
    let taken = killed.elapsed();
    cluster.node(number).daemon().start_again(&options(number));
    within(REST, "all managers are reachable again", || {
        let nodes = cluster.try_list(number, "/nodes")?;
        let is_reachable = |node: &&Value| node["ManagerStatus"]["Reachability"] == "reachable";
        (nodes.iter().filter(is_reachable).count() == 3).then_some(())
    });
    taken
}
