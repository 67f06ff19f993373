//! `/_ping`: where every client begins, and the headers from which it learns what it talks to.

use integration_cli::http::{Reply, Request};
use integration_cli::{Test, cases};

cases![
    get_answers_ok_without_newline_and_forbids_caching,
    head_answers_the_headers_of_get_without_a_body,
    every_routed_answer_carries_the_version_headers,
    ping_works_with_and_without_a_version_in_the_path,
    ping_announces_buildkit_and_an_inactive_swarm,
    a_client_that_stalls_does_not_hold_up_others,
    two_requests_may_share_a_connection,
];

fn assert_version_headers(t: &Test, reply: &Reply) {
    assert_eq!(reply.header("Api-Version"), Some(t.daemon().api().to_string().as_str()), "{reply:?}");
    assert_eq!(reply.header("Ostype"), Some("linux"), "{reply:?}");
    assert_eq!(reply.header("Docker-Experimental"), Some("false"), "{reply:?}");
    let server = reply.header("Server").unwrap_or_default();
    assert!(server.contains('/') && server.ends_with(" (linux)"), "Server header {server:?}");
}

fn get_answers_ok_without_newline_and_forbids_caching(t: &Test) {
    let reply = t.get("/_ping").expect(200);
    assert_eq!(reply.text(), "OK");
    assert_eq!(reply.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(reply.header("Cache-Control"), Some("no-cache, no-store, must-revalidate"));
    assert_eq!(reply.header("Pragma"), Some("no-cache"));
    assert_version_headers(t, &reply);
}

fn head_answers_the_headers_of_get_without_a_body(t: &Test) {
    let reply = t.send(Request::new("HEAD", "/_ping")).expect(200);
    assert_eq!(reply.header("Content-Length"), Some("0"));
    assert_eq!(reply.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(reply.header("Cache-Control"), Some("no-cache, no-store, must-revalidate"));
    assert_version_headers(t, &reply);
}

fn every_routed_answer_carries_the_version_headers(t: &Test) {
    for (method, path, status) in [
        ("GET", "/info", 200),
        ("GET", "/containers/json", 200),
        ("GET", "/containers/no-such-thing/json", 404),
        ("POST", "/containers/no-such-thing/start", 404),
        ("GET", "/containers/json?filters=%7B%22x%22:%7B%22y%22:true%7D%7D", 400),
        ("DELETE", "/networks/no-such-thing", 404),
        ("GET", "/images/no-such-thing/json", 404),
        ("OPTIONS", "/containers/json", 200),
    ] {
        let reply = t.send(Request::new(method, path)).expect(status);
        assert_version_headers(t, &reply);
    }
}

fn ping_works_with_and_without_a_version_in_the_path(t: &Test) {
    for path in ["/_ping", "/v1.24/_ping", "/v1.41/_ping"] {
        let reply = t.get(path).expect(200);
        assert_eq!(reply.text(), "OK");
        assert_version_headers(t, &reply);
    }
}

fn ping_announces_buildkit_and_an_inactive_swarm(t: &Test) {
    // The reference leaves the builder to the client and does not know the Swarm header yet.
    t.newer_than_reference(1, 42, "Builder-Version 2 by default, Swarm header");
    let reply = t.get("/_ping").expect(200);
    assert_eq!(reply.header("Builder-Version"), Some("2"));
    assert_eq!(reply.header("Swarm"), Some("inactive"));
}

fn a_client_that_stalls_does_not_hold_up_others(t: &Test) {
    use std::io::Write;
    let mut stalled: Vec<_> = (0..8).map(|_| t.http().connect().expect("a connection")).collect();
    for stream in &mut stalled {
        stream.write_all(b"POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nContent-Le").unwrap();
    }
    t.get("/_ping").expect(200);
    t.get("/info").expect(200);
}

fn two_requests_may_share_a_connection(t: &Test) {
    use std::io::{Read, Write};
    let mut stream = t.http().connect().expect("a connection");
    let ping = "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    // Both at once: the second is answered after the first, and then the connection ends as asked.
    stream.write_all(format!("{ping}{last}").as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{text}");
    assert!(text.ends_with("\r\n\r\nOK"), "{text}");
}
