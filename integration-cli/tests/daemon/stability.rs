//! Things a daemon must not lose while it works: descriptors, interfaces, mounts, its patience.

use integration_cli::http::Request;
use integration_cli::{DaemonOptions, OwnDaemon, Test, cases};
use serde_json::json;

cases![
    nothing_grows_with_runs,
    clients_that_leave_leave_nothing,
    hostile_requests_do_not_end_the_daemon,
    a_request_of_great_size_is_refused,
];

/// Descriptors of the daemon, mounts of its machine, interfaces of its machine.
fn weight(d: &OwnDaemon) -> [usize; 3] {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", d.daemon().pid())).unwrap().count();
    let mounts = d.host("wc -l < /proc/self/mounts").ok().parse().unwrap();
    let interfaces = d.host("ip -o link | wc -l").ok().parse().unwrap();
    [descriptors, mounts, interfaces]
}

/// Waits until the daemon weighs no more than `before`, with a few descriptors of grace for kept connections.
fn no_heavier(d: &OwnDaemon, before: [usize; 3]) {
    let mut now = weight(d);
    let settled = integration_cli::condition::poll(std::time::Duration::from_secs(15), &mut || {
        now = weight(d);
        (now[0] <= before[0] + 4 && now[1] <= before[1] && now[2] <= before[2]).then_some(())
    });
    assert!(settled.is_some(), "descriptors, mounts, interfaces: {before:?} before, {now:?} after");
}

fn nothing_grows_with_runs(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let round = || {
        d.run("busybox true").ok();
        d.run("busybox no-such-command").fails(127);
        let container = d.start("-p 80 --health-cmd true --health-interval 0.1s -v /anon busybox park");
        d.exec(&container, "true").ok();
        d.docker(&format!("restart -t 0 {container}")).ok();
        d.docker(&format!("rm -f -v {container}")).ok();
    };
    round();
    let before = weight(&d);
    for _ in 0..5 {
        round();
    }
    no_heavier(&d, before);
}

fn clients_that_leave_leave_nothing(t: &Test) {
    t.newer_than_reference(1, 42, "the reference keeps a descriptor for each round of this");
    let d = t.own_daemon(&DaemonOptions::default());
    let container = d.start("-i busybox park");
    let leave = || {
        for path in [
            format!("/containers/{container}/logs?follow=1&stdout=1"),
            "/events".to_owned(),
            format!("/containers/{container}/stats?stream=1"),
        ] {
            drop(d.open(Request::new("GET", &path)));
        }
        for path in [
            format!("/containers/{container}/wait?condition=next-exit"),
            format!("/containers/{container}/attach?stream=1&stdin=1&stdout=1"),
        ] {
            drop(d.open(Request::new("POST", &path)));
        }
    };
    leave();
    let before = weight(&d);
    for _ in 0..20 {
        leave();
    }
    no_heavier(&d, before);
    assert_eq!(d.status(&container), "running");
}

fn hostile_requests_do_not_end_the_daemon(t: &Test) {
    use std::io::{Read, Write};
    let d = t.bare_daemon(&DaemonOptions::default());
    d.daemon().announce("");
    let long = "a".repeat(100_000);
    for bytes in [
        b"\x00\x01\x02\xff\xfe garbage\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes(),
        format!("GET /_ping HTTP/1.1\r\nHost: x\r\nX: {long}{long}{long}{long}{long}{long}{long}{long}{long}{long}{long}\r\n\r\n").into_bytes(),
        b"POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n".to_vec(),
        b"POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec(),
        b"GET /v1.41/containers/%00%ff/json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
        b"GET /v1.41/containers/../../../etc/passwd/json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
    ] {
        let mut stream = d.http().connect().unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        stream.write_all(&bytes).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        stream.read_to_end(&mut Vec::new()).ok();
        d.get("/_ping").expect(200);
    }
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let request = Request::new("POST", "/containers/create").header("Content-Type", "application/json");
    let reply = d.send(request.bytes(format!("{{\"Image\":\"busybox\",\"X\":{deep}}}").into_bytes()));
    assert!(reply.status >= 400, "{reply:?}");
    d.get("/_ping").expect(200);
}

fn a_request_of_great_size_is_refused(t: &Test) {
    t.newer_than_reference(1, 42, "the reference reads any body into memory");
    let body = json!({"Image": "busybox", "Labels": {"x": "y".repeat(70_000_000)}});
    let reply = t.send(Request::new("POST", "/containers/create").json(&body));
    assert!(matches!(reply.status, 400 | 413), "{}", reply.status);
    t.get("/_ping").expect(200);
}
