//! What a person at the command line sees: output lines, and a container's terminal while the command stays with it.

use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::error::{Context, Result};
use crate::sys;

/// Writes a line to stdout; a closed stdout is not a failure of the command.
pub(super) fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Turns a wait status into one of a process.
pub(super) fn exit_status(status: i32) -> u8 {
    u8::try_from(status & 0xff).unwrap_or(1)
}

/// Signals that are passed on to the container's process.
const PASSED: [i32; 9] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
    libc::SIGALRM,
    libc::SIGWINCH,
];

/// The time that a command stays with a container's process in the foreground.
pub(super) struct Session {
    signals: OwnedFd,
    terminal: Option<OwnedFd>,
    /// The settings of our own terminal, to be put back.
    saved: Option<Termios>,
}

impl Session {
    /// Prepares to pass signals, and puts our own terminal into raw mode when the container has one.
    pub(super) fn open(terminal: Option<OwnedFd>) -> Result<Self> {
        let signals = sys::signal_descriptor(&PASSED).step(|| "receive signals")?;
        let mut saved = None;
        if let Some(master) = &terminal {
            let stdin = rustix::stdio::stdin();
            if isatty(stdin) {
                let settings = tcgetattr(stdin).step(|| "read the terminal's settings")?;
                let mut raw = settings.clone();
                raw.make_raw();
                tcsetattr(stdin, OptionalActions::Now, &raw).step(|| "set the terminal to raw mode")?;
                saved = Some(settings);
                follow_size(master.as_fd());
            }
        }
        Ok(Self { signals, terminal, saved })
    }

    /// Passes on everything until the process has ended.
    pub(super) fn serve(&self, process: BorrowedFd<'_>, pass: impl Fn(i32)) -> Result<()> {
        let mut reads_input = self.terminal.is_some();
        loop {
            let stdin = rustix::stdio::stdin();
            let mut events =
                vec![PollFd::new(&process, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            if let Some(master) = &self.terminal {
                events.push(PollFd::new(master, PollFlags::IN));
                if reads_input {
                    events.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
                }
            }
            match poll(&mut events, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).step(|| "wait for the container"),
            }
            let ready: Vec<bool> = events.iter().map(|event| !event.revents().is_empty()).collect();
            let is_ready = |index: usize| ready.get(index).copied().unwrap_or(false);
            if is_ready(1) {
                self.pass_signals(&pass);
            }
            if let Some(master) = &self.terminal {
                if is_ready(2) {
                    copy_once(master.as_fd(), rustix::stdio::stdout());
                }
                if is_ready(3) && copy_once(stdin, master.as_fd()) == Copied::AtEnd {
                    reads_input = false;
                }
            }
            if is_ready(0) {
                self.drain_output();
                return Ok(());
            }
        }
    }

    fn pass_signals(&self, pass: &impl Fn(i32)) {
        let mut info = [0_u8; sys::SIGNAL_INFO_LENGTH];
        while let Ok(length) = rustix::io::read(&self.signals, &mut info) {
            let number = info.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes));
            match number {
                Some(libc::SIGWINCH) => {
                    if let Some(master) = &self.terminal {
                        follow_size(master.as_fd());
                    }
                }
                Some(number) if length == info.len() => pass(number),
                _ => return,
            }
        }
    }

    /// Shows what the process wrote before its end.
    fn drain_output(&self) {
        let Some(master) = &self.terminal else { return };
        let _ = rustix::io::ioctl_fionbio(master, true);
        while copy_once(master.as_fd(), rustix::stdio::stdout()) == Copied::Some {}
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(settings) = &self.saved {
            // The terminal may be gone, and then needs no settings.
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, settings);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copied {
    Some,
    AtEnd,
}

fn copy_once(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Copied {
    let mut buffer = [0_u8; 8192];
    match rustix::io::read(from, &mut buffer) {
        Ok(length @ 1..) => {
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Ok(written @ 1..) = rustix::io::write(to, rest) {
                rest = rest.get(written..).unwrap_or_default();
                if rest.is_empty() {
                    break;
                }
            }
            Copied::Some
        }
        Err(Errno::INTR) => Copied::Some,
        // A pseudo terminal whose other side is closed answers EIO.
        _ => Copied::AtEnd,
    }
}

fn follow_size(master: BorrowedFd<'_>) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        let _ = tcsetwinsize(master, size);
    }
}
