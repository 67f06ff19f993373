//! A server that sends bytes which no HTTP library would.
//!
//! Start reading at [`RawServer`].

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Answers every connection with the same bytes, whatever is asked, and closes it. Ends when it is dropped.
#[derive(Debug)]
pub struct RawServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl RawServer {
    /// Starts on a free loopback port.
    pub async fn start(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    // Up to the end of the request's head; a TLS greeting never has one and is answered at once.
                    while !head.ends_with(b"\r\n\r\n") && head.first() != Some(&0x16) {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { address, task }
    }

    /// Host and port, as in references.
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
