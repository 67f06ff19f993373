//! Registries that fail in the middle, and clients that leave.

use integration_cli::condition::eventually;
use integration_cli::http::Request;
use integration_cli::images::{file, tar_of};
use integration_cli::net::Place;
use integration_cli::registry::fake::{FakeRegistry, Fault, Form};
use integration_cli::{DaemonOptions, Test, cases};
use serde_json::json;

use super::{id_of, own_image};

cases![
    a_cut_connection_is_taken_up_again,
    a_server_error_is_tried_again,
    a_corrupt_blob_is_refused,
    a_manifest_of_another_digest_is_refused,
    a_failed_pull_leaves_no_image,
    a_client_that_leaves_does_not_spoil_the_next_pull,
    a_pull_cut_short_by_a_crash_of_the_daemon_is_taken_up_again,
];

fn registry_with(t: &Test, repository: &str) -> (FakeRegistry, String) {
    let registry = FakeRegistry::start(Place::inside(t.daemon().machine()));
    registry.put_image(repository, "v1", &own_image(t, repository), Form::Docker);
    let name = format!("{}/{repository}:v1", registry.name);
    (registry, name)
}

fn a_cut_connection_is_taken_up_again(t: &Test) {
    let (registry, name) = registry_with(t, &t.name("repo"));
    registry.misbehave(Fault::CutBlob(2));
    t.docker(&format!("pull -q {name}")).ok();
    if t.api_at_least(1, 42) {
        // What had come is not fetched again; the reference begins anew when it has less than it wants.
        let resumed = registry.requests().iter().any(|request| request.contains("bytes="));
        assert!(resumed, "{:?}", registry.requests());
    }
    t.docker(&format!("rmi {name}")).ok();
}

fn a_server_error_is_tried_again(t: &Test) {
    for status in [503, 429] {
        let (registry, name) = registry_with(t, &t.name("repo"));
        registry.misbehave(Fault::BlobStatus(status, 1));
        let outcome = t.docker(&format!("pull -q {name}"));
        if outcome.code != 0 && !t.api_at_least(1, 42) {
            // The reference gives up at once on some of these.
            continue;
        }
        outcome.ok();
        t.docker(&format!("rmi {name}")).ok();
    }
}

fn a_corrupt_blob_is_refused(t: &Test) {
    let (registry, name) = registry_with(t, &t.name("repo"));
    registry.misbehave(Fault::CorruptBlob);
    let outcome = t.docker(&format!("pull {name}"));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    t.get(&format!("/images/{name}/json")).expect(404);
}

fn a_manifest_of_another_digest_is_refused(t: &Test) {
    let repository = t.name("repo");
    let registry = FakeRegistry::start(Place::inside(t.daemon().machine()));
    let descriptor = registry.put_image(&repository, "v1", &own_image(t, "manifest"), Form::Docker);
    registry.misbehave(Fault::WrongManifest);
    let reference = format!("{}/{repository}@{}", registry.name, descriptor["digest"].as_str().unwrap());
    let outcome = t.docker(&format!("pull {reference}"));
    assert!(outcome.code == 1 && outcome.stderr.contains("digest"), "{outcome:?}");
    t.get(&format!("/images/{reference}/json")).expect(404);
}

fn a_failed_pull_leaves_no_image(t: &Test) {
    let (registry, name) = registry_with(t, &t.name("repo"));
    registry.misbehave(Fault::BlobStatus(404, 100));
    t.docker(&format!("pull {name}")).fails(1);
    t.get(&format!("/images/{name}/json")).expect(404);
    let label = json!({"label": [format!("of={}", t.prefix())]});
    assert!(t.list("/images/json?all=1", &label).is_empty());
}

fn a_pull_cut_short_by_a_crash_of_the_daemon_is_taken_up_again(t: &Test) {
    let options = DaemonOptions::default();
    let d = t.own_daemon(&options);
    let registry = FakeRegistry::start(Place::inside(d.daemon().machine()));
    let repository = d.name("repo");
    let mut image = own_image(&d, &repository);
    image.layers.push(tar_of(&[file("big", 0o644, noise(6_000_000))]));
    registry.put_image(&repository, "v1", &image, Form::OciPlain);
    registry.misbehave(Fault::HoldBlob(10));
    let name = format!("{}/{repository}:v1", registry.name);
    let data = d.daemon().machine().root().join("data");
    let kilobytes =
        || -> u64 { d.host(&format!("du -sk {} | cut -f1", data.display())).ok().parse().unwrap() };
    let before = kilobytes();
    let pulling = d.docker_start(&format!("pull {name}"));
    eventually("half of the big blob is written down", || (kilobytes() > before + 2500).then_some(()));
    d.daemon().kill();
    drop(pulling);
    registry.behave();
    d.daemon().start_again(&options);
    d.docker(&format!("pull -q {name}")).ok();
    id_of(&d, &name);
    if d.api_at_least(1, 42) {
        let resumed = registry.requests().iter().any(|request| request.contains("bytes="));
        assert!(resumed, "everything is fetched from the beginning: {:?}", registry.requests());
    }
}

/// Bytes that no compression makes smaller.
fn noise(length: u32) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        u8::try_from(state >> 24).unwrap()
    };
    (0..length).map(next).collect()
}

fn a_client_that_leaves_does_not_spoil_the_next_pull(t: &Test) {
    let (_registry, name) = registry_with(t, &t.name("repo"));
    let (repository, tag) = name.rsplit_once(':').unwrap();
    for _ in 0..3 {
        let answer =
            t.open(Request::new("POST", &format!("/images/create?fromImage={repository}&tag={tag}")));
        assert_eq!(answer.status, 200);
        drop(answer);
    }
    eventually("a patient client gets the image", || {
        (t.docker(&format!("pull -q {name}")).code == 0).then_some(())
    });
    id_of(t, &name);
    t.docker(&format!("rmi {name}")).ok();
}
