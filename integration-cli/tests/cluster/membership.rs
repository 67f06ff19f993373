//! Beginning, joining and leaving clusters, and what nodes say that may not answer.

use integration_cli::condition::eventually;
use integration_cli::{Test, cases};

use super::{Cluster, options};

cases![
    nodes_begin_join_and_leave,
    a_node_is_promoted_and_demoted,
    a_manager_need_not_reach_the_address_that_it_advertises,
];

const NOT_A_MEMBER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
     this node to swarm and try again.";

fn nodes_begin_join_and_leave(t: &Test) {
    let cluster = Cluster::of(t, 2);
    let (one, two) = (cluster.node(1), cluster.node(2));
    assert!(two.docker("node ls").stderr.contains(NOT_A_MEMBER));
    assert!(two.docker("swarm leave").stderr.contains("This node is not part of a swarm"));
    let begun = one.docker("swarm init").ok();
    assert!(begun.contains("is now a manager"), "{begun}");
    let token = one.docker("swarm join-token -q worker").ok();
    let secret = token.rsplit_once('-').unwrap();
    assert!(token.starts_with("SWMTKN-1-") && secret.1.len() == 25, "{token}");
    assert!(one.docker("swarm init").stderr.contains("This node is already part of a swarm"));
    let wrong = format!("{}-{}", secret.0, "0".repeat(25));
    let refused = two.docker(&format!("swarm join --token {wrong} 192.0.2.1:2377"));
    assert!(refused.stderr.contains("A valid join token is necessary"), "{}", refused.stderr);
    cluster.join(2, "worker");
    cluster.await_ready(2);
    assert!(
        two.docker("node ls").stderr.contains("Worker nodes can't be used to view or modify cluster state")
    );
    assert_eq!(
        two.docker("info --format {{.Swarm.LocalNodeState}}/{{.Swarm.ControlAvailable}}").ok(),
        "active/false"
    );
    assert_eq!(
        one.docker("info --format {{.Swarm.LocalNodeState}}/{{.Swarm.ControlAvailable}}").ok(),
        "active/true"
    );
    let id = two.docker("info --format {{.Swarm.NodeID}}").ok();
    two.docker("swarm leave").ok();
    assert_eq!(two.docker("info --format {{.Swarm.LocalNodeState}}").ok(), "inactive");
    eventually("the node is down", || {
        let state = one.docker(&format!("node inspect {id} --format {{{{.Status.State}}}}")).ok();
        (state == "down").then_some(())
    });
    one.docker(&format!("node rm {id}")).ok();
    assert!(one.docker("swarm leave").stderr.contains("Removing the last manager erases all current state"));
    cluster.dissolve();
}

fn a_node_is_promoted_and_demoted(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    let (one, two) = (cluster.node(1), cluster.node(2));
    let id = two.docker("info --format {{.Swarm.NodeID}}").ok();
    one.docker(&format!("node promote {id}")).ok();
    eventually("the node manages", || (two.docker("node ls").code == 0).then_some(()));
    // What it was made survives a restart of its daemon.
    two.daemon().stop();
    two.daemon().start_again(&options(2));
    eventually("it manages again", || (two.docker("node ls").code == 0).then_some(()));
    // The client changes the node as it has read it; what the node reports in between refuses that, as swarm does.
    eventually("the node is demoted", || (one.docker(&format!("node demote {id}")).code == 0).then_some(()));
    eventually("the node is a worker", || {
        two.docker("node ls").stderr.contains("Worker nodes can't be used").then_some(())
    });
    cluster.await_ready(2);
    // The certificate for another role was none of another authority: the node renews again when it is told to.
    let root = one.docker("swarm ca").ok();
    one.docker("swarm ca --rotate --detach").ok();
    eventually("every node has another authority's certificate", || {
        (one.docker("swarm ca").ok() != root).then_some(())
    });
    cluster.dissolve();
}

fn a_manager_need_not_reach_the_address_that_it_advertises(t: &Test) {
    let cluster = Cluster::of(t, 1);
    // Nobody listens on that port: others may come by a router that translates it.
    cluster.node(1).docker("swarm init --listen-addr 0.0.0.0:2377 --advertise-addr 192.0.2.1:2999").ok();
    cluster.await_ready(1);
    // An overlay that is to be joined by a container at once waits for its addresses.
    let one = cluster.node(1);
    one.docker("network create -d overlay --attachable both").ok();
    one.run("--network both busybox true").ok();
    // The container's attachment ends a moment after it.
    eventually("the network can be removed", || (one.docker("network rm both").code == 0).then_some(()));
    cluster.dissolve();
}
