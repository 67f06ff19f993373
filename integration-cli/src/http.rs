//! A small HTTP/1.1 client over a Unix socket, so that a test sees every byte a daemon sends.
//!
//! A general client would hide what clients of a daemon break on: the reason phrase of a hijack, the exact content
//! type, chunk borders, half-closed connections. One connection carries one request. No TLS, no redirects, no retries.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// How long a read may take; a daemon that stays silent this long has hung.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// A request about to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// Verb, e.g. `GET`.
    pub method: String,
    /// Path and query exactly as sent, version prefix included.
    pub target: String,
    /// Headers beside `Host` and the length of the body.
    pub headers: Vec<(String, String)>,
    /// Body; `None` sends neither body nor length.
    pub body: Option<Vec<u8>>,
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: None }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a JSON body and its content type.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        let text = body.to_string();
        self.header("Content-Type", "application/json").bytes(text.into_bytes())
    }

    /// Sets a body as is.
    #[must_use]
    pub fn bytes(mut self, body: Vec<u8>) -> Self {
        self.body = Some(body);
        self
    }

    /// Asks for the connection itself, as attach and exec do.
    #[must_use]
    pub fn upgrade(self) -> Self {
        self.header("Connection", "Upgrade").header("Upgrade", "tcp")
    }

    fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: api.moby.localhost\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        head
    }
}

/// Sends requests to one socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon that listens on `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Opens a bare connection, for tests that write their own bytes.
    pub fn connect(&self) -> std::io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(READ_LIMIT))?;
        Ok(stream)
    }

    /// Sends `request` and reads the head of the answer; the body is read by the caller.
    pub fn open(&self, request: &Request) -> std::io::Result<Exchange> {
        let mut stream = self.connect()?;
        stream.write_all(request.head().as_bytes())?;
        if let Some(body) = &request.body {
            // A daemon may answer and close before it has read a large body; what it answered still counts.
            stream.write_all(body).ok();
        }
        Exchange::read_head(&format!("{} {}", request.method, request.target), stream)
    }

    /// Sends `request` and reads the whole answer.
    pub fn send(&self, request: &Request) -> std::io::Result<Reply> {
        self.open(request)?.into_reply()
    }
}

/// An answer whose head has been read.
#[derive(Debug)]
pub struct Exchange {
    /// What was asked, for messages.
    pub asked: String,
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// Headers in the order sent, names as sent.
    pub headers: Vec<(String, String)>,
    reader: BufReader<UnixStream>,
    framing: Framing,
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked { left: u64 },
    Ended,
    UntilClose,
}

impl Exchange {
    /// Reads the head of an answer from `stream`.
    pub fn read_head(asked: &str, stream: UnixStream) -> std::io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let status_line = read_crlf_line(&mut reader)?;
        let mut parts = status_line.splitn(3, ' ');
        let protocol = parts.next().unwrap_or_default();
        // Of 1.0 is an answer whose end is that of the connection.
        assert!(
            matches!(protocol, "HTTP/1.1" | "HTTP/1.0"),
            "{asked}: not an HTTP/1.1 answer: {status_line:?}"
        );
        let status = parts.next().and_then(|code| code.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("{asked}: no status in {status_line:?}"));
        let reason = parts.next().unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            let line = read_crlf_line(&mut reader)?;
            if line.is_empty() {
                break;
            }
            let (name, value) =
                line.split_once(':').unwrap_or_else(|| panic!("{asked}: not a header line: {line:?}"));
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut exchange =
            Self { asked: asked.to_owned(), status, reason, headers, reader, framing: Framing::UntilClose };
        exchange.framing = exchange.framing_from_headers();
        Ok(exchange)
    }

    fn framing_from_headers(&self) -> Framing {
        if self.asked.starts_with("HEAD ") || matches!(self.status, 204 | 304) {
            return Framing::Ended;
        }
        if self.header("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Framing::Chunked { left: 0 };
        }
        match self.header("Content-Length").and_then(|value| value.parse().ok()) {
            Some(0) => Framing::Ended,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        }
    }

    /// The first header of that name, compared without regard to case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// Asserts the status; on another one fails with the whole answer.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        if self.status == status {
            return self;
        }
        let reply = self.into_reply().expect("the body of an unexpected answer");
        panic!("expected {status}: {reply:?}")
    }

    /// Reads the rest of the body.
    pub fn into_reply(mut self) -> std::io::Result<Reply> {
        let mut body = Vec::new();
        if self.status != 101 {
            self.read_to_end(&mut body)?;
        }
        Ok(Reply { asked: self.asked, status: self.status, reason: self.reason, headers: self.headers, body })
    }

    /// Reads one line of the body without its end; `None` when the body has ended.
    pub fn next_line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let mut byte = [0u8; 1];
        loop {
            match self.read(&mut byte) {
                Ok(0) if line.is_empty() => return None,
                Ok(0) => break,
                Ok(_) if byte[0] == b'\n' => break,
                Ok(_) => line.push(byte[0]),
                Err(error) => panic!("{}: reading a line after {line:?}: {error}", self.asked),
            }
        }
        let line = String::from_utf8_lossy(&line);
        Some(line.trim_end_matches('\r').to_owned())
    }

    /// Reads the next JSON object of a stream that sends one a line; `None` when the stream has ended.
    pub fn next_json(&mut self) -> Option<Value> {
        loop {
            let line = self.next_line()?;
            if !line.is_empty() {
                let asked = &self.asked;
                return Some(
                    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{asked}: {error}: {line:?}")),
                );
            }
        }
    }

    /// Takes the connection over after an upgrade (or an answer without length): raw bytes in both directions.
    #[must_use]
    pub fn hijack(self) -> Hijacked {
        Hijacked { reader: self.reader }
    }

    /// Shortens or lengthens the time a read may take.
    pub fn read_limit(&self, limit: Duration) {
        self.reader.get_ref().set_read_timeout(Some(limit)).expect("a read time limit on an open socket");
    }
}

impl Read for Exchange {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.framing {
            Framing::Ended => Ok(0),
            Framing::UntilClose => self.reader.read(buffer),
            Framing::Length(left) => {
                let count = read_at_most(&mut self.reader, buffer, left)?;
                let left = left - count as u64;
                self.framing = if left == 0 { Framing::Ended } else { Framing::Length(left) };
                Ok(count)
            }
            Framing::Chunked { left: 0 } => {
                let size = read_crlf_line(&mut self.reader)?;
                let size = u64::from_str_radix(size.trim(), 16)
                    .unwrap_or_else(|_| panic!("{}: not a chunk size: {size:?}", self.asked));
                if size == 0 {
                    read_crlf_line(&mut self.reader)?;
                    self.framing = Framing::Ended;
                    return Ok(0);
                }
                self.framing = Framing::Chunked { left: size };
                self.read(buffer)
            }
            Framing::Chunked { left } => {
                let count = read_at_most(&mut self.reader, buffer, left)?;
                let left = left - count as u64;
                if left == 0 {
                    read_crlf_line(&mut self.reader)?;
                }
                self.framing = Framing::Chunked { left };
                Ok(count)
            }
        }
    }
}

/// A connection that left HTTP behind.
#[derive(Debug)]
pub struct Hijacked {
    reader: BufReader<UnixStream>,
}

impl Hijacked {
    /// Writes to the other side.
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).expect("writing to a hijacked connection");
    }

    /// A second handle of the same connection, for writing while this one reads. It must not read.
    #[must_use]
    pub fn another_handle(&self) -> Self {
        let stream = self.reader.get_ref().try_clone().expect("a second handle of a socket");
        Self { reader: BufReader::new(stream) }
    }

    /// Ends our direction only: what a client does when its standard input ends.
    pub fn close_write(&self) {
        self.reader.get_ref().shutdown(Shutdown::Write).expect("half-closing a hijacked connection");
    }

    /// Reads until the other side closes.
    #[track_caller]
    pub fn read_rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).expect("reading a hijacked connection to its end");
        rest
    }

    /// Reads until what arrived holds `text`.
    #[track_caller]
    pub fn read_until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let mut byte = [0u8; 1];
        loop {
            let count = self.reader.read(&mut byte);
            match count {
                Ok(1) => seen.push(byte[0]),
                other => panic!("waiting for {text:?}: {other:?} after {:?}", String::from_utf8_lossy(&seen)),
            }
            if seen.ends_with(text.as_bytes()) {
                return String::from_utf8_lossy(&seen).into_owned();
            }
        }
    }

    /// Shortens or lengthens the time a read may take.
    pub fn read_limit(&self, limit: Duration) {
        self.reader.get_ref().set_read_timeout(Some(limit)).expect("a read time limit on an open socket");
    }
}

impl Read for Hijacked {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reader.read(buffer)
    }
}

/// A complete answer.
#[derive(Clone)]
pub struct Reply {
    /// What was asked, for messages.
    pub asked: String,
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: String,
    /// Headers in the order sent, names as sent.
    pub headers: Vec<(String, String)>,
    /// Body after removal of any chunking.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} -> {} {}", self.asked, self.status, self.reason)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value}")?;
        }
        write!(f, "\n{}", self.text())
    }
}

impl Reply {
    /// The first header of that name, compared without regard to case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as one JSON value.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as JSON objects, one after the other.
    #[track_caller]
    #[must_use]
    pub fn json_stream(&self) -> Vec<Value> {
        let objects = serde_json::Deserializer::from_slice(&self.body).into_iter::<Value>();
        objects.map(|object| object.unwrap_or_else(|error| panic!("{error}: {self:?}"))).collect()
    }

    /// The text of an error answer.
    #[track_caller]
    #[must_use]
    pub fn message(&self) -> String {
        let message = self.json()["message"].as_str().map(str::to_owned);
        message.unwrap_or_else(|| panic!("no message in {self:?}"))
    }

    /// Asserts the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert!(self.status == status, "expected {status}: {self:?}");
        self
    }

    /// Asserts an error: status, exact content type, a JSON body whose message is exactly `message`.
    #[track_caller]
    pub fn expect_error(&self, status: u16, message: &str) {
        self.assert_error_form(status);
        assert!(self.message() == message, "expected the message {message:?}: {self:?}");
    }

    /// Asserts an error whose message holds `part`.
    #[track_caller]
    pub fn expect_error_holding(&self, status: u16, part: &str) {
        self.assert_error_form(status);
        assert!(self.message().contains(part), "expected a message with {part:?}: {self:?}");
    }

    #[track_caller]
    fn assert_error_form(&self, status: u16) {
        assert!(self.status == status, "expected {status}: {self:?}");
        // The stock client compares the whole string; a charset makes it print the raw body.
        assert!(
            self.header("Content-Type") == Some("application/json"),
            "content type of an error: {self:?}"
        );
        assert!(self.body.ends_with(b"}\n"), "an error body ends with a newline: {self:?}");
    }
}

fn find_header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

fn read_crlf_line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            "the daemon closed the connection",
        ));
    }
    assert!(line.ends_with(b"\r\n"), "a line of HTTP ends with CRLF: {:?}", String::from_utf8_lossy(&line));
    line.truncate(line.len() - 2);
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn read_at_most(reader: &mut impl Read, buffer: &mut [u8], left: u64) -> std::io::Result<usize> {
    let limit = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    let count = reader.read(&mut buffer[..limit])?;
    if count == 0 && limit > 0 {
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the body is cut short"));
    }
    Ok(count)
}
