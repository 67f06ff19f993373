//! Where subnets come from when none is asked for.

use integration_cli::{DaemonOptions, Test, cases};
use serde_json::json;

use super::network;

cases![
    pools_are_cut_in_order_and_run_out,
    subnets_in_use_on_the_machine_are_avoided,
    a_full_network_refuses_the_next_container
];

fn pools_are_cut_in_order_and_run_out(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::flags("--default-address-pool base=10.60.0.0/22,size=24"));
    let subnet = |name: &str| {
        d.get(&format!("/networks/{name}")).expect(200).json()["IPAM"]["Config"][0]["Subnet"].clone()
    };
    // The default bridge takes the first.
    assert_eq!(subnet("bridge"), "10.60.0.0/24");
    let names: Vec<String> = (0..3).map(|_| network(&d, "")).collect();
    let subnets: Vec<_> = names.iter().map(|name| subnet(name)).collect();
    assert_eq!(subnets, ["10.60.1.0/24", "10.60.2.0/24", "10.60.3.0/24"]);
    let reply = d.post_json("/networks/create", &json!({"Name": d.name("net")}));
    // The reference said: could not find an available, non-overlapping IPv4 address pool.
    reply.expect_error_holding(
        d.by_age(400, reply.status),
        d.by_age(
            "all predefined address pools have been fully subnetted",
            "could not find an available, non-overlapping IPv4 address pool",
        ),
    );
    d.docker(&format!("network rm {}", names[1])).ok();
    assert_eq!(subnet(&network(&d, "")), "10.60.2.0/24");
}

fn subnets_in_use_on_the_machine_are_avoided(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::flags("--default-address-pool base=10.61.0.0/22,size=24"));
    d.host("ip route add 10.61.1.0/24 dev up0").ok();
    let subnet =
        d.get(&format!("/networks/{}", network(&d, ""))).expect(200).json()["IPAM"]["Config"][0]["Subnet"]
            .clone();
    assert_eq!(subnet, "10.61.2.0/24");
}

fn a_full_network_refuses_the_next_container(t: &Test) {
    let net = network(t, "--subnet 10.85.1.0/30");
    let only = t.start(&format!("--network {net} busybox park"));
    assert_eq!(t.address(&only, &net), "10.85.1.2");
    let outcome = t.run(&format!("--network {net} busybox true"));
    assert!(outcome.code == 125 && outcome.stderr.contains("no available IPv4 addresses"), "{outcome:?}");
    t.docker(&format!("rm -f {only}")).ok();
    t.run(&format!("--network {net} busybox true")).ok();
}
