//! What networks keep apart.

use integration_cli::machine::{INSIDE, OUTSIDE};
use integration_cli::net::{EchoAddress, Place};
use integration_cli::{Test, cases};

use super::{network, read_from, reads, server};

cases![
    containers_of_different_networks_do_not_meet,
    an_internal_network_does_not_reach_the_world,
    icc_off_keeps_containers_of_a_network_apart,
    a_network_without_masquerade_keeps_its_addresses,
    published_ports_are_reachable_from_another_network,
    an_internal_network_publishes_nothing,
];

fn containers_of_different_networks_do_not_meet(t: &Test) {
    let (one, two) = (network(t, ""), network(t, ""));
    let server = server(t, &format!("--network {one}"), "hello");
    let (friend, stranger) = (
        t.start(&format!("--network {one} busybox park")),
        t.start(&format!("--network {two} busybox park")),
    );
    let address = t.address(&server, &one);
    reads(t, &friend, &address, 80, "hello");
    assert_eq!(read_from(t, &stranger, &address, 80), "");
    let on_default = t.start("busybox park");
    assert_eq!(read_from(t, &on_default, &address, 80), "");
}

fn an_internal_network_does_not_reach_the_world(t: &Test) {
    let net = network(t, "--internal");
    let echo = EchoAddress::start(Place::outside(t.daemon().machine()));
    let server = server(t, &format!("--network {net}"), "hello");
    let client = t.start(&format!("--network {net} busybox park"));
    reads(t, &client, &server.name, 80, "hello");
    assert_eq!(read_from(t, &client, OUTSIDE, echo.port), "");
    if t.api_at_least(1, 42) {
        // The reference leaves a default route that leads to a wall.
        assert!(!t.shell(&client, "ip route").contains("default"));
    }
}

fn icc_off_keeps_containers_of_a_network_apart(t: &Test) {
    let net = network(t, "-o com.docker.network.bridge.enable_icc=false");
    let server = server(t, &format!("--network {net}"), "hello");
    let client = t.start(&format!("--network {net} busybox park"));
    let place = Place::inside(t.daemon().machine());
    let address = format!("{}:80", t.address(&server, &net));
    integration_cli::condition::eventually("the server answers the machine", || {
        place.read_from(&address).ok()
    });
    assert_eq!(read_from(t, &client, &t.address(&server, &net), 80), "");
}

fn a_network_without_masquerade_keeps_its_addresses(t: &Test) {
    let net = network(t, "--subnet 10.83.1.0/24 -o com.docker.network.bridge.enable_ip_masquerade=false");
    let echo = EchoAddress::start(Place::outside(t.daemon().machine()));
    let client = t.start(&format!("--network {net} busybox park"));
    t.outside(&format!("ip route add 10.83.1.0/24 via {INSIDE}")).ok();
    reads(t, &client, OUTSIDE, echo.port, &t.address(&client, &net));
    t.outside("ip route del 10.83.1.0/24").ok();
}

fn published_ports_are_reachable_from_another_network(t: &Test) {
    let (one, two) = (network(t, ""), network(t, ""));
    let server = server(t, &format!("--network {one} -p 80"), "hello");
    let client = t.start(&format!("--network {two} busybox park"));
    reads(t, &client, INSIDE, t.published_port(&server, "80/tcp"), "hello");
}

fn an_internal_network_publishes_nothing(t: &Test) {
    let net = network(t, "--internal");
    let server = server(t, &format!("--network {net} -p 80"), "hello");
    let ports = t.inspect(&server)["NetworkSettings"]["Ports"].clone();
    assert!(ports["80/tcp"].is_null() || ports["80/tcp"] == serde_json::json!([]), "{ports}");
}
