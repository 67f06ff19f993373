//! Connecting and disconnecting containers while they run, or before.

use integration_cli::{Test, cases};
use serde_json::{Value, json};

use super::{network, reads, server};

cases![
    connecting_gives_a_running_container_a_second_interface,
    disconnecting_takes_the_interface_away,
    a_connection_may_choose_address_and_alias,
    connections_of_a_stopped_container_hold_at_its_start,
    connections_survive_a_restart,
    connecting_twice_is_403,
    a_container_in_host_or_shared_mode_cannot_be_connected,
    disconnecting_what_is_not_connected_fails,
    a_missing_container_is_404,
    force_disconnects_a_stopped_container,
    several_networks_may_be_given_at_create,
    the_last_network_may_go,
    old_clients_cannot_give_several_networks,
];

fn interfaces(t: &Test, container: &integration_cli::Container) -> Vec<String> {
    t.shell(container, "ls /sys/class/net").split_whitespace().map(str::to_owned).collect()
}

fn connecting_gives_a_running_container_a_second_interface(t: &Test) {
    let net = network(t, "");
    let server = server(t, &format!("--network {net}"), "hello");
    let client = t.start("busybox park");
    let reply =
        t.post_json(&format!("/networks/{net}/connect"), &json!({"Container": client.id})).expect(200);
    assert_eq!(reply.text(), "");
    assert_eq!(interfaces(t, &client), ["eth0", "eth1", "lo"]);
    reads(t, &client, &server.name, 80, "hello");
    let networks = t.inspect(&client)["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks.as_object().unwrap().len(), 2);
    assert_eq!(networks[&net]["Aliases"], json!([client.short()]));
}

fn disconnecting_takes_the_interface_away(t: &Test) {
    let (one, two) = (network(t, ""), network(t, ""));
    let container = t.start(&format!("--network {one} busybox park"));
    t.docker(&format!("network connect {two} {container}")).ok();
    t.docker(&format!("network disconnect {one} {container}")).ok();
    assert_eq!(interfaces(t, &container), ["eth1", "lo"]);
    let networks = t.inspect(&container)["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks.as_object().unwrap().keys().collect::<Vec<_>>(), [&two]);
    assert_eq!(t.get(&format!("/networks/{one}")).expect(200).json()["Containers"], json!({}));
    // The remaining network carries the default route now.
    assert!(t.shell(&container, "ip route").contains("default via"));
    t.docker(&format!("network rm {one}")).ok();
}

fn a_connection_may_choose_address_and_alias(t: &Test) {
    let net = network(t, "--subnet 10.82.1.0/24");
    let (server, client) = (t.start("busybox park"), t.start(&format!("--network {net} busybox park")));
    t.docker(&format!("network connect --ip 10.82.1.77 --alias one --alias two {net} {server}")).ok();
    assert_eq!(t.address(&server, &net), "10.82.1.77");
    for name in ["one", "two", &server.name, server.short()] {
        assert_eq!(t.resolve(&client, name), ["10.82.1.77"], "{name}");
    }
    let config = t.inspect(&server)["NetworkSettings"]["Networks"][&net]["IPAMConfig"].clone();
    assert_eq!(config["IPv4Address"], "10.82.1.77");
}

fn connections_of_a_stopped_container_hold_at_its_start(t: &Test) {
    let net = network(t, "--subnet 10.82.2.0/24");
    let container = t.create("busybox park");
    t.docker(&format!("network connect --ip 10.82.2.5 {net} {container}")).ok();
    let endpoint = t.inspect(&container)["NetworkSettings"]["Networks"][&net].clone();
    assert_eq!((&endpoint["IPAddress"], &endpoint["EndpointID"]), (&json!(""), &json!("")));
    t.docker(&format!("start {container}")).ok();
    assert_eq!(t.address(&container, &net), "10.82.2.5");
    assert_eq!(interfaces(t, &container), ["eth0", "eth1", "lo"]);
}

fn connections_survive_a_restart(t: &Test) {
    let (one, two) = (network(t, ""), network(t, ""));
    let container = t.start(&format!("--network {one} busybox park"));
    t.docker(&format!("network connect --alias web {two} {container}")).ok();
    t.docker(&format!("restart -t 1 {container}")).ok();
    assert_eq!(interfaces(t, &container).len(), 3);
    let client = t.start(&format!("--network {two} busybox park"));
    assert_eq!(t.resolve(&client, "web"), [t.address(&container, &two)]);
}

fn connecting_twice_is_403(t: &Test) {
    let net = network(t, "");
    let container = t.start(&format!("--network {net} busybox park"));
    let reply = t.post_json(&format!("/networks/{net}/connect"), &json!({"Container": container.name}));
    reply.expect_error_holding(
        403,
        &format!("endpoint with name {container} already exists in network {net}"),
    );
}

fn a_container_in_host_or_shared_mode_cannot_be_connected(t: &Test) {
    let net = network(t, "");
    let owner = t.start("busybox park");
    let guest = t.start(&format!("--network container:{owner} busybox park"));
    let reply = t.post_json(&format!("/networks/{net}/connect"), &json!({"Container": guest.name}));
    // The reference does not class these errors.
    reply.expect_error_holding(t.by_age(400, reply.status), "container sharing network namespace with another container or host cannot be connected to any other network");
    let host = t.start("--network host busybox park");
    let reply = t.post_json(&format!("/networks/{net}/connect"), &json!({"Container": host.name}));
    reply.expect_error_holding(t.by_age(400, reply.status), "container sharing network namespace with another container or host cannot be connected to any other network");
    let reply = t.post_json("/networks/host/connect", &json!({"Container": owner.name}));
    let text = t.by_age(
        "cannot connect container to host network - container must be created in host network mode",
        "container cannot be ",
    );
    reply.expect_error_holding(t.by_age(400, reply.status), text);
    assert!(reply.status >= 400);
}

fn disconnecting_what_is_not_connected_fails(t: &Test) {
    let net = network(t, "");
    let container = t.start("busybox park");
    let reply = t.post_json(&format!("/networks/{net}/disconnect"), &json!({"Container": container.id}));
    reply.expect_error_holding(t.by_age(500, reply.status), "is not connected to");
    assert!(reply.status >= 400);
    let host = t.start("--network host busybox park");
    let reply = t.post_json("/networks/host/disconnect", &json!({"Container": host.id}));
    let text = t.by_age(
        "cannot disconnect container from host network - container was created in host network mode",
        "container cannot be disconnected from host network",
    );
    reply.expect_error_holding(t.by_age(400, reply.status), text);
}

fn a_missing_container_is_404(t: &Test) {
    let net = network(t, "");
    let reply = t.post_json(&format!("/networks/{net}/connect"), &json!({"Container": "no-such-container"}));
    reply.expect_error_holding(404, "No such container: no-such-container");
    let reply =
        t.post_json(&format!("/networks/{net}/disconnect"), &json!({"Container": "no-such-container"}));
    reply.expect_error_holding(404, "No such container: no-such-container");
}

fn force_disconnects_a_stopped_container(t: &Test) {
    let net = network(t, "");
    let container = t.create(&format!("--network {net} busybox park"));
    t.docker(&format!("network disconnect -f {net} {container}")).ok();
    assert_eq!(t.inspect(&container)["NetworkSettings"]["Networks"].get(&net), None);
    t.docker(&format!("network rm {net}")).ok();
}

fn several_networks_may_be_given_at_create(t: &Test) {
    t.newer_than_reference(1, 44, "several endpoints at create");
    let (one, two) = (network(t, ""), network(t, ""));
    let body = json!({
        "Image": "busybox", "Cmd": ["park"], "HostConfig": {"NetworkMode": one},
        "NetworkingConfig": {"EndpointsConfig": {one: {}, two.clone(): {"Aliases": ["web"]}}},
    });
    let name = t.name("c");
    t.post_json(&format!("/v1.44/containers/create?name={name}"), &body).expect(201);
    t.post(&format!("/containers/{name}/start")).expect(204);
    let networks: Value =
        t.get(&format!("/containers/{name}/json")).expect(200).json()["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks.as_object().unwrap().len(), 2);
    let client = t.start(&format!("--network {two} busybox park"));
    assert_eq!(t.resolve(&client, "web"), [networks[&two]["IPAddress"].as_str().unwrap()]);
}

fn the_last_network_may_go(t: &Test) {
    let net = network(t, "");
    let container = t.start(&format!("--network {net} busybox park"));
    t.docker(&format!("network disconnect {net} {container}")).ok();
    assert_eq!(interfaces(t, &container), ["lo"]);
    assert_eq!(t.inspect(&container)["NetworkSettings"]["Networks"], json!({}));
    t.docker(&format!("network connect {net} {container}")).ok();
    assert_eq!(interfaces(t, &container).len(), 2);
}

fn old_clients_cannot_give_several_networks(t: &Test) {
    let (one, two) = (network(t, ""), network(t, ""));
    let body = json!({
        "Image": "busybox", "Cmd": ["park"], "HostConfig": {"NetworkMode": one},
        "NetworkingConfig": {"EndpointsConfig": {one.clone(): {}, two.clone(): {}}},
    });
    let reply = t.create_raw(&body);
    reply.expect_error_holding(400, "Container cannot be c");
    assert!(reply.message().contains(&one) && reply.message().contains(&two), "{reply:?}");
}
