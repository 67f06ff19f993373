//! `GET /containers/json`: what is listed, in which order, and all filters.

use integration_cli::{Container, Test, cases};
use serde_json::{Value, json};

cases![
    only_running_containers_are_listed_by_default,
    items_describe_the_container,
    the_newest_comes_first_and_limit_takes_the_last_created,
    ports_are_listed_published_and_exposed,
    mounts_and_networks_are_listed,
    sizes_come_on_request,
    status_texts_follow_the_state,
    filter_by_name_is_a_pattern_with_or_without_slash,
    filter_by_id_takes_prefixes,
    filter_by_status_implies_all,
    filter_by_exit_code,
    filter_by_ancestor,
    filter_by_before_and_since,
    filter_by_network,
    filter_by_volume,
    filter_by_published_and_exposed_port,
    filter_by_health,
    the_client_formats_the_table,
    the_image_column_follows_the_tag,
];

/// Names of the test's own containers that pass `filters`, oldest first.
fn names(t: &Test, path: &str, filters: Value) -> Vec<String> {
    let mut filters = filters;
    if filters.get("name").is_none() {
        filters["name"] = json!([t.prefix()]);
    }
    let mut listed: Vec<String> = t
        .list(path, &filters)
        .iter()
        .map(|item| item["Names"][0].as_str().unwrap().trim_start_matches('/').to_owned())
        .collect();
    listed.reverse();
    listed
}

fn all(t: &Test, filters: Value) -> Vec<String> {
    names(t, "/containers/json?all=1", filters)
}

fn item(t: &Test, container: &Container) -> Value {
    t.list("/containers/json?all=1", &json!({"id": [container.id]})).remove(0)
}

fn only_running_containers_are_listed_by_default(t: &Test) {
    let running = t.start("busybox park");
    let created = t.create("busybox true");
    let exited = t.start("busybox true");
    t.wait(&exited);
    assert_eq!(names(t, "/containers/json", json!({})), [running.name.as_str()]);
    assert_eq!(all(t, json!({})), [running.name.as_str(), created.name.as_str(), exited.name.as_str()]);
}

fn items_describe_the_container(t: &Test) {
    let container = t.start("--label a=b busybox sh -c 'exec park'");
    let item = item(t, &container);
    let inspected = t.inspect(&container);
    assert_eq!(item["Names"], json!([format!("/{container}")]));
    assert_eq!(item["Image"], "busybox");
    assert_eq!(item["ImageID"], inspected["Image"]);
    assert_eq!(item["Command"], "sh -c 'exec park'");
    assert_eq!(item["Labels"], json!({"a": "b"}));
    assert_eq!(item["State"], "running");
    assert_eq!(item["HostConfig"]["NetworkMode"], t.by_age("bridge", "default"));
    assert!(item["Created"].as_i64().unwrap() > 1_600_000_000);
    assert!(item.get("SizeRw").is_none() && item.get("SizeRootFs").is_none(), "{item}");
    assert_eq!(item["Ports"], json!([]));
    assert_eq!(item["Mounts"], json!([]));
}

fn the_newest_comes_first_and_limit_takes_the_last_created(t: &Test) {
    let d = t.own_daemon(&integration_cli::DaemonOptions::default());
    let created: Vec<Container> = (0..4).map(|_| d.create("busybox true")).collect();
    let ids = |path: &str| -> Vec<String> {
        d.list(path, &json!({})).iter().map(|item| item["Id"].as_str().unwrap().to_owned()).collect()
    };
    let expected: Vec<String> = created.iter().rev().map(|container| container.id.clone()).collect();
    assert_eq!(ids("/containers/json?all=1"), expected);
    // A limit looks at containers of every state.
    assert_eq!(ids("/containers/json?limit=2"), expected[..2]);
    assert_eq!(d.docker("ps -lq --no-trunc").ok(), expected[0]);
}

fn ports_are_listed_published_and_exposed(t: &Test) {
    let container = t.start("-p 127.0.0.1::80 --expose 81/udp busybox park");
    let port = t.published_port(&container, "80/tcp");
    let ports = item(t, &container)["Ports"].clone();
    let mut ports: Vec<Value> = ports.as_array().unwrap().clone();
    ports.sort_by_key(|port| port["PrivatePort"].as_i64());
    assert_eq!(
        ports,
        [
            json!({"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": port, "Type": "tcp"}),
            json!({"PrivatePort": 81, "Type": "udp"})
        ]
    );
    let shown =
        t.docker_args(&["ps", "--filter", &format!("name={container}"), "--format", "{{.Ports}}"]).ok();
    assert_eq!(shown, format!("81/udp, 127.0.0.1:{port}->80/tcp"));
}

fn mounts_and_networks_are_listed(t: &Test) {
    let (volume, network) = (t.name("vol"), t.name("net"));
    t.docker(&format!("network create {network}")).ok();
    let container = t.start(&format!("--network {network} -v {volume}:/data:ro busybox park"));
    let item = item(t, &container);
    let mount = &item["Mounts"][0];
    assert_eq!(
        (&mount["Type"], &mount["Name"], &mount["Destination"], &mount["RW"]),
        (&json!("volume"), &json!(volume), &json!("/data"), &json!(false))
    );
    let networks = item["NetworkSettings"]["Networks"].as_object().unwrap();
    assert_eq!(networks.keys().collect::<Vec<_>>(), [&network]);
    // Prometheus and compose want the id here, not the name.
    assert_eq!(networks[&network]["NetworkID"].as_str().unwrap().len(), 64);
    assert_eq!(networks[&network]["IPAddress"], t.address(&container, &network));
}

fn sizes_come_on_request(t: &Test) {
    let container = t.start("busybox sh -c 'head -c 10000 /dev/zero > /file'");
    t.wait(&container);
    let item = t.list("/containers/json?all=1&size=1", &json!({"id": [container.id]})).remove(0);
    assert_eq!(item["SizeRw"], 10_000);
    assert!(item["SizeRootFs"].as_i64().unwrap() > 1_000_000, "{item}");
    let inspected = t.get(&format!("/containers/{container}/json?size=1")).expect(200).json();
    assert_eq!(inspected["SizeRw"], 10_000);
}

fn status_texts_follow_the_state(t: &Test) {
    let status = |container: &Container| item(t, container)["Status"].as_str().unwrap().to_owned();
    let created = t.create("busybox true");
    assert_eq!(status(&created), "Created");
    let running = t.start("busybox park");
    let text = status(&running);
    assert!(
        text == "Up Less than a second" || (text.starts_with("Up ") && text.contains("second")),
        "{text}"
    );
    let exited = t.start("busybox sh -c 'exit 3'");
    t.wait(&exited);
    let text = status(&exited);
    assert!(text.starts_with("Exited (3) ") && text.ends_with(" ago"), "{text}");
    let looping = t.start("--restart always busybox sh -c 'exit 4'");
    t.await_status(&looping, "restarting");
    let text = integration_cli::condition::eventually("it waits between two runs", || {
        Some(status(&looping)).filter(|text| text.starts_with("Restarting"))
    });
    assert!(text.starts_with("Restarting (4) ") && text.ends_with(" ago"), "{text}");
}

fn filter_by_name_is_a_pattern_with_or_without_slash(t: &Test) {
    let first = t.create("busybox true");
    let second = t.create("busybox true");
    let named = |pattern: &str| all(t, json!({"name": [pattern]}));
    assert_eq!(named(&first.name), [first.name.as_str()]);
    assert_eq!(named(&format!("/{first}")), [first.name.as_str()]);
    assert_eq!(named(&format!("^/{first}$")), [first.name.as_str()]);
    assert_eq!(named(&format!("^{first}$")), [first.name.as_str()]);
    assert_eq!(named(&format!("{}c.", t.prefix())), [first.name.as_str(), second.name.as_str()]);
    assert_eq!(named(&first.name[1..]), [first.name.as_str()], "matches anywhere in the name");
    assert_eq!(named("no-such-name"), [""; 0]);
}

fn filter_by_id_takes_prefixes(t: &Test) {
    let container = t.create("busybox true");
    t.create("busybox true");
    for length in [64, 12, 20] {
        assert_eq!(all(t, json!({"id": [container.id[..length]]})), [container.name.as_str()], "{length}");
    }
}

fn filter_by_status_implies_all(t: &Test) {
    let created = t.create("busybox true");
    let running = t.start("busybox park");
    let exited = t.start("busybox true");
    t.wait(&exited);
    let paused = t.start("busybox park");
    t.docker(&format!("pause {paused}")).ok();
    let with = |status: Value| names(t, "/containers/json", json!({"status": status}));
    assert_eq!(with(json!(["created"])), [created.name.as_str()]);
    assert_eq!(with(json!(["running"])), [running.name.as_str()]);
    assert_eq!(with(json!(["exited"])), [exited.name.as_str()]);
    assert_eq!(with(json!(["paused"])), [paused.name.as_str()]);
    assert_eq!(with(json!(["created", "exited"])), [created.name.as_str(), exited.name.as_str()]);
    t.docker(&format!("unpause {paused}")).ok();
}

fn filter_by_exit_code(t: &Test) {
    let good = t.start("busybox true");
    let bad = t.start("busybox sh -c 'exit 3'");
    t.create("busybox true");
    t.wait(&good);
    t.wait(&bad);
    assert_eq!(all(t, json!({"exited": ["0"]})), [good.name.as_str()]);
    assert_eq!(all(t, json!({"exited": ["3"]})), [bad.name.as_str()]);
    assert_eq!(all(t, json!({"exited": ["0", "3"]})), [good.name.as_str(), bad.name.as_str()]);
    let reply = t.get(&integration_cli::session::with_filters(
        "/containers/json?all=1",
        &json!({"exited": ["banana"]}),
    ));
    assert!(reply.status >= 400, "{reply:?}");
}

fn filter_by_ancestor(t: &Test) {
    let image = t.name("child");
    let base = t.create("busybox true");
    let id = t.docker(&format!("commit {base} {image}")).ok();
    let child = t.create(&format!("{image} true"));
    let of = |ancestor: &str| all(t, json!({"ancestor": [ancestor]}));
    assert_eq!(of(&image), [child.name.as_str()]);
    assert_eq!(of(&format!("{image}:latest")), [child.name.as_str()]);
    assert_eq!(of(&id), [child.name.as_str()]);
    assert_eq!(of(&id[7..19]), [child.name.as_str()]);
    assert_eq!(of("no-such-image"), [""; 0]);
    assert!(of("busybox").contains(&base.name));
}

fn filter_by_before_and_since(t: &Test) {
    let containers: Vec<Container> = (0..3).map(|_| t.create("busybox true")).collect();
    let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(all(t, json!({"before": [names[2]]})), names[..2]);
    assert_eq!(all(t, json!({"since": [names[0]]})), names[1..]);
    assert_eq!(all(t, json!({"since": [names[0]], "before": [names[2]]})), names[1..2]);
    let reply = t.get(&integration_cli::session::with_filters(
        "/containers/json",
        &json!({"before": ["no-such-container"]}),
    ));
    reply.expect_error_holding(t.by_age(404, 500), "o such container");
}

fn filter_by_network(t: &Test) {
    let network = t.name("net");
    let id = t.docker(&format!("network create {network}")).ok();
    let inside = t.start(&format!("--network {network} busybox park"));
    t.start("busybox park");
    assert_eq!(all(t, json!({"network": [network]})), [inside.name.as_str()]);
    assert_eq!(all(t, json!({"network": [id]})), [inside.name.as_str()]);
}

fn filter_by_volume(t: &Test) {
    let volume = t.name("vol");
    let container = t.create(&format!("-v {volume}:/some/where busybox true"));
    t.create("busybox true");
    assert_eq!(all(t, json!({"volume": [volume]})), [container.name.as_str()]);
    assert_eq!(all(t, json!({"volume": ["/some/where"]})), [container.name.as_str()]);
}

fn filter_by_published_and_exposed_port(t: &Test) {
    let published = t.start("-p 127.0.0.1::70 busybox park");
    let exposed = t.start("--expose 7171/udp busybox park");
    t.create("--expose 7171/udp busybox park");
    let port = t.published_port(&published, "70/tcp");
    // Published is the port of the host, exposed the port of the container; both are those of a running container.
    assert_eq!(all(t, json!({"publish": [port.to_string()]})), [published.name.as_str()]);
    assert_eq!(all(t, json!({"publish": [format!("{}-{port}/tcp", port - 5)]})), [published.name.as_str()]);
    assert_eq!(all(t, json!({"publish": [format!("{port}/udp")]})), [""; 0]);
    assert_eq!(all(t, json!({"publish": ["70"]})), [""; 0]);
    assert_eq!(all(t, json!({"expose": ["7171/udp"]})), [exposed.name.as_str()]);
    assert_eq!(all(t, json!({"expose": ["70"]})), [published.name.as_str()]);
}

fn filter_by_health(t: &Test) {
    let plain = t.start("busybox park");
    let healthy = t.start("--health-cmd true --health-interval 0.2s busybox park");
    integration_cli::condition::eventually("it is healthy", || {
        (t.inspect(&healthy)["State"]["Health"]["Status"] == "healthy").then_some(())
    });
    assert_eq!(all(t, json!({"health": ["healthy"]})), [healthy.name.as_str()]);
    assert_eq!(all(t, json!({"health": ["none"]})), [plain.name.as_str()]);
    assert_eq!(all(t, json!({"health": ["unhealthy"]})), [""; 0]);
}

fn the_client_formats_the_table(t: &Test) {
    let container = t.start("--label x=y busybox sh -c 'exec park'");
    let format = "{{.ID}}|{{.Image}}|{{.Command}}|{{.Names}}|{{.Label \"x\"}}|{{.Networks}}|{{.State}}";
    let shown = t.docker_args(&["ps", "--filter", &format!("name={container}"), "--format", format]).ok();
    assert_eq!(
        shown,
        format!("{}|busybox|\"sh -c 'exec park'\"|{container}|y|bridge|running", container.short())
    );
    assert_eq!(t.docker(&format!("ps -q --no-trunc --filter name={container}")).ok(), container.id);
}

fn the_image_column_follows_the_tag(t: &Test) {
    let (image, other) = (t.name("moving"), t.name("other"));
    let base = t.create("busybox true");
    let id = t.docker(&format!("commit -m first {base} {image}")).ok();
    t.docker(&format!("commit -m second {base} {other}")).ok();
    let container = t.create(&format!("{image} true"));
    assert_eq!(item(t, &container)["Image"], image.as_str());
    t.docker(&format!("tag {other} {image}")).ok();
    assert_eq!(item(t, &container)["Image"], id.as_str());
    assert_eq!(item(t, &container)["ImageID"], id.as_str());
}
