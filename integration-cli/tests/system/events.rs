//! `/events`: order, attributes, replay, filters.

use integration_cli::condition::eventually;
use integration_cli::session::with_filters;
use integration_cli::{Test, cases};
use serde_json::{Value, json};

cases![
    a_container_that_runs_and_is_removed_reports_its_life_in_order,
    container_events_carry_labels_image_and_name_without_slash,
    the_old_top_level_fields_repeat_action_id_and_image,
    stop_reports_kill_die_stop_and_kill_names_the_signal_by_number,
    restart_reports_the_stop_the_start_and_itself_last,
    exec_reports_create_start_and_die_with_its_id_and_exit_code,
    networks_and_volumes_report_what_happens_to_them,
    the_past_is_replayed_between_since_and_until,
    an_end_in_the_past_closes_the_stream,
    a_beginning_after_the_end_is_refused,
    headers_arrive_before_the_first_event,
    filters_by_type_event_container_image_and_label_select,
    exec_events_match_by_the_part_before_the_colon,
    the_client_formats_events,
];

fn a_container_that_runs_and_is_removed_reports_its_life_in_order(t: &Test) {
    let name = t.name("life");
    let mut recording = t.record_events(&json!({"type": ["container", "network"]}));
    t.docker(&format!("run --rm --name {name} busybox true")).ok();
    let created = recording
        .wait_until("create", |event| event.label() == "container create" && event.attribute("name") == name);
    let id = created.id;
    recording.wait_until("destroy", |event| event.label() == "container destroy" && event.id == id);
    let ours = recording
        .seen()
        .iter()
        .filter(|event| event.id == id || event.raw["Actor"]["Attributes"]["container"] == id.as_str());
    let labels: Vec<String> = ours.map(integration_cli::events::Event::label).collect();
    // Newer daemons tell of the end when the network is gone already; the reference tells of it first.
    let end = t.by_age(["network disconnect", "container die"], ["container die", "network disconnect"]);
    let begin = ["container create", "container attach", "network connect", "container start"];
    assert_eq!(labels, [&begin[..], &end[..], &["container destroy"]].concat());
}

fn container_events_carry_labels_image_and_name_without_slash(t: &Test) {
    let container = t.create("--label colour=green --label empty busybox true");
    let created = t.past_events(&t.container_filter(&container.id)).remove(0);
    let attributes = &created.raw["Actor"]["Attributes"];
    assert_eq!(
        *attributes,
        json!({"colour": "green", "empty": "", "image": "busybox", "name": container.name})
    );
    assert_eq!(created.id, container.id);
    assert_eq!(created.raw["scope"], "local");
    let (time, nanos) = (created.raw["time"].as_i64().unwrap(), created.raw["timeNano"].as_i64().unwrap());
    assert_eq!(nanos / 1_000_000_000, time);
}

fn the_old_top_level_fields_repeat_action_id_and_image(t: &Test) {
    let container = t.create("busybox true");
    let created = t.past_events(&t.container_filter(&container.id)).remove(0);
    // Pinned to 1.41; the fields go away with 1.52.
    assert_eq!(created.raw["status"], "create");
    assert_eq!(created.raw["id"], container.id.as_str());
    assert_eq!(created.raw["from"], "busybox");
}

fn stop_reports_kill_die_stop_and_kill_names_the_signal_by_number(t: &Test) {
    let container = t.start("busybox park");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    t.docker(&format!("stop {container}")).ok();
    recording.wait_for("container stop");
    recording.wait_for("container die");
    let mut labels = recording.labels();
    assert_eq!(labels.remove(0), "container kill");
    labels.sort();
    // The order of the last two is not promised.
    assert_eq!(labels, ["container die", "container stop"]);
    assert_eq!(recording.wait_for("container kill").attribute("signal"), "15");
    assert_eq!(recording.wait_for("container die").attribute("exitCode"), "0");
}

fn restart_reports_the_stop_the_start_and_itself_last(t: &Test) {
    let container = t.start("busybox park");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    t.docker(&format!("restart {container}")).ok();
    recording.wait_for("container restart");
    let mut labels = recording.labels();
    labels[1..3].sort();
    assert_eq!(
        labels,
        ["container kill", "container die", "container stop", "container start", "container restart"]
    );
}

fn exec_reports_create_start_and_die_with_its_id_and_exit_code(t: &Test) {
    let container = t.start("busybox park");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    t.exec(&container, "sh -c 'exit 7'").fails(7);
    let died = recording.wait_for("container exec_die");
    assert_eq!(
        recording.labels(),
        ["container exec_create: sh -c exit 7", "container exec_start: sh -c exit 7", "container exec_die"]
    );
    assert_eq!(died.attribute("exitCode"), "7");
    let exec = died.attribute("execID");
    assert_eq!(exec.len(), 64);
    assert!(recording.seen().iter().all(|event| event.attribute("execID") == exec));
}

fn networks_and_volumes_report_what_happens_to_them(t: &Test) {
    let (network, volume) = (t.name("net"), t.name("vol"));
    let mut recording = t.record_events(&json!({"type": ["network", "volume"]}));
    t.docker(&format!("network create {network}")).ok();
    t.docker(&format!("volume create {volume}")).ok();
    let container = t.start(&format!("--network {network} -v {volume}:/data busybox park"));
    t.docker(&format!("rm -f {container}")).ok();
    t.docker(&format!("volume rm {volume}")).ok();
    t.docker(&format!("network rm {network}")).ok();
    let ended = recording.wait_until("the network is gone", |event| {
        event.label() == "network destroy" && event.attribute("name") == network
    });
    let of = |kind: &str, id: &str| -> Vec<(String, Value)> {
        let events = recording.seen().iter().filter(|event| event.kind == kind && event.id == id);
        events.map(|event| (event.action.clone(), event.raw["Actor"]["Attributes"].clone())).collect()
    };
    let about_network = json!({"name": network, "type": "bridge"});
    let about_endpoint = json!({"name": network, "type": "bridge", "container": container.id});
    assert_eq!(
        of("network", &ended.id),
        [
            ("create".to_owned(), about_network.clone()),
            ("connect".to_owned(), about_endpoint.clone()),
            ("disconnect".to_owned(), about_endpoint),
            ("destroy".to_owned(), about_network)
        ]
    );
    let mounted = json!({
        "container": container.id, "destination": "/data", "driver": "local", "propagation": "", "read/write": "true"
    });
    let mut of_volume = of("volume", &volume);
    if !t.api_at_least(1, 42) {
        // The reference reports `create` again for each container that is created with the volume.
        assert_eq!(of_volume.remove(1).0, "create");
    }
    assert_eq!(
        of_volume,
        [
            ("create".to_owned(), json!({"driver": "local"})),
            ("mount".to_owned(), mounted),
            ("unmount".to_owned(), json!({"container": container.id, "driver": "local"})),
            ("destroy".to_owned(), json!({"driver": "local"}))
        ]
    );
}

fn the_past_is_replayed_between_since_and_until(t: &Test) {
    let before = t.create("busybox true");
    let first = t.past_events(&t.container_filter(&before.id)).remove(0);
    let after = t.create("busybox true");
    let second = t.past_events(&t.container_filter(&after.id)).remove(0);
    let nanos = |event: &Value| event["timeNano"].as_i64().unwrap();
    let moment = |nanos: i64| format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let between = |since: i64, until: i64| -> Vec<Value> {
        let path = format!("/events?since={}&until={}", moment(since), moment(until));
        let filters = json!({"container": [before.id, after.id]});
        let reply = t.get(&with_filters(&path, &filters)).expect(200);
        reply.json_stream().iter().map(|event| event["Actor"]["ID"].clone()).collect()
    };
    assert_eq!(between(nanos(&first.raw) + 1, nanos(&second.raw)), [json!(after.id)]);
    assert_eq!(between(nanos(&first.raw) - 1, nanos(&second.raw)), [json!(before.id), json!(after.id)]);
}

fn an_end_in_the_past_closes_the_stream(t: &Test) {
    let reply = t.get("/events?since=1&until=2").expect(200);
    assert_eq!(reply.text(), "");
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
}

fn a_beginning_after_the_end_is_refused(t: &Test) {
    let reply = t.get("/events?since=20&until=10");
    reply.expect_error(400, "`since` time (20) cannot be after `until` time (10)");
}

fn headers_arrive_before_the_first_event(t: &Test) {
    let stream = t.open(integration_cli::http::Request::new(
        "GET",
        &with_filters("/events", &json!({"container": ["nobody-has-this-name"]})),
    ));
    assert_eq!(stream.status, 200);
}

fn filters_by_type_event_container_image_and_label_select(t: &Test) {
    let container = t.create("--label kind=odd busybox true");
    t.docker(&format!("start {container}")).ok();
    t.wait(&container);
    let died = || t.past_events(&json!({"container": [container.name], "event": ["die"]})).len();
    eventually("the end is told", || (died() == 1).then_some(()));
    let actions = |filters: Value| -> Vec<String> {
        let mut filters = filters;
        filters["container"] = json!([container.name]);
        t.past_events(&filters).iter().map(integration_cli::events::Event::label).collect()
    };
    let life = ["container create", "container start", "container die"];
    assert_eq!(actions(json!({"type": ["container"]})), life);
    assert_eq!(actions(json!({"event": ["start", "die"]})), life[1..]);
    assert_eq!(actions(json!({"image": ["busybox"], "type": ["container"]})), life);
    assert_eq!(actions(json!({"image": ["other"]})), [""; 0]);
    assert_eq!(actions(json!({"label": ["kind=odd"]})), life);
    assert_eq!(actions(json!({"label": ["kind=even"]})), [""; 0]);
    assert_eq!(actions(json!({"scope": ["swarm"]})), [""; 0]);
}

fn exec_events_match_by_the_part_before_the_colon(t: &Test) {
    let container = t.start("busybox park");
    t.exec(&container, "true").ok();
    let found = t.past_events(&json!({"container": [container.id], "event": ["exec_create", "exec_start"]}));
    let labels: Vec<_> = found.iter().map(integration_cli::events::Event::label).collect();
    // A command without arguments keeps the blank that would have joined them.
    assert_eq!(labels, ["container exec_create: true ", "container exec_start: true "]);
}

fn the_client_formats_events(t: &Test) {
    let container = t.create("busybox true");
    let filter = format!("container={container}");
    let shown = t.docker_args(&[
        "events",
        "--since",
        "10m",
        "--until",
        &integration_cli::events::now(),
        "--filter",
        &filter,
        "--format",
        "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}",
    ]);
    assert_eq!(shown.ok(), format!("container create {container}"));
}
