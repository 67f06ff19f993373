//! The promises about attached clients: what each gets, what its input does, and what its absence does not do.

use std::io::Write as _;

use node_shim::protocol::{AttachRequest, Call, ConsoleSize, Framing, StdinMode, Target};

use crate::support::{ALL_STREAMS, Machine, Runtime, is_privileged, under_every_runtime, wait_until};

const RAW: AttachRequest = AttachRequest { framing: Framing::Raw, ..ALL_STREAMS };

#[test]
fn a_client_attached_before_the_start_gets_every_byte() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "echo out; echo err >&2");
        let mut daemon = container.spawn();
        // Before anything exists, and once more between create and start.
        let mut first = daemon.attach(ALL_STREAMS);
        daemon.create();
        let mut second = daemon.attach(ALL_STREAMS);
        daemon.start();
        daemon.exit();
        for client in [&mut first, &mut second] {
            assert_eq!(client.read_streams(), ("out\n".to_owned(), "err\n".to_owned()));
        }
    });
}

#[test]
fn a_client_gets_only_the_streams_it_wants() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "echo out; echo err >&2");
        let mut daemon = container.spawn();
        let mut no_stderr = daemon.attach(AttachRequest { stderr: false, ..ALL_STREAMS });
        let mut no_stdout = daemon.attach(AttachRequest { stdout: false, ..ALL_STREAMS });
        let mut raw = daemon.attach(AttachRequest { stderr: false, ..RAW });
        daemon.run();
        daemon.exit();
        assert_eq!(no_stderr.read_streams(), ("out\n".to_owned(), String::new()));
        assert_eq!(no_stdout.read_streams(), (String::new(), "err\n".to_owned()));
        assert_eq!(raw.read_to_end(), b"out\n");
    });
}

#[test]
fn half_close_ends_the_input_of_a_stdin_once_container_and_output_goes_on() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "wc -c").with_stdin(StdinMode::Once);
        let mut daemon = container.spawn();
        let mut client = daemon.attach(ALL_STREAMS);
        daemon.run();
        // More than any buffer on the way holds, so that back-pressure on input is part of it.
        let chunk = [b'x'; 65536];
        for _ in 0..32 {
            client.write(&chunk);
        }
        client.end_input();
        assert_eq!(daemon.exit().code, 0);
        assert_eq!(client.read_streams().0.trim(), (32 * 65536).to_string());
    });
}

#[test]
fn input_sent_before_the_create_is_not_lost_even_if_the_client_has_gone() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "cat").with_stdin(StdinMode::Once);
        let mut daemon = container.spawn();
        let mut client = daemon.attach(ALL_STREAMS);
        client.write(b"early words\n");
        drop(client);
        daemon.run();
        assert_eq!(daemon.exit().code, 0);
        assert_eq!(container.logged_text("stdout"), "early words\n");
    });
}

#[test]
fn without_stdin_once_a_half_close_ends_the_attachment_and_not_the_input() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "cat").with_stdin(StdinMode::Open);
        let mut daemon = container.spawn();
        daemon.run();
        let mut first = daemon.attach(ALL_STREAMS);
        first.write(b"one\n");
        first.end_input();
        // The stream ends although the container lives. Its echo may or may not come before.
        first.read_streams();
        let mut second = daemon.attach(ALL_STREAMS);
        second.write(b"two\n");
        wait_until("both lines were echoed", || container.logged_text("stdout") == "one\ntwo\n");
        daemon.done(Call::CloseStdin);
        assert_eq!(daemon.exit().code, 0);
        assert_eq!(second.read_streams().0.lines().next_back(), Some("two"));
    });
}

#[test]
fn a_closed_standard_input_is_empty() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "wc -c");
        let mut daemon = container.spawn();
        let mut client = daemon.attach(ALL_STREAMS);
        // Not taken as input, and not a reason to fail.
        client.write(b"ignored");
        daemon.run();
        assert_eq!(daemon.exit().code, 0);
        assert_eq!(client.read_streams().0, "0\n");
    });
}

#[test]
fn attaching_to_an_exited_container_yields_an_empty_stream() {
    under_every_runtime(|machine, runtime| {
        let mut container = machine.container(runtime, "echo out");
        let mut daemon = container.spawn();
        daemon.run();
        daemon.exit();
        assert_eq!(daemon.attach(ALL_STREAMS).read_to_end(), b"");
    });
}

/// Three clients: one reads, one stands still, one vanishes. The one that stands still holds the container up after its
/// buffers are full, and nobody loses a byte; the one that vanished holds up nothing.
#[test]
fn a_client_that_stands_still_holds_the_container_up_until_it_goes_on_or_vanishes() {
    if !is_privileged() {
        return;
    }
    let machine = Machine::new();
    let runtime = Runtime::available()[0];
    let n_bytes = 24 * 1024 * 1024;
    for ends_by_reading in [true, false] {
        let mut container = machine.container(runtime, &format!("yes 123456789abcdef | head -c {n_bytes}"));
        container.launch.log = node_shim::protocol::LogConfig::None;
        let mut daemon = container.spawn();
        let mut reader = daemon.attach(RAW);
        let mut sleeper = daemon.attach(RAW);
        drop(daemon.attach(RAW));
        daemon.run();
        let received = std::thread::spawn(move || {
            let mut counter = Counter::default();
            std::io::copy(&mut reader.socket, &mut counter).unwrap();
            counter
        });
        // The sleeper's buffer takes about a megabyte; the container cannot be done.
        let mut seen = [0; 1024];
        std::io::Read::read_exact(&mut sleeper.socket, &mut seen).unwrap();
        let Ok(node_shim::protocol::Answer::State(state)) = daemon.call(Call::State) else {
            panic!("no state")
        };
        assert!(matches!(state.phase, node_shim::protocol::Phase::Running { .. }));
        if ends_by_reading {
            let mut counter = Counter::default();
            counter.write_all(&seen).unwrap();
            std::io::copy(&mut sleeper.socket, &mut counter).unwrap();
            assert_eq!((counter.n_bytes, counter.is_intact), (n_bytes, true));
        } else {
            drop(sleeper);
        }
        assert_eq!(daemon.exit().code, 0);
        let counter = received.join().unwrap();
        assert_eq!((counter.n_bytes, counter.is_intact), (n_bytes, true));
    }
}

/// With a log there is a disk, where the output for a client that stands still waits, so that the container goes on. The
/// client gets all of it when it goes on as well.
#[test]
fn a_client_that_stands_still_holds_a_container_with_a_log_up_only_for_a_while() {
    if !is_privileged() {
        return;
    }
    let machine = Machine::new();
    let runtime = Runtime::available()[0];
    let n_bytes = 24 * 1024 * 1024;
    let mut container = machine.container(runtime, &format!("yes 123456789abcdef | head -c {n_bytes}"));
    let mut daemon = container.spawn();
    let mut sleeper = daemon.attach(RAW);
    daemon.run();
    assert_eq!(daemon.exit().code, 0);
    let mut counter = Counter::default();
    std::io::copy(&mut sleeper.socket, &mut counter).unwrap();
    assert_eq!((counter.n_bytes, counter.is_intact), (n_bytes, true));
}

/// Counts bytes and checks that they are those of `yes 123456789abcdef`.
struct Counter {
    n_bytes: usize,
    is_intact: bool,
}

impl Default for Counter {
    fn default() -> Self {
        Self { n_bytes: 0, is_intact: true }
    }
}

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for byte in bytes {
            self.is_intact &= *byte == b"123456789abcdef\n"[self.n_bytes % 16];
            self.n_bytes += 1;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_terminal_echoes_resizes_and_ends_with_its_last_output() {
    under_every_runtime(|machine, runtime| {
        let script = "stty size; read line; stty size; echo \"got $line\"";
        let mut container = machine.container(runtime, script).with_terminal().with_stdin(StdinMode::Open);
        container.config["process"]["consoleSize"] = serde_json::json!({"height": 11, "width": 22});
        let mut daemon = container.spawn();
        let mut client = daemon.attach(RAW);
        // Docker's command line resizes as soon as it can, which may be before the terminal exists.
        let size = ConsoleSize { height: 33, width: 44 };
        daemon.done(Call::Resize { target: Target::Init, size });
        daemon.run();
        client.read_until("33 44\r\n");
        let size = ConsoleSize { height: 55, width: 66 };
        daemon.done(Call::Resize { target: Target::Init, size });
        client.write(b"word\n");
        assert_eq!(daemon.exit().code, 0);
        let rest = String::from_utf8(client.read_to_end()).unwrap();
        assert_eq!(rest, "word\r\n55 66\r\ngot word\r\n");
        assert!(container.logged_text("stdout").ends_with("got word\r\n"));
    });
}

#[test]
fn control_characters_reach_the_terminal() {
    under_every_runtime(|machine, runtime| {
        let script = "trap 'echo interrupted' INT; echo ready; cat; echo ended; exit 7";
        let mut container = machine.container(runtime, script).with_terminal().with_stdin(StdinMode::Open);
        let mut daemon = container.spawn();
        let mut client = daemon.attach(RAW);
        daemon.run();
        client.read_until("ready\r\n");
        client.write(b"line\n");
        client.read_until("line\r\nline\r\n");
        // ctrl-d at the beginning of a line is the end of input for cat.
        client.write(b"\x04");
        client.read_until("ended\r\n");
        assert_eq!(daemon.exit().code, 7);
    });
}

#[test]
fn a_terminal_that_its_program_closes_for_a_while_stays() {
    under_every_runtime(|machine, runtime| {
        let script = "tty=$(tty); exec 0<&- 1>&- 2>&-; sleep 0.2; exec 0<$tty 1>$tty 2>&1; echo back";
        let mut container = machine.container(runtime, script).with_terminal().with_stdin(StdinMode::Open);
        let mut daemon = container.spawn();
        let mut client = daemon.attach(RAW);
        daemon.run();
        assert_eq!(daemon.exit().code, 0);
        assert_eq!(client.read_to_end(), b"back\r\n");
    });
}
