//! Version negotiation and `/version`.

use integration_cli::http::Request;
use integration_cli::session::DockerClient;
use integration_cli::{ApiVersion, Test, cases};

cases![
    a_version_below_the_floor_is_refused_and_still_names_the_newest,
    a_version_above_the_newest_is_refused_and_still_names_the_newest,
    versions_compare_as_numbers_and_not_as_text,
    every_version_from_the_floor_to_the_newest_is_served,
    no_version_in_the_path_means_the_newest,
    version_repeats_the_engine_component_in_flat_fields,
    a_newer_client_negotiates_down_and_an_older_one_keeps_its_version,
    a_version_chosen_by_environment_is_used,
];

fn floor(t: &Test) -> ApiVersion {
    let version = t.get("/version").expect(200).json();
    ApiVersion::parse(version["MinAPIVersion"].as_str().expect("MinAPIVersion"))
}

fn a_version_below_the_floor_is_refused_and_still_names_the_newest(t: &Test) {
    let floor = floor(t);
    let reply = t.get("/v1.10/containers/json").expect(400);
    let text = format!(
        "client version 1.10 is too old. Minimum supported API version is {floor}, please upgrade your client to a newer version"
    );
    // Clients older than 1.24 do not read JSON errors, so the text is bare.
    assert_eq!(reply.text().trim_end(), text);
    assert_eq!(reply.header("Content-Type"), Some("text/plain; charset=utf-8"));
    // This header is what a client downgrades by.
    assert_eq!(reply.header("Api-Version"), Some(t.daemon().api().to_string().as_str()));
}

fn a_version_above_the_newest_is_refused_and_still_names_the_newest(t: &Test) {
    let newest = t.daemon().api();
    let reply = t.get("/v1.999/containers/json");
    reply.expect_error(
        400,
        &format!("client version 1.999 is too new. Maximum supported API version is {newest}"),
    );
    assert_eq!(reply.header("Api-Version"), Some(newest.to_string().as_str()));
    assert_eq!(reply.header("Ostype"), Some("linux"));
}

fn versions_compare_as_numbers_and_not_as_text(t: &Test) {
    let reply = t.get("/v1.9/containers/json").expect(400);
    assert!(reply.text().contains("client version 1.9 is too old"), "{reply:?}");
    let reply = t.get("/v1.100/containers/json").expect(400);
    assert!(reply.text().contains("client version 1.100 is too new"), "{reply:?}");
}

fn every_version_from_the_floor_to_the_newest_is_served(t: &Test) {
    // Shoal promises 1.24 as its floor; the reference goes lower, which nobody uses.
    assert!(floor(t) <= ApiVersion(1, 24), "floor {}", floor(t));
    for minor in 24..=t.daemon().api().1 {
        for path in ["_ping", "containers/json", "images/json", "networks", "volumes", "info", "version"] {
            t.get(&format!("/v1.{minor}/{path}")).expect(200);
        }
    }
}

fn no_version_in_the_path_means_the_newest(t: &Test) {
    let newest = t.daemon().api();
    // Of all answers this one has changed its shape most often.
    let container = t.create("busybox true");
    let path = format!("/containers/{container}/json");
    let bare = t.http().send(&Request::new("GET", &path)).unwrap().expect(200);
    let versioned = t.get(&format!("/v{newest}{path}")).expect(200);
    assert_eq!(bare.json(), versioned.json());
}

fn version_repeats_the_engine_component_in_flat_fields(t: &Test) {
    let version = t.get("/version").expect(200).json();
    let engine = &version["Components"][0];
    assert_eq!(engine["Name"], "Engine");
    assert_eq!(engine["Version"], version["Version"]);
    for key in ["ApiVersion", "Arch", "GitCommit", "GoVersion", "KernelVersion", "MinAPIVersion", "Os"] {
        assert!(version[key].is_string(), "{key} is text in {version}");
        assert_eq!(engine["Details"][key], version[key], "{key}");
    }
    assert_eq!(version["ApiVersion"], t.daemon().api().to_string());
    assert_eq!(version["Os"], "linux");
    assert_eq!(version["Arch"], integration_cli::images::architecture());
    let first = version["Version"].as_str().unwrap_or_default();
    assert!(
        first.starts_with(|letter: char| letter.is_ascii_digit()),
        "buildx wants a numeric version, not {first}"
    );
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(version["KernelVersion"], kernel.trim());
}

fn a_newer_client_negotiates_down_and_an_older_one_keeps_its_version(t: &Test) {
    for client in DockerClient::all() {
        let session = t.with_client(&client);
        let shown = session.docker_args(&[
            "version",
            "--format",
            "{{.Client.APIVersion}} {{.Client.DefaultAPIVersion}} {{.Server.APIVersion}}",
        ]);
        let shown = shown.ok();
        let versions: Vec<ApiVersion> = shown.split(' ').map(ApiVersion::parse).collect();
        let [used, own, server] = versions[..] else { panic!("three versions, not {shown}") };
        assert_eq!(used, own.min(server), "{client:?}");
    }
}

fn a_version_chosen_by_environment_is_used(t: &Test) {
    let mut docker = t.docker_command(&["version", "--format", "{{.Client.APIVersion}} {{.Server.Os}}"]);
    docker.env("DOCKER_API_VERSION", "1.30");
    assert_eq!(integration_cli::process::run(docker, b"").ok(), "1.30 linux");
}
