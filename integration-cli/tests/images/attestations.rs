//! Statements about images, and where images come from.

use integration_cli::http::Request;
use integration_cli::images::architecture;
use integration_cli::net::Place;
use integration_cli::registry::fake::{FakeRegistry, Form, OCI_INDEX};
use integration_cli::{Implementation, Test, cases};
use serde_json::{Value, json};

use super::own_image;

cases![
    statements_come_with_the_image_they_are_about,
    statements_survive_save_and_load,
    an_image_without_statements_has_none,
    statements_that_are_missing_do_not_keep_an_image_away,
];

const PROVENANCE: &str = "https://slsa.dev/provenance/v0.2";
const CONTENTS: &str = "https://spdx.dev/Document";
/// Not as a serializer would write it: it has to come back byte for byte.
const STATEMENT: &str = r#"{"_type": "https://in-toto.io/Statement/v0.1",  "predicateType": "https://slsa.dev/provenance/v0.2", "a": 1.0}"#;

fn needs_the_newest_api(t: &Test) {
    if !matches!(t.implementation(), Implementation::Shoald(_)) {
        integration_cli::skip("the reference is older than statements about images");
    }
}

/// A registry with an index over an image and statements about it; the image's name and its repository.
fn published(t: &Test) -> (FakeRegistry, String, String) {
    let registry = FakeRegistry::start(Place::inside(t.daemon().machine()));
    let repository = t.name("repo");
    let mut image = registry.put_image(&repository, "own", &own_image(t, "own"), Form::Oci);
    image["platform"] = json!({"os": "linux", "architecture": architecture()});
    let statements = [(PROVENANCE, STATEMENT), (CONTENTS, "{}")];
    let attestation = registry.put_statements(&repository, &image, &statements);
    registry.put_index(&repository, "v1", OCI_INDEX, &[image, attestation]);
    let repository = format!("{}/{repository}", registry.name);
    (registry, format!("{repository}:v1"), repository)
}

fn described(t: &Test, image: &str) -> Value {
    t.get(&format!("/v1.55/images/{image}/json")).expect(200).json()
}

fn attestations(t: &Test, image: &str, query: &str) -> Vec<Value> {
    let reply = t.get(&format!("/v1.55/images/{image}/attestations{query}")).expect(200);
    reply.json().as_array().expect("a list").clone()
}

fn statements_come_with_the_image_they_are_about(t: &Test) {
    needs_the_newest_api(t);
    let (_registry, name, repository) = published(t);
    t.docker(&format!("pull -q {name}")).ok();
    let found = attestations(t, &name, "");
    let types: Vec<&str> = found.iter().filter_map(|found| found["PredicateType"].as_str()).collect();
    assert_eq!(types, [PROVENANCE, CONTENTS]);
    assert!(found.iter().all(|found| found.get("Statement").is_none()), "{found:?}");
    assert_eq!(found[0]["Descriptor"]["size"], STATEMENT.len());
    assert_eq!(found[0]["Descriptor"]["mediaType"], "application/vnd.in-toto+json");

    let told = t.get(&format!("/v1.55/images/{name}/attestations?type={PROVENANCE}&statement=1")).expect(200);
    assert_eq!(told.json().as_array().map(Vec::len), Some(1));
    assert!(told.text().contains(STATEMENT), "{}", told.text());
    let platform = |architecture: &str| {
        format!(r#"platform={{"os":"linux","architecture":"{architecture}"}}"#).replace('"', "%22")
    };
    let own = platform(architecture());
    assert_eq!(attestations(t, &name, &format!("?{own}")).len(), 2);
    let refused = |query: &str, status: u16, text: &str| {
        let reply = t.get(&format!("/v1.55/images/{name}/attestations?{query}"));
        reply.expect_error_holding(status, text);
    };
    refused(&platform("riscv64"), 404, "no manifest for platform linux/riscv64");
    refused(&format!("{own}&{own}"), 400, "only one platform value is currently supported");
    refused("platform=banana", 400, "invalid platform");
    t.get("/v1.55/images/no-such-image/attestations").expect_error_holding(404, "no-such-image");

    assert_eq!(described(t, &name)["Identity"]["Pull"], json!([{"Repository": repository}]));
    let all = t.get("/v1.55/images/json?manifests=1&identity=1").expect(200).json();
    let all = all.as_array().unwrap();
    let mine = all.iter().find(|image| image["RepoTags"] == json!([name])).expect("the image");
    let parts = mine["Manifests"].as_array().unwrap();
    assert_eq!(parts[0]["ImageData"]["Identity"]["Pull"][0]["Repository"], *repository);
    assert_eq!((&parts[1]["Kind"], &parts[1]["Available"]), (&json!("attestation"), &json!(true)));
    assert_eq!(parts[1]["AttestationData"]["For"], parts[0]["ID"]);
    t.docker(&format!("rmi {name}")).ok();
}

fn statements_survive_save_and_load(t: &Test) {
    needs_the_newest_api(t);
    let (_registry, name, _) = published(t);
    t.docker(&format!("pull -q {name}")).ok();
    let archive = t.get(&format!("/images/{name}/get")).expect(200).body;
    t.docker(&format!("rmi {name}")).ok();
    let request = Request::new("POST", "/images/load?quiet=1").header("Content-Type", "application/x-tar");
    t.send(request.bytes(archive)).expect(200);
    assert_eq!(attestations(t, &name, "").len(), 2);
    assert_eq!(described(t, &name).get("Identity"), None, "an archive does not say where it is from");
    t.docker(&format!("rmi {name}")).ok();
}

fn an_image_without_statements_has_none(t: &Test) {
    needs_the_newest_api(t);
    assert!(attestations(t, "busybox", "").is_empty());
}

fn statements_that_are_missing_do_not_keep_an_image_away(t: &Test) {
    needs_the_newest_api(t);
    let registry = FakeRegistry::start(Place::inside(t.daemon().machine()));
    let repository = t.name("repo");
    let mut image = registry.put_image(&repository, "own", &own_image(t, "own"), Form::Oci);
    image["platform"] = json!({"os": "linux", "architecture": architecture()});
    let elsewhere = t.name("elsewhere");
    let attestation = registry.put_statements(&elsewhere, &image, &[(CONTENTS, "{}")]);
    registry.put_index(&repository, "v1", OCI_INDEX, &[image, attestation]);
    let name = format!("{}/{repository}:v1", registry.name);
    t.daemon().announce("statements about an image cannot be had");
    t.docker(&format!("pull -q {name}")).ok();
    let reply = t.get(&format!("/v1.55/images/{name}/attestations"));
    reply.expect_error_holding(404, "is not available locally");
    t.docker(&format!("rmi {name}")).ok();
}
