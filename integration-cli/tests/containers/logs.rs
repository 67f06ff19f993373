//! `GET /containers/{id}/logs`.

use std::time::Duration;

use integration_cli::http::{Exchange, Request};
use integration_cli::stdcopy::{Frame, read_all, read_frame, read_frames};
use integration_cli::{Container, Test, cases};

cases![
    logs_come_in_frames_in_the_order_written,
    only_the_asked_streams_come,
    asking_for_no_stream_is_refused,
    tail_gives_the_last_lines,
    since_and_until_cut_by_time,
    timestamps_have_nine_digits,
    details_show_labels_and_environment_asked_for,
    follow_waits_for_more_and_ends_with_the_container,
    follow_of_a_stopped_container_ends,
    follow_with_tail_zero_gives_new_lines_only,
    headers_come_before_the_first_line,
    a_terminal_comes_raw,
    logs_of_a_missing_container_are_404,
    logs_of_a_container_that_never_ran_are_empty,
    a_driver_that_keeps_nothing_refuses_to_read,
    logs_go_on_over_a_restart,
    a_last_line_without_newline_is_kept,
    long_lines_come_whole,
    binary_bytes_come_unchanged,
    many_readers_follow_at_once,
    the_client_tails_and_follows,
];

fn open(t: &Test, container: &Container, query: &str) -> Exchange {
    t.open(Request::new("GET", &format!("/containers/{container}/logs?{query}"))).expect(200)
}

fn texts(t: &Test, container: &Container, query: &str) -> String {
    read_all(open(t, container, &format!("stdout=1&{query}"))).stdout
}

fn finished(t: &Test, script: &str) -> Container {
    let name = t.name("c");
    let id = t.docker_args(&["run", "-d", "--name", &name, "busybox", "sh", "-c", script]).ok();
    let container = Container { name, id };
    t.wait(&container);
    container
}

fn logs_come_in_frames_in_the_order_written(t: &Test) {
    let container = finished(t, "echo one; sleep 0.02; echo two >&2; sleep 0.02; echo three");
    let frames = read_frames(&mut open(t, &container, "stdout=1&stderr=1"));
    let frame = |stream: u8, text: &str| Frame { stream, payload: text.as_bytes().to_vec() };
    assert_eq!(frames, [frame(1, "one\n"), frame(2, "two\n"), frame(1, "three\n")]);
}

fn only_the_asked_streams_come(t: &Test) {
    let container = finished(t, "echo out; echo err >&2");
    let both = |query: &str| {
        let o = read_all(open(t, &container, query));
        (o.stdout, o.stderr)
    };
    assert_eq!(both("stdout=1"), ("out\n".to_owned(), String::new()));
    assert_eq!(both("stderr=1"), (String::new(), "err\n".to_owned()));
}

fn asking_for_no_stream_is_refused(t: &Test) {
    let container = t.create("busybox true");
    let reply = t.get(&format!("/containers/{container}/logs"));
    // The reference says: Bad parameters: you must choose at least one stream.
    reply.expect_error_holding(
        400,
        t.by_age("must specify at least one of 'stdout' or 'stderr'", "you must choose at least one stream"),
    );
}

fn tail_gives_the_last_lines(t: &Test) {
    let container = finished(t, "for i in 1 2 3 4 5; do echo $i; done");
    assert_eq!(texts(t, &container, "tail=2"), "4\n5\n");
    assert_eq!(texts(t, &container, "tail=0"), "");
    assert_eq!(texts(t, &container, "tail=99"), "1\n2\n3\n4\n5\n");
    for all in ["all", "banana", "-3", ""] {
        assert_eq!(texts(t, &container, &format!("tail={all}")), "1\n2\n3\n4\n5\n", "tail={all}");
    }
}

fn since_and_until_cut_by_time(t: &Test) {
    let container = finished(t, "for i in 1 2 3; do echo $i; sleep 0.03; done");
    let stamped = texts(t, &container, "timestamps=1");
    let times: Vec<&str> = stamped.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let second = seconds_of(times[1]);
    assert_eq!(texts(t, &container, &format!("since={second}")), "2\n3\n");
    assert_eq!(texts(t, &container, &format!("until={second}")), "1\n2\n");
    assert_eq!(texts(t, &container, &format!("since={second}&until={second}")), "2\n");
    assert_eq!(texts(t, &container, &format!("since={second}&tail=1")), "3\n");
    // The client takes the time as it stands in the log.
    assert_eq!(t.docker(&format!("logs --since {} {container}", times[2])).ok(), "3");
}

/// `2026-08-23T10:00:00.000000001Z` as seconds since 1970 with nine digits behind the point.
fn seconds_of(time: &str) -> String {
    let mut date = integration_cli::process::command("date");
    date.args(["-u", "-d", time, "+%s.%N"]);
    integration_cli::process::run(date, b"").ok()
}

fn timestamps_have_nine_digits(t: &Test) {
    let container = finished(t, "for i in 1 2 3 4 5 6; do echo x; done");
    for line in texts(t, &container, "timestamps=1").lines() {
        let (time, text) = line.split_once(' ').unwrap();
        assert_eq!((time.len(), text), (30, "x"), "{line}");
        assert!(time.ends_with('Z') && time.as_bytes()[19] == b'.', "{time}");
    }
}

fn details_show_labels_and_environment_asked_for(t: &Test) {
    let container =
        t.start("--log-opt labels=tier --log-opt env=ZONE --label tier=front --label other=1 -e ZONE=a busybox echo hi");
    t.wait(&container);
    assert_eq!(texts(t, &container, "details=1"), "ZONE=a,tier=front hi\n");
    let both = texts(t, &container, "details=1&timestamps=1");
    assert!(both.ends_with("Z ZONE=a,tier=front hi\n"), "{both}");
}

fn follow_waits_for_more_and_ends_with_the_container(t: &Test) {
    let container = t.start("-i busybox sh -c 'echo first; read line; echo second'");
    let mut logs = open(t, &container, "stdout=1&follow=1");
    assert_eq!(read_frame(&mut logs).unwrap().payload, b"first\n");
    t.docker_with_input(&format!("attach {container}"), b"go\n").ok();
    assert_eq!(read_frame(&mut logs).unwrap().payload, b"second\n");
    assert_eq!(read_frame(&mut logs), None);
}

fn follow_of_a_stopped_container_ends(t: &Test) {
    let container = finished(t, "echo done");
    assert_eq!(texts(t, &container, "follow=1"), "done\n");
    assert_eq!(t.docker(&format!("logs -f {container}")).ok(), "done");
}

fn follow_with_tail_zero_gives_new_lines_only(t: &Test) {
    let container = t.start("-i busybox sh -c 'echo old; read line; echo new'");
    t.await_log(&container, "old");
    let logs = open(t, &container, "stdout=1&follow=1&tail=0");
    t.docker_with_input(&format!("attach {container}"), b"go\n").ok();
    assert_eq!(read_all(logs).stdout, "new\n");
}

fn headers_come_before_the_first_line(t: &Test) {
    let container = t.start("busybox park");
    let mut logs = open(t, &container, "stdout=1&follow=1");
    logs.read_limit(Duration::from_millis(100));
    assert!(std::io::Read::read(&mut logs, &mut [0u8; 1]).is_err(), "there is nothing to read yet");
    if t.api_at_least(1, 42) {
        assert_eq!(logs.header("Content-Type"), Some("application/vnd.docker.raw-stream"));
    }
}

fn a_terminal_comes_raw(t: &Test) {
    let container = t.start("-t busybox sh -c 'echo one; echo two >&2'");
    t.wait(&container);
    let reply = t.get(&format!("/containers/{container}/logs?stdout=1&stderr=1")).expect(200);
    assert_eq!(reply.text(), "one\r\ntwo\r\n");
}

fn logs_of_a_missing_container_are_404(t: &Test) {
    let reply = t.get("/containers/no-such-container/logs?stdout=1");
    reply.expect_error(404, "No such container: no-such-container");
}

fn logs_of_a_container_that_never_ran_are_empty(t: &Test) {
    let container = t.create("busybox true");
    assert_eq!(texts(t, &container, ""), "");
    assert_eq!(texts(t, &container, "follow=1"), "");
}

fn a_driver_that_keeps_nothing_refuses_to_read(t: &Test) {
    let container = t.start("--log-driver none busybox echo hi");
    t.wait(&container);
    let reply = t.get(&format!("/containers/{container}/logs?stdout=1"));
    // The reference answers 200 first and says so inside the stream.
    if t.api_at_least(1, 42) {
        reply.expect_error(501, "configured logging driver does not support reading");
    } else {
        assert!(reply.text().contains("configured logging driver does not support reading"), "{reply:?}");
    }
}

fn logs_go_on_over_a_restart(t: &Test) {
    let container = finished(t, "echo run");
    t.docker(&format!("start -a {container}")).ok();
    assert_eq!(texts(t, &container, ""), "run\nrun\n");
}

fn a_last_line_without_newline_is_kept(t: &Test) {
    let container = finished(t, "printf 'one\\ntwo'");
    assert_eq!(texts(t, &container, ""), "one\ntwo");
}

fn long_lines_come_whole(t: &Test) {
    let container = finished(t, "head -c 50000 /dev/zero | tr '\\0' x; echo; echo short");
    let text = texts(t, &container, "");
    assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [50_000, 5]);
    assert!(text.lines().next().unwrap().bytes().all(|byte| byte == b'x'));
    assert_eq!(texts(t, &container, "tail=1"), "short\n");
}

fn binary_bytes_come_unchanged(t: &Test) {
    let container = finished(t, "printf 'a\\000b\\033[1m\\r\\n\\303\\274\\n'");
    let frames = read_frames(&mut open(t, &container, "stdout=1"));
    let bytes: Vec<u8> = frames.into_iter().flat_map(|frame| frame.payload).collect();
    assert_eq!(bytes, b"a\0b\x1b[1m\r\n\xc3\xbc\n");
}

fn many_readers_follow_at_once(t: &Test) {
    let container = t.start("-i busybox sh -c 'read line; seq 1 3000'");
    let readers: Vec<Exchange> = (0..6).map(|_| open(t, &container, "stdout=1&follow=1")).collect();
    let expected: String = (1..=3000).map(|number| format!("{number}\n")).collect();
    std::thread::scope(|scope| {
        let reading: Vec<_> =
            readers.into_iter().map(|reader| scope.spawn(|| read_all(reader).stdout)).collect();
        t.docker_with_input(&format!("attach {container}"), b"go\n").ok();
        for reader in reading {
            let read = reader.join().unwrap();
            // The reference may end a follow before the last lines when the container exits right after them.
            let complete = read == expected || (!t.api_at_least(1, 42) && expected.starts_with(&read));
            assert!(complete, "{} lines came, the last one {:?}", read.lines().count(), read.lines().last());
        }
    });
}

fn the_client_tails_and_follows(t: &Test) {
    let container = t.start("-i busybox sh -c 'seq 1 5; read line; echo end'");
    t.await_log(&container, "5");
    let mut following = t.docker_start(&format!("logs -f --tail 2 {container}"));
    assert_eq!((following.next_line(), following.next_line()), ("4".to_owned(), "5".to_owned()));
    t.docker_with_input(&format!("attach {container}"), b"go\n").ok();
    assert_eq!(following.finish().ok(), "4\n5\nend");
}
