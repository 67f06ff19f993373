//! Network modes other than a network: host, none, another container's.

use integration_cli::{Test, cases};
use serde_json::json;

cases![
    host_is_the_machines_own_namespace,
    none_has_loopback_only,
    disabled_networking_leaves_loopback_only_and_shows_no_network,
    a_container_shares_anothers_network,
    a_shared_network_outlives_the_container_that_joined,
    host_warns_of_published_ports,
    modes_are_shown_in_list_and_inspect,
];

fn host_is_the_machines_own_namespace(t: &Test) {
    let container = t.start("--network host busybox park");
    assert_eq!(t.shell(&container, "readlink /proc/self/ns/net"), t.host("readlink /proc/self/ns/net").ok());
    assert_eq!(t.shell(&container, "hostname"), t.host("hostname").ok());
    assert!(t.shell(&container, "cat /etc/hosts").contains("outside.test"), "the machine's own file");
    let inspected = t.inspect(&container);
    assert_eq!(inspected["NetworkSettings"]["Networks"]["host"]["IPAddress"], "");
    assert_eq!(inspected["NetworkSettings"]["Ports"], json!({}));
    let named = t.run("--network host --hostname box busybox hostname").ok();
    assert_eq!(named, "box");
}

fn none_has_loopback_only(t: &Test) {
    let container = t.start("--network none busybox park");
    assert_eq!(t.shell(&container, "ls /sys/class/net"), "lo");
    assert_eq!(t.shell(&container, "ip route"), "");
    t.shell(&container, "ping -c 1 -W 5 127.0.0.1");
    assert_eq!(t.inspect(&container)["NetworkSettings"]["Networks"]["none"]["IPAddress"], "");
}

fn disabled_networking_leaves_loopback_only_and_shows_no_network(t: &Test) {
    let body = json!({"Image": "busybox", "Cmd": ["park"], "NetworkDisabled": true});
    let name = t.name("alone");
    t.post_json(&format!("/containers/create?name={name}"), &body).expect(201);
    assert_eq!(t.get(&format!("/containers/{name}/json")).json()["NetworkSettings"]["Networks"], json!({}));
    t.post(&format!("/containers/{name}/start")).expect(204);
    assert_eq!(t.docker(&format!("exec {name} ls /sys/class/net")).ok(), "lo");
    assert_eq!(t.get(&format!("/containers/{name}/json")).json()["NetworkSettings"]["Networks"], json!({}));
}

fn a_container_shares_anothers_network(t: &Test) {
    let owner = t.start("--hostname owner busybox nc -ll -p 80 -e echo shared");
    let guest = t.start(&format!("--network container:{owner} busybox park"));
    super::reads(t, &guest, "127.0.0.1", 80, "shared");
    assert_eq!(t.shell(&guest, "hostname; cat /etc/hosts"), t.shell(&owner, "hostname; cat /etc/hosts"));
    let inspected = t.inspect(&guest);
    assert_eq!(inspected["HostConfig"]["NetworkMode"], format!("container:{}", owner.id));
    assert_eq!(inspected["NetworkSettings"]["Networks"], json!({}));
}

fn a_shared_network_outlives_the_container_that_joined(t: &Test) {
    let owner = t.start("busybox nc -ll -p 80 -e echo shared");
    let guest = t.start(&format!("--network container:{owner} busybox park"));
    t.docker(&format!("rm -f {guest}")).ok();
    let other = t.start("busybox park");
    super::reads(t, &other, &t.address(&owner, "bridge"), 80, "shared");
    t.run("--network container:no-such-container busybox true")
        .fails_saying(125, "No such container: no-such-container");
}

fn host_warns_of_published_ports(t: &Test) {
    let reply = t.create_raw(&json!({
        "Image": "busybox", "Cmd": ["true"],
        "HostConfig": {"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}},
    }));
    assert_eq!(
        reply.expect(201).json()["Warnings"],
        json!(["Published ports are discarded when using host network mode"])
    );
}

fn modes_are_shown_in_list_and_inspect(t: &Test) {
    for mode in ["host", "none"] {
        let container = t.start(&format!("--network {mode} busybox park"));
        let item = t.list("/containers/json", &json!({"id": [container.id]})).remove(0);
        assert_eq!(item["HostConfig"]["NetworkMode"], mode);
        assert_eq!(
            item["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect::<Vec<_>>(),
            [mode]
        );
        assert_eq!(t.inspect(&container)["HostConfig"]["NetworkMode"], mode);
    }
}
