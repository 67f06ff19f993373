//! Connections that clients take over, over a real unix socket, byte by byte.
#![cfg(test)]

use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::client::api;

/// A listener with the API behind it; gone with the value.
struct Server {
    dir: TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let (api, _) = api();
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let api = api.clone();
                tokio::spawn(async move {
                    let served = http1::Builder::new().serve_connection(TokioIo::new(connection), api);
                    let _ = served.with_upgrades().await;
                });
            }
        });
        Self { dir, task }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("sock")).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads up to and with the blank line, and returns the lines without the date.
async fn head(stream: &mut UnixStream) -> Vec<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with("date:")).map(str::to_owned).collect()
}

/// Reads to the end, which must come soon.
async fn rest(stream: &mut UnixStream) -> String {
    let mut text = Vec::new();
    tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut text)).await.unwrap().unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";

#[tokio::test]
async fn an_upgrade_is_answered_101_and_then_bytes_flow_both_ways() {
    let server = Server::start();
    let mut stream = server.connect().await;
    // Input sent in the same packet as the request must not be lost.
    let request = format!(
        "POST /v1.42/containers/one/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: e\r\nContent-Type: text/plain\r\n{UPGRADE}\r\nearly"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    assert_eq!(head[0], "HTTP/1.1 101 UPGRADED");
    for line in [
        "content-type: application/vnd.docker.multiplexed-stream",
        "connection: Upgrade",
        "upgrade: tcp",
        "api-version: 1.56",
    ] {
        assert!(head.iter().any(|found| found == line), "{line} is missing in {head:?}");
    }
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"early");
    // The end of the input does not end the output: the fake answers only then.
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, "[5]");
}

#[tokio::test]
async fn large_input_is_carried_whole() {
    let server = Server::start();
    let mut stream = server.connect().await;
    let body = "{\"Detach\":false,\"Tty\":false}";
    let id = "09".repeat(32);
    let request = format!(
        "POST /v1.41/exec/{id}/start HTTP/1.1\r\nHost: e\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{UPGRADE}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    assert_eq!(head[0], "HTTP/1.1 101 UPGRADED");
    assert!(head.iter().any(|line| line == "content-type: application/vnd.docker.raw-stream"), "{head:?}");
    let (mut from, mut to) = stream.into_split();
    let writing = tokio::spawn(async move {
        to.write_all(&vec![b'x'; 300_000]).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let mut echoed = Vec::new();
    from.read_to_end(&mut echoed).await.unwrap();
    writing.await.unwrap();
    assert!(echoed.ends_with(b"[300000]"), "{}", echoed.len());
}

#[tokio::test]
async fn attach_tells_failures_raw_on_the_connection() {
    let server = Server::start();
    let mut stream = server.connect().await;
    let request = format!("POST /v1.41/containers/nope/attach?stream=1 HTTP/1.1\r\nHost: e\r\n{UPGRADE}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    assert_eq!(head[0], "HTTP/1.1 404 Not Found");
    assert!(head.iter().any(|line| line == "content-type: application/vnd.docker.raw-stream"), "{head:?}");
    assert!(!head.iter().any(|line| line.starts_with("api-version")), "{head:?}");
    assert_eq!(rest(&mut stream).await, "No such container: nope\r\n");
}

#[tokio::test]
async fn exec_tells_failures_before_the_start_as_json() {
    let server = Server::start();
    let mut stream = server.connect().await;
    let request = "POST /v1.41/exec/zz/start HTTP/1.1\r\nHost: e\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(head(&mut stream).await[0], "HTTP/1.1 404 Not Found");
}

#[tokio::test]
async fn a_client_that_does_not_ask_for_the_upgrade_gets_a_plain_answer() {
    let server = Server::start();
    for headers in ["", "Upgrade: tcp\r\n", "Connection: close\r\n"] {
        let mut stream = server.connect().await;
        let request =
            format!("POST /v1.41/containers/one/attach?stream=1 HTTP/1.1\r\nHost: e\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        // The end of the connection is the end of the answer, which is HTTP/1.0.
        assert_eq!(head[0], "HTTP/1.0 200 OK", "{headers}");
        assert!(
            head.iter().any(|line| line == "content-type: application/vnd.docker.raw-stream"),
            "{head:?}"
        );
    }
}

#[tokio::test]
async fn wait_sends_its_headers_before_the_container_ends() {
    let server = Server::start();
    let mut stream = server.connect().await;
    let request = "POST /v1.41/containers/one/wait?condition=next-exit HTTP/1.1\r\nHost: e\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = tokio::time::timeout(Duration::from_secs(60), head(&mut stream)).await.unwrap();
    assert_eq!(head[0], "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn websockets_carry_raw_messages() {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;
    let server = Server::start();
    let mut stream = server.connect().await;
    let request = "GET /v1.41/containers/one/attach/ws?stream=1 HTTP/1.1\r\nHost: e\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    assert_eq!(head[0], "HTTP/1.1 101 Switching Protocols");
    assert!(head.iter().any(|line| line == "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head:?}");
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    socket.send(Message::text("hello")).await.unwrap();
    let message = socket.next().await.unwrap().unwrap();
    assert_eq!(message, Message::binary("hello"));
}
