//! Starts programs: the docker client, namespace tools, daemons. Every program has a time limit.
//!
//! The only module of the harness that may call `Command::new`. It knows nothing of daemons or namespaces.
#![expect(
    clippy::disallowed_methods,
    reason = "black-box tests exist to start programs; all of them start here"
)]

use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// How long a program may run before it counts as hung; far above what any test needs.
pub const TIME_LIMIT: Duration = Duration::from_secs(90);

/// A command for `program` with a clean environment: only PATH and a C locale.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("LC_ALL", "C");
    command
}

/// What a finished program left behind.
#[derive(Clone)]
pub struct Outcome {
    /// The command line, for messages.
    pub line: String,
    /// Exit code, or minus the number of the signal that ended the program.
    pub code: i32,
    /// Standard output as text.
    pub stdout: String,
    /// Standard error as text.
    pub stderr: String,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` ended with {}\n--- stdout\n{}\n--- stderr\n{}",
            self.line, self.code, self.stdout, self.stderr
        )
    }
}

impl Outcome {
    /// Asserts success and returns the output without the final newline.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "expected success: {self:?}");
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// Asserts the exit code and returns standard error.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert!(self.code == code, "expected exit code {code}: {self:?}");
        self.stderr
    }

    /// Asserts the exit code and that standard error holds `text`.
    #[track_caller]
    pub fn fails_saying(self, code: i32, text: &str) {
        assert!(
            self.code == code && self.stderr.contains(text),
            "expected code {code} and {text:?}: {self:?}"
        );
    }
}

/// Runs `command` to its end within [`TIME_LIMIT`], with `input` on its standard input.
pub fn run(command: Command, input: &[u8]) -> Outcome {
    run_within(command, input, TIME_LIMIT)
}

/// Runs `command` to its end; past `limit` it is killed and the test fails with what it had printed.
pub fn run_within(command: Command, input: &[u8], limit: Duration) -> Outcome {
    let mut running = Running::start(command);
    running.write(input);
    running.close_stdin();
    running.finish_within(limit)
}

/// A program that is still running, its pipes in the hands of the test. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
    stdout: Option<JoinHandle<()>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts `command` with pipes on all three standard streams.
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let line = describe(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("starting `{line}`: {error}"));
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stdout = std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut raw = Vec::new();
            while reader.read_until(b'\n', &mut raw).unwrap_or(0) > 0 {
                // The receiver is gone once the test stopped listening; the pipe is still drained.
                sender.send(String::from_utf8_lossy(&raw).into_owned()).ok();
                raw.clear();
            }
        });
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let stderr = std::thread::spawn(move || {
            let mut raw = Vec::new();
            stderr.read_to_end(&mut raw).ok();
            String::from_utf8_lossy(&raw).into_owned()
        });
        let stdin = child.stdin.take();
        Self { line, child, stdin, lines, seen: Vec::new(), stdout: Some(stdout), stderr: Some(stderr) }
    }

    /// The program's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to the program's standard input; a program that no longer reads is no error.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            stdin.write_all(bytes).and_then(|()| stdin.flush()).ok();
        }
    }

    /// Closes the program's standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for the next line of standard output; panics when none comes.
    #[track_caller]
    pub fn next_line(&mut self) -> String {
        match self.lines.recv_timeout(TIME_LIMIT) {
            Ok(line) => {
                self.seen.push(line.clone());
                line.trim_end_matches('\n').to_owned()
            }
            Err(RecvTimeoutError::Timeout) => {
                panic!("`{}` printed nothing more after {:?}", self.line, self.seen)
            }
            Err(RecvTimeoutError::Disconnected) => {
                let outcome = self.finish_in_place(TIME_LIMIT);
                panic!("output ended while a line was awaited: {outcome:?}")
            }
        }
    }

    /// Waits for a line of standard output that holds `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = self.next_line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends a signal to the program alone.
    pub fn signal(&self, signal: Signal) {
        kill_process(pid_of(&self.child), signal).ok();
    }

    /// Waits for the end of the program within [`TIME_LIMIT`].
    #[track_caller]
    pub fn finish(self) -> Outcome {
        self.finish_within(TIME_LIMIT)
    }

    /// Waits for the end of the program; kills it past `limit` and fails.
    #[track_caller]
    pub fn finish_within(mut self, limit: Duration) -> Outcome {
        self.finish_in_place(limit)
    }

    /// Whether the program has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    #[track_caller]
    fn finish_in_place(&mut self, limit: Duration) -> Outcome {
        let status = wait_within(&mut self.child, limit);
        if status.is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        let rest: Vec<String> = self.lines.iter().collect();
        self.seen.extend(rest);
        self.stdout.take().map(JoinHandle::join);
        let stderr = self.stderr.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        let stdout = self.seen.concat();
        let code = status.map_or(i32::MIN, code_of);
        let outcome = Outcome { line: self.line.clone(), code, stdout, stderr };
        assert!(status.is_some(), "still running after {limit:?}, killed: {outcome:?}");
        outcome
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Waits until `child` ends or `limit` passes; sleeps in the kernel meanwhile.
pub fn wait_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    let pidfd = pidfd_open(pid_of(child), PidfdFlags::empty()).expect("pidfd_open of an own child");
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        let left = deadline.checked_duration_since(Instant::now())?;
        let timeout = Timespec::try_from(left).expect("a time limit fits a timespec");
        // An interrupted poll is simply repeated.
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).ok();
    }
}

/// The process id of a child in the form the kernel calls want.
#[must_use]
pub fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Exit code, or minus the signal's number.
#[must_use]
pub fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

/// The command line of `command` as one would type it, for messages.
#[must_use]
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
