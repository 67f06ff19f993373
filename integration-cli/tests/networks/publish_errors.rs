//! Ports that cannot be had, and that nothing is left of the attempt.

use integration_cli::net::Place;
use integration_cli::{Test, cases};

use super::{network, server};

cases![
    a_port_of_another_container_is_refused,
    a_port_of_a_program_on_the_machine_is_refused,
    a_failed_publication_releases_what_it_had,
    a_port_may_be_shared_by_different_addresses,
];

fn a_port_of_another_container_is_refused(t: &Test) {
    let holder = server(t, "-p 7110:80", "hello");
    let container = t.create("-p 7110:80 busybox park");
    let reply = t.post(&format!("/containers/{container}/start"));
    reply.expect_error_holding(500, "Bind for 0.0.0.0:7110 failed: port is already allocated");
    assert_eq!(t.status(&container), "created");
    t.docker(&format!("start {container}")).fails_saying(1, "port is already allocated");
    t.run("-p 7110:80 busybox true").fails_saying(125, "port is already allocated");
    // Once the holder is gone the same container starts.
    t.docker(&format!("rm -f {holder}")).ok();
    t.docker(&format!("start {container}")).ok();
    assert_eq!(t.status(&container), "running");
}

fn a_port_of_a_program_on_the_machine_is_refused(t: &Test) {
    let listener =
        Place::inside(t.daemon().machine()).enter(|| std::net::TcpListener::bind("0.0.0.0:7120")).unwrap();
    let container = t.create("-p 7120:80 busybox park");
    let reply = t.post(&format!("/containers/{container}/start"));
    reply.expect_error_holding(500, "address already in use");
    assert_eq!(t.status(&container), "created");
    drop(listener);
    t.post(&format!("/containers/{container}/start")).expect(204);
}

fn a_failed_publication_releases_what_it_had(t: &Test) {
    let net = network(t, "--subnet 10.86.1.0/29");
    let holder = server(t, "-p 7131:80", "hello");
    // The first port is had and has to be given back, like the address; more often than there are addresses.
    for _ in 0..7 {
        let container = t.create(&format!("--network {net} -p 7130:80 -p 7131:81 busybox park"));
        t.post(&format!("/containers/{container}/start")).expect(500);
        t.docker(&format!("rm {container}")).ok();
    }
    t.docker(&format!("rm -f {holder}")).ok();
    let container = t.start(&format!("--network {net} -p 7130:80 -p 7131:81 busybox park"));
    assert_eq!(t.status(&container), "running");
    let links = t.host("ip -o link").ok();
    assert!(links.lines().filter(|line| line.contains("veth")).count() < 60, "{links}");
}

fn a_port_may_be_shared_by_different_addresses(t: &Test) {
    let first = server(t, "-p 127.0.0.1:7140:80", "loopback");
    let second = server(t, &format!("-p {}:7140:80", integration_cli::machine::INSIDE), "uplink");
    let inside = Place::inside(t.daemon().machine());
    integration_cli::condition::eventually("both answer", || {
        let one = inside.read_from("127.0.0.1:7140").ok()?;
        let two = inside.read_from(&format!("{}:7140", integration_cli::machine::INSIDE)).ok()?;
        (one.trim() == "loopback" && two.trim() == "uplink").then_some(())
    });
    assert_ne!(t.address(&first, "bridge"), t.address(&second, "bridge"));
}
