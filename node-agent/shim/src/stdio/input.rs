//! Feeds a process' standard input.
//!
//! Start reading at [`Input::write`]. At most one buffer of a client waits here; while it does, no client is read,
//! which holds them up through their sockets. Input that nobody can read any more is thrown away, like dockerd does.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::poll::{Interest, Poller, SessionId, Token};

/// A process' standard input.
#[derive(Debug)]
pub(super) enum Input {
    /// The process does not exist yet.
    Awaited,
    /// The process does not exist yet, and its input will be empty.
    AwaitedEnded,
    /// Takes input.
    Open(OpenInput),
    /// Takes input and throws it away.
    Closed,
}

/// An input that can be written.
#[derive(Debug)]
pub(super) struct OpenInput {
    end: OwnedFd,
    /// What the process had no room for; watched for room if there is any.
    pending: Vec<u8>,
    /// No more will come behind `pending`.
    is_ending: bool,
}

impl Input {
    /// The process exists now, and this leads to it, if anything does.
    pub(super) fn open(&mut self, end: Option<OwnedFd>) {
        *self = match (&self, end) {
            (Self::Awaited, Some(end)) => {
                Self::Open(OpenInput { end, pending: Vec::new(), is_ending: false })
            }
            // Dropping the end is what the process sees as the end of its input.
            (_, _) => Self::Closed,
        };
    }

    /// Whether clients should be read.
    pub(super) fn takes_more(&self) -> bool {
        match self {
            Self::Awaited | Self::AwaitedEnded => false,
            Self::Open(input) => input.pending.is_empty(),
            Self::Closed => true,
        }
    }

    /// Passes on what a client sent. Only when more is taken.
    pub(super) fn write(&mut self, id: SessionId, bytes: &[u8], poller: &Poller) -> io::Result<()> {
        let Self::Open(input) = self else { return Ok(()) };
        match write_some(&input.end, bytes) {
            Ok(n_written) if n_written == bytes.len() => Ok(()),
            Ok(n_written) => {
                input.pending.extend_from_slice(&bytes[n_written..]);
                poller.add(&input.end, Token::Input(id), Interest::WRITE)
            }
            Err(_) => {
                self.abandon(poller);
                Ok(())
            }
        }
    }

    /// There may be room for what waits.
    pub(super) fn flush(&mut self, id: SessionId, poller: &Poller) -> io::Result<()> {
        let _ = id;
        let Self::Open(input) = self else { return Ok(()) };
        match write_some(&input.end, &input.pending) {
            Ok(n_written) => {
                input.pending.drain(..n_written);
                if !input.pending.is_empty() {
                    return Ok(());
                }
                input.pending = Vec::new();
                poller.remove(&input.end);
                if input.is_ending {
                    *self = Self::Closed;
                }
                Ok(())
            }
            Err(_) => {
                self.abandon(poller);
                Ok(())
            }
        }
    }

    /// No more will be written; what waits still goes out.
    pub(super) fn end(&mut self, poller: &Poller) {
        match self {
            Self::Awaited => *self = Self::AwaitedEnded,
            Self::Open(input) if !input.pending.is_empty() => input.is_ending = true,
            Self::Open(_) => self.abandon(poller),
            Self::AwaitedEnded | Self::Closed => {}
        }
    }

    /// Nobody reads it any more.
    pub(super) fn abandon(&mut self, poller: &Poller) {
        if let Self::Open(input) = self {
            poller.remove(&input.end);
        }
        *self = Self::Closed;
    }
}

/// Writes as much as there is room for.
fn write_some(end: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    let mut n_written = 0;
    while n_written < bytes.len() {
        match rustix::io::write(end, &bytes[n_written..]) {
            Ok(n) => n_written += n,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(n_written)
}
