//! A daemon's connections to one shim, blocking, one request at a time.
//!
//! Start reading at [`Daemon`]. Dropping it is what a kill -9 of a daemon looks like to a shim: the kernel closes the
//! sockets at whatever point they are.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use node_shim::protocol::{
    Answer, AttachRequest, Call, Event, ExecMode, ExecRequest, ExitRecord, Failure, Framing, Hello, Message,
    PROTOCOL_VERSION, Phase, Request, Role, SOCKET_FILE, ShimState, Welcome,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shoal_types::ExecId;

use super::PATIENCE;

/// Everything of both output streams, framed, with input.
pub(crate) const ALL_STREAMS: AttachRequest =
    AttachRequest { stdin: true, stdout: true, stderr: true, framing: Framing::Multiplexed };

/// A control connection, and the way to further ones.
#[derive(Debug)]
pub(crate) struct Daemon {
    bundle: PathBuf,
    socket: UnixStream,
    next_id: u64,
    events: VecDeque<Event>,
    /// What the shim knew when this connection began.
    pub(crate) state: ShimState,
}

impl Daemon {
    /// Says hello on a connection that exists.
    pub(crate) fn introduce(bundle: PathBuf, mut socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        match hello(&mut socket, Role::Control) {
            Ok(Welcome::Control { state, .. }) => {
                Self { bundle, socket, next_id: 0, events: VecDeque::new(), state }
            }
            other => panic!("{other:?} to a control connection"),
        }
    }

    /// Connects to the shim of a bundle, as a daemon that was just started does.
    pub(crate) fn connect(bundle: PathBuf) -> Self {
        let socket = UnixStream::connect(bundle.join(SOCKET_FILE)).unwrap();
        Self::introduce(bundle, socket)
    }

    /// Sends a request and does not wait.
    pub(crate) fn send(&mut self, call: Call) -> u64 {
        self.next_id += 1;
        write_frame(&mut self.socket, &Request { id: self.next_id, call });
        self.next_id
    }

    /// Sends half a request.
    pub(crate) fn send_torn(&mut self, call: &Call) {
        let json = serde_json::to_vec(&Request { id: 1, call: call.clone() }).unwrap();
        self.socket.write_all(&u32::try_from(json.len()).unwrap().to_be_bytes()).unwrap();
        self.socket.write_all(&json[..json.len() / 2]).unwrap();
    }

    /// Asks for an exec and goes away before the answer.
    pub(crate) fn exec_without_waiting(&self, request: ExecRequest) {
        let mut socket = UnixStream::connect(self.bundle.join(SOCKET_FILE)).unwrap();
        write_frame(&mut socket, &Hello { version: PROTOCOL_VERSION, role: Role::Exec(Box::new(request)) });
    }

    /// Sends a request and waits for its reply; events meanwhile are kept.
    pub(crate) fn call(&mut self, call: Call) -> Result<Answer, Failure> {
        let id = self.send(call);
        loop {
            match self.receive() {
                Message::Reply { id: of, result } => {
                    assert_eq!(of, id, "a reply to nothing that was asked");
                    return result;
                }
                Message::Event(event) => self.events.push_back(event),
            }
        }
    }

    fn receive(&mut self) -> Message {
        read_frame(&mut self.socket).expect("the shim closed the control connection")
    }

    /// The next event.
    pub(crate) fn event(&mut self) -> Event {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        match self.receive() {
            Message::Event(event) => event,
            reply @ Message::Reply { .. } => panic!("a reply to nothing that was asked: {reply:?}"),
        }
    }

    /// Whether the shim has closed this connection, once all that it sent before is read.
    pub(crate) fn is_closed(&mut self) -> bool {
        read_frame::<Message>(&mut self.socket).is_none()
    }

    pub(crate) fn create(&mut self) -> u32 {
        match self.call(Call::Create) {
            Ok(Answer::Created { pid }) => pid,
            other => panic!("create: {other:?}"),
        }
    }

    pub(crate) fn start(&mut self) {
        match self.call(Call::Start) {
            Ok(Answer::Started { .. }) => {}
            other => panic!("start: {other:?}"),
        }
    }

    /// Creates and starts the container.
    pub(crate) fn run(&mut self) {
        self.create();
        self.start();
    }

    pub(crate) fn done(&mut self, call: Call) {
        assert_eq!(self.call(call), Ok(Answer::Done));
    }

    /// Waits for the container's exit.
    pub(crate) fn exit(&mut self) -> ExitRecord {
        loop {
            if let Event::Phase(Phase::Exited(exit)) = self.event() {
                return exit;
            }
        }
    }

    /// Waits for an exec's exit.
    pub(crate) fn exec_exit(&mut self, exec_id: ExecId) -> ExitRecord {
        loop {
            if let Event::ExecExited { exec_id: of, exit } = self.event()
                && of == exec_id
            {
                return exit;
            }
        }
    }

    /// Opens a stream to the container.
    pub(crate) fn attach(&self, request: AttachRequest) -> Attachment {
        let mut socket = UnixStream::connect(self.bundle.join(SOCKET_FILE)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(hello(&mut socket, Role::Attach(request)), Ok(Welcome::Attached));
        Attachment { socket }
    }

    /// Opens a stream to a new process.
    pub(crate) fn exec(&self, request: ExecRequest) -> Result<(u32, Attachment), Failure> {
        let mut socket = UnixStream::connect(self.bundle.join(SOCKET_FILE)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        match hello(&mut socket, Role::Exec(Box::new(request)))? {
            Welcome::Exec { pid } => Ok((pid, Attachment { socket })),
            other => panic!("{other:?} to an exec"),
        }
    }
}

/// A request for a process that runs a shell script.
pub(crate) fn exec_request(script: &str) -> ExecRequest {
    exec_request_of(&json!({
        "args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
    }))
}

pub(crate) fn exec_request_of(process: &Value) -> ExecRequest {
    ExecRequest {
        exec_id: ExecId::random(),
        process: serde_json::value::to_raw_value(process).unwrap(),
        streams: ALL_STREAMS,
        mode: ExecMode::Attached,
    }
}

/// A byte stream.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) socket: UnixStream,
}

impl Attachment {
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Ends the input.
    pub(crate) fn end_input(&mut self) {
        self.socket.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Everything until the end of the stream.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.socket.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Everything of a framed stream until its end: standard output and standard error.
    pub(crate) fn read_streams(&mut self) -> (String, String) {
        read_frames(&self.read_to_end())
    }

    /// Reads a raw stream until it ends with this text.
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(text.as_bytes()) {
            let mut byte = [0];
            assert_eq!(
                self.socket.read(&mut byte).unwrap(),
                1,
                "ended after {:?}",
                String::from_utf8_lossy(&bytes)
            );
            bytes.push(byte[0]);
        }
        String::from_utf8(bytes).unwrap()
    }
}

/// Takes Docker's multiplexed frames apart: standard output and standard error.
pub(crate) fn read_frames(mut bytes: &[u8]) -> (String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
        assert_eq!(header[1..4], [0, 0, 0]);
        let len = u32::from_be_bytes(*header.last_chunk().unwrap()) as usize;
        let (payload, behind) = rest.split_at(len);
        match header[0] {
            1 => stdout.extend_from_slice(payload),
            2 => stderr.extend_from_slice(payload),
            other => panic!("stream {other}"),
        }
        bytes = behind;
    }
    assert!(bytes.is_empty(), "half a header at the end");
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn hello(socket: &mut UnixStream, role: Role) -> Result<Welcome, Failure> {
    write_frame(socket, &Hello { version: PROTOCOL_VERSION, role });
    read_frame(socket).expect("the shim closed the connection without an answer")
}

fn write_frame<M: Serialize>(socket: &mut UnixStream, message: &M) {
    let json = serde_json::to_vec(message).unwrap();
    let mut frame = u32::try_from(json.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(&json);
    socket.write_all(&frame).unwrap();
}

/// `None` at the end of the connection.
fn read_frame<M: DeserializeOwned>(socket: &mut UnixStream) -> Option<M> {
    let mut length = [0; 4];
    match socket.read_exact(&mut length) {
        Ok(()) => {}
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset
            ) =>
        {
            return None;
        }
        Err(error) => panic!("no frame: {error}"),
    }
    let mut json = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut json).unwrap();
    Some(serde_json::from_slice(&json).unwrap())
}
