//! Options of a container's place in a network: address, MAC, hosts, default route.

use integration_cli::net::{EchoAddress, Place};
use integration_cli::{Test, cases};
use serde_json::json;

use super::{network, reads};

cases![
    a_fixed_address_is_given,
    a_fixed_address_outside_the_subnet_is_refused,
    a_taken_address_is_refused,
    a_fixed_address_needs_a_network_of_ones_own,
    a_fixed_mac_address_is_given,
    extra_hosts_are_in_the_hosts_file,
    host_gateway_leads_to_the_machine,
    network_options_set_mtu_and_interface_names,
    network_aliases_need_a_network_of_ones_own,
    the_bridge_may_be_named,
];

fn a_fixed_address_is_given(t: &Test) {
    let net = network(t, "--subnet 10.84.1.0/24");
    let container = t.start(&format!("--network {net} --ip 10.84.1.200 busybox park"));
    assert_eq!(t.address(&container, &net), "10.84.1.200");
    assert!(t.shell(&container, "ip -4 addr show eth0").contains("10.84.1.200/24"));
    let config = t.inspect(&container)["NetworkSettings"]["Networks"][&net]["IPAMConfig"].clone();
    assert_eq!(config["IPv4Address"], "10.84.1.200");
}

fn a_fixed_address_outside_the_subnet_is_refused(t: &Test) {
    let net = network(t, "--subnet 10.84.2.0/24");
    let outcome = t.run(&format!("--network {net} --ip 10.99.99.9 busybox true"));
    assert_eq!(outcome.code, 125, "{outcome:?}");
    let text = t.by_age(
        "no configured subnet contains IP address 10.99.99.9",
        "Invalid address 10.99.99.9: It does not belong to any of this network's subnets",
    );
    assert!(outcome.stderr.contains(text), "{outcome:?}");
}

fn a_taken_address_is_refused(t: &Test) {
    let net = network(t, "--subnet 10.84.3.0/24");
    let holder = t.start(&format!("--network {net} --ip 10.84.3.9 busybox park"));
    let outcome = t.run(&format!("--network {net} --ip 10.84.3.9 busybox true"));
    assert!(outcome.code == 125 && outcome.stderr.contains("Address already in use"), "{outcome:?}");
    t.docker(&format!("rm -f {holder}")).ok();
    t.run(&format!("--network {net} --ip 10.84.3.9 busybox true")).ok();
}

fn a_fixed_address_needs_a_network_of_ones_own(t: &Test) {
    let text = "user specified IP address is supported";
    let outcome = t.run("--network bridge --ip 172.17.0.99 busybox true");
    assert!(outcome.code == 125 && outcome.stderr.replace('-', " ").contains(text), "{outcome:?}");
    // On a network whose subnet the daemon chose newer daemons allow it, the reference does not.
    if !t.api_at_least(1, 42) {
        let net = network(t, "");
        let outcome = t.run(&format!("--network {net} --ip 10.84.4.4 busybox true"));
        assert!(outcome.code == 125 && outcome.stderr.contains(text), "{outcome:?}");
    }
}

fn a_fixed_mac_address_is_given(t: &Test) {
    // Newer clients refuse the option for a daemon as old as the reference; the API has had it all along.
    let container =
        t.start_json(&json!({"Image": "busybox", "Cmd": ["park"], "MacAddress": "02:42:11:22:33:44"}));
    assert_eq!(t.shell(&container, "cat /sys/class/net/eth0/address"), "02:42:11:22:33:44");
    assert_eq!(
        t.inspect(&container)["NetworkSettings"]["Networks"]["bridge"]["MacAddress"],
        "02:42:11:22:33:44"
    );
    t.docker(&format!("restart -t 1 {container}")).ok();
    assert_eq!(t.shell(&container, "cat /sys/class/net/eth0/address"), "02:42:11:22:33:44");
}

fn extra_hosts_are_in_the_hosts_file(t: &Test) {
    let hosts = t.run("--add-host one:192.0.2.1 --add-host two:2001:db8::2 busybox cat /etc/hosts").ok();
    assert!(hosts.lines().any(|line| line == "192.0.2.1\tone"), "{hosts}");
    assert!(hosts.lines().any(|line| line == "2001:db8::2\ttwo"), "{hosts}");
    let reply = t.create_raw(&json!({"Image": "busybox", "HostConfig": {"ExtraHosts": ["banana"]}}));
    assert!(reply.status >= 400, "{reply:?}");
    reply.expect_error_holding(reply.status, "banana");
}

fn host_gateway_leads_to_the_machine(t: &Test) {
    let echo = EchoAddress::start(Place::inside(t.daemon().machine()));
    let gateway = t.get("/networks/bridge").expect(200).json()["IPAM"]["Config"][0]["Gateway"].clone();
    for options in [String::new(), format!("--network {}", network(t, ""))] {
        let container = t.start(&format!("{options} --add-host machine:host-gateway busybox park"));
        let hosts = t.shell(&container, "cat /etc/hosts");
        if let Some(gateway) = gateway.as_str() {
            assert!(hosts.lines().any(|line| line == format!("{gateway}\tmachine")), "{hosts}");
        }
        let own = t.inspect(&container)["NetworkSettings"]["Networks"]
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap()["IPAddress"]
            .clone();
        reads(t, &container, "machine", echo.port, own.as_str().unwrap());
    }
}

fn network_options_set_mtu_and_interface_names(t: &Test) {
    let net =
        network(t, "-o com.docker.network.driver.mtu=1350 -o com.docker.network.container_iface_prefix=net");
    let container = t.start(&format!("--network {net} busybox park"));
    assert_eq!(t.shell(&container, "cat /sys/class/net/net0/mtu"), "1350");
}

fn network_aliases_need_a_network_of_ones_own(t: &Test) {
    let outcome = t.run("--network bridge --network-alias web busybox true");
    assert_eq!(outcome.code, 125);
    assert!(outcome.stderr.to_lowercase().contains("network-scoped alias"), "{outcome:?}");
}

fn the_bridge_may_be_named(t: &Test) {
    let net = network(t, "-o com.docker.network.bridge.name=mybridge0");
    t.host("ip link show mybridge0").ok();
    t.run(&format!("--network {net} busybox true")).ok();
    t.docker(&format!("network rm {net}")).ok();
    assert_ne!(t.host("ip link show mybridge0").code, 0);
    let plain = network(t, "");
    let id = t.get(&format!("/networks/{plain}")).expect(200).json()["Id"].as_str().unwrap()[..12].to_owned();
    t.host(&format!("ip link show br-{id}")).ok();
}
