//! Networks with both address families.

use integration_cli::machine::INSIDE_V6;
use integration_cli::net::Place;
use integration_cli::{Test, cases};

use super::{network, reads, server};

cases![
    a_container_has_an_address_of_each_family,
    names_resolve_to_both_families,
    containers_reach_each_other_by_ipv6,
    a_fixed_ipv6_address_is_given,
    a_published_port_leads_to_a_container_with_ipv6,
];

fn a_container_has_an_address_of_each_family(t: &Test) {
    let net = network(t, "--ipv6 --subnet 10.87.1.0/24 --subnet fd00:87:1::/64");
    let container = t.start(&format!("--network {net} busybox park"));
    let endpoint = t.inspect(&container)["NetworkSettings"]["Networks"][&net].clone();
    let v6 = endpoint["GlobalIPv6Address"].as_str().unwrap().to_owned();
    assert!(v6.starts_with("fd00:87:1::"), "{endpoint}");
    assert_eq!(endpoint["GlobalIPv6PrefixLen"], 64);
    assert_eq!(endpoint["IPv6Gateway"], "fd00:87:1::1");
    let shown = t.shell(&container, "ip -6 addr show eth0; ip -6 route");
    assert!(
        shown.contains(&format!("inet6 {v6}/64")) && shown.contains("default via fd00:87:1::1"),
        "{shown}"
    );
    let described = t.get(&format!("/networks/{net}")).expect(200).json();
    assert_eq!(described["EnableIPv6"], true);
    assert_eq!(described["Containers"][&container.id]["IPv6Address"], format!("{v6}/64"));
    assert!(t.shell(&container, "cat /etc/hosts").contains(&format!("{v6}\t{}", container.short())));
}

fn names_resolve_to_both_families(t: &Test) {
    let net = network(t, "--ipv6 --subnet 10.87.2.0/24 --subnet fd00:87:2::/64");
    let server = t.start(&format!("--network {net} --network-alias web busybox park"));
    let client = t.start(&format!("--network {net} busybox park"));
    let endpoint = t.inspect(&server)["NetworkSettings"]["Networks"][&net].clone();
    let shown = t.exec(&client, "nslookup -type=aaaa web.").ok();
    assert!(shown.contains(endpoint["GlobalIPv6Address"].as_str().unwrap()), "{shown}");
    assert_eq!(t.resolve(&client, "web"), [endpoint["IPAddress"].as_str().unwrap()]);
}

fn containers_reach_each_other_by_ipv6(t: &Test) {
    let net = network(t, "--ipv6 --subnet 10.87.3.0/24 --subnet fd00:87:3::/64");
    let server = server(t, &format!("--network {net}"), "hello");
    let client = t.start(&format!("--network {net} busybox park"));
    let v6 = t.inspect(&server)["NetworkSettings"]["Networks"][&net]["GlobalIPv6Address"]
        .as_str()
        .unwrap()
        .to_owned();
    reads(t, &client, &v6, 80, "hello");
    t.exec(&client, &format!("ping6 -c 1 -W 5 {v6}")).ok();
}

fn a_fixed_ipv6_address_is_given(t: &Test) {
    let net = network(t, "--ipv6 --subnet 10.87.4.0/24 --subnet fd00:87:4::/64");
    let container = t.start(&format!("--network {net} --ip6 fd00:87:4::99 busybox park"));
    assert_eq!(
        t.inspect(&container)["NetworkSettings"]["Networks"][&net]["GlobalIPv6Address"],
        "fd00:87:4::99"
    );
    let other = t.run(&format!("--network {net} --ip6 fd00:99::1 busybox true"));
    assert_eq!(other.code, 125, "{other:?}");
}

fn a_published_port_leads_to_a_container_with_ipv6(t: &Test) {
    let net = network(t, "--ipv6 --subnet 10.87.5.0/24 --subnet fd00:87:5::/64");
    let server = server(t, &format!("--network {net} -p 7400:80"), "hello");
    let machine = t.daemon().machine();
    for (place, address) in [
        (Place::outside(machine), format!("[{INSIDE_V6}]:7400")),
        (Place::outside(machine), format!("{}:7400", integration_cli::machine::INSIDE)),
        (Place::inside(machine), "[::1]:7400".to_owned()),
    ] {
        integration_cli::condition::eventually(&address, || {
            (place.read_from(&address).ok()?.trim() == "hello").then_some(())
        });
    }
    assert_eq!(t.published_port(&server, "80/tcp"), 7400);
}
