//! The shim's socket: who may connect, the first frame, and the frames of the control connection.
//!
//! Start reading at [`Greeting`], which every connection is until its first frame is whole, and [`Control`]. What a
//! request means is in `requests.rs`; attached streams are in `stdio`.

use std::fs;
use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};

use serde::Serialize;

use crate::error::ProcessError;
use crate::poll::{ConnectionId, Interest, Poller, Token};
use crate::protocol::{Failure, FailureKind, Hello, MAX_FRAME_LEN, Message, Request, SOCKET_FILE, Welcome};
use crate::stdio::Backlog;

const LENGTH_LEN: usize = 4;

/// How much may wait for a daemon that does not read. Beyond it the connection is given up; the next one starts from
/// the whole state.
const CONTROL_BACKLOG: usize = 4 * 1024 * 1024;

/// Listens on the bundle's socket, which is the current directory's.
pub(crate) fn listen() -> Result<UnixListener, ProcessError> {
    let bind = || -> io::Result<UnixListener> {
        match fs::remove_file(SOCKET_FILE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(SOCKET_FILE)?;
        fs::set_permissions(SOCKET_FILE, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|source| ProcessError::step(format!("listen on {SOCKET_FILE}"), source))
}

/// Whether whoever is at the other end runs as the same user as this process. The socket's mode says so already; this
/// also holds when somebody passes a connection on.
pub(crate) fn is_same_user(socket: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(socket).is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

/// A connection whose first frame is not whole yet.
#[derive(Debug)]
pub(crate) struct Greeting {
    socket: UnixStream,
    /// The frame as far as it has come, with its length. Never a byte more: what follows may be a byte stream.
    frame: Vec<u8>,
}

/// How far a greeting has come.
#[derive(Debug)]
pub(crate) enum Greeted {
    /// The frame is not whole.
    NotYet,
    /// The client says what it wants.
    Hello(Hello),
    /// The client has gone.
    Gone,
    /// What came is not of the protocol.
    Nonsense(Failure),
}

impl Greeting {
    /// A connection that was just accepted, made non-blocking.
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, frame: Vec::new() })
    }

    pub(crate) fn watch(&self, id: ConnectionId, poller: &Poller) -> io::Result<()> {
        poller.add(&self.socket, Token::Connection(id), Interest::READ)
    }

    /// Reads on.
    pub(crate) fn read(&mut self) -> Greeted {
        loop {
            let missing = match missing_bytes(&self.frame) {
                Ok(0) => return self.parse(),
                Ok(missing) => missing,
                Err(failure) => return Greeted::Nonsense(failure),
            };
            let mut piece = [0; 4096];
            let reach = missing.min(piece.len());
            match self.socket.read(&mut piece[..reach]) {
                Ok(0) => return Greeted::Gone,
                Ok(n_read) => self.frame.extend_from_slice(&piece[..n_read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Greeted::NotYet,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Greeted::Gone,
            }
        }
    }

    fn parse(&self) -> Greeted {
        match serde_json::from_slice(&self.frame[LENGTH_LEN..]) {
            Ok(hello) => Greeted::Hello(hello),
            Err(error) => Greeted::Nonsense(invalid(&error)),
        }
    }

    /// Ends the greeting; the poller forgets the socket, which is the caller's.
    pub(crate) fn into_socket(self, poller: &Poller) -> UnixStream {
        poller.remove(&self.socket);
        self.socket
    }
}

/// How many bytes the frame lacks.
fn missing_bytes(frame: &[u8]) -> Result<usize, Failure> {
    let Some(length) = frame.first_chunk::<LENGTH_LEN>() else { return Ok(LENGTH_LEN - frame.len()) };
    let json_len = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if json_len > MAX_FRAME_LEN {
        return Err(Failure::new(FailureKind::Invalid, format!("a frame of {json_len} bytes")));
    }
    Ok(LENGTH_LEN + json_len - frame.len())
}

fn invalid(error: &serde_json::Error) -> Failure {
    Failure::new(FailureKind::Invalid, format!("not of the protocol: {error}"))
}

/// Answers a hello. A client that does not take the few bytes has gone.
pub(crate) fn welcome(socket: &mut UnixStream, answer: &Result<Welcome, Failure>) -> io::Result<()> {
    let mut backlog = Backlog::default();
    backlog.push(&encode(answer)?);
    backlog.flush_to(socket)?;
    if backlog.is_empty() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// Answers a hello with a refusal and closes the connection.
pub(crate) fn refuse(mut socket: UnixStream, failure: Failure) {
    // A client that has gone does not need the answer.
    let _ = welcome(&mut socket, &Err(failure));
    let _ = socket.shutdown(Shutdown::Both);
}

fn encode<M: Serialize>(message: &M) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LENGTH_LEN];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - LENGTH_LEN).map_err(io::Error::other)?;
    bytes[..LENGTH_LEN].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// The current control connection.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) id: ConnectionId,
    socket: UnixStream,
    inbox: Vec<u8>,
    outbox: Backlog,
    waits_for_room: bool,
}

/// The daemon cannot be talked to over this connection any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost;

impl Control {
    /// Takes a connection over whose hello was answered.
    pub(crate) fn new(id: ConnectionId, socket: UnixStream, poller: &Poller) -> io::Result<Self> {
        poller.add(&socket, Token::Connection(id), Interest::READ)?;
        Ok(Self { id, socket, inbox: Vec::new(), outbox: Backlog::default(), waits_for_room: false })
    }

    /// Reads what has come and returns the requests that are whole. With [`Lost`] those that came before it still count.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> (Vec<Request>, Result<(), Lost>) {
        let standing = match self.socket.read(buffer) {
            Ok(0) => Err(Lost),
            Ok(n_read) => {
                self.inbox.extend_from_slice(&buffer[..n_read]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(())
            }
            Err(_) => Err(Lost),
        };
        let mut requests = Vec::new();
        let mut taken = 0;
        while let Some(frame) = next_frame(&self.inbox[taken..]) {
            let Ok(frame) = frame else { return (requests, Err(Lost)) };
            let Ok(request) = serde_json::from_slice(&frame[LENGTH_LEN..]) else {
                return (requests, Err(Lost));
            };
            taken += frame.len();
            requests.push(request);
        }
        self.inbox.drain(..taken);
        (requests, standing)
    }

    /// Answers the hello.
    pub(crate) fn welcome(&mut self, answer: Welcome, poller: &Poller) -> Result<(), Lost> {
        self.push(&Ok::<Welcome, Failure>(answer), poller)
    }

    /// Sends a message, now or when there is room.
    pub(crate) fn send(&mut self, message: &Message, poller: &Poller) -> Result<(), Lost> {
        self.push(message, poller)
    }

    fn push<M: Serialize>(&mut self, message: &M, poller: &Poller) -> Result<(), Lost> {
        let bytes = encode(message).map_err(|_| Lost)?;
        if self.outbox.len() + bytes.len() > CONTROL_BACKLOG {
            return Err(Lost);
        }
        self.outbox.push(&bytes);
        self.flush(poller)
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self, poller: &Poller) -> Result<(), Lost> {
        self.outbox.flush_to(&mut self.socket).map_err(|_| Lost)?;
        let must_wait = !self.outbox.is_empty();
        if must_wait != self.waits_for_room {
            let interest = if must_wait { Interest::READ.and(Interest::WRITE) } else { Interest::READ };
            poller.modify(&self.socket, Token::Connection(self.id), interest).map_err(|_| Lost)?;
            self.waits_for_room = must_wait;
        }
        Ok(())
    }

    /// Whether everything was sent.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Closes the connection, whoever may hold copies of the descriptor.
    pub(crate) fn close(self, poller: &Poller) {
        poller.remove(&self.socket);
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// The frame at the front, if it is whole.
fn next_frame(bytes: &[u8]) -> Option<Result<&[u8], Failure>> {
    let length =
        usize::try_from(u32::from_be_bytes(*bytes.first_chunk::<LENGTH_LEN>()?)).unwrap_or(usize::MAX);
    if length > MAX_FRAME_LEN {
        return Some(Err(Failure::new(FailureKind::Invalid, format!("a frame of {length} bytes"))));
    }
    bytes.get(..LENGTH_LEN + length).map(Ok)
}
