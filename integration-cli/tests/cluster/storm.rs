//! Many nodes that join at the same time.
//!
//! Start reading at the case. A few are part of every run; `SHOAL_STORM=20` takes so many.

use std::time::{Duration, Instant};

use integration_cli::report::note;
use integration_cli::{Test, cases};

use super::Cluster;

/// How long joining may take when the machine is busy with twenty daemons.
const LIMIT: Duration = Duration::from_secs(300);

cases![nodes_that_join_all_at_once_are_all_taken];

fn nodes_that_join_all_at_once_are_all_taken(t: &Test) {
    let size = std::env::var("SHOAL_STORM").ok().map_or(5, |size| size.parse().expect("a number of nodes"));
    // Each of them is a process of its own with a share of one machine, so what they say of slowness is expected.
    let cluster = Cluster::bare(t, size);
    let one = cluster.node(1);
    one.docker("swarm init").ok();
    let token = |role: &str| one.docker(&format!("swarm join-token -q {role}")).ok();
    let (manager, worker) = (token("manager"), token("worker"));
    let begun = Instant::now();
    let joining: Vec<_> = (2..=size)
        .map(|number| {
            let token = if number <= 3 { &manager } else { &worker };
            cluster.node(number).docker_start(&format!("swarm join --token {token} 192.0.2.1:2377"))
        })
        .collect();
    for (client, number) in joining.into_iter().zip(2..) {
        let joined = client.finish_within(LIMIT);
        assert!(joined.code == 0, "node {number}: {joined:?}");
    }
    note(&format!("{} nodes have joined at once in {:?}", size - 1, begun.elapsed()));
    cluster.await_ready(size);
    note(&format!("and all were ready after {:?}", begun.elapsed()));
    cluster.dissolve();
}
