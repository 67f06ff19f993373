//! Carries connections that the kernel cannot translate: from ::1, from IPv6 to a container without it, and all of them
//! where the firewall is left alone.
//!
//! Start reading at [`serve_tcp`] and [`serve_udp`]. They run in netd on the sockets that hold published ports; what the
//! firewall translates never reaches these sockets. TCP is moved by splice(2) without entering this process's memory.
//! Owner: netd's state, which aborts the tasks.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

/// Connections at the same time, of all ports; each has six descriptors.
pub(crate) const CONNECTIONS: usize = 1024;
/// Clients of one UDP port at the same time.
const UDP_CLIENTS: usize = 256;
/// A UDP client that is silent for this long is forgotten (Docker's proxy waits as long).
const UDP_IDLE: Duration = Duration::from_secs(90);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const DATAGRAM_LEN: usize = 65535;
const SPLICE_LEN: usize = 64 * 1024;

/// Where a port leads; changes when the container's address does.
pub(crate) type TargetWatch = watch::Receiver<Option<SocketAddr>>;

/// Accepts connections and carries each to the target; without a target they are closed at once.
pub(crate) async fn serve_tcp(listener: TcpListener, target: TargetWatch, limit: Arc<Semaphore>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors: waiting is all that can be done.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(target) = *target.borrow() else { continue };
        let Ok(permit) = Arc::clone(&limit).try_acquire_owned() else { continue };
        tokio::task::spawn_local(async move {
            if let Err(error) = carry(client, target).await {
                tracing::debug!(%target, %error, "proxied connection ended");
            }
            drop(permit);
        });
    }
}

async fn carry(client: TcpStream, target: SocketAddr) -> io::Result<()> {
    let server = timeout(CONNECT_LIMIT, TcpStream::connect(target)).await??;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (there, back) = tokio::join!(pump(&client, &server), pump(&server, &client));
    there.and(back)
}

/// Moves bytes one way until the sender ends, then ends the other side's receiving half.
async fn pump(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (outlet, inlet) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let moved = move_all(from, to, &outlet, &inlet).await;
    // The other side may be gone already; then there is nothing left to tell it.
    let _ = rustix::net::shutdown(to, rustix::net::Shutdown::Write);
    moved
}

async fn move_all(from: &TcpStream, to: &TcpStream, outlet: &OwnedFd, inlet: &OwnedFd) -> io::Result<()> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        let mut waiting = from
            .async_io(Interest::READABLE, || Ok(splice(from, None, inlet, None, SPLICE_LEN, flags)?))
            .await?;
        if waiting == 0 {
            return Ok(());
        }
        while waiting > 0 {
            let sent = to
                .async_io(Interest::WRITABLE, || Ok(splice(outlet, None, to, None, waiting, flags)?))
                .await?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            waiting -= sent;
        }
    }
}

struct UdpClient {
    server: Rc<UdpSocket>,
    answers: tokio::task::AbortHandle,
    last_seen: Instant,
}

impl Drop for UdpClient {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

/// Carries datagrams to the target and the answers back, one socket for each client.
pub(crate) async fn serve_udp(socket: UdpSocket, target: TargetWatch) {
    let socket = Rc::new(socket);
    let mut clients: HashMap<SocketAddr, UdpClient> = HashMap::new();
    let mut buffer = Vec::new();
    loop {
        if socket.readable().await.is_err() {
            continue;
        }
        // A port that never sees a datagram, as nearly all do, never has a buffer.
        buffer.resize(DATAGRAM_LEN, 0);
        let Ok((length, client)) = socket.try_recv_from(&mut buffer) else { continue };
        let Some(target) = *target.borrow() else { continue };
        let now = Instant::now();
        let gone = |other: &UdpClient| {
            now.duration_since(other.last_seen) > UDP_IDLE
                || other.server.peer_addr().is_ok_and(|peer| peer != target)
        };
        if clients.get(&client).is_some_and(gone) {
            clients.remove(&client);
        }
        if clients.len() >= UDP_CLIENTS {
            clients.retain(|_, other| !gone(other));
        }
        if !clients.contains_key(&client) && clients.len() < UDP_CLIENTS {
            match connect_udp(Rc::clone(&socket), client, target).await {
                Ok(fresh) => drop(clients.insert(client, fresh)),
                Err(error) => tracing::debug!(%target, %error, "could not proxy a datagram"),
            }
        }
        if let Some(known) = clients.get_mut(&client) {
            known.last_seen = now;
            let _ = known.server.try_send(&buffer[..length]);
        }
    }
}

async fn connect_udp(socket: Rc<UdpSocket>, client: SocketAddr, target: SocketAddr) -> io::Result<UdpClient> {
    let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let server = Rc::new(UdpSocket::bind(any).await?);
    server.connect(target).await?;
    let source = Rc::clone(&server);
    let answers = tokio::task::spawn_local(async move {
        let mut buffer = vec![0; DATAGRAM_LEN];
        loop {
            // Refusals of single datagrams arrive here as errors; the next answer may be fine.
            let Ok(length) = source.recv(&mut buffer).await else { continue };
            let _ = socket.send_to(&buffer[..length], client).await;
        }
    });
    Ok(UdpClient { server, answers: answers.abort_handle(), last_seen: Instant::now() })
}
