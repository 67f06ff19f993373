//! Asks external name servers, from the container's namespace or from the node's.
//!
//! Start reading at [`Upstreams::ask`]. Servers are asked one after the other; each query has a socket, a port and an
//! id of its own, so that an answer cannot be forged by guessing. Sockets for the container's namespace are made a few
//! at a time, because entering it costs a thread. Nothing is cached: the servers do that.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::answer::{Forwarded, Reply, Transport};
use crate::netns::Netns;
use crate::spec::{Upstream, UpstreamScope};

/// How long one server may take (Docker's `extIOTimeout`).
const SERVER_LIMIT: Duration = Duration::from_secs(4);
/// As many servers as the C library asks.
const SERVERS: usize = 3;
/// Sockets made by one visit to the container's namespace.
const SOCKETS_A_VISIT: usize = 4;
const REPLY_LEN: usize = 4096;

/// Reaches the upstream servers of one sandbox.
#[derive(Debug)]
pub(super) struct Upstreams {
    netns: PathBuf,
    /// UDP sockets made beforehand in the container's namespace, by family.
    spare: [RefCell<Vec<OwnedFd>>; 2],
}

impl Upstreams {
    /// For the sandbox whose namespace is pinned there.
    pub(super) fn new(netns: PathBuf) -> Self {
        Self { netns, spare: [RefCell::default(), RefCell::default()] }
    }

    /// Asks the servers in order; answers with what the client is to get, a failure when none helped.
    pub(super) async fn ask(&self, query: Forwarded, transport: Transport, servers: &[Upstream]) -> Vec<u8> {
        for server in servers.iter().take(SERVERS) {
            let attempt = async {
                match transport {
                    Transport::Udp => self.ask_udp(&query, *server).await,
                    Transport::Tcp => self.ask_tcp(&query, *server).await,
                }
            };
            match timeout(SERVER_LIMIT, attempt).await {
                Ok(Ok(Reply::Final(reply))) => return reply,
                Ok(Ok(Reply::TryNext)) => {}
                Ok(Err(error)) => tracing::debug!(server = %server.address, %error, "name server failed"),
                Err(_) => tracing::debug!(server = %server.address, "name server did not answer"),
            }
        }
        query.into_failure()
    }

    async fn ask_udp(&self, query: &Forwarded, server: Upstream) -> io::Result<Reply> {
        let socket = UdpSocket::from_std(self.udp_socket(server)?.into())?;
        socket.connect(server.address).await?;
        let (id, bytes) = with_own_id(query);
        socket.send(&bytes).await?;
        let mut buffer = vec![0; REPLY_LEN];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // Anything else on this port is a stray or a forgery: keep waiting for the real one.
            if let Some(reply) = query.accept(id, &buffer[..length]) {
                return Ok(reply);
            }
        }
    }

    async fn ask_tcp(&self, query: &Forwarded, server: Upstream) -> io::Result<Reply> {
        let socket = match server.scope {
            UpstreamScope::Host => new_socket(server.address.ip(), SocketType::STREAM)?,
            UpstreamScope::Sandbox => {
                self.in_sandbox(|| new_socket(server.address.ip(), SocketType::STREAM))?
            }
        };
        let mut stream = TcpSocket::from_std_stream(socket.into()).connect(server.address).await?;
        let (id, bytes) = with_own_id(query);
        let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await?;
        let mut reply = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut reply).await?;
        query.accept(id, &reply).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn udp_socket(&self, server: Upstream) -> io::Result<OwnedFd> {
        let address = server.address.ip();
        if server.scope == UpstreamScope::Host {
            return new_socket(address, SocketType::DGRAM);
        }
        let mut spare = self.spare[usize::from(address.is_ipv6())].borrow_mut();
        if spare.is_empty() {
            let made = self.in_sandbox(|| {
                (0..SOCKETS_A_VISIT)
                    .map(|_| new_socket(address, SocketType::DGRAM))
                    .collect::<io::Result<Vec<_>>>()
            })?;
            spare.extend(made);
        }
        spare.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn in_sandbox<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        Netns::open(&self.netns).and_then(|netns| netns.run(work)).map_err(io::Error::other)?
    }
}

fn new_socket(server: IpAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
}

fn with_own_id(query: &Forwarded) -> (u16, Vec<u8>) {
    let id: u16 = rand::random();
    let mut bytes = query.bytes.clone();
    if let Some(place) = bytes.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    (id, bytes)
}
