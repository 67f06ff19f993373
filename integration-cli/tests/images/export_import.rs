//! `docker export` and `docker import`: one flat file system.

use std::sync::atomic::{AtomicU32, Ordering};

use integration_cli::condition::eventually;
use integration_cli::http::Request;
use integration_cli::images::{file, tar_of};
use integration_cli::net::Place;
use integration_cli::process::Running;
use integration_cli::{Test, cases};
use serde_json::json;

use super::inspect;

cases![
    export_is_the_file_system_without_volumes,
    an_exported_file_system_is_imported_and_runs,
    import_answers_the_id_in_its_last_line,
    changes_and_message_are_kept,
    bad_changes_are_refused,
    a_long_archive_that_is_refused_does_not_hide_the_reason,
    an_archive_is_imported_from_its_address,
    an_address_without_an_archive_is_told_in_dockers_words,
    import_is_told_as_an_event,
    export_of_a_missing_container_is_404,
];

fn export_is_the_file_system_without_volumes(t: &Test) {
    let volume = t.name("vol");
    let container = t.start(&format!(
        "-v {volume}:/data busybox sh -c 'echo x > /file; echo y > /data/hidden; rm /etc/group'"
    ));
    t.wait(&container);
    let reply = t.get(&format!("/containers/{container}/export")).expect(200);
    assert_eq!(reply.header("Content-Type"), Some("application/octet-stream"));
    let mut archive = tar::Archive::new(&reply.body[..]);
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().trim_end_matches('/').to_owned())
        .collect();
    for name in ["file", "bin/busybox", "etc/passwd", "data", "bin/sh"] {
        assert!(names.iter().any(|given| given == name), "{name} is missing");
    }
    for name in ["data/hidden", "etc/group"] {
        assert!(!names.iter().any(|given| given == name), "{name} is there");
    }
    assert!(t.past_events(&t.container_filter(&container.id)).iter().any(|event| event.action == "export"));
}

fn an_exported_file_system_is_imported_and_runs(t: &Test) {
    let container = t.start("busybox sh -c 'echo carried > /file'");
    t.wait(&container);
    let (name, archive) = (t.name("flat"), t.directory("archive").join("flat.tar"));
    t.docker(&format!("export -o {} {container}", archive.display())).ok();
    let id = t.docker(&format!("import {} {name}:v1", archive.display())).ok();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(t.run(&format!("{name}:v1 cat /file")).ok(), "carried");
    assert_eq!(inspect(t, &format!("{name}:v1"))["RootFS"]["Layers"].as_array().unwrap().len(), 1);
}

/// A server of files on the daemon's machine, and the address of a directory with the archive `flat.tar`.
fn file_server(t: &Test) -> (Running, String) {
    static PORT: AtomicU32 = AtomicU32::new(8700);
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    let files = t.directory("served");
    std::fs::write(files.join("flat.tar"), tar_of(&[file("hello", 0o644, t.prefix())])).unwrap();
    let machine = t.daemon().machine();
    let mut server = machine.inside("busybox");
    server.args(["httpd", "-f", "-p", &format!("127.0.0.1:{port}"), "-h"]).arg(&files);
    let server = Running::start(server);
    let address = format!("127.0.0.1:{port}");
    let place = Place::inside(machine);
    eventually("the server of files listens", || place.connect(&address).ok());
    (server, address)
}

fn an_archive_is_imported_from_its_address(t: &Test) {
    let (_server, address) = file_server(t);
    let name = format!("{}:v1", t.name("fetched"));
    let said = t.docker(&format!("import http://{address}/flat.tar {name}")).ok();
    assert!(said.contains("Downloading from http://"), "{said}");
    assert!(said.trim_end().ends_with(&super::id_of(t, &name)), "{said}");
    assert_eq!(inspect(t, &name)["Comment"], format!("Imported from http://{address}/flat.tar"));
    // The client takes an address without scheme for a file; the API does not.
    let name = t.name("fetched");
    let lines =
        t.post(&format!("/images/create?fromSrc={address}/flat.tar&repo={name}")).expect(200).json_stream();
    assert_eq!(lines.last().unwrap()["status"], json!(super::id_of(t, &name)));
}

fn an_address_without_an_archive_is_told_in_dockers_words(t: &Test) {
    let (_server, address) = file_server(t);
    let ask = |source: &str| t.post(&format!("/images/create?fromSrc={source}&repo={}", t.name("none")));
    ask(&format!("http://{address}/nope.tar")).expect_error_holding(
        404,
        &format!("failed to GET http://{address}/nope.tar with status 404 Not Found: "),
    );
    ask("http://127.0.0.1:1/x.tar")
        .expect_error_holding(500, "dial tcp 127.0.0.1:1: connect: connection refused");
    // The reference calls a wrong address a fault of its own.
    let wrong = t.by_age(400, 500);
    ask("banana://x").expect_error_holding(wrong, "unsupported protocol scheme \"banana\"");
}

fn import(t: &Test, query: &str) -> integration_cli::Reply {
    let archive = tar_of(&[file("hello", 0o644, t.prefix())]);
    t.send(
        Request::new("POST", &format!("/images/create?fromSrc=-&{query}"))
            .header("Content-Type", "application/x-tar")
            .bytes(archive),
    )
}

fn import_answers_the_id_in_its_last_line(t: &Test) {
    let name = t.name("flat");
    let lines = import(t, &format!("repo={name}&tag=v1")).expect(200).json_stream();
    let status = lines.last().unwrap()["status"].as_str().unwrap().to_owned();
    assert_eq!(status, super::id_of(t, &format!("{name}:v1")));
    let described = inspect(t, &format!("{name}:v1"));
    assert_eq!(described["Comment"], "Imported from -");
    assert_eq!(described["Os"], "linux");
}

fn changes_and_message_are_kept(t: &Test) {
    let name = t.name("flat");
    let changes = [
        "CMD%20%5B%22%2Fhello%22%5D",
        "ENV%20A%3D1",
        "LABEL%20x%3Dy",
        "EXPOSE%2080",
        "WORKDIR%20%2Ftmp",
        "USER%20alice",
    ];
    let query: String = changes.iter().map(|change| format!("&changes={change}")).collect();
    import(t, &format!("repo={name}&message=my%20words{query}")).expect(200);
    let described = inspect(t, &name);
    assert_eq!(described["Comment"], "my words");
    let config = &described["Config"];
    assert_eq!(config["Cmd"], json!(["/hello"]));
    assert!(config["Env"].as_array().unwrap().contains(&json!("A=1")), "{config}");
    assert_eq!(config["Labels"], json!({"x": "y"}));
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!((&config["WorkingDir"], &config["User"]), (&json!("/tmp"), &json!("alice")));
}

fn bad_changes_are_refused(t: &Test) {
    let reply = import(t, &format!("repo={}&changes=RUN%20true", t.name("flat")));
    let said = reply.text();
    assert!(
        said.contains(t.by_age("RUN is not a valid change command", "run is not a valid change command")),
        "{reply:?}"
    );
}

fn a_long_archive_that_is_refused_does_not_hide_the_reason(t: &Test) {
    let archive = t.directory("archive").join("long.tar");
    std::fs::File::create(&archive).unwrap().set_len(64 << 20).unwrap();
    let import =
        |options: &str| t.docker(&format!("import {options} {} {}", archive.display(), t.name("flat")));
    import("--change RUN")
        .fails_saying(1, t.by_age("RUN is not a valid change command", "run is not a valid change command"));
    import("--platform a/b/c/d").fails_saying(1, "a/b/c/d");
    // A load is refused while its answer is already under way.
    let file = std::fs::OpenOptions::new().write(true).open(&archive).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[b'x'; 4096], 0).unwrap();
    t.docker(&format!("load -i {}", archive.display())).fails_saying(1, "invalid tar header");
    import("").fails_saying(1, "invalid tar header");
}

fn import_is_told_as_an_event(t: &Test) {
    let name = t.name("flat");
    import(t, &format!("repo={name}")).expect(200);
    let id = super::id_of(t, &name);
    let told = t.past_events(&json!({"type": ["image"], "event": ["import"]}));
    assert!(told.iter().any(|event| event.id == id), "{told:?}");
}

fn export_of_a_missing_container_is_404(t: &Test) {
    t.get("/containers/no-such-container/export")
        .expect_error_holding(404, "No such container: no-such-container");
}
