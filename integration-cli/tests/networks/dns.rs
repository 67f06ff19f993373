//! Names on user-defined networks: the embedded resolver at 127.0.0.11.

use integration_cli::machine::OUTSIDE;
use integration_cli::{Container, Test, cases};

use super::network;

cases![
    name_alias_and_short_id_are_known,
    the_resolver_is_the_embedded_one,
    names_match_in_any_case,
    an_alias_of_several_containers_names_them_all,
    the_address_leads_back_to_the_name,
    a_name_without_ipv6_answers_empty_and_not_missing,
    other_names_are_forwarded,
    unknown_names_do_not_exist,
    stopped_and_removed_containers_are_forgotten,
    names_hold_on_their_own_network_only,
    own_name_and_hostname_are_known,
    dns_settings_of_the_container_are_used,
    an_internal_network_still_knows_its_names,
    answers_come_over_tcp_as_well,
];

fn pair(t: &Test, options: &str) -> (String, Container, Container) {
    let net = network(t, "");
    let server = t.start(&format!("--network {net} {options} busybox park"));
    let client = t.start(&format!("--network {net} busybox park"));
    (net, server, client)
}

fn name_alias_and_short_id_are_known(t: &Test) {
    let (net, server, client) = pair(t, "--network-alias web --network-alias api");
    let address = t.address(&server, &net);
    for name in [server.name.as_str(), "web", "api", server.short()] {
        assert_eq!(t.resolve(&client, name), [address.as_str()], "{name}");
    }
    t.exec(&client, "ping -c 1 -W 5 web").ok();
}

fn the_resolver_is_the_embedded_one(t: &Test) {
    let (_, _, client) = pair(t, "");
    let file = t.shell(&client, "cat /etc/resolv.conf");
    let lines: Vec<&str> = file.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert!(lines.contains(&"nameserver 127.0.0.11"), "{file}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("nameserver")).count(), 1, "{file}");
    assert!(lines.contains(&"search shoal.test"), "{file}");
    assert!(lines.contains(&"options ndots:0"), "{file}");
}

fn names_match_in_any_case(t: &Test) {
    t.newer_than_reference(1, 42, "the reference compares names letter by letter");
    let (net, server, client) = pair(t, "--network-alias web");
    assert_eq!(t.resolve(&client, "WEB"), [t.address(&server, &net)]);
}

fn an_alias_of_several_containers_names_them_all(t: &Test) {
    let net = network(t, "");
    let servers: Vec<Container> =
        (0..3).map(|_| t.start(&format!("--network {net} --network-alias pool busybox park"))).collect();
    let client = t.start(&format!("--network {net} busybox park"));
    let mut addresses: Vec<String> = servers.iter().map(|server| t.address(server, &net)).collect();
    addresses.sort();
    assert_eq!(t.resolve(&client, "pool"), addresses);
    t.docker(&format!("stop {}", servers[0])).ok();
    assert_eq!(t.resolve(&client, "pool").len(), 2);
}

fn the_address_leads_back_to_the_name(t: &Test) {
    let (net, server, client) = pair(t, "");
    let shown = t.exec(&client, &format!("nslookup {}", t.address(&server, &net))).ok();
    assert!(shown.contains(&format!("name = {server}.{net}")), "{shown}");
}

fn a_name_without_ipv6_answers_empty_and_not_missing(t: &Test) {
    let (_, server, client) = pair(t, "");
    let outcome = t.exec(&client, &format!("nslookup -type=aaaa {server}."));
    assert!(!outcome.stdout.contains("NXDOMAIN") && !outcome.stdout.contains("SERVFAIL"), "{outcome:?}");
    assert_eq!(outcome.code, 0, "{outcome:?}");
}

fn other_names_are_forwarded(t: &Test) {
    let (_, _, client) = pair(t, "");
    assert_eq!(t.resolve(&client, "anything.known.test"), ["203.0.113.7"]);
}

fn unknown_names_do_not_exist(t: &Test) {
    let (_, _, client) = pair(t, "");
    let outcome = t.exec(&client, "nslookup -type=a no-such-name.");
    assert!(outcome.code != 0 && outcome.stdout.contains("NXDOMAIN"), "{outcome:?}");
}

fn stopped_and_removed_containers_are_forgotten(t: &Test) {
    let (net, server, client) = pair(t, "--network-alias web");
    t.docker(&format!("stop {server}")).ok();
    assert_eq!(t.resolve(&client, "web"), [""; 0]);
    t.docker(&format!("start {server}")).ok();
    assert_eq!(t.resolve(&client, "web"), [t.address(&server, &net)]);
    t.docker(&format!("pause {server}")).ok();
    assert_eq!(t.resolve(&client, "web"), [t.address(&server, &net)], "paused is still there");
    t.docker(&format!("rm -f {server}")).ok();
    assert_eq!(t.resolve(&client, "web"), [""; 0]);
}

fn names_hold_on_their_own_network_only(t: &Test) {
    let (one, two) = (network(t, ""), network(t, ""));
    let server = t.start(&format!("--network {one} --network-alias web busybox park"));
    let client = t.start(&format!("--network {two} busybox park"));
    assert_eq!(t.resolve(&client, "web"), [""; 0]);
    assert_eq!(t.resolve(&client, &server.name), [""; 0]);
    t.docker(&format!("network connect {one} {client}")).ok();
    assert_eq!(t.resolve(&client, "web"), [t.address(&server, &one)]);
    t.docker(&format!("network disconnect {one} {client}")).ok();
    assert_eq!(t.resolve(&client, "web"), [""; 0]);
}

fn own_name_and_hostname_are_known(t: &Test) {
    let net = network(t, "");
    let container = t.start(&format!("--network {net} --hostname box busybox park"));
    assert_eq!(t.resolve(&container, &container.name), [t.address(&container, &net)]);
    let hosts = t.shell(&container, "cat /etc/hosts");
    assert!(hosts.contains(&format!("{}\tbox", t.address(&container, &net))), "{hosts}");
    if t.api_at_least(1, 44) {
        let client = t.start(&format!("--network {net} busybox park"));
        assert_eq!(t.resolve(&client, "box"), [t.address(&container, &net)]);
    }
}

fn dns_settings_of_the_container_are_used(t: &Test) {
    let options = format!("--dns {OUTSIDE} --dns-search example.test --dns-opt timeout:3");
    let plain = t.run(&format!("{options} busybox cat /etc/resolv.conf")).ok();
    for line in
        [format!("nameserver {OUTSIDE}"), "search example.test".to_owned(), "options timeout:3".to_owned()]
    {
        assert!(plain.lines().any(|given| given == line), "{line} in {plain}");
    }
    let (_, server, _) = pair(t, &options);
    let shown = t.shell(&server, "cat /etc/resolv.conf");
    assert!(shown.contains("nameserver 127.0.0.11") && shown.contains("search example.test"), "{shown}");
    assert!(shown.contains("timeout:3") && shown.contains("ndots:0"), "{shown}");
    assert_eq!(t.resolve(&server, "a.known.test"), ["203.0.113.7"]);
    // A server that is not there is used all the same: the container asked for it.
    let (_, lost, _) = pair(t, "--dns 198.51.100.77 --dns-opt timeout:1 --dns-opt attempts:1");
    assert_eq!(t.resolve(&lost, "a.known.test"), [""; 0]);
}

fn an_internal_network_still_knows_its_names(t: &Test) {
    let net = network(t, "--internal");
    let server = t.start(&format!("--network {net} busybox park"));
    let client = t.start(&format!("--network {net} busybox park"));
    assert_eq!(t.resolve(&client, &server.name), [t.address(&server, &net)]);
}

fn answers_come_over_tcp_as_well(t: &Test) {
    let (_, server, client) = pair(t, "");
    // A query for the name, in the form of RFC 1035 with its length before it.
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, u8::try_from(server.name.len()).unwrap()];
    query.extend(server.name.bytes());
    query.extend([0, 0, 1, 0, 1]);
    let framed: Vec<u8> =
        u16::try_from(query.len()).unwrap().to_be_bytes().into_iter().chain(query).collect();
    let escaped: String = framed.iter().map(|byte| format!("\\\\0{byte:03o}")).collect();
    let shown = t.shell(
        &client,
        &format!("printf '%b' \"{escaped}\" | nc -w 3 127.0.0.11 53 | hexdump -v -e '/1 \"%02x\"'"),
    );
    // Flags of an answer without error, one answer.
    assert!(shown.get(4..).is_some_and(|rest| rest.starts_with("00078")), "{shown}");
    assert_eq!(shown.get(16..20), Some("0001"), "{shown}");
}
