//! Whatever is done with networks, services and containers, and however often daemons die meanwhile: once all is removed, machines
//! are as before.
//!
//! Start reading at the case. What is done is drawn from a seed; what is refused is as good as what is done. The short form is part of
//! every run; `cargo xtask test leaks` takes the long one: `SHOAL_LEAKS="nodes=3 operations=1000 seed=1"`.

use std::collections::BTreeSet;

use integration_cli::condition::{eventually, within};
use integration_cli::plan;
use integration_cli::process::run;
use integration_cli::report::note;
use integration_cli::{OwnDaemon, Test, cases};

use super::clients::Chance;
use super::{Cluster, REST, options};

cases![nothing_is_left_of_many_operations_and_deaths];

const NETWORKS: u64 = 4;
const SERVICES: u64 = 4;
const CONTAINERS: u64 = 4;
/// One in so many operations is the death of a daemon.
const DEATH: u64 = 25;

/// What is tried.
#[derive(Debug, Clone, Copy)]
struct Plan {
    nodes: usize,
    operations: usize,
    seed: u64,
}

impl Plan {
    fn from_environment() -> Self {
        let [nodes, operations, seed] =
            plan::numbers("SHOAL_LEAKS", [("nodes", 2), ("operations", 50), ("seed", 1)]);
        Self { nodes, operations, seed: seed as u64 }
    }
}

/// What the kernel of a machine has, as lines that can be compared.
fn kernel_of(node: &OwnDaemon) -> BTreeSet<String> {
    let looks = [
        // The other end of a pair has another number each time.
        ("interface", "ip -o link show | cut -d: -f2 | cut -d@ -f1"),
        ("rule of the firewall", "nft -s list ruleset"),
        ("forwarding entry", "bridge fdb show | grep -v 33:33"),
        ("rule of routing", "ip rule; ip -6 rule"),
        (
            "route",
            "(ip route show table all; ip -6 route show table all) | grep -v -e fe80 -e ff00 | sed 's/ linkdown//'",
        ),
        ("namespace", "grep -c nsfs /proc/self/mountinfo"),
    ];
    let mut found = BTreeSet::new();
    for (kind, script) in looks {
        let mut shell = node.daemon().machine().inside("sh");
        shell.args(["-c", script]);
        let listed = run(shell, b"").stdout;
        found.extend(listed.lines().map(|line| format!("{kind}: {}", line.trim())));
    }
    found
}

/// Something that somebody may do. Most is refused at one time or another.
fn operate(cluster: &Cluster, chance: &mut Chance) -> &'static str {
    let number = usize::try_from(chance.below(cluster.nodes.len() as u64)).unwrap() + 1;
    let (one, some) = (cluster.node(1), cluster.node(number));
    let (network, service) = (chance.below(NETWORKS), chance.below(SERVICES));
    let (container, other) = (chance.below(CONTAINERS), chance.below(NETWORKS));
    if chance.below(DEATH) == 0 {
        some.daemon().kill();
        some.daemon().start_again(&options(number));
        eventually("the daemon is in the cluster again", || {
            (some.docker("info --format {{.Swarm.LocalNodeState}}").stdout.trim() == "active").then_some(())
        });
        return "death";
    }
    let (line, node, what) = match chance.below(12) {
        0 | 1 => (format!("network create -d overlay --attachable net{network}"), one, "network create"),
        2 => (
            format!(
                "network create -d overlay --attachable --ipv6 --subnet fd00:{network}::/64 net{network}"
            ),
            one,
            "network create",
        ),
        3 => (format!("network rm net{network}"), one, "network rm"),
        4 | 5 => (
            format!(
                "service create --detach --no-resolve-image --name service{service} --replicas {} --network net{network} \
                 --publish {}:80 --restart-delay 0s busybox park",
                1 + other,
                8080 + service
            ),
            one,
            "service create",
        ),
        6 => (format!("service scale --detach service{service}={other}"), one, "service scale"),
        7 => (format!("service update --detach --force service{service}"), one, "service update"),
        8 => (format!("service rm service{service}"), one, "service rm"),
        9 => (format!("run -d --name container{container} --network net{network} busybox park"), some, "run"),
        10 => (format!("network connect net{other} container{container}"), some, "network connect"),
        _ => (format!("rm -f container{container}"), some, "rm"),
    };
    if node.docker(&line).code == 0 { what } else { "refused" }
}

/// Removes everything, as soon as it can be removed.
fn clear(cluster: &Cluster) {
    let one = cluster.node(1);
    within(REST, "services are removed", || {
        let services = one.docker("service ls -q").stdout;
        services.lines().for_each(|id| drop(one.docker(&format!("service rm {id}"))));
        (one.docker("service ls -q").ok().is_empty()).then_some(())
    });
    for number in 1..=cluster.nodes.len() {
        let node = cluster.node(number);
        within(REST, "containers are removed", || {
            let listed = node.docker("ps -aq").stdout;
            let own = node.docker("ps -aq --filter is-task=false").stdout;
            own.lines().for_each(|id| drop(node.docker(&format!("rm -f {id}"))));
            listed.trim().is_empty().then_some(())
        });
    }
    within(REST, "networks are removed", || {
        let networks = one.docker("network ls -q --filter type=custom --filter driver=overlay").stdout;
        let others: Vec<&str> = networks.lines().collect();
        others.iter().for_each(|id| drop(one.docker(&format!("network rm {id}"))));
        let left = one.docker("network ls --filter driver=overlay --format {{.Name}}").ok();
        left.lines().all(|name| name == "ingress").then_some(())
    });
}

fn nothing_is_left_of_many_operations_and_deaths(t: &Test) {
    let plan = Plan::from_environment();
    note(&format!("{plan:?}"));
    let cluster = Cluster::formed(t, 1, plan.nodes - 1);
    // Daemons that are killed have much to say; what counts is what stays.
    cluster.nodes.iter().for_each(|node| node.daemon().announce(""));
    let one = cluster.node(1);
    // What a machine keeps once it has had networks that span nodes is made before the first look.
    one.docker("network create -d overlay --attachable net0").ok();
    one.docker("service create --detach --no-resolve-image --name service0 --mode global --network net0 --publish 8080:80 busybox park").ok();
    cluster.await_running(1, "service0", plan.nodes);
    clear(&cluster);
    let before: Vec<BTreeSet<String>> = cluster.nodes.iter().map(kernel_of).collect();

    let (mut chance, mut done) = (Chance(plan.seed), std::collections::BTreeMap::new());
    for _ in 0..plan.operations {
        *done.entry(operate(&cluster, &mut chance)).or_insert(0) += 1;
    }
    note(&format!("{done:?}"));
    clear(&cluster);
    for (node, before) in cluster.nodes.iter().zip(&before) {
        let mut now = BTreeSet::new();
        let is_equal = integration_cli::condition::poll(REST, &mut || {
            now = kernel_of(node);
            (now == *before).then_some(())
        });
        assert!(
            is_equal.is_some(),
            "left: {:#?}; lost: {:#?}",
            now.difference(before).collect::<Vec<_>>(),
            before.difference(&now).collect::<Vec<_>>()
        );
    }
    cluster.dissolve();
}
