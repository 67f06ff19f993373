//! A proxy that leads everything to one server.
//!
//! Start reading at [`TunnelProxy`]. Beside proxies, it tests what a loopback server cannot by itself: to the client the
//! registry has any name and is not on loopback, so it must be secure.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::server::lock;

/// Passes all connections on to one address, whatever is asked for. Ends when it is dropped.
#[derive(Debug)]
pub struct TunnelProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl TunnelProxy {
    /// Starts on a free loopback port, in front of `target` (host and port).
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (target, seen) = (target.to_owned(), Arc::clone(&heads));
        let task = tokio::spawn(async move {
            let mut tunnels = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                tunnels.spawn(pass_on(stream, target.clone(), Arc::clone(&seen)));
            }
        });
        Self { address, heads, task }
    }

    /// The proxy's address, as in `HTTPS_PROXY`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of the first requests of all connections so far.
    pub fn heads(&self) -> Vec<String> {
        lock(&self.heads).clone()
    }
}

impl Drop for TunnelProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(mut stream: TcpStream, target: String, seen: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    lock(&seen).push(String::from_utf8_lossy(&head).into_owned());
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let greeted = if head.starts_with(b"CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await
    } else {
        server.write_all(&head).await
    };
    if greeted.is_ok() {
        let _ = copy_bidirectional(&mut stream, &mut server).await;
    }
}
