//! Published ports: every way in.

use std::io::Read as _;
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use integration_cli::condition::eventually;
use integration_cli::images::with_program;
use integration_cli::machine::{INSIDE, INSIDE_V6};
use integration_cli::net::Place;
use integration_cli::{Container, Test, cases};
use serde_json::json;

use super::{network, reads, server};

cases![
    a_port_is_reachable_from_outside_from_the_machine_and_through_loopback,
    a_port_is_reachable_from_containers_even_from_its_own,
    a_port_on_loopback_is_not_reachable_from_outside,
    a_port_on_one_address_holds_there_only,
    a_random_port_is_chosen,
    publish_all_takes_every_exposed_port,
    ranges_are_published_one_to_one,
    one_of_a_range_is_taken,
    udp_is_published,
    tcp_and_udp_may_share_a_number,
    both_address_families_are_published,
    a_port_of_a_routed_family_is_shown_without_a_number,
    the_client_lists_ports,
    a_port_is_free_again_after_stop_and_removal,
    a_connection_with_data_left_keeps_no_interface,
    a_fixed_port_is_the_same_after_restart,
    a_network_of_ones_own_publishes_as_well,
    the_callers_address_is_seen_from_outside,
    large_transfers_pass,
    many_connections_pass_at_once,
];

fn eventually_reads(place: Place, address: &str, word: &str) {
    eventually(&format!("{word} is read from {address}"), || {
        (place.read_from(address).ok()?.trim() == word).then_some(())
    });
}

fn a_port_is_reachable_from_outside_from_the_machine_and_through_loopback(t: &Test) {
    let server = server(t, "-p 80", "hello");
    let port = t.published_port(&server, "80/tcp");
    let machine = t.daemon().machine();
    eventually_reads(Place::outside(machine), &format!("{INSIDE}:{port}"), "hello");
    eventually_reads(Place::inside(machine), &format!("{INSIDE}:{port}"), "hello");
    eventually_reads(Place::inside(machine), &format!("127.0.0.1:{port}"), "hello");
    let gateway =
        t.inspect(&server)["NetworkSettings"]["Networks"]["bridge"]["Gateway"].as_str().unwrap().to_owned();
    eventually_reads(Place::inside(machine), &format!("{gateway}:{port}"), "hello");
}

fn a_port_is_reachable_from_containers_even_from_its_own(t: &Test) {
    let server = server(t, "-p 80", "hello");
    let port = t.published_port(&server, "80/tcp");
    let client = t.start("busybox park");
    reads(t, &client, INSIDE, port, "hello");
    reads(t, &server, INSIDE, port, "hello");
}

/// Whether `address` leads to the server of this very test: another test may have the same port on another address.
fn leads_to(place: Place, address: &str, word: &str) -> bool {
    place.read_from(address).is_ok_and(|text| text.trim() == word)
}

fn a_port_on_loopback_is_not_reachable_from_outside(t: &Test) {
    let word = t.name("word");
    let server = server(t, "-p 127.0.0.1::80", &word);
    let port = t.published_port(&server, "80/tcp");
    let machine = t.daemon().machine();
    eventually_reads(Place::inside(machine), &format!("127.0.0.1:{port}"), &word);
    assert!(!leads_to(Place::outside(machine), &format!("{INSIDE}:{port}"), &word));
    assert!(!leads_to(Place::inside(machine), &format!("{INSIDE}:{port}"), &word));
}

fn a_port_on_one_address_holds_there_only(t: &Test) {
    let word = t.name("word");
    let server = server(t, &format!("-p {INSIDE}::80"), &word);
    let port = t.published_port(&server, "80/tcp");
    let machine = t.daemon().machine();
    eventually_reads(Place::outside(machine), &format!("{INSIDE}:{port}"), &word);
    assert!(!leads_to(Place::inside(machine), &format!("127.0.0.1:{port}"), &word));
    let bound = t.inspect(&server)["NetworkSettings"]["Ports"]["80/tcp"].clone();
    assert_eq!(bound, json!([{"HostIp": INSIDE, "HostPort": port.to_string()}]));
}

fn a_random_port_is_chosen(t: &Test) {
    let (first, second) = (server(t, "-p 80", "one"), server(t, "-p 80", "two"));
    let (one, two) = (t.published_port(&first, "80/tcp"), t.published_port(&second, "80/tcp"));
    assert_ne!(one, two);
    let range = t.host("cat /proc/sys/net/ipv4/ip_local_port_range").ok();
    let limits: Vec<u16> = range.split_whitespace().map(|limit| limit.parse().unwrap()).collect();
    assert!((limits[0]..=limits[1]).contains(&one), "{one} in {limits:?}");
    let requested = t.inspect(&first)["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"].clone();
    assert!(requested == "" || requested == "0", "{requested}");
}

fn publish_all_takes_every_exposed_port(t: &Test) {
    let container = t.start("-P --expose 80 --expose 90/udp busybox nc -ll -p 80 -e echo hello");
    let ports = t.inspect(&container)["NetworkSettings"]["Ports"].clone();
    assert!(
        ports["80/tcp"][0]["HostPort"].is_string() && ports["90/udp"][0]["HostPort"].is_string(),
        "{ports}"
    );
    let port = t.published_port(&container, "80/tcp");
    eventually_reads(Place::outside(t.daemon().machine()), &format!("{INSIDE}:{port}"), "hello");
}

fn ranges_are_published_one_to_one(t: &Test) {
    let container = t.start(
        "-p 7010-7012:80-82 busybox sh -c 'for p in 80 81 82; do nc -ll -p $p -e echo port$p & done; wait'",
    );
    let outside = Place::outside(t.daemon().machine());
    for (host, inner) in [(7010, 80), (7011, 81), (7012, 82)] {
        assert_eq!(t.published_port(&container, &format!("{inner}/tcp")), host);
        eventually_reads(outside, &format!("{INSIDE}:{host}"), &format!("port{inner}"));
    }
}

fn one_of_a_range_is_taken(t: &Test) {
    let first = server(t, "-p 7020-7022:80", "one");
    let second = server(t, "-p 7020-7022:80", "two");
    let ports = [t.published_port(&first, "80/tcp"), t.published_port(&second, "80/tcp")];
    assert!(ports.iter().all(|port| (7020..=7022).contains(port)) && ports[0] != ports[1], "{ports:?}");
    let outside = Place::outside(t.daemon().machine());
    eventually_reads(outside, &format!("{INSIDE}:{}", ports[0]), "one");
    eventually_reads(outside, &format!("{INSIDE}:{}", ports[1]), "two");
}

/// Sends a datagram until the answer comes; the server may not listen yet.
fn udp_echo(place: Place, address: &str) {
    let socket = place.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    eventually(&format!("{address} echoes"), || {
        socket.send_to(b"ping\n", address).ok()?;
        let mut answer = [0u8; 16];
        let (length, from) = socket.recv_from(&mut answer).ok()?;
        // The answer has to come from where the question went.
        (answer[..length] == *b"ping\n" && from.to_string() == address).then_some(())
    });
}

/// A container that sends datagrams to its port 90 back, and answers connections to its port 80.
fn udp_server(t: &Test, options: &str) -> Container {
    let image = t.name("prober");
    t.load(&[with_program(&format!("{image}:latest"), &t.prober())]);
    t.start(&format!("{options} {image} sh -c 'nc -ll -p 80 -e echo hello & exec prober echo-udp 90'"))
}

fn udp_is_published(t: &Test) {
    let server = udp_server(t, "-p 90/udp");
    let port = t.published_port(&server, "90/udp");
    udp_echo(Place::outside(t.daemon().machine()), &format!("{INSIDE}:{port}"));
    let other = udp_server(t, "-p 90/udp");
    let port = t.published_port(&other, "90/udp");
    udp_echo(Place::inside(t.daemon().machine()), &format!("127.0.0.1:{port}"));
}

fn tcp_and_udp_may_share_a_number(t: &Test) {
    let container = udp_server(t, "-p 7030:80/tcp -p 7030:90/udp");
    let outside = Place::outside(t.daemon().machine());
    eventually_reads(outside, &format!("{INSIDE}:7030"), "hello");
    udp_echo(outside, &format!("{INSIDE}:7030"));
    assert_eq!(t.published_port(&container, "90/udp"), 7030);
}

fn both_address_families_are_published(t: &Test) {
    let server = server(t, "-p 7065:80", "hello");
    let bound = t.inspect(&server)["NetworkSettings"]["Ports"]["80/tcp"].clone();
    assert_eq!(
        bound,
        json!([{"HostIp": "0.0.0.0", "HostPort": "7065"}, {"HostIp": "::", "HostPort": "7065"}])
    );
    let machine = t.daemon().machine();
    eventually_reads(Place::outside(machine), &format!("[{INSIDE_V6}]:7065"), "hello");
    eventually_reads(Place::inside(machine), "[::1]:7065", "hello");
    if t.api_at_least(1, 42) {
        // The reference may choose two different random ports.
        let random = t.start("-p 80 busybox park");
        let bound = t.inspect(&random)["NetworkSettings"]["Ports"]["80/tcp"].clone();
        assert_eq!(bound[0]["HostPort"], bound[1]["HostPort"]);
    }
}

fn a_port_of_a_routed_family_is_shown_without_a_number(t: &Test) {
    t.newer_than_reference(1, 47, "gateway modes");
    let net = network(t, "--ipv6 -o com.docker.network.bridge.gateway_mode_ipv4=routed");
    let server = server(t, &format!("--network {net} -p 7066:80"), "hello");
    assert_eq!(
        t.inspect(&server)["NetworkSettings"]["Ports"]["80/tcp"],
        json!([{"HostIp": "::", "HostPort": "7066"}, {"HostIp": "0.0.0.0", "HostPort": ""}])
    );
    let listed = t.docker(&format!("ps --filter name={server} --format {{{{.Ports}}}}")).ok();
    assert_eq!(listed, "[::]:7066->80/tcp");
    eventually_reads(Place::inside(t.daemon().machine()), "[::1]:7066", "hello");
}

fn the_client_lists_ports(t: &Test) {
    let container = t.start("-p 127.0.0.1:7040:80 -p 127.0.0.1:7041:90/udp busybox park");
    let listed = t.docker(&format!("port {container}")).ok();
    // Older clients list them in any order.
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["80/tcp -> 127.0.0.1:7040", "90/udp -> 127.0.0.1:7041"]);
    assert_eq!(t.docker(&format!("port {container} 80")).ok(), "127.0.0.1:7040");
    assert_eq!(t.docker(&format!("port {container} 90/udp")).ok(), "127.0.0.1:7041");
    assert_ne!(t.docker(&format!("port {container} 99")).code, 0);
}

fn a_connection_with_data_left_keeps_no_interface(t: &Test) {
    let container = t.start("-p 80 busybox nc -ll -p 80 -e cat /dev/zero");
    let port = t.published_port(&container, "80/tcp");
    let inside = Place::inside(t.daemon().machine());
    let mut reader = eventually("a connection that sends", || {
        let mut stream = inside.enter(move || TcpStream::connect(("127.0.0.1", port))).ok()?;
        stream.read_exact(&mut [0]).ok()?;
        Some(stream)
    });
    let index = t.docker(&format!("exec {container} cat /sys/class/net/eth0/iflink")).ok();
    let listed =
        || t.host("ip -o link show").ok().lines().any(|line| line.starts_with(&format!("{index}: ")));
    assert!(listed());
    t.docker(&format!("rm -f {container}")).ok();
    eventually("the interface is gone", || (!listed()).then_some(()));
    // Nobody has read what the container still had to send.
    reader.read_exact(&mut [0]).unwrap();
}

fn a_port_is_free_again_after_stop_and_removal(t: &Test) {
    for round in 0..3 {
        let container = server(t, "-p 7050:80", &format!("round{round}"));
        eventually_reads(
            Place::outside(t.daemon().machine()),
            &format!("{INSIDE}:7050"),
            &format!("round{round}"),
        );
        t.docker(&format!("stop -t 0 {container}")).ok();
        assert!(Place::outside(t.daemon().machine()).connect(&format!("{INSIDE}:7050")).is_err());
    }
}

fn a_fixed_port_is_the_same_after_restart(t: &Test) {
    let container = server(t, "-p 7060:80", "hello");
    t.docker(&format!("restart -t 0 {container}")).ok();
    assert_eq!(t.published_port(&container, "80/tcp"), 7060);
    eventually_reads(Place::outside(t.daemon().machine()), &format!("{INSIDE}:7060"), "hello");
}

fn a_network_of_ones_own_publishes_as_well(t: &Test) {
    let net = network(t, "");
    let server = server(t, &format!("--network {net} -p 80"), "hello");
    let port = t.published_port(&server, "80/tcp");
    eventually_reads(Place::outside(t.daemon().machine()), &format!("{INSIDE}:{port}"), "hello");
    eventually_reads(Place::inside(t.daemon().machine()), &format!("127.0.0.1:{port}"), "hello");
    t.docker(&format!("network disconnect {net} {server}")).ok();
    eventually("the port is closed", || {
        Place::outside(t.daemon().machine()).connect(&format!("{INSIDE}:{port}")).is_err().then_some(())
    });
}

fn the_callers_address_is_seen_from_outside(t: &Test) {
    // A proxy in between would show its own address to the server.
    let server = t.start("-p 80 busybox nc -ll -p 80 -e sh -c 'netstat -tn | grep :80.*ESTABLISHED'");
    let port = t.published_port(&server, "80/tcp");
    let seen = eventually("the server tells who calls", || {
        Place::outside(t.daemon().machine())
            .read_from(&format!("{INSIDE}:{port}"))
            .ok()
            .filter(|seen| !seen.is_empty())
    });
    assert!(seen.contains(integration_cli::machine::OUTSIDE), "{seen}");
}

fn large_transfers_pass(t: &Test) {
    let server = t.start("-p 80 busybox nc -ll -p 80 -e head -c 20000000 /dev/zero");
    let port = t.published_port(&server, "80/tcp");
    for place in [Place::outside(t.daemon().machine()), Place::inside(t.daemon().machine())] {
        let address = format!("{INSIDE}:{port}");
        let length = eventually("all bytes arrive", || place.read_from(&address).ok().map(|text| text.len()));
        assert_eq!(length, 20_000_000);
    }
}

fn many_connections_pass_at_once(t: &Test) {
    let server = t
        .start("-p 80 busybox sh -c 'mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www'");
    let address = format!("{INSIDE}:{}", t.published_port(&server, "80/tcp"));
    let outside = Place::outside(t.daemon().machine());
    let ask = || outside.ask(&address, "GET / HTTP/1.0\r\n\r\n");
    eventually("the server answers", || ask().ok().filter(|answer| answer.contains("hello")));
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..24).map(|_| scope.spawn(|| ask().unwrap())).collect();
        for caller in callers {
            let answer = caller.join().unwrap();
            assert!(answer.ends_with("hello\n"), "{answer}");
        }
    });
}
