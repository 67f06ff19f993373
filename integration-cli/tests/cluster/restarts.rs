//! Daemons that are restarted or die while others use the cluster: what was acknowledged is there, once, and nobody waits long.
//!
//! Start reading at any case.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use integration_cli::condition::{eventually, within};
use integration_cli::http::{Client, Request};
use integration_cli::{Test, cases};
use serde_json::json;

use super::clients::Clients;
use super::{Cluster, REST, options};

cases![
    a_rolling_restart_of_all_nodes_loses_no_acknowledged_request,
    a_leader_that_dies_during_creations_loses_none_and_doubles_none_and_all_may_die_at_once,
];

/// Services that are created while the leader dies.
const SERVICES: usize = 200;

fn a_rolling_restart_of_all_nodes_loses_no_acknowledged_request(t: &Test) {
    let cluster = Cluster::formed(t, 3, 1);
    cluster.nodes.iter().for_each(|node| node.daemon().announce(""));
    cluster
        .node(1)
        .docker("service create --detach --no-resolve-image --name web --replicas 4 busybox park")
        .ok();
    let before = cluster.await_running(1, "web", 4);
    let clients = Clients::begin(&cluster, 3, 1);
    clients.go_on("before anything happens");
    for number in 1..=4 {
        let daemon = cluster.node(number).daemon();
        daemon.stop();
        clients.go_on(&format!("without node {number}"));
        daemon.start_again(&options(number));
        // As an administrator does: the next only when this one is back.
        within(REST, "its managers are reachable and all nodes ready", || {
            let nodes = cluster.try_list(number.min(3), "/nodes")?;
            let is_well = |node: &&serde_json::Value| {
                node["Status"]["State"] == "ready"
                    && node["ManagerStatus"]
                        .as_object()
                        .is_none_or(|status| status["Reachability"] == "reachable")
            };
            (nodes.iter().filter(is_well).count() == 4).then_some(())
        });
        clients.go_on(&format!("with node {number} again"));
    }
    let after = cluster.await_running(1, "web", 4);
    let ids = |tasks: &[serde_json::Value]| -> BTreeSet<String> {
        tasks.iter().map(|task| task["ID"].to_string()).collect()
    };
    assert_eq!(ids(&before), ids(&after), "no task was touched");
    clients.judge(&cluster);
    cluster.dissolve();
}

fn a_leader_that_dies_during_creations_loses_none_and_doubles_none_and_all_may_die_at_once(t: &Test) {
    let cluster = Cluster::bare(t, 3);
    cluster.form(3);
    cluster.nodes.iter().for_each(|node| node.daemon().announce(""));
    let leader = eventually("somebody leads", || super::faults::leader(&cluster, 1));
    let others: Vec<usize> = (1..=3).filter(|number| *number != leader).collect();
    let clients: Vec<Client> =
        others.iter().map(|number| Client::new(cluster.node(*number).daemon().socket())).collect();
    let n_created = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (half, client) in clients.iter().enumerate() {
            let n_created = &n_created;
            scope.spawn(move || {
                for number in (half..SERVICES).step_by(2) {
                    create(client, number);
                    n_created.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        within(REST, "a part of them is created", || {
            (n_created.load(Ordering::SeqCst) >= SERVICES / 4).then_some(())
        });
        cluster.node(leader).daemon().kill();
    });
    let expected: Vec<String> = (0..SERVICES).map(|number| format!("s{number:03}")).collect();
    assert_eq!(names(&cluster, others[0]), expected);
    for number in &others {
        cluster.node(*number).daemon().kill();
    }
    for number in 1..=3 {
        cluster.node(number).daemon().start_again(&options(number));
    }
    for number in 1..=3 {
        assert_eq!(names(&cluster, number), expected, "node {number} after all have died");
    }
    cluster.await_ready(3);
    cluster.dissolve();
}

/// Creates a service without tasks, again until it is acknowledged. That it exists already is an acknowledgement of an attempt
/// whose answer was lost.
#[track_caller]
fn create(client: &Client, number: usize) {
    let name = format!("s{number:03}");
    let spec = json!({
        "Name": name, "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}}, "Mode": {"Replicated": {"Replicas": 0}},
    });
    let request = Request::new("POST", "/services/create").json(&spec);
    within(REST, &format!("{name} is acknowledged"), || {
        let reply = client.send(&request).ok()?;
        (reply.status == 201 || reply.message().contains("already exists")).then_some(())
    });
}

/// The names of all services as a manager lists them, sorted; one that is there twice is listed twice.
#[track_caller]
fn names(cluster: &Cluster, number: usize) -> Vec<String> {
    let services = within(REST, "services are listed", || cluster.try_list(number, "/services"));
    let mut names: Vec<String> =
        services.iter().map(|service| service["Spec"]["Name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}
