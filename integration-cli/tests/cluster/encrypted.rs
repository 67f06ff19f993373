//! Encrypted networks that span nodes: traffic flows, keys change with the cluster's authority, nothing is left.
//!
//! Start reading at the case. What the LAN sees is looked at in overlay-net's own tests, packet by packet; here it is whether real
//! daemons find each other's keys.

use std::path::PathBuf;

use integration_cli::condition::within;
use integration_cli::{OwnDaemon, Test, cases};

use super::{Cluster, REST};

cases![containers_of_encrypted_networks_reach_each_other_and_keys_change];

fn pings(node: &OwnDaemon, from: &str, to: &str, size: u32) -> Option<()> {
    (node.docker(&format!("exec {from} ping -c 1 -W 2 -s {size} {to}")).code == 0).then_some(())
}

/// Where a node has what encrypts.
fn place(node: &OwnDaemon) -> PathBuf {
    node.daemon().machine().root().join("exec/wireguard")
}

fn containers_of_encrypted_networks_reach_each_other_and_keys_change(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    let (one, two) = (cluster.node(1), cluster.node(2));
    one.docker("network create -d overlay --attachable --opt encrypted net").ok();
    for (number, node) in [(1, one), (2, two)] {
        node.docker(&format!("run -d --name c{number} --network net busybox park")).ok();
    }
    within(REST, "plain containers find each other", || pings(two, "c2", "c1", 56));
    within(REST, "large packets are put together again", || pings(one, "c1", "c2", 8000));
    let mtu = one.docker("exec c1 cat /sys/class/net/eth0/mtu").ok();
    assert_eq!(mtu, "1370", "what is left inside");

    one.docker("swarm ca --rotate --detach").ok();
    within(REST, "they still do", || pings(two, "c2", "c1", 56));
    cluster.await_ready(2);
    within(REST, "and the other way", || pings(one, "c1", "c2", 8000));

    one.docker("rm -f c1").ok();
    two.docker("rm -f c2").ok();
    within(REST, "the network can be removed", || (one.docker("network rm net").code == 0).then_some(()));
    cluster.dissolve();
    for node in [one, two] {
        assert!(!place(node).exists(), "keys and devices are gone with the cluster");
    }
}
