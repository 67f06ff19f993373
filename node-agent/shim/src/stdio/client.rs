//! One client attached to a process: what waits for it, what it sends, how it leaves.
//!
//! Start reading at [`Client::send`]. Output is sent at once as far as the socket takes it; the rest waits here, whole
//! and in order, in memory and then perhaps on disk (`spill.rs`). The session decides when too much waits and when a
//! client is read.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::spill::Spill;
use crate::poll::{ConnectionId, Interest, Poller, Token};
use crate::protocol::{AttachRequest, Framing};
use crate::stream::Stream;

/// Bytes that wait for a socket.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: VecDeque<u8>,
}

impl Backlog {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes = VecDeque::new();
    }

    /// Writes as much as the socket takes.
    pub(crate) fn flush_to(&mut self, socket: &mut UnixStream) -> io::Result<()> {
        while !self.bytes.is_empty() {
            let (front, back) = self.bytes.as_slices();
            match socket.write_vectored(&[IoSlice::new(front), IoSlice::new(back)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n_written) => drop(self.bytes.drain(..n_written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // A burst should not cost memory for the rest of the client's life.
        self.clear();
        Ok(())
    }
}

/// How much is taken back from disk at a time.
const SPILL_CHUNK: usize = 256 * 1024;

/// Whether input can be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    Now,
    Later,
}

/// What a client still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Sends and receives.
    Present,
    /// Gets what waits for it, and is let go.
    Leaving,
    /// Has closed its socket; what it sent before is still to be read.
    Vanished,
}

/// An attached client.
#[derive(Debug)]
pub(super) struct Client {
    id: ConnectionId,
    socket: UnixStream,
    wants: AttachRequest,
    /// Whether more input may come from it.
    sends_input: bool,
    backlog: Backlog,
    /// What waits behind the backlog. As long as there is one the backlog is not empty.
    spill: Option<Spill>,
    /// Since when it has taken nothing although too much waits for it.
    still_since: Option<Instant>,
    standing: Standing,
    /// What the poller was told; `None` while it watches nothing, not even a hang-up.
    watched: Option<Interest>,
}

impl Client {
    /// A client on a non-blocking socket.
    pub(super) fn new(id: ConnectionId, socket: UnixStream, wants: AttachRequest) -> Self {
        Self {
            id,
            socket,
            wants,
            sends_input: wants.stdin,
            backlog: Backlog::default(),
            spill: None,
            still_since: None,
            standing: Standing::Present,
            watched: None,
        }
    }

    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(super) fn sends_input(&self) -> bool {
        self.sends_input
    }

    /// Whether more waits than `limit` in memory, or than there is room for on disk. `now` is remembered as the
    /// beginning of that until it takes something.
    pub(super) fn is_in_the_way(&mut self, limit: usize, now: Instant) -> bool {
        let has_too_much = match &self.spill {
            Some(spill) => spill.is_full(),
            None => self.backlog.len() >= limit,
        };
        let is_still = has_too_much && self.spill.is_none();
        self.still_since = if is_still { self.still_since.or(Some(now)) } else { None };
        has_too_much
    }

    /// Since when it stands still, unless what is for it waits on disk already.
    pub(super) fn still_since(&self) -> Option<Instant> {
        self.still_since
    }

    /// What comes from now on waits on disk until it has taken everything.
    pub(super) fn spill_to(&mut self, spill: Spill) {
        self.spill = Some(spill);
        self.still_since = None;
    }

    /// Delivers output of a stream that it wants.
    pub(super) fn send(&mut self, stream: Stream, bytes: &[u8]) {
        let is_wanted = match stream {
            Stream::Stdout => self.wants.stdout,
            Stream::Stderr => self.wants.stderr,
        };
        if !is_wanted || self.standing != Standing::Present {
            return;
        }
        let header = match self.wants.framing {
            Framing::Raw => None,
            Framing::Multiplexed => Some(frame_header(stream, bytes.len())),
        };
        let header = header.as_ref().map_or(&[][..], |header| header);
        if let Some(spill) = &mut self.spill {
            spill.put(header);
            spill.put(bytes);
            return;
        }
        let mut n_sent = 0;
        if self.backlog.is_empty() {
            match self.socket.write_vectored(&[IoSlice::new(header), IoSlice::new(bytes)]) {
                Ok(n_written) => n_sent = n_written,
                Err(error) if is_temporary(&error) => {}
                Err(_) => return self.vanish(),
            }
        }
        self.backlog.push(header.get(n_sent..).unwrap_or_default());
        self.backlog.push(&bytes[n_sent.saturating_sub(header.len())..]);
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) {
        let n_waiting = self.backlog.len();
        if self.flush_all().is_err() {
            return self.vanish();
        }
        if self.backlog.len() != n_waiting {
            self.still_since = None;
        }
    }

    fn flush_all(&mut self) -> io::Result<()> {
        loop {
            self.backlog.flush_to(&mut self.socket)?;
            let Some(spill) = self.spill.as_mut().filter(|_| self.backlog.is_empty()) else { return Ok(()) };
            let mut chunk = vec![0; SPILL_CHUNK];
            let n_taken = spill.take(&mut chunk)?;
            self.backlog.push(chunk.get(..n_taken).unwrap_or_default());
            if spill.is_empty() {
                self.spill = None;
            }
        }
    }

    /// Reads input into the buffer; 0 is its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer)
    }

    /// No more input comes from it.
    pub(super) fn end_input(&mut self) {
        self.sends_input = false;
    }

    /// It is to go as soon as it has got what waits for it.
    pub(super) fn leave(&mut self) {
        if self.standing == Standing::Present {
            self.standing = Standing::Leaving;
            self.sends_input = false;
        }
    }

    /// It has closed its socket, and nothing can be sent to it.
    pub(super) fn vanish(&mut self) {
        self.standing = Standing::Vanished;
        self.backlog.clear();
        self.spill = None;
    }

    /// Whether it can be closed.
    pub(super) fn is_done(&self, has_more_input: bool) -> bool {
        match self.standing {
            Standing::Present => false,
            Standing::Leaving => self.backlog.is_empty(),
            Standing::Vanished => !has_more_input,
        }
    }

    /// Tells the poller what to look for.
    pub(super) fn watch(&mut self, readiness: Readiness, poller: &Poller) -> io::Result<()> {
        let reads = self.sends_input && readiness == Readiness::Now;
        // A hang-up is always reported; while a vanished client's last input has to wait it must not be.
        let wanted = if self.standing == Standing::Vanished && !reads {
            None
        } else {
            let read = if reads { Interest::READ } else { Interest::NONE };
            let write = if self.backlog.is_empty() { Interest::NONE } else { Interest::WRITE };
            Some(read.and(write))
        };
        if wanted == self.watched {
            return Ok(());
        }
        let token = Token::Connection(self.id);
        match (self.watched, wanted) {
            (None, Some(interest)) => poller.add(&self.socket, token, interest)?,
            (Some(_), Some(interest)) => poller.modify(&self.socket, token, interest)?,
            (_, None) => poller.remove(&self.socket),
        }
        self.watched = wanted;
        Ok(())
    }

    /// Ends the connection so that the client sees the end of the stream, and not a reset because of input that it
    /// sent too late.
    pub(super) fn close(&mut self, poller: &Poller) {
        poller.remove(&self.socket);
        if self.socket.shutdown(Shutdown::Both).is_ok() {
            let mut sink = [0; 1024];
            while matches!(self.socket.read(&mut sink), Ok(n_read) if n_read > 0) {}
        }
    }
}

/// Docker's header of a chunk of output.
fn frame_header(stream: Stream, len: usize) -> [u8; 8] {
    // A chunk is at most one read buffer.
    let [a, b, c, d] = u32::try_from(len).unwrap_or_default().to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
