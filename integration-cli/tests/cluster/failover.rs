//! What a cluster does when managers and daemons go away.

use integration_cli::condition::{eventually, within};
use integration_cli::{Test, cases};
use std::time::{Duration, Instant};

use super::{Cluster, options};

cases![
    a_killed_leader_is_replaced_and_nothing_is_lost,
    restarts_of_daemons_stop_no_task,
    a_node_that_is_cut_off_keeps_its_tasks_alive_until_it_returns,
];

fn pids(cluster: &Cluster, number: usize) -> Vec<String> {
    let ids = cluster.node(number).docker("ps -q --no-trunc --filter is-task=true").ok();
    let mut pids: Vec<String> = ids
        .lines()
        .map(|id| cluster.node(number).docker(&format!("inspect {id} --format {{{{.State.Pid}}}}")).ok())
        .collect();
    pids.sort();
    pids
}

fn a_killed_leader_is_replaced_and_nothing_is_lost(t: &Test) {
    let cluster = Cluster::formed(t, 3, 0);
    cluster
        .node(1)
        .docker("service create --detach --no-resolve-image --name web --replicas 3 busybox park")
        .ok();
    cluster.await_running(1, "web", 3);
    let leader = (1..=3)
        .find(|number| {
            let line = "node inspect self --format {{.ManagerStatus.Leader}}";
            cluster.node(*number).docker(line).ok() == "true"
        })
        .expect("somebody leads");
    let other = leader % 3 + 1;
    let before = pids(&cluster, other);
    cluster.node(leader).daemon().kill();
    let killed = Instant::now();
    within(Duration::from_secs(20), "writes succeed again", || {
        let made = cluster.node(other).docker_with_input("config create after -", b"x");
        (made.code == 0).then_some(())
    });
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(12), "took {took:?}");
    assert_eq!(cluster.node(other).docker("service ls --format {{.Name}}").ok(), "web");
    assert_eq!(pids(&cluster, other), before, "tasks of other nodes are not touched");
    cluster.node(leader).daemon().start_again(&options(leader));
    eventually("the old leader answers", || (cluster.node(leader).docker("node ls").code == 0).then_some(()));
    cluster.await_ready(3);
    cluster.await_running(leader, "web", 3);
    cluster.dissolve();
}

fn restarts_of_daemons_stop_no_task(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    cluster
        .node(1)
        .docker("service create --detach --no-resolve-image --name web --replicas 2 busybox park")
        .ok();
    let tasks = cluster.await_running(1, "web", 2);
    for number in [2, 1] {
        let before = pids(&cluster, number);
        assert_eq!(before.len(), 1);
        cluster.node(number).daemon().stop();
        cluster.node(number).daemon().start_again(&options(number));
        assert_eq!(pids(&cluster, number), before, "node {number}");
        eventually("the manager answers", || (cluster.node(1).docker("node ls").code == 0).then_some(()));
        cluster.await_ready(2);
    }
    let after = cluster.await_running(1, "web", 2);
    let ids = |tasks: &[serde_json::Value]| {
        let mut ids: Vec<String> = tasks.iter().map(|task| task["ID"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&tasks), ids(&after), "the same tasks run");
    cluster.node(1).docker("service rm web").ok();
    cluster.dissolve();
}

fn a_node_that_is_cut_off_keeps_its_tasks_alive_until_it_returns(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    let (one, two) = (cluster.node(1), cluster.node(2));
    let service = "service create --detach --no-resolve-image --name web --replicas 2 --restart-delay 100ms busybox park";
    one.docker(service).ok();
    cluster.await_running(1, "web", 2);
    let id = two.docker("ps -q --filter is-task=true").ok();
    cluster.lan.cut(2);
    two.docker(&format!("kill {id}")).ok();
    eventually("the node has started its task again by itself", || {
        (two.docker("ps -q --filter is-task=true").ok() == id).then_some(())
    });
    eventually("the other node has a replacement", || (cluster.containers(1).len() == 2).then_some(()));
    cluster.lan.mend(2);
    eventually("the copy is stopped", || cluster.containers(2).is_empty().then_some(()));
    cluster.await_ready(2);
    cluster.await_running(1, "web", 2);
    one.docker("service rm web").ok();
    cluster.dissolve();
}
