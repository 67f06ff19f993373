//! A line between a client and any server that can be cut in the middle.
//!
//! Start reading at [`Relay`]. Unlike the faults of `FaultyRegistry`, it breaks connections to real registries.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::server::lock;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// Cuts that are still to be made.
type Cuts = Arc<Mutex<Vec<(Direction, usize)>>>;

/// Passes connections on to one address and cuts some of them. Ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    cuts: Cuts,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts on a free loopback port, in front of `target` (host and port).
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Cuts::default();
        let (target, shared) = (target.to_owned(), Arc::clone(&cuts));
        let task = tokio::spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                lines.spawn(relay(client, target.clone(), Arc::clone(&shared)));
            }
        });
        Self { address, cuts, task }
    }

    /// Host and port, as in references.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Cuts the first connection over which so many bytes have gone this way, once.
    pub fn cut_after(&self, direction: Direction, n_bytes: usize) {
        lock(&self.cuts).push((direction, n_bytes));
    }

    /// How many cuts are still to be made.
    pub fn n_cuts_left(&self) -> usize {
        lock(&self.cuts).len()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends when either side ends or a cut is due; both connections are closed by being dropped.
async fn relay(client: TcpStream, target: String, cuts: Cuts) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    tokio::select! {
        () = copy(client_reads, server_writes, Direction::Up, &cuts) => {}
        () = copy(server_reads, client_writes, Direction::Down, &cuts) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    cuts: &Cuts,
) {
    let mut buffer = vec![0u8; 16 << 10];
    let mut passed = 0;
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 || to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
        passed += n;
        let mut cuts = lock(cuts);
        if let Some(due) = cuts.iter().position(|(wanted, limit)| *wanted == direction && passed >= *limit) {
            cuts.remove(due);
            return;
        }
    }
}
