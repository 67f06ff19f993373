//! A small HTTP/1.1 client that keeps one connection, so that what is timed is the daemon and not a client library.
//!
//! Start reading at [`Client::call`]. No TLS, no redirects; a connection that the daemon closed while it was idle is opened again
//! once, everything else is an error.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A daemon that stays silent this long has hung.
const PATIENCE: Duration = Duration::from_secs(300);
/// Large enough that a list of 300 containers takes few reads.
const BUFFER: usize = 256 * 1024;

/// Where a server listens.
#[derive(Debug, Clone)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(String),
}

/// A connection of either kind.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Address {
    /// Connects, with a time limit for every read.
    pub(super) fn connect(&self) -> std::io::Result<Stream> {
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Stream::Unix(stream))
            }
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

impl Stream {
    /// Changes how long a read may take.
    pub(super) fn limit_reads(&self, limit: Duration) -> std::io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(Some(limit)),
            Self::Tcp(stream) => stream.set_read_timeout(Some(limit)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is sent after the head of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'a> {
    Nothing,
    Json(&'a Value),
    Bytes { content_type: &'a str, bytes: &'a [u8] },
    File { content_type: &'a str, path: &'a Path },
}

/// A complete answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Where an upload goes on.
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
}

/// An answer that says no. Kept apart from other errors because some refusals are part of a comparison.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    asked: String,
    message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is answered by {}: {}", self.asked, self.status, self.message.trim())
    }
}

impl std::error::Error for Refusal {}

/// What the head of an answer says.
#[derive(Debug, Default)]
struct Head {
    status: u16,
    length: Option<u64>,
    is_chunked: bool,
    is_last: bool,
    location: Option<String>,
}

/// One connection to one server, opened when it is needed.
#[derive(Debug)]
pub(super) struct Client {
    address: Address,
    connection: Option<BufReader<Stream>>,
}

impl Client {
    pub(super) fn new(address: Address) -> Self {
        Self { address, connection: None }
    }

    /// Sends a request and reads the whole answer; an answer of 400 or more is a [`Refusal`].
    pub(super) fn call(&mut self, method: &str, target: &str, body: Body<'_>) -> Result<Reply> {
        let asked = || format!("{method} {target}");
        let was_open = self.connection.is_some();
        let reply = match self.exchange(method, target, body) {
            // The daemon may have closed the idle connection; nothing was answered, so asking again is safe enough here.
            Err(error) if was_open && is_closed(&error) => self.exchange(method, target, body),
            other => other,
        };
        let reply = reply.with_context(asked)?;
        if reply.status >= 400 {
            let message = String::from_utf8_lossy(&reply.body).into_owned();
            return Err(Refusal { status: reply.status, asked: asked(), message }.into());
        }
        Ok(reply)
    }

    /// Reads the answer to a GET and returns how long it is.
    pub(super) fn count(&self, target: &str) -> Result<u64> {
        let mut connection = self.stream("GET", target, Body::Nothing)?;
        let mut counter = Counter(0);
        // The head has said so: archives are made while they are sent.
        let head = Head { is_chunked: true, ..Head::default() };
        read_body(&mut connection, &head, &mut counter).with_context(|| format!("GET {target}"))?;
        Ok(counter.0)
    }

    fn exchange(&mut self, method: &str, target: &str, body: Body<'_>) -> std::io::Result<Reply> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::with_capacity(BUFFER, self.address.connect()?),
        };
        send(connection.get_mut(), method, target, "", body)?;
        let head = read_head(&mut connection)?;
        let mut content = Vec::new();
        if method != "HEAD" {
            read_body(&mut connection, &head, &mut content)?;
        }
        if !head.is_last {
            self.connection = Some(connection);
        }
        Ok(Reply { status: head.status, location: head.location, body: content })
    }

    /// Sends a request on a connection of its own and hands the connection over after the head of the answer: upgraded, or with
    /// an endless body.
    pub(super) fn stream(&self, method: &str, target: &str, body: Body<'_>) -> Result<BufReader<Stream>> {
        let asked = || format!("{method} {target}");
        let mut connection = BufReader::with_capacity(BUFFER, self.address.connect().with_context(asked)?);
        let upgrade = if method == "POST" { "Connection: Upgrade\r\nUpgrade: tcp\r\n" } else { "" };
        send(connection.get_mut(), method, target, upgrade, body).with_context(asked)?;
        let head = read_head(&mut connection).with_context(asked)?;
        if head.status >= 400 {
            let mut content = Vec::new();
            read_body(&mut connection, &head, &mut content).with_context(asked)?;
            let message = String::from_utf8_lossy(&content).into_owned();
            return Err(Refusal { status: head.status, asked: asked(), message }.into());
        }
        Ok(connection)
    }
}

fn is_closed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

fn send(stream: &mut Stream, method: &str, target: &str, more: &str, body: Body<'_>) -> std::io::Result<()> {
    let encoded = if let Body::Json(value) = body { value.to_string() } else { String::new() };
    let (content_type, length) = match body {
        Body::Nothing => ("", 0),
        Body::Json(_) => ("application/json", encoded.len() as u64),
        Body::Bytes { content_type, bytes } => (content_type, bytes.len() as u64),
        Body::File { content_type, path } => (content_type, path.metadata()?.len()),
    };
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: bench\r\n{more}Content-Length: {length}\r\n");
    if !content_type.is_empty() {
        head.push_str(&format!("Content-Type: {content_type}\r\n"));
    }
    head.push_str("\r\n");
    head.push_str(&encoded);
    stream.write_all(head.as_bytes())?;
    match body {
        Body::Nothing | Body::Json(_) => Ok(()),
        Body::Bytes { bytes, .. } => stream.write_all(bytes),
        Body::File { path, .. } => super::nobody::copy(&mut File::open(path)?, stream),
    }
}

fn read_head(connection: &mut BufReader<Stream>) -> std::io::Result<Head> {
    let status_line = read_line(connection)?;
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let mut head = Head { status: status.ok_or_else(|| invalid(&status_line))?, ..Head::default() };
    loop {
        let line = read_line(connection)?;
        let Some((name, value)) = line.split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse().ok(),
            "transfer-encoding" => head.is_chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => head.is_last = value.eq_ignore_ascii_case("close"),
            "location" => head.location = Some(value.to_owned()),
            _ => {}
        }
    }
    Ok(head)
}

/// Counts what is written to it.
#[derive(Debug)]
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn read_body(connection: &mut BufReader<Stream>, head: &Head, body: &mut impl Write) -> std::io::Result<()> {
    if matches!(head.status, 100..200 | 204 | 304) {
        return Ok(());
    }
    if head.is_chunked {
        return read_chunks(connection, body);
    }
    let missing = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    match head.length {
        Some(length) => {
            if take(connection, length, body)? == length {
                Ok(())
            } else {
                Err(missing())
            }
        }
        None => take(connection, u64::MAX, body).map(drop),
    }
}

/// Takes up to `length` bytes, straight from the connection's buffer.
fn take(connection: &mut BufReader<Stream>, length: u64, body: &mut impl Write) -> std::io::Result<u64> {
    let mut taken = 0;
    while taken < length {
        let available = connection.fill_buf()?;
        let step = available.len().min(usize::try_from(length - taken).unwrap_or(usize::MAX));
        if step == 0 {
            break;
        }
        body.write_all(available.get(..step).unwrap_or_default())?;
        connection.consume(step);
        taken += step as u64;
    }
    Ok(taken)
}

fn read_chunks(connection: &mut BufReader<Stream>, body: &mut impl Write) -> std::io::Result<()> {
    loop {
        let line = read_line(connection)?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(|_| invalid(&line))?;
        if take(connection, size, body)? != size {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        read_line(connection)?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// A line without its end; an error when the other side has closed.
fn read_line(connection: &mut BufReader<Stream>) -> std::io::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end().len());
    Ok(line)
}

fn invalid(line: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, format!("not HTTP: {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &'static [u8]) -> std::io::Result<(u16, Vec<u8>, bool)> {
        let (ours, mut theirs) = UnixStream::pair()?;
        theirs.write_all(text)?;
        drop(theirs);
        let mut connection = BufReader::new(Stream::Unix(ours));
        let head = read_head(&mut connection)?;
        let mut body = Vec::new();
        read_body(&mut connection, &head, &mut body)?;
        Ok((head.status, body, head.is_last))
    }

    #[test]
    fn bodies_end_where_the_head_says() {
        let table: &[(&[u8], u16, &[u8], bool)] = &[
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOKmore", 200, b"OK", false),
            (
                b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
                201,
                b"abc",
                false,
            ),
            (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", false),
            (b"HTTP/1.1 500 No\r\nConnection: close\r\n\r\nbecause", 500, b"because", true),
        ];
        for (text, status, body, is_last) in table {
            assert_eq!(answered(text).unwrap(), (*status, body.to_vec(), *is_last));
        }
    }

    #[test]
    fn a_body_that_is_cut_short_is_an_error() {
        assert!(answered(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nOK").is_err());
    }
}
