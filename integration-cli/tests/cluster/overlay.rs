//! Networks that span nodes: services and plain containers find each other, traffic flows, published ports answer everywhere.
//!
//! Start reading at any case. Nodes are machines of their own with a shared network between them, so every packet here has gone
//! through a tunnel.

use integration_cli::condition::{eventually, within};
use integration_cli::{OwnDaemon, Test, cases};
use serde_json::Value;

use super::{Cluster, REST, options};

cases![
    services_and_containers_find_each_other_across_nodes,
    published_ports_answer_on_every_node,
    networks_outlive_the_daemon,
    networks_outlive_the_loss_of_power,
    a_container_that_comes_back_at_once_is_found,
    only_attachable_networks_take_plain_containers,
    a_removed_network_is_gone_while_its_last_task_stops,
    each_node_makes_its_part_of_a_network_by_its_own_configuration,
];

/// A web server that says which task it is, on every node.
const WEB: &str = "busybox sh -c 'mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www'";

/// What a web server answers; `None` while it does not. busybox' own client is not to be had everywhere.
fn get(host: &str, port: u16) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 10 nc -w 3 {host} {port} | tail -n 1")
}

/// What a container sees of a web server.
fn fetched(node: &OwnDaemon, container: &str, host: &str) -> Option<String> {
    let outcome = node.docker_args(&["exec", container, "sh", "-c", &get(host, 80)]);
    Some(outcome.stdout.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The addresses to which a name leads in a container.
fn resolved(node: &OwnDaemon, container: &str, name: &str) -> Vec<String> {
    resolved_as(node, container, name, "a")
}

/// The addresses of one kind (`a`, `aaaa`) to which a name leads in a container.
pub(super) fn resolved_as(node: &OwnDaemon, container: &str, name: &str, kind: &str) -> Vec<String> {
    let outcome = node.docker(&format!("exec {container} nslookup -type={kind} {name}.")).stdout;
    // What stands before the first empty line is about the server that was asked.
    let answer = outcome.split_once("\n\n").map(|(_, answer)| answer.to_owned()).unwrap_or_default();
    let mut found: Vec<String> = answer
        .lines()
        .filter_map(|line| {
            line.strip_prefix("Address: ").or_else(|| line.split_once(": ").map(|(_, rest)| rest))
        })
        .filter_map(|rest| rest.split_whitespace().next())
        .filter(|word| word.parse::<std::net::IpAddr>().is_ok())
        .map(str::to_owned)
        .collect();
    found.sort();
    found
}

fn inspected(node: &OwnDaemon, line: &str) -> Value {
    serde_json::from_str::<Value>(&node.docker(line).ok()).expect("JSON")[0].clone()
}

fn services_and_containers_find_each_other_across_nodes(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    let (one, two) = (cluster.node(1), cluster.node(2));
    one.docker("network create -d overlay --attachable net").ok();
    one.docker(&format!(
        "service create --detach --no-resolve-image --name web --mode global --network name=net,alias=www {WEB}"
    ))
    .ok();
    cluster.await_running(1, "web", 2);
    let vip = one.docker("service inspect web --format '{{(index .Endpoint.VirtualIPs 0).Addr}}'").ok();
    let vip = vip.split_once('/').map(|(address, _)| address.to_owned()).expect("an address with a prefix");
    for (number, node) in [(1, one), (2, two)] {
        node.docker(&format!(
            "run -d --name c{number} --network net --network-alias mine{number} busybox park"
        ))
        .ok();
        let container = format!("c{number}");
        for name in ["web", "www"] {
            within(REST, &format!("{name} leads to its address on node {number}"), || {
                (resolved(node, &container, name) == [vip.as_str()]).then_some(())
            });
        }
        within(REST, &format!("tasks.web leads to both tasks on node {number}"), || {
            (resolved(node, &container, "tasks.web").len() == 2).then_some(())
        });
        let mut seen = std::collections::BTreeSet::new();
        within(REST, &format!("both tasks answer on node {number}"), || {
            seen.extend(fetched(node, &container, "web"));
            (seen.len() == 2).then_some(())
        });
    }
    within(REST, "plain containers find each other", || {
        let there = resolved(two, "c2", "mine1");
        (there.len() == 1 && two.docker("exec c2 ping -c 1 -W 2 c1").code == 0).then_some(())
    });
    let packet = one.docker("exec c1 ping -c 1 -W 2 -s 8000 c2");
    assert_eq!(packet.code, 0, "large packets are put together again: {}", packet.stderr);

    let network = inspected(two, "network inspect --verbose net");
    assert_eq!(network["Peers"].as_array().map(Vec::len), Some(2), "{network}");
    assert_eq!(network["Services"]["web"]["VIP"], vip, "{network}");
    assert_eq!(network["Services"]["web"]["Tasks"].as_array().map(Vec::len), Some(2), "{network}");
    let in_use = one.docker("network rm net");
    assert!(in_use.stderr.contains("is in use by service"), "{}", in_use.stderr);

    one.docker("service rm web").ok();
    within(REST, "the name is gone", || resolved(two, "c2", "web").is_empty().then_some(()));
    one.docker("rm -f c1").ok();
    two.docker("rm -f c2").ok();
    within(REST, "nothing is in the network any more", || {
        (one.docker("network rm net").code == 0).then_some(())
    });
    within(REST, "the worker has nothing of it", || {
        let left = two.docker("network ls -q --filter name=net --filter driver=overlay").ok();
        left.is_empty().then_some(())
    });
    cluster.dissolve();
}

fn published_ports_answer_on_every_node(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    let (one, two) = (cluster.node(1), cluster.node(2));
    one.docker(&format!(
        "service create --detach --no-resolve-image --name web --publish 8080:80 --replicas 1 {WEB}"
    ))
    .ok();
    cluster.await_running(1, "web", 1);
    let asked = |from: &OwnDaemon, address: &str| {
        let outcome = from.host(&get(address, 8080).replace("nc -w", "busybox nc -w"));
        Some(outcome.stdout.trim().to_owned()).filter(|text| !text.is_empty())
    };
    for (from, address) in [(one, "192.0.2.2"), (two, "192.0.2.1"), (one, "127.0.0.1"), (two, "127.0.0.1")] {
        within(REST, &format!("{address} answers"), || asked(from, address));
    }
    one.docker("service rm web").ok();
    within(REST, "nobody answers any more", || asked(two, "192.0.2.1").is_none().then_some(()));
    cluster.dissolve();
}

fn networks_outlive_the_daemon(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    let (one, two) = (cluster.node(1), cluster.node(2));
    one.docker("network create -d overlay --attachable net").ok();
    one.docker(&format!(
        "service create --detach --no-resolve-image --name web --mode global --network net {WEB}"
    ))
    .ok();
    cluster.await_running(1, "web", 2);
    two.docker("run -d --name c2 --network net busybox park").ok();
    within(REST, "the service answers", || fetched(two, "c2", "web"));
    restart(two, 2);
    within(REST, "it still does", || fetched(two, "c2", "web"));
    cluster.await_ready(2);
    cluster.await_running(1, "web", 2);
    one.docker("service create --detach --no-resolve-image --name more --network net busybox park").ok();
    cluster.await_running(1, "more", 1);
    within(REST, "what comes later is found", || (resolved(two, "c2", "more").len() == 1).then_some(()));
    two.docker("rm -f c2").ok();
    one.docker("service rm web more").ok();
    cluster.dissolve();
}

/// What a container had in a network ends with it, and managers are told so. When it is back before they know, it is given the same
/// again, and word of its end must not take that away.
fn a_container_that_comes_back_at_once_is_found(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    let (one, two) = (cluster.node(1), cluster.node(2));
    one.docker("network create -d overlay --attachable net").ok();
    let names = ["c2", "c3", "c4", "c5"];
    for name in names {
        two.docker(&format!("run -d --name {name} --network net --network-alias of-{name} busybox park"))
            .ok();
    }
    one.docker("run -d --name c1 --network net busybox park").ok();
    let is_found = |name: &str| one.docker(&format!("exec c1 ping -c 1 -W 2 of-{name}")).code == 0;
    for _ in 0..5 {
        two.docker(&format!("restart -t 0 {}", names.join(" "))).ok();
        for name in names {
            within(REST, &format!("{name} is found"), || is_found(name).then_some(()));
        }
    }
    two.docker(&format!("rm -f {}", names.join(" "))).ok();
    one.docker("rm -f c1").ok();
    within(REST, "the network can be removed", || (one.docker("network rm net").code == 0).then_some(()));
    cluster.dissolve();
}

fn networks_outlive_the_loss_of_power(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    let (one, two) = (cluster.node(1), cluster.node(2));
    cluster.nodes.iter().for_each(|node| node.daemon().announce(""));
    one.docker("network create -d overlay --attachable net").ok();
    one.docker(&format!(
        "service create --detach --no-resolve-image --name web --mode global --network net --restart-delay 0s {WEB}"
    ))
    .ok();
    cluster.await_running(1, "web", 2);
    two.docker("run -d --name c2 --restart always --network net --network-alias mine busybox park").ok();
    one.docker("run -d --name c1 --network net busybox park").ok();
    within(REST, "the service answers", || fetched(two, "c2", "web"));
    for number in [2, 1] {
        let node = cluster.node(number);
        node.daemon().lose_power();
        node.daemon().start_again(&options(number));
        cluster.await_ready(2);
        cluster.await_running(1, "web", 2);
        if number == 1 {
            one.docker("start c1").ok();
        }
        within(REST, "the container with a policy runs and finds the service", || fetched(two, "c2", "web"));
        within(REST, "it is found", || (one.docker("exec c1 ping -c 1 -W 2 mine").code == 0).then_some(()));
    }
    two.docker("rm -f c2").ok();
    one.docker("rm -f c1").ok();
    one.docker("service rm web").ok();
    within(REST, "the network can be removed", || (one.docker("network rm net").code == 0).then_some(()));
    cluster.dissolve();
}

fn restart(node: &OwnDaemon, number: usize) {
    node.daemon().kill();
    node.daemon().start_again(&options(number));
    eventually("the daemon answers", || (node.get("/info").status == 200).then_some(()));
}

fn only_attachable_networks_take_plain_containers(t: &Test) {
    let cluster = Cluster::formed(t, 1, 0);
    let one = cluster.node(1);
    one.docker("network create -d overlay closed").ok();
    one.docker("network create -d overlay --attachable --subnet 10.77.0.0/24 open").ok();
    one.docker("run --rm --network closed busybox true")
        .fails_saying(125, "Could not attach to network closed");
    let container = one.docker("run -d --network open --ip 10.77.0.9 busybox park").ok();
    let address =
        one.docker(&format!("inspect {container} --format {{{{.NetworkSettings.Networks.open.IPAddress}}}}"));
    assert_eq!(address.ok(), "10.77.0.9");
    one.docker("run --rm --network open --ip 10.77.0.9 busybox true")
        .fails_saying(125, "Address already in use");
    let in_use = one.docker("network rm open");
    assert!(in_use.stderr.contains("is in use by task"), "{}", in_use.stderr);
    one.docker(&format!("rm -f {container}")).ok();
    within(REST, "it can be removed then", || (one.docker("network rm open").code == 0).then_some(()));
    one.docker("network rm closed").ok();
    cluster.dissolve();
}

fn a_removed_network_is_gone_while_its_last_task_stops(t: &Test) {
    let cluster = Cluster::formed(t, 1, 0);
    let one = cluster.node(1);
    let serve = |name: &str, grace: &str, command: &str| {
        let line = "service create --detach --no-resolve-image --network net --stop-grace-period";
        one.docker("network create -d overlay net").ok();
        one.docker(&format!("{line} {grace} --name {name} {command}")).ok();
        cluster.await_running(1, name, 1);
        one.docker(&format!("ps -q --filter name={name}.1")).ok()
    };
    let before = serve("before", "90s", "busybox sh -c 'trap : TERM; while true; do sleep 1; done'");
    one.docker("service rm before").ok();
    one.docker("network rm net").ok();
    for line in ["network inspect net", "network rm net"] {
        let missing = one.docker(line);
        assert!(missing.code != 0 && missing.stderr.contains("not found"), "{line}: {}", missing.stderr);
    }
    assert_eq!(one.docker("network ls -q --filter name=^net$").ok(), "");

    let after = serve("after", "1s", WEB);
    assert_eq!(one.docker("ps -q --filter name=before.1").ok(), before, "it had all the time to stop");
    let id = one.docker("network ls -q --no-trunc --filter name=^net$").ok();
    let joined = inspected(one, &format!("inspect {after}"));
    assert_eq!(joined["NetworkSettings"]["Networks"]["net"]["NetworkID"], id, "{joined}");
    one.docker(&format!("kill {before}")).ok();
    within(REST, "the first container is gone", || {
        one.docker("ps -aq --filter name=before.1").ok().is_empty().then_some(())
    });
    within(REST, "the service answers by its name", || fetched(one, &after, "after"));
    one.docker("service rm after").ok();
    cluster.dissolve();
}

fn each_node_makes_its_part_of_a_network_by_its_own_configuration(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    let one = cluster.node(1);
    one.docker("network create --config-only --subnet 10.81.1.0/24 conf").ok();
    one.docker("network create --scope swarm --config-from conf -d bridge own").ok();
    one.docker(
        "service create --detach --no-resolve-image --name web --mode global --restart-delay 100ms --network own busybox park",
    )
    .ok();
    within(REST, "a node without the configuration says so", || {
        let errors = one.docker("service ps web --no-trunc --format {{.Error}}").ok();
        errors.contains("failed to find the configuration network conf").then_some(())
    });
    cluster.node(2).docker("network create --config-only --subnet 10.81.2.0/24 conf").ok();
    cluster.await_running(1, "web", 2);
    for number in [1, 2] {
        let node = cluster.node(number);
        let task = inspected(node, &format!("inspect {}", cluster.containers(number)[0]));
        let address =
            task["NetworkSettings"]["Networks"]["own"]["IPAddress"].as_str().unwrap_or_default().to_owned();
        assert!(address.starts_with(&format!("10.81.{number}.")), "{address}");
        assert_eq!(node.docker("network ls --filter name=^own$ --format {{.Scope}}").ok(), "swarm");
    }
    one.docker("service rm web").ok();
    one.docker("network rm own").ok();
    for number in [1, 2] {
        let node = cluster.node(number);
        within(REST, "nodes have nothing of it", || {
            // Its configuration can go when nothing made by it is left.
            (node.docker("network rm conf").code == 0).then_some(())
        });
    }
    cluster.dissolve();
}
