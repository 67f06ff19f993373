//! What a container is told after it went on from a checkpoint.
//!
//! Its answers count in memory: they show that the same process has heard what was said before and what is said now.

use integration_cli::http::Request;
use integration_cli::{Container, OwnDaemon, Test, cases};

use super::{checkpointing, go_on_from};

cases![
    a_restored_container_answers_what_is_said_then,
    a_restored_container_with_a_terminal_answers_what_is_said_then,
    a_client_that_attaches_with_the_restore_is_answered,
    a_restored_container_learns_that_its_input_has_ended,
];

/// Answers each line with its number, and the end of its input with how many there were.
const ANSWER: &str =
    "busybox sh -c 'n=0; while read line; do n=$((n+1)); echo got-$line-$n; done; echo heard-$n; exit $n'";

/// Says a word through a connection of its own and waits for the answer.
fn ask(d: &OwnDaemon, container: &Container, word: &str, answer: &str) {
    let path = format!("/containers/{container}/attach?stream=1&stdin=1&stdout=1");
    let mut stream = d.open(Request::new("POST", &path).upgrade()).expect(101).hijack();
    stream.write(format!("{word}\n").as_bytes());
    stream.read_until(answer);
}

fn a_restored_container_answers_what_is_said_then(t: &Test) {
    answers_what_is_said_then(t, "-i");
}

fn a_restored_container_with_a_terminal_answers_what_is_said_then(t: &Test) {
    answers_what_is_said_then(t, "-t -i");
}

fn answers_what_is_said_then(t: &Test, streams: &str) {
    let d = checkpointing(t);
    let container = d.start(&format!("--runtime other {streams} {ANSWER}"));
    ask(&d, &container, "one", "got-one-1");
    ask(&d, &container, "two", "got-two-2");
    go_on_from(&d, &container, "first");
    ask(&d, &container, "three", "got-three-3");
    // From there once more: what was said after it was never said.
    d.docker(&format!("kill {container}")).ok();
    d.await_status(&container, "exited");
    d.docker(&format!("start --checkpoint first {container}")).ok();
    ask(&d, &container, "other", "got-other-3");
    d.docker(&format!("rm -f {container}")).ok();
}

fn a_client_that_attaches_with_the_restore_is_answered(t: &Test) {
    let d = checkpointing(t);
    let container = d.start(&format!("--runtime other -i {ANSWER}"));
    ask(&d, &container, "one", "got-one-1");
    d.docker(&format!("checkpoint create {container} first")).ok();
    d.await_status(&container, "exited");
    let mut client = d.docker_start(&format!("start --checkpoint first -a -i {container}"));
    client.write(b"two\n");
    assert_eq!(client.next_line(), "got-two-2");
    client.write(b"three\n");
    assert_eq!(client.next_line(), "got-three-3");
    d.docker(&format!("rm -f {container}")).ok();
    client.finish();
}

fn a_restored_container_learns_that_its_input_has_ended(t: &Test) {
    let d = checkpointing(t);
    let container = d.create(&format!("--runtime other -i -a stdin -a stdout {ANSWER}"));
    let mut client = d.docker_start(&format!("start -a -i {container}"));
    client.write(b"one\n");
    assert_eq!(client.next_line(), "got-one-1");
    d.docker(&format!("checkpoint create {container} first")).ok();
    d.await_status(&container, "exited");
    client.finish();
    let mut client = d.docker_start(&format!("start --checkpoint first -a -i {container}"));
    client.write(b"two\n");
    assert_eq!(client.next_line(), "got-two-2");
    client.close_stdin();
    assert_eq!(client.next_line(), "heard-2");
    client.finish();
    assert_eq!(d.wait(&container), 2);
    d.docker(&format!("rm {container}")).ok();
}
