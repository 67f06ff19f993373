//! Pulling: names, digests, platforms, forms of manifests, what is said meanwhile.

use integration_cli::images::Image;
use integration_cli::net::Place;
use integration_cli::registry::fake::{DOCKER_LIST, FakeRegistry, Form, OCI_INDEX};
use integration_cli::{Test, cases};
use serde_json::{Value, json};

use super::{id_of, inspect, own_image};

cases![
    a_tag_is_pulled_and_can_be_used,
    the_stream_tells_layers_digest_and_status,
    pulling_again_finds_everything,
    a_digest_is_pulled_without_a_tag,
    a_digest_does_not_move_a_tag,
    all_forms_of_manifests_are_understood,
    an_index_gives_the_platform_of_the_machine,
    a_platform_may_be_asked_for,
    an_index_without_the_platform_is_refused,
    layers_that_are_there_are_not_fetched_again,
    two_pulls_at_once_fetch_each_layer_once,
    a_pull_is_told_as_an_event,
    run_pulls_what_is_missing,
    a_new_image_takes_the_name_of_the_old_one,
    many_layers_are_pulled,
];

fn fake(t: &Test) -> FakeRegistry {
    FakeRegistry::start(Place::inside(t.daemon().machine()))
}

/// Pulls raw; the lines of the stream.
#[track_caller]
fn pull(t: &Test, image: &str, tag: &str) -> Vec<Value> {
    t.post(&format!("/images/create?fromImage={image}&tag={tag}")).expect(200).json_stream()
}

fn statuses(lines: &[Value]) -> Vec<String> {
    lines.iter().filter_map(|line| line["status"].as_str().map(str::to_owned)).collect()
}

fn a_tag_is_pulled_and_can_be_used(t: &Test) {
    let registry = fake(t);
    let repository = t.name("repo");
    let image = Image::on_busybox("unused", &json!({"Cmd": ["echo", "pulled"]}), &[]);
    let descriptor = registry.put_image(&repository, "v1", &image, Form::Docker);
    let name = format!("{}/{repository}:v1", registry.name);
    let said = t.docker(&format!("pull {name}")).ok();
    assert!(said.contains(&format!("Digest: {}", descriptor["digest"].as_str().unwrap())), "{said}");
    assert!(said.contains(&format!("Status: Downloaded newer image for {name}")), "{said}");
    assert_eq!(said.lines().last(), Some(name.as_str()));
    assert_eq!(t.run(&name).ok(), "pulled");
    let described = inspect(t, &name);
    assert_eq!(described["RepoTags"], json!([name]));
    let digest = format!("{}/{repository}@{}", registry.name, descriptor["digest"].as_str().unwrap());
    assert_eq!(described["RepoDigests"], json!([digest]));
    assert_eq!(id_of(t, &digest), described["Id"].as_str().unwrap());
    t.docker(&format!("rmi {name}")).ok();
}

fn the_stream_tells_layers_digest_and_status(t: &Test) {
    let registry = fake(t);
    let repository = t.name("repo");
    let image = own_image(t, "stream");
    let descriptor = registry.put_image(&repository, "v1", &image, Form::Docker);
    let name = format!("{}/{repository}", registry.name);
    let lines = pull(t, &name, "v1");
    assert_eq!(lines[0], json!({"status": format!("Pulling from {repository}"), "id": "v1"}));
    let told = statuses(&lines);
    assert_eq!(told[told.len() - 2], format!("Digest: {}", descriptor["digest"].as_str().unwrap()));
    assert_eq!(told[told.len() - 1], format!("Status: Downloaded newer image for {name}:v1"));
    let of_layers: Vec<&Value> =
        lines.iter().filter(|line| line["id"].as_str().is_some_and(|id| id.len() == 12)).collect();
    for word in ["Pulling fs layer", "Download complete", "Pull complete"] {
        assert_eq!(of_layers.iter().filter(|line| line["status"] == word).count(), 2, "{word}: {told:?}");
    }
    for line in of_layers {
        // Clients rely on the object being there, empty or not.
        assert!(line["progressDetail"].is_object(), "{line}");
    }
    t.docker(&format!("rmi {name}:v1")).ok();
}

fn pulling_again_finds_everything(t: &Test) {
    let registry = fake(t);
    let repository = t.name("repo");
    registry.put_image(&repository, "v1", &own_image(t, "again"), Form::Docker);
    let name = format!("{}/{repository}", registry.name);
    pull(t, &name, "v1");
    let blobs = || {
        registry
            .requests()
            .iter()
            .filter(|request| request.contains("GET") && request.contains("/blobs/"))
            .count()
    };
    let before = blobs();
    let told = statuses(&pull(t, &name, "v1"));
    assert_eq!(told.last().unwrap(), &format!("Status: Image is up to date for {name}:v1"));
    assert_eq!(blobs(), before, "nothing is fetched twice");
    t.docker(&format!("rmi {name}:v1")).ok();
}

fn a_digest_is_pulled_without_a_tag(t: &Test) {
    let registry = fake(t);
    let repository = t.name("repo");
    let descriptor = registry.put_image(&repository, "v1", &own_image(t, "digest"), Form::Docker);
    let reference = format!("{}/{repository}@{}", registry.name, descriptor["digest"].as_str().unwrap());
    let said = t.docker(&format!("pull {reference}")).ok();
    assert!(said.contains(&format!("Status: Downloaded newer image for {reference}")), "{said}");
    let described = inspect(t, &reference);
    assert_eq!((&described["RepoTags"], &described["RepoDigests"]), (&json!([]), &json!([reference])));
    t.docker(&format!("rmi {reference}")).ok();
    let told = statuses(&pull(
        t,
        &format!("{}/{repository}", registry.name),
        descriptor["digest"].as_str().unwrap(),
    ));
    assert!(told.last().unwrap().contains(&reference), "{told:?}");
    t.docker(&format!("rmi {reference}")).ok();
}

fn a_digest_does_not_move_a_tag(t: &Test) {
    let registry = fake(t);
    let repository = t.name("repo");
    let old = registry.put_image(&repository, "v1", &own_image(t, "first"), Form::Docker);
    registry.put_image(&repository, "v1", &own_image(t, "second"), Form::Docker);
    let name = format!("{}/{repository}", registry.name);
    t.docker(&format!("pull -q {name}:v1")).ok();
    let tagged = id_of(t, &format!("{name}:v1"));
    let by_digest = format!("{name}@{}", old["digest"].as_str().unwrap());
    t.docker(&format!("pull -q {by_digest}")).ok();
    assert_eq!(id_of(t, &format!("{name}:v1")), tagged);
    assert_ne!(id_of(t, &by_digest), tagged);
    t.docker(&format!("rmi {name}:v1 {by_digest}")).ok();
}

fn all_forms_of_manifests_are_understood(t: &Test) {
    let registry = fake(t);
    for form in [Form::Docker, Form::Oci, Form::OciPlain] {
        let repository = t.name("repo");
        let image = own_image(t, &format!("form {form:?}"));
        registry.put_image(&repository, "v1", &image, form);
        let name = format!("{}/{repository}:v1", registry.name);
        t.docker(&format!("pull -q {name}")).ok();
        let layers: Vec<String> =
            image.layers.iter().map(|layer| integration_cli::images::sha256(layer)).collect();
        assert_eq!(inspect(t, &name)["RootFS"]["Layers"], json!(layers), "{form:?}");
        t.docker(&format!("rmi {name}")).ok();
    }
}

fn other_architecture() -> &'static str {
    if integration_cli::images::architecture() == "amd64" { "s390x" } else { "amd64" }
}

/// Puts an index over an image for this machine and one for another under `v1`; returns the two descriptors.
fn put_index(t: &Test, registry: &FakeRegistry, repository: &str, kind: &str) -> (Value, Value) {
    let own = registry.put_image(repository, "own", &own_image(t, "own"), Form::Oci);
    let foreign = Image { architecture: other_architecture().to_owned(), ..own_image(t, "foreign") };
    let foreign = registry.put_image(repository, "foreign", &foreign, Form::Oci);
    registry.put_index(repository, "v1", kind, &[foreign.clone(), own.clone()]);
    (own, foreign)
}

fn an_index_gives_the_platform_of_the_machine(t: &Test) {
    let registry = fake(t);
    for kind in [OCI_INDEX, DOCKER_LIST] {
        let repository = t.name("repo");
        put_index(t, &registry, &repository, kind);
        let name = format!("{}/{repository}:v1", registry.name);
        t.docker(&format!("pull -q {name}")).ok();
        assert_eq!(inspect(t, &name)["Architecture"], integration_cli::images::architecture());
        t.docker(&format!("rmi {name}")).ok();
    }
    let fetched = registry.requests().iter().filter(|request| request.contains("/blobs/")).count();
    // Two layers and a configuration, and the second pull may find the first one's; nothing of the other platform.
    assert!(fetched <= 6, "{:?}", registry.requests());
}

fn a_platform_may_be_asked_for(t: &Test) {
    let registry = fake(t);
    let repository = t.name("repo");
    put_index(t, &registry, &repository, OCI_INDEX);
    let name = format!("{}/{repository}:v1", registry.name);
    t.docker(&format!("pull -q --platform linux/{} {name}", other_architecture())).ok();
    assert_eq!(inspect(t, &name)["Architecture"], other_architecture());
    t.docker(&format!("rmi {name}")).ok();
}

fn an_index_without_the_platform_is_refused(t: &Test) {
    let registry = fake(t);
    let repository = t.name("repo");
    let foreign = Image { architecture: other_architecture().to_owned(), ..own_image(t, "foreign") };
    let foreign = registry.put_image(&repository, "foreign", &foreign, Form::Oci);
    registry.put_index(&repository, "v1", OCI_INDEX, &[foreign]);
    let reply = t.post(&format!("/images/create?fromImage={}/{repository}&tag=v1", registry.name));
    let text = format!("no matching manifest for linux/{}", integration_cli::images::architecture());
    if reply.status == 200 {
        // Later than the first line: in the stream.
        let last = reply.json_stream().last().unwrap().clone();
        assert!(last["error"].as_str().unwrap().contains(&text), "{last}");
    } else {
        reply.expect_error_holding(404, &text);
    }
}

fn layers_that_are_there_are_not_fetched_again(t: &Test) {
    let registry = fake(t);
    let repository = t.name("repo");
    let first = own_image(t, "base");
    let mut second = first.clone();
    second.layers.push(own_image(t, "top").layers.remove(0));
    registry.put_image(&repository, "v1", &first, Form::Docker);
    registry.put_image(&repository, "v2", &second, Form::Docker);
    let name = format!("{}/{repository}", registry.name);
    pull(t, &name, "v1");
    let blobs = || {
        registry
            .requests()
            .iter()
            .filter(|request| request.starts_with("GET") && request.contains("/blobs/"))
            .count()
    };
    let before = blobs();
    let told = statuses(&pull(t, &name, "v2"));
    assert_eq!(told.iter().filter(|status| *status == "Already exists").count(), 2, "{told:?}");
    // The configuration and the one new layer.
    assert_eq!(blobs() - before, 2, "{:?}", registry.requests());
    t.docker(&format!("rmi {name}:v1 {name}:v2")).ok();
}

fn two_pulls_at_once_fetch_each_layer_once(t: &Test) {
    let registry = fake(t);
    let repository = t.name("repo");
    registry.put_image(&repository, "v1", &own_image(t, "shared"), Form::Docker);
    let name = format!("{}/{repository}", registry.name);
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4).map(|_| scope.spawn(|| statuses(&pull(t, &name, "v1")))).collect();
        for pulled in pulls {
            let told = pulled.join().unwrap();
            assert!(told.last().unwrap().starts_with("Status: "), "{told:?}");
        }
    });
    let layers = registry
        .requests()
        .iter()
        .filter(|request| request.starts_with("GET") && request.contains("/blobs/"))
        .count();
    // Two layers once each; the small configuration may be fetched by each.
    assert!(layers <= 2 + 4, "{:?}", registry.requests());
    t.docker(&format!("rmi {name}:v1")).ok();
}

fn a_pull_is_told_as_an_event(t: &Test) {
    let registry = fake(t);
    let repository = t.name("repo");
    registry.put_image(&repository, "v1", &own_image(t, "event"), Form::Docker);
    let name = format!("{}/{repository}", registry.name);
    t.docker(&format!("pull -q {name}:v1")).ok();
    let told = t.past_events(&json!({"type": ["image"], "event": ["pull"]}));
    let event =
        told.iter().find(|event| event.id == format!("{name}:v1")).unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!(event.attribute("name"), name);
    t.docker(&format!("rmi {name}:v1")).ok();
}

fn run_pulls_what_is_missing(t: &Test) {
    let registry = fake(t);
    let repository = t.name("repo");
    let image = Image::on_busybox("unused", &json!({"Cmd": ["echo", "pulled and run"]}), &[]);
    registry.put_image(&repository, "latest", &image, Form::Oci);
    let name = format!("{}/{repository}", registry.name);
    let outcome = t.run(&name);
    assert_eq!(outcome.stdout, "pulled and run\n");
    assert!(outcome.stderr.contains(&format!("Unable to find image '{name}:latest' locally")), "{outcome:?}");
    let quiet = t.run(&name);
    assert_eq!(quiet.stderr, "", "the second run finds it");
    t.docker(&format!("rmi {name}")).ok();
}

fn a_new_image_takes_the_name_of_the_old_one(t: &Test) {
    let registry = fake(t);
    let repository = t.name("repo");
    let name = format!("{}/{repository}", registry.name);
    registry.put_image(&repository, "v1", &own_image(t, "old"), Form::Docker);
    pull(t, &name, "v1");
    let old = id_of(t, &format!("{name}:v1"));
    registry.put_image(&repository, "v1", &own_image(t, "new"), Form::Docker);
    let told = statuses(&pull(t, &name, "v1"));
    assert!(told.last().unwrap().starts_with("Status: Downloaded newer image"), "{told:?}");
    assert_ne!(id_of(t, &format!("{name}:v1")), old);
    assert_eq!(inspect(t, &old)["RepoTags"], json!([]));
    t.docker(&format!("rmi {name}:v1 {old}")).ok();
}

fn many_layers_are_pulled(t: &Test) {
    use integration_cli::images::{file, tar_of};
    let registry = fake(t);
    let repository = t.name("repo");
    let layers = (0..40)
        .map(|number| tar_of(&[file(&format!("f{number}"), 0o644, format!("{} {number}\n", t.prefix()))]));
    let mut image = Image::on_busybox("unused", &json!({}), &[]);
    image.layers.extend(layers);
    registry.put_image(&repository, "v1", &image, Form::Docker);
    let name = format!("{}/{repository}:v1", registry.name);
    t.docker(&format!("pull -q {name}")).ok();
    assert_eq!(t.run(&format!("{name} sh -c 'cat /f* | wc -w'")).ok(), "80");
    t.docker(&format!("rmi {name}")).ok();
}
