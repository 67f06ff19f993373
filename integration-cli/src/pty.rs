//! Drives an interactive client through a terminal, as a person at a keyboard does.
//!
//! The client gets a pseudo terminal as its controlling terminal (`setsid --ctty`), so that raw mode, window sizes and
//! detach keys work as they do in real life.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::condition::PATIENCE;
use crate::process::{code_of, command, describe, wait_within};

/// A program at the other end of a terminal. Dropping it kills the program.
#[derive(Debug)]
pub struct Terminal {
    line: String,
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Starts `program` on a terminal of `rows` times `columns`.
    #[track_caller]
    #[must_use]
    pub fn start(program: &Command, rows: u16, columns: u16) -> Self {
        let line = describe(program);
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
        grantpt(&controller).and_then(|()| unlockpt(&controller)).expect("unlocking a pseudo terminal");
        let path = ptsname(&controller, Vec::new()).expect("the terminal's name");
        set_size(&controller, rows, columns);
        let side = || {
            let file = File::options().read(true).write(true).open(path.to_str().expect("a UTF-8 path"));
            Stdio::from(file.expect("the other side of the terminal"))
        };
        let mut session = command("setsid");
        session.arg("--ctty").arg("--wait").arg(program.get_program()).args(program.get_args());
        let environment = program.get_envs().filter_map(|(key, value)| Some((key, value?)));
        session.envs(environment).env("TERM", "xterm");
        session.stdin(side()).stdout(side()).stderr(side());
        let child = session.spawn().unwrap_or_else(|error| panic!("starting `{line}`: {error}"));
        drop(session);
        let keyboard = File::from(controller);
        let mut output = keyboard.try_clone().expect("a second handle of the terminal");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0u8; 4096];
            // Reading fails with EIO once the last program has closed the terminal.
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { line, child, keyboard, screen, seen: String::new() }
    }

    /// Types `keys`.
    #[track_caller]
    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("typing at a terminal");
    }

    /// Waits until the screen shows `text` after what was awaited before; returns everything up to and with it.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("`{}` does not show {text:?}; it shows {:?}", self.line, self.seen),
            }
        }
    }

    /// Changes the size of the window; the program gets SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.keyboard, rows, columns);
    }

    /// Changes the size of the window until the screen shows `text`: a client that has just begun may not listen yet.
    #[track_caller]
    pub fn resize_until(&mut self, rows: u16, columns: u16, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.contains(text) && Instant::now() < deadline {
            // No signal is sent for a size that is no other.
            self.resize(rows, columns - 1);
            self.resize(rows, columns);
            if let Ok(bytes) = self.screen.recv_timeout(Duration::from_secs(1)) {
                self.seen.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
        self.wait_for(text);
    }

    /// Waits for the program's end and returns its exit code.
    #[track_caller]
    pub fn finish(mut self) -> i32 {
        let status = wait_within(&mut self.child, Duration::from_secs(60));
        let shown = || {
            self.screen
                .try_iter()
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .collect::<String>()
        };
        code_of(
            status.unwrap_or_else(|| {
                panic!("`{}` does not end; it shows {:?}{:?}", self.line, self.seen, shown())
            }),
        )
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

fn set_size(terminal: &impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("setting the size of a terminal");
}
