//! Registries that want a password, a token or a certificate, and those that are not there.

use base64::Engine as _;
use integration_cli::http::Request;
use integration_cli::net::Place;
use integration_cli::registry::fake::{FakeRegistry, Fault, Form};
use integration_cli::registry::{Guarding, PASSWORD, Registry, USER};
use integration_cli::{DaemonOptions, Reply, Test, cases};
use serde_json::json;

use super::own_image;

cases![
    a_missing_image_is_404,
    a_missing_tag_is_404,
    a_registry_that_is_not_there_is_500,
    bad_names_are_refused,
    a_password_is_needed_and_taken,
    a_token_is_fetched_when_asked_for,
    a_certificate_of_an_unknown_authority_is_refused,
    a_certificate_of_a_known_authority_is_taken,
    an_insecure_registry_may_be_named,
    a_mirror_may_stand_in_for_a_registry,
];

fn create(t: &Test, image: &str, tag: &str, auth: Option<&str>) -> Reply {
    let mut request = Request::new("POST", &format!("/images/create?fromImage={image}&tag={tag}"));
    if let Some(auth) = auth {
        request = request.header("X-Registry-Auth", auth);
    }
    t.send(request)
}

/// The text of a failed pull, wherever it stands.
#[track_caller]
fn failure(reply: &Reply) -> String {
    if reply.status == 200 {
        let last = reply.json_stream().last().cloned().unwrap_or_default();
        return last["error"].as_str().unwrap_or_else(|| panic!("the pull succeeded: {reply:?}")).to_owned();
    }
    reply.message()
}

fn credentials(user: &str, password: &str, server: &str) -> String {
    let text = json!({"username": user, "password": password, "serveraddress": server}).to_string();
    base64::engine::general_purpose::URL_SAFE.encode(text)
}

fn a_missing_image_is_404(t: &Test) {
    let registry = Registry::start(t.daemon().machine(), Guarding::Open);
    let reply = create(t, &format!("{}/no/such/image", registry.name), "latest", None);
    reply.expect_error_holding(404, "manifest unknown");
}

fn a_missing_tag_is_404(t: &Test) {
    let registry = FakeRegistry::start(Place::inside(t.daemon().machine()));
    let repository = t.name("repo");
    registry.put_image(&repository, "v1", &own_image(t, "tag"), Form::Docker);
    let reply = create(t, &format!("{}/{repository}", registry.name), "v2", None);
    reply.expect_error_holding(404, &format!("manifest for {}/{repository}:v2 not found", registry.name));
}

fn a_registry_that_is_not_there_is_500(t: &Test) {
    let reply = create(t, "127.0.0.1:1/image", "latest", None);
    reply.expect_error_holding(500, "connection refused");
    t.docker("pull 127.0.0.1:1/image").fails_saying(1, "connection refused");
}

fn bad_names_are_refused(t: &Test) {
    for name in ["UPPER", "a//b", "-a"] {
        create(t, name, "latest", None).expect_error_holding(400, "invalid reference format");
    }
    let reply = create(t, "scratch", "latest", None);
    reply.expect_error_holding(t.by_age(403, reply.status), "'scratch' is a reserved name");
}

fn a_password_is_needed_and_taken(t: &Test) {
    let registry = Registry::start(t.daemon().machine(), Guarding::Password);
    let name = format!("{}/{}", registry.name, t.name("repo"));
    t.load(&[own_image(t, &format!("{name}:v1"))]);
    let home = t.directory("home");
    let docker = |line: &str, input: &str| {
        let mut command = t.docker_command(&integration_cli::words::split(line));
        command.env("DOCKER_CONFIG", &home);
        integration_cli::process::run(command, input.as_bytes())
    };
    let denied = t.docker(&format!("push {name}:v1"));
    assert!(denied.code == 1 && denied.stderr.contains("no basic auth credentials"), "{denied:?}");
    docker(&format!("login -u {USER} --password-stdin {}", registry.name), PASSWORD).ok();
    docker(&format!("push {name}:v1"), "").ok();
    t.docker(&format!("rmi {name}:v1")).ok();
    let anonymous = create(t, &name, "v1", None);
    assert!(failure(&anonymous).contains("no basic auth credentials"), "{anonymous:?}");
    let wrong = create(t, &name, "v1", Some(&credentials(USER, "guess", &registry.name)));
    assert!(failure(&wrong).contains("unauthorized"), "{wrong:?}");
    let right = create(t, &name, "v1", Some(&credentials(USER, PASSWORD, &registry.name))).expect(200);
    assert!(right.text().contains("Status: Downloaded newer image"), "{right:?}");
    t.docker(&format!("rmi {name}:v1")).ok();
    docker(&format!("pull -q {name}:v1"), "").ok();
    t.docker(&format!("rmi {name}:v1")).ok();
}

fn a_token_is_fetched_when_asked_for(t: &Test) {
    let registry = FakeRegistry::start(Place::inside(t.daemon().machine()));
    registry.misbehave(Fault::WantsToken);
    let repository = t.name("repo");
    registry.put_image(&repository, "v1", &own_image(t, "token"), Form::Oci);
    let name = format!("{}/{repository}:v1", registry.name);
    t.docker(&format!("pull -q {name}")).ok();
    let asked = registry.requests();
    let token =
        asked.iter().find(|request| request.contains("/token?")).unwrap_or_else(|| panic!("{asked:?}"));
    assert!(token.contains("service=test") && token.contains("scope=repository"), "{token}");
    t.docker(&format!("rmi {name}")).ok();
}

fn a_certificate_of_an_unknown_authority_is_refused(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let registry = Registry::start(d.daemon().machine(), Guarding::Tls);
    let outcome = d.docker(&format!("pull {}/image", registry.name));
    assert!(outcome.code == 1 && outcome.stderr.to_lowercase().contains("certificate"), "{outcome:?}");
    d.daemon().announce("certificate");
}

fn a_certificate_of_a_known_authority_is_taken(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let registry = Registry::start(d.daemon().machine(), Guarding::Tls);
    let directory = d.daemon().machine().path_inside(&format!("/etc/docker/certs.d/{}", registry.name));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("ca.crt"), registry.authority.as_ref().unwrap()).unwrap();
    let name = format!("{}/{}:v1", registry.name, d.name("repo"));
    d.load(&[own_image(&d, &name)]);
    d.docker(&format!("push {name}")).ok();
    d.docker(&format!("rmi {name}")).ok();
    d.docker(&format!("pull {name}")).ok();
}

fn an_insecure_registry_may_be_named(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::config(
        &json!({"insecure-registries": ["outside.test:5000", "198.51.100.0/24"]}),
    ));
    let machine = d.daemon().machine();
    let registry = FakeRegistry::start_on(Place::outside(machine), integration_cli::machine::OUTSIDE);
    let repository = d.name("repo");
    registry.put_image(&repository, "v1", &own_image(&d, "insecure"), Form::Docker);
    d.docker(&format!("pull -q {}/{repository}:v1", registry.name)).ok();
    let info = d.get("/info").expect(200).json();
    assert_eq!(info["RegistryConfig"]["IndexConfigs"]["outside.test:5000"]["Secure"], false);
}

fn a_mirror_may_stand_in_for_a_registry(t: &Test) {
    // The mirror's address has to be known before the daemon starts, so it starts twice.
    let d = t.own_daemon(&DaemonOptions::default());
    let registry = FakeRegistry::start(Place::inside(d.daemon().machine()));
    registry.put_image("library/mirrored", "latest", &own_image(&d, "mirror"), Form::Docker);
    d.daemon().stop();
    d.daemon().start_again(&DaemonOptions::config(
        &json!({"registry-mirrors": [format!("http://{}", registry.name)]}),
    ));
    d.docker("pull -q mirrored").ok();
    assert_eq!(super::inspect(&d, "mirrored")["RepoTags"], json!(["mirrored:latest"]));
    let info = d.get("/info").expect(200).json();
    assert_eq!(info["RegistryConfig"]["Mirrors"], json!([format!("http://{}/", registry.name)]));
}
