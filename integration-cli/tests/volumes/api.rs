//! Creating, inspecting, listing and removing volumes.

use integration_cli::session::with_filters;
use integration_cli::{Test, cases};
use serde_json::{Value, json};

use super::volume;

cases![
    create_answers_the_volume,
    a_volume_without_a_name_gets_a_long_one,
    creating_twice_answers_the_same_volume_unchanged,
    names_are_checked,
    an_unknown_driver_is_refused,
    a_missing_volume_is_404,
    removal_answers_204_and_force_forgives_a_missing_one,
    the_list_is_an_object_with_warnings,
    lists_are_filtered,
    labels_and_options_are_echoed,
    the_client_inspects_and_removes_several,
    data_survives_its_containers,
];

fn create_answers_the_volume(t: &Test) {
    let name = t.name("vol");
    let body = t.post_json("/volumes/create", &json!({"Name": name})).expect(201).json();
    assert_eq!(body["Name"], name.as_str());
    assert_eq!(body["Driver"], "local");
    assert_eq!(body["Scope"], "local");
    assert!(body["Mountpoint"].as_str().unwrap().ends_with(&format!("/volumes/{name}/_data")), "{body}");
    let created = body["CreatedAt"].as_str().unwrap();
    assert!(created.starts_with("20") && created.len() <= 25 && !created.contains('.'), "{created}");
    // Go clients read both; docker-py tells them apart.
    assert!(body["Labels"].is_null() || body["Labels"] == json!({}), "{body}");
    assert!(body["Options"].is_null() || body["Options"] == json!({}), "{body}");
    assert!(body.get("Status").is_none() && body.get("UsageData").is_none(), "{body}");
    assert_eq!(t.get(&format!("/volumes/{name}")).expect(200).json()["Mountpoint"], body["Mountpoint"]);
    t.host(&format!("test -d {}", body["Mountpoint"].as_str().unwrap())).ok();
}

fn a_volume_without_a_name_gets_a_long_one(t: &Test) {
    let body = t.post_json("/volumes/create", &json!({})).expect(201).json();
    let name = body["Name"].as_str().unwrap();
    t.delete(&format!("/volumes/{name}")).expect(204);
    assert!(name.len() == 64 && name.bytes().all(|digit| digit.is_ascii_hexdigit()), "{name}");
    if t.api_at_least(1, 42) {
        assert_eq!(body["Labels"], json!({"com.docker.volume.anonymous": ""}));
    }
}

fn creating_twice_answers_the_same_volume_unchanged(t: &Test) {
    let name = t.name("vol");
    let first =
        t.post_json("/volumes/create", &json!({"Name": name, "Labels": {"a": "1"}})).expect(201).json();
    let second =
        t.post_json("/volumes/create", &json!({"Name": name, "Labels": {"a": "2"}})).expect(201).json();
    assert_eq!(first, second);
    assert_eq!(first["Labels"], json!({"a": "1"}));
}

fn names_are_checked(t: &Test) {
    let reply = t.post_json("/volumes/create", &json!({"Name": "x"}));
    reply.expect_error_holding(
        400,
        "volume name is too short, names should be at least two alphanumeric characters",
    );
    for bad in ["a/b", "a b", "-ab", "a$b"] {
        let reply = t.post_json("/volumes/create", &json!({"Name": bad}));
        let text = format!(
            "create {bad}: \"{bad}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        );
        reply.expect_error(400, &text);
    }
}

fn an_unknown_driver_is_refused(t: &Test) {
    let reply = t.post_json("/volumes/create", &json!({"Name": t.name("vol"), "Driver": "banana"}));
    assert!(matches!(reply.status, 400 | 404 | 500), "{reply:?}");
    assert!(reply.message().contains("banana"), "{reply:?}");
}

fn a_missing_volume_is_404(t: &Test) {
    t.get("/volumes/no-such-volume").expect_error(404, "get no-such-volume: no such volume");
    t.delete("/volumes/no-such-volume").expect_error_holding(404, "no such volume");
    let outcome = t.docker("volume inspect no-such-volume");
    // Older clients say it in words of their own.
    assert!(outcome.code == 1 && outcome.stderr.to_lowercase().contains("no such volume"), "{outcome:?}");
}

fn removal_answers_204_and_force_forgives_a_missing_one(t: &Test) {
    let name = volume(t, "");
    let path =
        t.get(&format!("/volumes/{name}")).expect(200).json()["Mountpoint"].as_str().unwrap().to_owned();
    assert_eq!(t.delete(&format!("/volumes/{name}")).expect(204).text(), "");
    t.get(&format!("/volumes/{name}")).expect(404);
    assert_ne!(t.host(&format!("test -e {path}")).code, 0);
    t.delete(&format!("/volumes/{name}?force=1")).expect(204);
}

fn the_list_is_an_object_with_warnings(t: &Test) {
    let name = volume(t, "");
    let list = t.get(&with_filters("/volumes", &json!({"name": [name]}))).expect(200).json();
    assert_eq!(list["Volumes"].as_array().unwrap().len(), 1);
    assert_eq!(list["Warnings"], Value::Null);
    let empty = t.get(&with_filters("/volumes", &json!({"name": ["no-such-volume"]}))).expect(200).json();
    assert_eq!(empty, json!({"Volumes": [], "Warnings": null}));
}

fn lists_are_filtered(t: &Test) {
    let red = volume(t, "--label colour=red");
    let blue = volume(t, "--label colour=blue");
    let names = |filters: Value| -> Vec<String> {
        let mut filters = filters;
        filters["name"] = json!([t.prefix()]);
        let list = t.get(&with_filters("/volumes", &filters)).expect(200).json();
        let mut names: Vec<String> = list["Volumes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|volume| volume["Name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(json!({})), [red.as_str(), blue.as_str()]);
    assert_eq!(names(json!({"label": ["colour=red"]})), [red.as_str()]);
    assert_eq!(names(json!({"label": ["colour"]})), [red.as_str(), blue.as_str()]);
    assert_eq!(names(json!({"driver": ["local"]})), [red.as_str(), blue.as_str()]);
    assert_eq!(names(json!({"driver": ["other"]})), [""; 0]);
    t.create(&format!("-v {red}:/data busybox true"));
    assert_eq!(names(json!({"dangling": ["true"]})), [blue.as_str()]);
    assert_eq!(names(json!({"dangling": ["false"]})), [red.as_str()]);
}

fn labels_and_options_are_echoed(t: &Test) {
    let name = volume(t, "--label a=b -o type=tmpfs -o device=tmpfs -o o=size=1m");
    let described = t.get(&format!("/volumes/{name}")).expect(200).json();
    assert_eq!(described["Labels"], json!({"a": "b"}));
    assert_eq!(described["Options"], json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}));
}

fn the_client_inspects_and_removes_several(t: &Test) {
    let (first, second) = (volume(t, ""), volume(t, ""));
    let shown = t.docker_args(&["volume", "inspect", "-f", "{{.Name}} {{.Driver}}", &first, &second]).ok();
    assert_eq!(shown, format!("{first} local\n{second} local"));
    assert_eq!(t.docker(&format!("volume rm {first} {second}")).ok(), format!("{first}\n{second}"));
    assert_eq!(t.docker(&format!("volume ls -q --filter name={}", t.prefix())).ok(), "");
}

fn data_survives_its_containers(t: &Test) {
    let name = volume(t, "");
    t.run(&format!(
        "-v {name}:/data busybox sh -c 'echo kept > /data/file; chown 7:8 /data/file; chmod 640 /data/file'"
    ))
    .ok();
    let shown = t
        .run(&format!(
            "-v {name}:/elsewhere busybox sh -c 'cat /elsewhere/file; stat -c %u:%g:%a /elsewhere/file'"
        ))
        .ok();
    assert_eq!(shown, "kept\n7:8:640");
}
