//! Creating, inspecting, listing and removing networks.

use integration_cli::session::with_filters;
use integration_cli::{Test, cases};
use serde_json::{Value, json};

use super::network;

cases![
    create_answers_id_and_warning,
    inspect_describes_the_network,
    labels_and_options_are_echoed,
    a_gateway_is_chosen_when_none_is_given,
    the_predefined_networks_are_there,
    a_taken_name_is_409,
    predefined_names_are_refused,
    an_unknown_driver_is_refused,
    bad_subnets_are_refused,
    overlapping_subnets_are_refused,
    names_ids_and_prefixes_find_a_network,
    a_missing_network_is_404,
    a_network_in_use_is_not_removed,
    predefined_networks_are_not_removed,
    only_running_containers_are_listed_in_a_network,
    lists_are_filtered,
    the_list_holds_no_containers,
    the_client_creates_and_removes_several,
];

fn inspect(t: &Test, network: &str) -> Value {
    t.get(&format!("/networks/{network}")).expect(200).json()
}

fn create_answers_id_and_warning(t: &Test) {
    let name = t.name("net");
    let body =
        t.post_json("/networks/create", &json!({"Name": name, "CheckDuplicate": true})).expect(201).json();
    let id = body["Id"].as_str().unwrap();
    assert_eq!(id.len(), 64);
    assert_eq!(body, json!({"Id": id, "Warning": ""}));
}

fn inspect_describes_the_network(t: &Test) {
    let name = network(
        t,
        "--subnet 10.80.1.0/24 --ip-range 10.80.1.128/25 --gateway 10.80.1.9 --aux-address box=10.80.1.130",
    );
    let described = inspect(t, &name);
    assert_eq!(described["Name"], name.as_str());
    assert_eq!(described["Scope"], "local");
    assert_eq!(described["Driver"], "bridge");
    assert_eq!(described["EnableIPv6"], false);
    assert_eq!(described["IPAM"]["Driver"], "default");
    assert_eq!(
        described["IPAM"]["Config"],
        json!([{
            "Subnet": "10.80.1.0/24", "IPRange": "10.80.1.128/25", "Gateway": "10.80.1.9",
            "AuxiliaryAddresses": {"box": "10.80.1.130"},
        }])
    );
    for flag in ["Internal", "Attachable", "Ingress", "ConfigOnly"] {
        assert_eq!(described[flag], false, "{flag}");
    }
    assert_eq!(described["ConfigFrom"], json!({"Network": ""}));
    assert_eq!(described["Containers"], json!({}));
    assert_eq!(described["Options"], json!({}));
    assert_eq!(described["Labels"], json!({}));
    assert!(described["Created"].as_str().unwrap().starts_with("20"));
}

fn labels_and_options_are_echoed(t: &Test) {
    let name =
        network(t, "--label a=b --label c -o com.docker.network.driver.mtu=1400 --internal --attachable");
    let described = inspect(t, &name);
    assert_eq!(described["Labels"], json!({"a": "b", "c": ""}));
    assert_eq!(described["Options"], json!({"com.docker.network.driver.mtu": "1400"}));
    assert_eq!((&described["Internal"], &described["Attachable"]), (&json!(true), &json!(true)));
}

fn a_gateway_is_chosen_when_none_is_given(t: &Test) {
    let name = network(t, "--subnet 10.80.2.0/24");
    let config = inspect(t, &name)["IPAM"]["Config"].clone();
    // The reference chooses one, too, but shows it only for subnets that it chose itself.
    let shown = json!([{"Subnet": "10.80.2.0/24", "Gateway": "10.80.2.1"}]);
    assert_eq!(config, t.by_age(shown, json!([{"Subnet": "10.80.2.0/24"}])));
    let chosen = inspect(t, &network(t, ""))["IPAM"]["Config"].clone();
    // k3d makes a network only to read its gateway.
    let gateway = chosen[0]["Gateway"].as_str().unwrap();
    let subnet = chosen[0]["Subnet"].as_str().unwrap();
    let (base, size) = subnet.split_once('/').unwrap();
    assert!(matches!(size, "16" | "20" | "24"), "{subnet}");
    assert_eq!(gateway, format!("{}1", base.strip_suffix('0').unwrap()));
}

fn the_predefined_networks_are_there(t: &Test) {
    for (name, driver) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
        let described = inspect(t, name);
        assert_eq!((&described["Driver"], &described["Scope"]), (&json!(driver), &json!("local")), "{name}");
    }
    let options = inspect(t, "bridge")["Options"].clone();
    assert_eq!(options["com.docker.network.bridge.default_bridge"], "true");
    assert_eq!(options["com.docker.network.bridge.enable_icc"], "true");
    assert_eq!(options["com.docker.network.bridge.enable_ip_masquerade"], "true");
    assert_eq!(options["com.docker.network.bridge.host_binding_ipv4"], "0.0.0.0");
    assert_eq!(options["com.docker.network.driver.mtu"], "1500");
    let interface = options["com.docker.network.bridge.name"].as_str().unwrap();
    t.host(&format!("ip link show {interface}")).ok();
    assert_eq!(inspect(t, "host")["IPAM"]["Config"], json!([]));
}

fn a_taken_name_is_409(t: &Test) {
    let name = network(t, "");
    let reply = t.post_json("/networks/create", &json!({"Name": name, "CheckDuplicate": true}));
    reply.expect_error(409, &format!("network with name {name} already exists"));
    t.docker(&format!("network create {name}")).fails_saying(1, "already exists");
}

fn predefined_names_are_refused(t: &Test) {
    for name in ["bridge", "host", "none"] {
        let reply = t.post_json("/networks/create", &json!({"Name": name, "CheckDuplicate": true}));
        reply.expect_error_holding(403, &format!("operation is not permitted on predefined {name} network"));
    }
}

fn an_unknown_driver_is_refused(t: &Test) {
    let reply = t.post_json("/networks/create", &json!({"Name": t.name("net"), "Driver": "banana"}));
    assert!(matches!(reply.status, 400 | 404), "{reply:?}");
    assert!(reply.message().contains("banana"), "{reply:?}");
}

fn bad_subnets_are_refused(t: &Test) {
    for ipam in [json!({"Subnet": "banana"}), json!({"Subnet": "10.80.3.0/24", "Gateway": "10.81.3.1"})] {
        let body = json!({"Name": t.name("net"), "IPAM": {"Config": [ipam]}});
        let reply = t.post_json("/networks/create", &body);
        // The reference gives some of these no class.
        let status = t.by_age(400, reply.status);
        assert!(status >= 400, "{reply:?}");
        reply.expect_error_holding(status, "");
    }
    // Host bits in a subnet are refused by newer daemons and cut off by the reference.
    let body = json!({"Name": t.name("net"), "IPAM": {"Config": [{"Subnet": "10.80.4.7/24"}]}});
    let reply = t.post_json("/networks/create", &body);
    if t.api_at_least(1, 42) {
        reply.expect_error_holding(400, "invalid subnet 10.80.4.7/24: it should be 10.80.4.0/24");
    }
}

fn overlapping_subnets_are_refused(t: &Test) {
    network(t, "--subnet 10.80.5.0/24");
    let body = json!({"Name": t.name("net"), "IPAM": {"Config": [{"Subnet": "10.80.5.128/25"}]}});
    let reply = t.post_json("/networks/create", &body);
    reply.expect_error_holding(403, "Pool overlaps with other one on this address space");
}

fn names_ids_and_prefixes_find_a_network(t: &Test) {
    let name = network(t, "");
    let id = inspect(t, &name)["Id"].as_str().unwrap().to_owned();
    for reference in [&name[..], &id, &id[..12]] {
        assert_eq!(inspect(t, reference)["Id"], id.as_str(), "{reference}");
    }
    // A name that reads like the beginning of an id wins over the id.
    let lure = id[..14].to_owned();
    t.docker(&format!("network create {lure}")).ok();
    let found = inspect(t, &lure)["Name"].clone();
    t.docker(&format!("network rm {lure}")).ok();
    assert_eq!(found, lure.as_str());
}

fn a_missing_network_is_404(t: &Test) {
    t.get("/networks/no-such-network").expect_error_holding(404, "network no-such-network not found");
    t.delete("/networks/no-such-network").expect_error_holding(404, "network no-such-network not found");
    let body = json!({"Container": t.start("busybox park").name});
    t.post_json("/networks/no-such-network/connect", &body)
        .expect_error_holding(404, "network no-such-network not found");
}

fn a_network_in_use_is_not_removed(t: &Test) {
    let name = network(t, "");
    let container = t.start(&format!("--network {name} busybox park"));
    let reply = t.delete(&format!("/networks/{name}"));
    reply.expect_error_holding(403, "has active endpoints");
    t.docker(&format!("rm -f {container}")).ok();
    t.delete(&format!("/networks/{name}")).expect(204);
    t.get(&format!("/networks/{name}")).expect(404);
}

fn predefined_networks_are_not_removed(t: &Test) {
    for name in ["bridge", "host", "none"] {
        let reply = t.delete(&format!("/networks/{name}"));
        reply.expect_error(403, &format!("{name} is a pre-defined network and cannot be removed"));
    }
}

fn only_running_containers_are_listed_in_a_network(t: &Test) {
    let name = network(t, "--subnet 10.80.6.0/24");
    let running = t.start(&format!("--network {name} busybox park"));
    t.create(&format!("--network {name} busybox true"));
    let containers = inspect(t, &name)["Containers"].clone();
    let containers = containers.as_object().unwrap();
    assert_eq!(containers.keys().collect::<Vec<_>>(), [&running.id]);
    let entry = &containers[&running.id];
    assert_eq!(entry["Name"], running.name.as_str());
    assert_eq!(entry["IPv4Address"], format!("{}/24", t.address(&running, &name)));
    assert_eq!(entry["IPv6Address"], "");
    let endpoint = t.inspect(&running)["NetworkSettings"]["Networks"][&name].clone();
    assert_eq!(entry["EndpointID"], endpoint["EndpointID"]);
    assert_eq!(entry["MacAddress"], endpoint["MacAddress"]);
    t.docker(&format!("stop {running}")).ok();
    assert_eq!(inspect(t, &name)["Containers"], json!({}));
}

fn lists_are_filtered(t: &Test) {
    let red = network(t, "--label colour=red");
    let blue = network(t, "--label colour=blue");
    let id = inspect(t, &red)["Id"].as_str().unwrap().to_owned();
    let names = |filters: Value| -> Vec<String> {
        let mut names: Vec<String> = t
            .list("/networks", &filters)
            .iter()
            .map(|network| network["Name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(json!({"name": [t.prefix()]})), [red.as_str(), blue.as_str()]);
    assert_eq!(names(json!({"id": [id[..12]]})), [red.as_str()]);
    assert_eq!(names(json!({"name": [t.prefix()], "label": ["colour=red"]})), [red.as_str()]);
    assert_eq!(names(json!({"name": [t.prefix()], "driver": ["host"]})), [""; 0]);
    assert_eq!(names(json!({"type": ["builtin"]})), ["bridge", "host", "none"]);
    assert_eq!(names(json!({"name": [t.prefix()], "type": ["custom"]})), [red.as_str(), blue.as_str()]);
    assert_eq!(names(json!({"name": [t.prefix()], "scope": ["swarm"]})), [""; 0]);
    t.start(&format!("--network {red} busybox park"));
    if t.api_at_least(1, 42) {
        // The reference looks into the list it is about to send, which holds no containers, and finds none in use.
        assert_eq!(names(json!({"name": [t.prefix()], "dangling": ["true"]})), [blue.as_str()]);
        assert_eq!(names(json!({"name": [t.prefix()], "dangling": ["false"]})), [red.as_str()]);
    }
    let reply = t.get(&with_filters("/networks", &json!({"type": ["banana"]})));
    assert!(reply.status >= 400, "{reply:?}");
}

fn the_list_holds_no_containers(t: &Test) {
    let name = network(t, "");
    t.start(&format!("--network {name} busybox park"));
    let item = t.list("/networks", &json!({"name": [name]})).remove(0);
    assert!(item.get("Containers").is_none_or(|containers| *containers == json!({})), "{item}");
}

fn the_client_creates_and_removes_several(t: &Test) {
    let (first, second) = (network(t, ""), network(t, ""));
    let printed = t.docker(&format!("network rm {first} {second}")).ok();
    assert_eq!(printed, format!("{first}\n{second}"));
    let outcome = t.docker("network rm no-such-network");
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("no-such-network"), "{outcome:?}");
    let shown = t.docker_args(&["network", "inspect", "-f", "{{.Name}} {{.Driver}}", "bridge", "none"]).ok();
    assert_eq!(shown, "bridge bridge\nnone null");
}
