//! The default bridge: addresses, routes, reaching each other, the machine and the world.

use integration_cli::machine::{INSIDE, OUTSIDE};
use integration_cli::net::{EchoAddress, Place};
use integration_cli::{DaemonOptions, Test, cases};

use super::{reads, server};

cases![
    a_container_has_an_address_a_route_and_a_gateway,
    containers_reach_each_other_by_address,
    containers_reach_the_world_behind_the_machines_address,
    containers_reach_the_machine_by_the_gateway,
    the_machine_reaches_containers_by_address,
    the_hosts_file_holds_the_containers_own_name,
    names_of_other_containers_are_unknown_on_the_default_bridge,
    bip_and_mtu_set_the_default_bridge,
    another_gateway_is_given_to_containers_of_the_default_bridge,
    fixed_cidr_narrows_the_addresses,
    icc_off_keeps_containers_of_the_default_bridge_apart,
    iptables_off_leaves_the_firewall_alone,
    addresses_are_not_used_twice,
];

fn a_container_has_an_address_a_route_and_a_gateway(t: &Test) {
    let container = t.start("busybox park");
    let endpoint = t.inspect(&container)["NetworkSettings"]["Networks"]["bridge"].clone();
    let (address, gateway) = (endpoint["IPAddress"].as_str().unwrap(), endpoint["Gateway"].as_str().unwrap());
    let prefix = endpoint["IPPrefixLen"].as_u64().unwrap();
    let shown = t.shell(&container, "ip -4 addr show eth0; ip route; cat /sys/class/net/eth0/mtu; cat /sys/class/net/eth0/address; ip link show lo");
    assert!(shown.contains(&format!("inet {address}/{prefix}")), "{shown}");
    assert!(shown.contains(&format!("default via {gateway} dev eth0")), "{shown}");
    assert!(shown.contains("\n1500\n"), "{shown}");
    assert!(shown.contains(endpoint["MacAddress"].as_str().unwrap()), "{shown}");
    assert!(shown.contains("<LOOPBACK,UP"), "{shown}");
    assert_eq!(
        t.shell(&container, "ls /sys/class/net").split_whitespace().collect::<Vec<_>>(),
        ["eth0", "lo"]
    );
}

fn containers_reach_each_other_by_address(t: &Test) {
    let (server, client) = (server(t, "", "hello"), t.start("busybox park"));
    reads(t, &client, &t.address(&server, "bridge"), 80, "hello");
    t.exec(&client, &format!("ping -c 1 -W 5 {}", t.address(&server, "bridge"))).ok();
}

fn containers_reach_the_world_behind_the_machines_address(t: &Test) {
    let echo = EchoAddress::start(Place::outside(t.daemon().machine()));
    let client = t.start("busybox park");
    reads(t, &client, OUTSIDE, echo.port, INSIDE);
    t.exec(&client, &format!("ping -c 1 -W 5 {OUTSIDE}")).ok();
}

fn containers_reach_the_machine_by_the_gateway(t: &Test) {
    let echo = EchoAddress::start(Place::inside(t.daemon().machine()));
    let client = t.start("busybox park");
    let endpoint = t.inspect(&client)["NetworkSettings"]["Networks"]["bridge"].clone();
    // Seen from the machine the container has its own address.
    reads(
        t,
        &client,
        endpoint["Gateway"].as_str().unwrap(),
        echo.port,
        endpoint["IPAddress"].as_str().unwrap(),
    );
}

fn the_machine_reaches_containers_by_address(t: &Test) {
    let server = server(t, "", "hello");
    let address = format!("{}:80", t.address(&server, "bridge"));
    let place = Place::inside(t.daemon().machine());
    integration_cli::condition::eventually("the server answers", || {
        (place.read_from(&address).ok()?.trim() == "hello").then_some(())
    });
}

fn the_hosts_file_holds_the_containers_own_name(t: &Test) {
    let container = t.start("--hostname box --domainname example.test busybox park");
    let hosts = t.shell(&container, "cat /etc/hosts");
    let address = t.address(&container, "bridge");
    assert!(hosts.lines().any(|line| line == "127.0.0.1\tlocalhost"), "{hosts}");
    assert!(hosts.lines().any(|line| line.starts_with("::1\tlocalhost")), "{hosts}");
    assert!(hosts.lines().any(|line| line == format!("{address}\tbox.example.test box")), "{hosts}");
    let plain = t.start("busybox park");
    let hosts = t.shell(&plain, "cat /etc/hosts");
    assert!(hosts.ends_with(&format!("{}\t{}", t.address(&plain, "bridge"), plain.short())), "{hosts}");
    // The machine's own entries are not copied.
    assert!(!hosts.contains("outside.test"), "{hosts}");
}

fn names_of_other_containers_are_unknown_on_the_default_bridge(t: &Test) {
    let (server, client) = (t.start("busybox park"), t.start("busybox park"));
    let own = t.host("cat /etc/resolv.conf").ok();
    assert!(own.contains(OUTSIDE) && own.contains("search shoal.test"), "{own}");
    let resolver = t.shell(&client, "cat /etc/resolv.conf");
    assert!(resolver.contains(&format!("nameserver {OUTSIDE}")), "{resolver}");
    assert!(resolver.contains("search shoal.test"), "{resolver}");
    assert!(!resolver.contains("127.0.0.11"), "{resolver}");
    assert_eq!(t.resolve(&client, &server.name), [""; 0]);
    assert_eq!(t.resolve(&client, "host.known.test"), ["203.0.113.7"]);
}

fn bip_and_mtu_set_the_default_bridge(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::flags("--bip 10.77.0.1/24 --mtu 1380"));
    let container = d.start("busybox park");
    let endpoint = d.inspect(&container)["NetworkSettings"]["Networks"]["bridge"].clone();
    assert_eq!(endpoint["Gateway"], "10.77.0.1");
    assert_eq!(endpoint["IPAddress"], "10.77.0.2");
    assert_eq!(endpoint["IPPrefixLen"], 24);
    assert_eq!(d.shell(&container, "cat /sys/class/net/eth0/mtu"), "1380");
}

fn another_gateway_is_given_to_containers_of_the_default_bridge(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::flags("--bip 10.77.0.1/24 --default-gateway 10.77.0.254"));
    let container = d.start("busybox park");
    let endpoint = d.inspect(&container)["NetworkSettings"]["Networks"]["bridge"].clone();
    assert_eq!(endpoint["Gateway"], "10.77.0.254");
    assert!(d.shell(&container, "ip route").contains("default via 10.77.0.254"));
    let pool = d.get("/networks/bridge").expect(200).json()["IPAM"]["Config"][0].clone();
    assert_eq!(pool["Gateway"], "10.77.0.1", "the bridge keeps its address: {pool}");
    assert_eq!(pool["AuxiliaryAddresses"]["DefaultGatewayIPv4"], "10.77.0.254", "{pool}");
    let outcome =
        t.refuse_to_start(&DaemonOptions::flags("--bip 10.77.0.1/24 --default-gateway 10.78.0.254"));
    let text =
        "auxiliary address: (DefaultGatewayIPv4:10.78.0.254) must belong to the master pool: 10.77.0.0/24";
    assert!(outcome.code != 0 && outcome.stderr.contains(text), "{outcome:?}");
}

fn fixed_cidr_narrows_the_addresses(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::flags("--bip 10.77.0.1/16 --fixed-cidr 10.77.9.0/24"));
    let container = d.start("busybox park");
    assert!(d.address(&container, "bridge").starts_with("10.77.9."), "{}", d.address(&container, "bridge"));
}

fn icc_off_keeps_containers_of_the_default_bridge_apart(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::flags("--icc=false"));
    let (server, client) = (server(&d, "-p 127.0.0.1::80", "hello"), d.start("busybox park"));
    let address = format!("{}:80", d.address(&server, "bridge"));
    let place = Place::inside(d.daemon().machine());
    integration_cli::condition::eventually("the server answers the machine", || {
        place.read_from(&address).ok()
    });
    assert_eq!(super::read_from(&d, &client, &d.address(&server, "bridge"), 80), "");
    let options = d.get("/networks/bridge").expect(200).json()["Options"].clone();
    assert_eq!(options["com.docker.network.bridge.enable_icc"], "false");
}

fn iptables_off_leaves_the_firewall_alone(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::flags("--iptables=false --userland-proxy=false --ip6tables=false"));
    let container = d.start("busybox park");
    assert_eq!(d.status(&container), "running");
    assert_eq!(d.host("nft list ruleset").ok(), "");
}

fn addresses_are_not_used_twice(t: &Test) {
    let network = super::network(t, "--subnet 10.81.1.0/28");
    let first = t.start(&format!("--network {network} busybox park"));
    let address = t.address(&first, &network);
    assert_eq!(address, "10.81.1.2");
    let second = t.start(&format!("--network {network} busybox park"));
    assert_eq!(t.address(&second, &network), "10.81.1.3");
    // The next address is the one after the last, so that neighbours do not mistake a new container for an old one.
    t.docker(&format!("rm -f {second}")).ok();
    let third = t.start(&format!("--network {network} busybox park"));
    assert_ne!(t.address(&third, &network), address);
}
