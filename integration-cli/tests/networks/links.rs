//! `--link`, which old compose files still use.

use integration_cli::{Test, cases};
use serde_json::json;

use super::{network, reads, server};

cases![
    a_link_on_the_default_bridge_is_a_line_in_the_hosts_file,
    a_link_follows_the_server_to_its_new_address,
    a_link_on_a_network_is_a_private_alias,
    a_link_to_a_missing_container_is_refused,
    links_are_shown_by_inspect,
];

fn a_link_on_the_default_bridge_is_a_line_in_the_hosts_file(t: &Test) {
    let server = server(t, "--expose 80", "hello");
    let client = t.start(&format!("--link {server}:web busybox park"));
    let hosts = t.shell(&client, "cat /etc/hosts");
    let address = t.address(&server, "bridge");
    let line = hosts
        .lines()
        .find(|line| line.starts_with(&address))
        .unwrap_or_else(|| panic!("{address} in {hosts}"));
    let names: Vec<&str> = line.split_whitespace().skip(1).collect();
    assert_eq!(names, ["web", server.short(), server.name.as_str()]);
    reads(t, &client, "web", 80, "hello");
}

fn a_link_follows_the_server_to_its_new_address(t: &Test) {
    let server = t.start("busybox park");
    let client = t.start(&format!("--link {server}:web busybox park"));
    t.docker(&format!("stop {server}")).ok();
    let _keeper = t.start("busybox park");
    t.docker(&format!("start {server}")).ok();
    let address = t.address(&server, "bridge");
    let hosts = t.shell(&client, "cat /etc/hosts");
    assert!(hosts.lines().any(|line| line.starts_with(&format!("{address}\tweb "))), "{address} in {hosts}");
}

fn a_link_on_a_network_is_a_private_alias(t: &Test) {
    let net = network(t, "");
    let server = server(t, &format!("--network {net}"), "hello");
    let client = t.start(&format!("--network {net} --link {server}:web busybox park"));
    let other = t.start(&format!("--network {net} busybox park"));
    reads(t, &client, "web", 80, "hello");
    assert_eq!(t.resolve(&other, "web"), [""; 0]);
}

fn a_link_to_a_missing_container_is_refused(t: &Test) {
    let outcome = t.run("--link no-such-container:web busybox true");
    assert_eq!(outcome.code, 125);
    assert!(outcome.stderr.contains("ould not get container for no-such-container"), "{outcome:?}");
}

fn links_are_shown_by_inspect(t: &Test) {
    let server = t.start("busybox park");
    let client = t.start(&format!("--link {server}:web busybox park"));
    assert_eq!(t.inspect(&client)["HostConfig"]["Links"], json!([format!("/{server}:/{client}/web")]));
}
