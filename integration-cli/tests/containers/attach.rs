//! `POST /containers/{id}/attach`: the hijacked connection, frames, half-close, replay.

use integration_cli::http::{Exchange, Request};
use integration_cli::stdcopy::{read_all, read_frame};
use integration_cli::{Container, Test, cases};
use serde_json::json;

cases![
    an_upgrade_is_answered_with_101_upgraded,
    without_upgrade_the_answer_is_200_and_raw,
    the_content_type_tells_frames_from_raw_since_1_42,
    stdout_and_stderr_come_in_frames_and_the_connection_ends_with_the_container,
    attaching_before_start_loses_no_byte,
    a_terminal_comes_raw,
    half_closing_stdin_ends_input_and_keeps_output_flowing,
    without_stdin_once_the_input_stays_open,
    several_clients_see_the_same_output,
    logs_replays_what_was_written_before,
    neither_logs_nor_stream_gives_nothing,
    only_the_asked_streams_are_sent,
    a_client_that_reads_nothing_does_not_stop_the_container,
    attach_errors_are_written_raw_on_the_connection,
    an_unknown_detach_key_is_refused,
    megabytes_pass_both_ways_unchanged,
    the_client_attaches_and_returns_the_exit_code,
    the_client_refuses_a_stopped_container,
    attach_is_told_as_an_event,
];

fn attach(t: &Test, container: &Container, query: &str) -> Exchange {
    t.open(Request::new("POST", &format!("/containers/{container}/attach?{query}")).upgrade())
}

fn an_upgrade_is_answered_with_101_upgraded(t: &Test) {
    let container = t.start("busybox park");
    let answer = attach(t, &container, "stream=1&stdout=1").expect(101);
    assert_eq!(answer.reason, "UPGRADED");
    assert_eq!(answer.header("Connection"), Some("Upgrade"));
    assert_eq!(answer.header("Upgrade"), Some("tcp"));
    assert_eq!(answer.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
    assert_eq!(answer.header("Content-Length"), None);
}

fn without_upgrade_the_answer_is_200_and_raw(t: &Test) {
    let container = t.create("busybox echo hello");
    let path = format!("/containers/{container}/attach?stream=1&stdout=1");
    let answer = t.open(Request::new("POST", &path)).expect(200);
    assert_eq!(answer.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
    assert_eq!(answer.header("Transfer-Encoding"), None);
    assert_eq!(answer.header("Content-Length"), None);
    t.docker(&format!("start {container}")).ok();
    assert_eq!(read_all(answer).stdout, "hello\n");
}

fn the_content_type_tells_frames_from_raw_since_1_42(t: &Test) {
    t.newer_than_reference(1, 42, "application/vnd.docker.multiplexed-stream");
    let typed = |container: &Container| {
        let path = format!("/v1.42/containers/{container}/attach?stream=1&stdout=1");
        t.open(Request::new("POST", &path).upgrade()).expect(101).header("Content-Type").map(str::to_owned)
    };
    let plain = t.start("busybox park");
    assert_eq!(typed(&plain).as_deref(), Some("application/vnd.docker.multiplexed-stream"));
    let terminal = t.start("-t busybox park");
    assert_eq!(typed(&terminal).as_deref(), Some("application/vnd.docker.raw-stream"));
}

fn stdout_and_stderr_come_in_frames_and_the_connection_ends_with_the_container(t: &Test) {
    let container = t.create("busybox sh -c 'echo one; echo two >&2; echo three'");
    let stream = attach(t, &container, "stream=1&stdout=1&stderr=1").expect(101).hijack();
    t.docker(&format!("start {container}")).ok();
    let output = read_all(stream);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("one\nthree\n", "two\n"));
}

fn attaching_before_start_loses_no_byte(t: &Test) {
    for round in 0..5 {
        let container = t.create_json(&t.body(&["echo", "at once"]));
        let stream = attach(t, &container, "stream=1&stdout=1&stderr=1").expect(101).hijack();
        t.post(&format!("/containers/{container}/start")).expect(204);
        assert_eq!(read_all(stream).stdout, "at once\n", "round {round}");
    }
}

fn a_terminal_comes_raw(t: &Test) {
    let container = t.create("-t busybox sh -c 'echo out; echo err >&2'");
    let mut stream = attach(t, &container, "stream=1&stdout=1&stderr=1").expect(101).hijack();
    t.docker(&format!("start {container}")).ok();
    // A terminal has one stream, and turns newlines into carriage return and newline.
    assert_eq!(String::from_utf8(stream.read_rest()).unwrap(), "out\r\nerr\r\n");
}

fn half_closing_stdin_ends_input_and_keeps_output_flowing(t: &Test) {
    let container = t.create_json(&json!({
        "Image": "busybox", "Cmd": ["sh", "-c", "cat; echo after the end"],
        "OpenStdin": true, "StdinOnce": true, "AttachStdin": true, "AttachStdout": true,
    }));
    let mut stream = attach(t, &container, "stream=1&stdin=1&stdout=1").expect(101).hijack();
    t.post(&format!("/containers/{container}/start")).expect(204);
    stream.write(b"typed\n");
    let first = read_frame(&mut stream).unwrap();
    assert_eq!(first.payload, b"typed\n");
    stream.close_write();
    assert_eq!(read_all(stream).stdout, "after the end\n");
    assert_eq!(t.wait(&container), 0);
}

fn without_stdin_once_the_input_stays_open(t: &Test) {
    let container = t.start("-i busybox sh -c 'while read line; do echo got $line; done'");
    let body = t.inspect(&container)["Config"].clone();
    // `docker run -d -i` asks for an input that survives its first client.
    assert_eq!((&body["OpenStdin"], &body["StdinOnce"]), (&json!(true), &json!(false)));
    for word in ["first", "second"] {
        let mut stream = attach(t, &container, "stream=1&stdin=1&stdout=1").expect(101).hijack();
        stream.write(format!("{word}\n").as_bytes());
        assert_eq!(read_frame(&mut stream).unwrap().payload, format!("got {word}\n").as_bytes());
        // A client's end of input ends that client's attach, and nothing else.
        stream.close_write();
        assert_eq!(stream.read_rest(), b"");
    }
    assert_eq!(t.status(&container), "running");
}

fn several_clients_see_the_same_output(t: &Test) {
    let container = t.create("-i busybox sh -c 'read line; echo for all; echo $line'");
    let mut clients: Vec<_> =
        (0..4).map(|_| attach(t, &container, "stream=1&stdout=1").expect(101).hijack()).collect();
    t.docker(&format!("start {container}")).ok();
    let mut typist = attach(t, &container, "stream=1&stdin=1").expect(101).hijack();
    typist.write(b"typed\n");
    for client in &mut clients {
        assert_eq!(read_all(client).stdout, "for all\ntyped\n");
    }
}

fn logs_replays_what_was_written_before(t: &Test) {
    let container = t.start("-i busybox sh -c 'echo before; read line; echo after $line'");
    t.await_log(&container, "before");
    let mut stream = attach(t, &container, "logs=1&stream=1&stdin=1&stdout=1").expect(101).hijack();
    assert_eq!(read_frame(&mut stream).unwrap().payload, b"before\n");
    stream.write(b"this\n");
    assert_eq!(read_all(stream).stdout, "after this\n");
    let past = attach(t, &container, "logs=1&stdout=1").expect(101).hijack();
    assert_eq!(read_all(past).stdout, "before\nafter this\n");
}

fn neither_logs_nor_stream_gives_nothing(t: &Test) {
    let container = t.start("busybox sh -c 'echo before; exec park'");
    t.await_log(&container, "before");
    let mut stream = attach(t, &container, "stdout=1").expect(101).hijack();
    assert_eq!(stream.read_rest(), b"");
}

fn only_the_asked_streams_are_sent(t: &Test) {
    let container = t.create("busybox sh -c 'echo out; echo err >&2'");
    let errors = attach(t, &container, "stream=1&stderr=1").expect(101).hijack();
    let outputs = attach(t, &container, "stream=1&stdout=1").expect(101).hijack();
    t.docker(&format!("start {container}")).ok();
    let (errors, outputs) = (read_all(errors), read_all(outputs));
    assert_eq!((errors.stdout.as_str(), errors.stderr.as_str()), ("", "err\n"));
    assert_eq!((outputs.stdout.as_str(), outputs.stderr.as_str()), ("out\n", ""));
}

fn a_client_that_reads_nothing_does_not_stop_the_container(t: &Test) {
    t.newer_than_reference(1, 42, "the reference blocks the container once a megabyte waits for a client");
    let container = t.create("busybox sh -c 'yes 0123456789abcdef | head -c 8000000; echo done >&2'");
    let stalled = attach(t, &container, "stream=1&stdout=1&stderr=1").expect(101);
    t.docker(&format!("start {container}")).ok();
    assert_eq!(t.wait(&container), 0);
    let logged = t.docker(&format!("logs {container}"));
    assert_eq!((logged.stdout.len(), logged.stderr.as_str()), (8_000_000, "done\n"));
    drop(stalled);
}

fn attach_errors_are_written_raw_on_the_connection(t: &Test) {
    let paused = t.start("busybox park");
    t.docker(&format!("pause {paused}")).ok();
    let missing = Container { name: "no-such-container".to_owned(), id: String::new() };
    for (container, status, text) in [
        (&missing, 404, "No such container: no-such-container".to_owned()),
        (&paused, 409, format!("container {} is paused, unpause the container before attach", paused.id)),
    ] {
        let reply = attach(t, container, "stream=1&stdout=1").into_reply().unwrap();
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(reply.header("Content-Type"), Some("application/vnd.docker.raw-stream"), "{reply:?}");
        // The name or id the client used may stand in either form; the words are the same.
        let said = reply.text().trim_end().to_lowercase();
        assert!(
            said.contains(&text.to_lowercase())
                || said.contains("is paused, unpause the container before attach"),
            "{reply:?}"
        );
        assert!(reply.body.ends_with(b"\r\n"), "{reply:?}");
    }
    t.docker(&format!("unpause {paused}")).ok();
}

fn an_unknown_detach_key_is_refused(t: &Test) {
    let container = t.start("-it busybox park");
    let reply = attach(t, &container, "stream=1&stdout=1&detachKeys=banana").into_reply().unwrap();
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(reply.text().contains("Invalid detach keys (banana) provided"), "{reply:?}");
}

fn megabytes_pass_both_ways_unchanged(t: &Test) {
    let pattern: Vec<u8> =
        (0..3_000_000_u32).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    let container = t.create_json(&json!({
        "Image": "busybox", "Cmd": ["cat"], "OpenStdin": true, "StdinOnce": true,
        "HostConfig": {"LogConfig": {"Type": "none"}},
    }));
    let mut stream = attach(t, &container, "stream=1&stdin=1&stdout=1").expect(101).hijack();
    t.post(&format!("/containers/{container}/start")).expect(204);
    let mut received = Vec::new();
    std::thread::scope(|scope| {
        let mut sender = stream.another_handle();
        let pattern = &pattern;
        scope.spawn(move || {
            sender.write(pattern);
            sender.close_write();
        });
        while let Some(frame) = read_frame(&mut stream) {
            assert_eq!(frame.stream, 1);
            received.extend(frame.payload);
        }
    });
    assert!(received == pattern, "{} bytes came back of {}", received.len(), pattern.len());
}

fn the_client_attaches_and_returns_the_exit_code(t: &Test) {
    let container = t.start("-i busybox sh -c 'read line; echo got $line; exit 4'");
    // The client's input stays open: its end would end the attach before the answer comes.
    let mut attached = t.docker_start(&format!("attach {container}"));
    attached.write(b"typed\n");
    assert_eq!(attached.next_line(), "got typed");
    attached.finish().fails(4);
}

fn the_client_refuses_a_stopped_container(t: &Test) {
    let container = t.create("busybox true");
    let stderr = t.docker(&format!("attach {container}")).fails(1);
    assert!(stderr.contains("annot attach to a stopped container, start it first"), "{stderr}");
}

fn attach_is_told_as_an_event(t: &Test) {
    let container = t.start("busybox park");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    let stream = attach(t, &container, "stream=1&stdout=1").expect(101);
    recording.wait_for("container attach");
    drop(stream);
}
