//! Logs that go elsewhere: what receivers get, and what `docker logs` still shows.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use integration_cli::condition::eventually;
use integration_cli::net::Place;
use integration_cli::{DaemonOptions, Session, Test, cases, skip};
use serde_json::Value;

cases![
    syslog_gets_each_line_with_priority_and_tag,
    gelf_gets_json_with_the_containers_fields,
    fluentd_gets_the_last_line_of_a_container_that_goes_at_once,
    fluentd_gets_what_was_written_while_the_daemon_was_away,
    a_receiver_that_does_not_answer_stops_the_start,
    options_of_receivers_are_checked,
    drivers_of_cloud_services_are_refused_with_the_reason,
    what_is_sent_can_still_be_read_unless_that_is_switched_off,
];

/// How long anything may take to arrive.
const LIMIT: Duration = Duration::from_secs(30);

fn listener(session: &Session) -> (TcpListener, u16) {
    let listener =
        Place::inside(session.daemon().machine()).enter(|| TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Reads until `is_enough` says so.
fn read_until(stream: &mut TcpStream, received: &mut Vec<u8>, is_enough: impl Fn(&[u8]) -> bool) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut buffer = [0; 4096];
    while !is_enough(received) {
        let n_read = stream.read(&mut buffer).unwrap();
        assert!(n_read > 0, "the connection ended after {:?}", String::from_utf8_lossy(received));
        received.extend_from_slice(&buffer[..n_read]);
    }
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

fn syslog_gets_each_line_with_priority_and_tag(t: &Test) {
    let path = t.directory("syslog").join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let options = format!(
        "--log-driver syslog --log-opt syslog-address=unixgram://{} --log-opt syslog-format=rfc5424micro \
         --log-opt tag={{{{.Name}}}} --log-opt syslog-facility=local0",
        path.display()
    );
    let container = t.start(&format!("{options} busybox sh -c 'echo out; sleep 0.05; echo err >&2'"));
    let name = t.inspect(&container)["Name"].as_str().unwrap().trim_start_matches('/').to_owned();
    let mut buffer = [0; 4096];
    for (priority, text) in [("<134>1 ", "out"), ("<131>1 ", "err")] {
        let len = socket.recv(&mut buffer).unwrap();
        let line = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        assert!(line.starts_with(priority) && line.ends_with(&format!(" - {text}\n")), "{line:?}");
        assert_eq!((words[3], words[5]), (name.as_str(), name.as_str()), "{line:?}");
    }
}

fn gelf_gets_json_with_the_containers_fields(t: &Test) {
    let socket = Place::inside(t.daemon().machine()).enter(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let options = format!(
        "--log-driver gelf --log-opt gelf-address=udp://127.0.0.1:{port} --log-opt gelf-compression-type=none \
         --log-opt labels=team --label team=blue"
    );
    let container = t.start(&format!("{options} busybox echo hello"));
    let mut buffer = [0; 65536];
    let len = socket.recv(&mut buffer).unwrap();
    let told: Value = serde_json::from_slice(&buffer[..len]).unwrap();
    let expected = [
        ("version", "1.1"),
        ("short_message", "hello"),
        ("_container_id", container.id.as_str()),
        ("_image_name", "busybox"),
        ("_command", "echo hello"),
        ("_tag", container.short()),
        ("_team", "blue"),
    ];
    for (key, value) in expected {
        assert_eq!(told[key], value, "{told}");
    }
    assert_eq!(told["level"], 6);
}

fn fluentd_gets_the_last_line_of_a_container_that_goes_at_once(t: &Test) {
    let (listener, port) = listener(t);
    let options =
        format!("--log-driver fluentd --log-opt fluentd-address=127.0.0.1:{port} --log-opt tag=mine");
    let accepted = std::thread::spawn(move || listener.accept().unwrap().0);
    t.run(&format!("--rm {options} busybox sh -c 'echo first; echo last'")).ok();
    let mut received = Vec::new();
    read_until(&mut accepted.join().unwrap(), &mut received, |bytes| {
        contains(bytes, "\u{4}last") || contains(bytes, "last")
    });
    for part in ["mine", "container_id", "container_name", "first", "stdout"] {
        assert!(contains(&received, part), "{part}");
    }
}

fn fluentd_gets_what_was_written_while_the_daemon_was_away(t: &Test) {
    if t.implementation().is_reference() {
        skip("dockerd's containers end with it, or stop writing their logs");
    }
    let d = t.own_daemon(&DaemonOptions::default());
    let (listener, port) = listener(&d);
    let options = format!("--log-driver fluentd --log-opt fluentd-address=127.0.0.1:{port}");
    let script = "i=1000; while [ $i -lt 1100 ]; do echo line-$i; i=$((i+1)); sleep 0.02; done; exec park";
    d.start(&format!("{options} busybox sh -c '{script}'"));
    let (mut stream, _) = listener.accept().unwrap();
    let mut received = Vec::new();
    read_until(&mut stream, &mut received, |bytes| contains(bytes, "line-1010"));
    d.daemon().kill();
    drop(stream);
    d.daemon().start_again(&DaemonOptions::default());
    let (mut stream, _) = listener.accept().unwrap();
    read_until(&mut stream, &mut received, |bytes| contains(bytes, "line-1099"));
    let text = String::from_utf8_lossy(&received);
    let lines: BTreeSet<&str> =
        text.match_indices("line-").filter_map(|(at, _)| text.get(at..at + 9)).collect();
    assert_eq!(lines.len(), 100, "every line has arrived: {lines:?}");
}

fn a_receiver_that_does_not_answer_stops_the_start(t: &Test) {
    let refused = t.run("--log-driver fluentd --log-opt fluentd-address=127.0.0.1:1 busybox true");
    refused.fails_saying(125, "failed to initialize logging driver");
    let (_listener, port) = listener(t);
    let line = format!("--log-driver gelf --log-opt gelf-address=tcp://127.0.0.1:{port} busybox echo hello");
    assert_eq!(t.run(&line).ok(), "hello");
}

fn options_of_receivers_are_checked(t: &Test) {
    for (options, text) in [
        ("syslog --log-opt nope=1", "unknown log opt 'nope' for syslog log driver"),
        (
            "syslog --log-opt syslog-address=host:514",
            "syslog-address should be in form proto://address, got host:514",
        ),
        ("syslog --log-opt syslog-facility=shells", "invalid syslog facility"),
        ("gelf --log-opt gelf-address=host:1", "gelf-address should be in form proto://address, got host:1"),
        ("journald --log-opt nope=1", "unknown log opt 'nope' for journald log driver"),
    ] {
        t.docker(&format!("create --log-driver {options} busybox true")).fails_saying(1, text);
    }
}

fn drivers_of_cloud_services_are_refused_with_the_reason(t: &Test) {
    if t.implementation().is_reference() {
        skip("dockerd has them");
    }
    for driver in ["awslogs", "gcplogs", "splunk", "etwlogs"] {
        let body = serde_json::json!({"Image": "busybox", "HostConfig": {"LogConfig": {"Type": driver}}});
        let refused = t.post_json("/containers/create", &body);
        assert_eq!(refused.status, 501, "{driver}");
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with(&format!("log driver '{driver}' is not supported: ")), "{message}");
    }
}

fn what_is_sent_can_still_be_read_unless_that_is_switched_off(t: &Test) {
    let socket = Place::inside(t.daemon().machine()).enter(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
    let port = socket.local_addr().unwrap().port();
    let options = format!("--log-driver gelf --log-opt gelf-address=udp://127.0.0.1:{port}");
    let container = t.start(&format!("{options} busybox sh -c 'echo one; sleep 0.05; echo two'"));
    t.wait(&container);
    eventually("the log can be read", || (t.logs(&container) == "one\ntwo").then_some(()));
    let container = t.start(&format!("{options} --log-opt cache-disabled=true busybox echo one"));
    t.wait(&container);
    let refused = t.docker(&format!("logs {container}"));
    refused.fails_saying(1, "configured logging driver does not support reading");
}
