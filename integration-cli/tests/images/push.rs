//! Pushing to a real registry.

use integration_cli::http::Request;
use integration_cli::registry::{Guarding, Registry};
use integration_cli::{Test, cases};
use serde_json::{Value, json};

use super::{id_of, inspect, own_image};

cases![
    what_was_pushed_is_pulled_the_same,
    the_stream_tells_layers_and_digest,
    layers_that_are_there_are_not_sent_again,
    layers_of_another_repository_are_mounted,
    all_tags_are_pushed,
    a_missing_tag_is_refused,
    a_push_is_told_as_an_event,
    skopeo_reads_what_was_pushed,
    a_registry_that_is_not_there_fails_in_the_stream,
];

/// Pushes raw; the lines of the stream.
#[track_caller]
fn push(t: &Test, name: &str, tag: &str) -> Vec<Value> {
    // `e30=` is an empty object: clients always send the header.
    let request =
        Request::new("POST", &format!("/images/{name}/push?tag={tag}")).header("X-Registry-Auth", "e30=");
    t.send(request).expect(200).json_stream()
}

fn what_was_pushed_is_pulled_the_same(t: &Test) {
    let registry = Registry::start(t.daemon().machine(), Guarding::Open);
    let name = format!("{}/{}:v1", registry.name, t.name("repo"));
    t.load(&[own_image(t, &name)]);
    let before = inspect(t, &name);
    let said = t.docker(&format!("push {name}")).ok();
    let digest =
        said.lines().find_map(|line| line.strip_prefix("v1: digest: ")).unwrap_or_else(|| panic!("{said}"));
    let digest = digest.split(' ').next().unwrap();
    t.docker(&format!("rmi {name}")).ok();
    t.docker(&format!("pull {name}")).ok();
    let after = inspect(t, &name);
    for key in ["RootFS", "Config", "Created"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert!(after["RepoDigests"].to_string().contains(digest), "{after}");
    t.docker(&format!("rmi {name}")).ok();
}

fn the_stream_tells_layers_and_digest(t: &Test) {
    let registry = Registry::start(t.daemon().machine(), Guarding::Open);
    let name = format!("{}/{}", registry.name, t.name("repo"));
    t.load(&[own_image(t, &format!("{name}:v1"))]);
    let lines = push(t, &name, "v1");
    assert_eq!(lines[0]["status"], format!("The push refers to repository [{name}]"));
    for word in ["Preparing", "Pushed"] {
        assert_eq!(lines.iter().filter(|line| line["status"] == word).count(), 2, "{word}: {lines:?}");
    }
    let aux = lines.iter().find(|line| line.get("aux").is_some()).unwrap()["aux"].clone();
    assert_eq!(aux["Tag"], "v1");
    assert!(
        aux["Digest"].as_str().unwrap().starts_with("sha256:") && aux["Size"].as_i64().unwrap() > 0,
        "{aux}"
    );
    let told = lines.iter().filter_map(|line| line["status"].as_str()).next_back().unwrap();
    assert_eq!(told, format!("v1: digest: {} size: {}", aux["Digest"].as_str().unwrap(), aux["Size"]));
    t.docker(&format!("rmi {name}:v1")).ok();
}

fn layers_that_are_there_are_not_sent_again(t: &Test) {
    let registry = Registry::start(t.daemon().machine(), Guarding::Open);
    let name = format!("{}/{}", registry.name, t.name("repo"));
    t.load(&[own_image(t, &format!("{name}:v1"))]);
    push(t, &name, "v1");
    t.docker(&format!("tag {name}:v1 {name}:v2")).ok();
    let lines = push(t, &name, "v2");
    assert_eq!(lines.iter().filter(|line| line["status"] == "Layer already exists").count(), 2, "{lines:?}");
    t.docker(&format!("rmi {name}:v1 {name}:v2")).ok();
}

fn layers_of_another_repository_are_mounted(t: &Test) {
    let registry = Registry::start(t.daemon().machine(), Guarding::Open);
    let (one, two) = (t.name("repo"), t.name("repo"));
    t.load(&[own_image(t, &format!("{}/{one}:v1", registry.name))]);
    push(t, &format!("{}/{one}", registry.name), "v1");
    t.docker(&format!("tag {0}/{one}:v1 {0}/{two}:v1", registry.name)).ok();
    let lines = push(t, &format!("{}/{two}", registry.name), "v1");
    let mounted = format!("Mounted from {one}");
    assert_eq!(lines.iter().filter(|line| line["status"] == mounted.as_str()).count(), 2, "{lines:?}");
    t.docker(&format!("rmi {0}/{one}:v1 {0}/{two}:v1", registry.name)).ok();
}

fn all_tags_are_pushed(t: &Test) {
    let registry = Registry::start(t.daemon().machine(), Guarding::Open);
    let name = format!("{}/{}", registry.name, t.name("repo"));
    t.load(&[own_image(t, &format!("{name}:v1"))]);
    t.docker(&format!("tag {name}:v1 {name}:v2")).ok();
    t.docker(&format!("push -a {name}")).ok();
    t.docker(&format!("rmi {name}:v1 {name}:v2")).ok();
    t.docker(&format!("pull -q -a {name}")).ok();
    assert_eq!(id_of(t, &format!("{name}:v1")), id_of(t, &format!("{name}:v2")));
    t.docker(&format!("rmi {name}:v1 {name}:v2")).ok();
}

fn a_missing_tag_is_refused(t: &Test) {
    let name = format!("127.0.0.1:1/{}", t.name("repo"));
    t.docker(&format!("push {name}:v1")).fails_saying(
        1,
        &t.by_age(
            format!("tag does not exist: {name}:v1"),
            format!("An image does not exist locally with the tag: {name}"),
        ),
    );
    t.load(&[own_image(t, &format!("{name}:v1"))]);
    let outcome = t.docker(&format!("push {name}:v2"));
    assert!(outcome.code == 1 && outcome.stderr.contains("v2"), "{outcome:?}");
    t.docker(&format!("rmi {name}:v1")).ok();
}

fn a_push_is_told_as_an_event(t: &Test) {
    let registry = Registry::start(t.daemon().machine(), Guarding::Open);
    let name = format!("{}/{}", registry.name, t.name("repo"));
    t.load(&[own_image(t, &format!("{name}:v1"))]);
    push(t, &name, "v1");
    let told = t.past_events(&json!({"type": ["image"], "event": ["push"]}));
    let event =
        told.iter().find(|event| event.id == format!("{name}:v1")).unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!(event.attribute("name"), name);
    t.docker(&format!("rmi {name}:v1")).ok();
}

fn skopeo_reads_what_was_pushed(t: &Test) {
    let registry = Registry::start(t.daemon().machine(), Guarding::Open);
    let name = format!("{}/{}:v1", registry.name, t.name("repo"));
    t.load(&[own_image(t, &name)]);
    t.docker(&format!("push -q {name}")).ok();
    let mut skopeo = t.daemon().machine().inside("skopeo");
    skopeo
        .args(["--insecure-policy", "inspect", "--tls-verify=false"])
        .arg(format!("docker://{name}"))
        .env("HOME", "/root");
    let seen: Value = serde_json::from_str(&integration_cli::process::run(skopeo, b"").ok()).unwrap();
    assert_eq!(seen["Labels"], json!({"of": t.prefix()}));
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
    t.docker(&format!("rmi {name}")).ok();
}

fn a_registry_that_is_not_there_fails_in_the_stream(t: &Test) {
    let name = format!("127.0.0.1:1/{}", t.name("repo"));
    t.load(&[own_image(t, &format!("{name}:v1"))]);
    let lines = push(t, &name, "v1");
    let last = lines.last().unwrap();
    assert!(last["error"].as_str().unwrap().contains("connection refused"), "{lines:?}");
    assert_eq!(last["errorDetail"]["message"], last["error"]);
    t.docker(&format!("rmi {name}:v1")).ok();
}
