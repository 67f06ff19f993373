//! Where the daemon listens: several places, TCP, TLS, handed over sockets.

use integration_cli::condition::eventually;
use integration_cli::net::Place;
use integration_cli::process::run;
use integration_cli::registry::certificates_for;
use integration_cli::{DaemonOptions, OwnDaemon, Test, cases};

cases![
    several_listeners_serve_at_once,
    tls_without_verification_serves_any_client,
    tls_with_verification_wants_a_certificate,
    plain_requests_on_a_tls_listener_are_refused,
    tcp_without_tls_is_warned_of,
    a_listener_that_cannot_be_had_is_fatal,
    attach_and_exec_work_over_tls,
    a_socket_handed_over_is_served,
    readiness_and_the_end_are_notified,
];

/// A docker client on the daemon's machine, talking to `host`.
fn client(d: &OwnDaemon, host: &str, arguments: &[&str]) -> integration_cli::Outcome {
    let plain = d.docker_command(arguments);
    let program = std::path::Path::new(plain.get_program()).to_str().unwrap().to_owned();
    let mut command = d.daemon().machine().inside(&program);
    command
        .args(arguments)
        .env("DOCKER_HOST", host)
        .env("DOCKER_CONFIG", d.daemon().machine().root().join("client"));
    command.env("HOME", d.daemon().machine().root());
    run(command, b"")
}

/// Files of certificates in a place of the test; flags of the daemon and of the client that name them.
struct Files {
    daemon: String,
    client: Vec<String>,
}

fn certificates(t: &Test) -> Files {
    let directory = t.directory("tls");
    let made = certificates_for("127.0.0.1");
    for (name, text) in [
        ("ca.pem", &made.authority),
        ("server.pem", &made.server),
        ("server-key.pem", &made.server_key),
        ("client.pem", &made.client),
        ("client-key.pem", &made.client_key),
    ] {
        std::fs::write(directory.join(name), text).unwrap();
    }
    let at = |name: &str| directory.join(name).display().to_string();
    Files {
        daemon: format!(
            "--tlscacert {} --tlscert {} --tlskey {}",
            at("ca.pem"),
            at("server.pem"),
            at("server-key.pem")
        ),
        client: vec![
            format!("--tlscacert={}", at("ca.pem")),
            format!("--tlscert={}", at("client.pem")),
            format!("--tlskey={}", at("client-key.pem")),
        ],
    }
}

fn several_listeners_serve_at_once(t: &Test) {
    let d = t
        .bare_daemon(&DaemonOptions::flags("-H tcp://127.0.0.1:2375 -H tcp://198.51.100.2:2375 --tls=false"));
    d.daemon().announce("tcp");
    d.daemon().announce("TCP");
    let machine = d.daemon().machine();
    for (place, address) in
        [(Place::inside(machine), "127.0.0.1:2375"), (Place::outside(machine), "198.51.100.2:2375")]
    {
        let answer = eventually(address, || place.ask(address, "GET /_ping HTTP/1.0\r\n\r\n").ok());
        assert!(answer.contains("200 OK") && answer.ends_with("OK"), "{answer}");
    }
    assert_eq!(client(&d, "tcp://127.0.0.1:2375", &["ps", "-q"]).ok(), "");
    d.get("/_ping").expect(200);
}

fn tls_without_verification_serves_any_client(t: &Test) {
    t.newer_client(23, "older ones panic on --tlscert=");
    let files = certificates(t);
    let d = t.bare_daemon(&DaemonOptions::flags(&format!(
        "-H tcp://127.0.0.1:2376 --tls --tlsverify=false {}",
        files.daemon
    )));
    let ca = files.client[0].clone();
    let shown = client(
        &d,
        "tcp://127.0.0.1:2376",
        &["--tlsverify", &ca, "--tlscert=", "--tlskey=", "version", "-f", "{{.Server.Os}}"],
    );
    assert_eq!(shown.ok(), "linux");
}

fn tls_with_verification_wants_a_certificate(t: &Test) {
    let files = certificates(t);
    let d = t
        .bare_daemon(&DaemonOptions::flags(&format!("-H tcp://127.0.0.1:2376 --tlsverify {}", files.daemon)));
    d.daemon().announce("TLS");
    d.daemon().announce("tls");
    let [ca, certificate, key] = [0, 1, 2].map(|index| files.client[index].as_str());
    let host = "tcp://127.0.0.1:2376";
    let known = client(&d, host, &["--tlsverify", ca, certificate, key, "version", "-f", "{{.Server.Os}}"]);
    assert_eq!(known.ok(), "linux");
    let nobody =
        client(&d, host, &["--tlsverify", ca, "--tlscert=", "--tlskey=", "version", "-f", "{{.Server.Os}}"]);
    assert_ne!(nobody.code, 0, "{nobody:?}");
    // A certificate of another authority is as good as none.
    let stranger = certificates(t);
    let theirs = client(
        &d,
        host,
        &["--tlsverify", ca, &stranger.client[1], &stranger.client[2], "version", "-f", "{{.Server.Os}}"],
    );
    assert_ne!(theirs.code, 0, "{theirs:?}");
}

fn plain_requests_on_a_tls_listener_are_refused(t: &Test) {
    let files = certificates(t);
    let d = t
        .bare_daemon(&DaemonOptions::flags(&format!("-H tcp://127.0.0.1:2376 --tlsverify {}", files.daemon)));
    d.daemon().announce("TLS");
    d.daemon().announce("tls");
    let place = Place::inside(d.daemon().machine());
    let answer = place.ask("127.0.0.1:2376", "GET /_ping HTTP/1.0\r\n\r\n").unwrap_or_default();
    assert!(!answer.contains("200 OK"), "{answer}");
    d.get("/_ping").expect(200);
}

fn tcp_without_tls_is_warned_of(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::flags("-H tcp://127.0.0.1:2375 --tls=false"));
    d.daemon().announce("tcp");
    d.daemon().announce("TCP");
    let info = d.get("/info").expect(200).json();
    let warnings = info["Warnings"].to_string();
    assert!(warnings.contains("://127.0.0.1:2375") && warnings.contains("without encryption"), "{warnings}");
}

fn a_listener_that_cannot_be_had_is_fatal(t: &Test) {
    let outcome = t.refuse_to_start(&DaemonOptions::flags("-H tcp://203.0.113.99:2375 --tls=false"));
    assert_ne!(outcome.code, 0, "{outcome:?}");
    let outcome = t.refuse_to_start(&DaemonOptions::flags("-H banana://x"));
    assert_ne!(outcome.code, 0, "{outcome:?}");
}

fn attach_and_exec_work_over_tls(t: &Test) {
    let files = certificates(t);
    let d =
        t.own_daemon(&DaemonOptions::flags(&format!("-H tcp://127.0.0.1:2376 --tlsverify {}", files.daemon)));
    let docker = |arguments: &[&str]| {
        let mut all: Vec<&str> = vec!["--tlsverify"];
        all.extend(files.client.iter().map(String::as_str));
        all.extend(arguments);
        client(&d, "tcp://127.0.0.1:2376", &all)
    };
    let shown = docker(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 4"]);
    assert_eq!((shown.code, shown.stdout.as_str(), shown.stderr.as_str()), (4, "out\n", "err\n"));
    let container = d.start("busybox park");
    assert_eq!(docker(&["exec", "-i", &container.name, "sh", "-c", "cat; echo end"]).ok(), "end");
}

fn a_socket_handed_over_is_served(t: &Test) {
    let activate = "/usr/bin/systemd-socket-activate";
    if !std::path::Path::new(activate).exists() {
        integration_cli::skip("systemd-socket-activate is not installed");
    }
    let d = t.bare_daemon(&DaemonOptions::default());
    d.daemon().stop();
    let socket = d.daemon().machine().root().join("handed-over.sock");
    let wrapper = [activate.to_owned(), "-l".to_owned(), socket.display().to_string()];
    let d_options = DaemonOptions {
        flags: vec!["-H".to_owned(), "fd://".to_owned()],
        wrapper: wrapper.into(),
        ..DaemonOptions::default()
    };
    // The daemon begins with the first connection, which it finds waiting for it.
    let ping = std::thread::spawn(move || {
        let client = integration_cli::http::Client::new(&socket);
        let request = integration_cli::http::Request::new("GET", "/_ping");
        eventually("the handed over socket is there", || client.send(&request).ok()).status
    });
    d.daemon().start_again(&d_options);
    assert_eq!(ping.join().unwrap(), 200);
}

fn readiness_and_the_end_are_notified(t: &Test) {
    let path = t.directory("notify").join("socket");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(integration_cli::condition::PATIENCE)).unwrap();
    let environment = vec![("NOTIFY_SOCKET".to_owned(), path.display().to_string())];
    let d = t.bare_daemon(&DaemonOptions { environment, ..DaemonOptions::default() });
    let wait_for = |word: &str| loop {
        let mut message = [0u8; 4096];
        let length = socket.recv(&mut message).unwrap_or_else(|error| panic!("no {word}: {error}"));
        if String::from_utf8_lossy(&message[..length]).contains(word) {
            break;
        }
    };
    wait_for("READY=1");
    assert_eq!(d.daemon().stop(), 0);
    wait_for("STOPPING=1");
}
