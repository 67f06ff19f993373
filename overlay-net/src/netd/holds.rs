//! The ports that netd holds: a listening or bound socket for each, with a proxy task behind it.
//!
//! Start reading at [`Holds::hold`]. A held port shows in the node's socket list, is refused to other processes, and
//! catches what the firewall does not translate. Which ports a container may have is the daemon's business.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use super::protocol::{HeldPort, HoldRequest, Outcome, PortKey};
use crate::portmap::proxy;
use crate::spec::Protocol;

/// As large as the kernel allows by default.
const BACKLOG: i32 = 4096;

/// Every held port.
#[derive(Debug)]
pub(super) struct Holds {
    held: BTreeMap<PortKey, Held>,
    connections: Arc<Semaphore>,
}

/// One held port; dropping it closes the socket.
#[derive(Debug)]
struct Held {
    target: watch::Sender<Option<SocketAddr>>,
    task: Option<AbortHandle>,
    /// SCTP has no proxy; the bound socket is kept as it is, where the kernel has the protocol at all.
    _socket: Option<OwnedFd>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Holds {
    /// Holds nothing.
    pub(super) fn new() -> Self {
        Self { held: BTreeMap::new(), connections: Arc::new(Semaphore::new(proxy::CONNECTIONS)) }
    }

    /// Holds the first port of the range that is free on all the addresses.
    ///
    /// A single port that is held already is taken over: the daemon says where it leads now.
    pub(super) fn hold(&mut self, request: &HoldRequest) -> Outcome {
        let mut last = (Errno::ADDRINUSE, None);
        for port in (request.start..=request.last).chain(request.first..request.start) {
            let single = request.first == request.last;
            let busy =
                |(address, _): &(IpAddr, _)| self.held.contains_key(&key(request.protocol, *address, port));
            if !single && request.bindings.iter().any(busy) {
                continue;
            }
            match self.hold_all(request, port) {
                Ok(addresses) => return Outcome::Held { port, addresses },
                Err((errno, at)) => last = (errno, Some(at).filter(|_| single)),
            }
        }
        let (errno, at) = last;
        Outcome::Failed { errno: errno.raw_os_error(), text: "hold a port".to_owned(), at }
    }

    /// Lets go of a port.
    pub(super) fn release(&mut self, key: &PortKey) {
        self.held.remove(key);
    }

    /// Holds exactly these ports; answers what could not be held.
    pub(super) fn sync(&mut self, wanted: &[HeldPort]) -> Vec<String> {
        self.held.retain(|key, _| wanted.iter().any(|port| port.key == *key));
        let mut failures = Vec::new();
        for port in wanted {
            if let Err(errno) = self.hold_one(port.key, port.target) {
                let HeldPort { key, .. } = port;
                failures.push(format!("hold port {}/{}: {errno}", key.address, key.protocol));
            }
        }
        failures
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn hold_all(&mut self, request: &HoldRequest, port: u16) -> Result<Vec<IpAddr>, (Errno, SocketAddr)> {
        let mut fresh = Vec::new();
        let mut addresses = Vec::new();
        for &(address, target) in &request.bindings {
            let key = key(request.protocol, address, port);
            let known = self.held.contains_key(&key);
            match self.hold_one(key, target) {
                Ok(()) => {
                    addresses.push(address);
                    if !known {
                        fresh.push(key);
                    }
                }
                // A node without IPv6 publishes on IPv4 alone when the request named no address.
                Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if request.wildcard && address.is_ipv6() => {}
                Err(errno) => {
                    fresh.iter().for_each(|key| self.release(key));
                    return Err((errno, key.address));
                }
            }
        }
        if addresses.is_empty() {
            let unspecified = SocketAddr::new(IpAddr::from([0u8; 16]), port);
            return Err((Errno::AFNOSUPPORT, unspecified));
        }
        Ok(addresses)
    }

    fn hold_one(&mut self, key: PortKey, target: Option<SocketAddr>) -> Result<(), Errno> {
        if let Some(held) = self.held.get(&key) {
            held.target.send_replace(target);
            return Ok(());
        }
        let (sender, receiver) = watch::channel(target);
        let io_failed = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let (task, socket) = match (key.protocol, open(&key)?) {
            (Protocol::Tcp, Some(socket)) => {
                let listener = TcpListener::from_std(socket.into()).map_err(io_failed)?;
                let serve = proxy::serve_tcp(listener, receiver, Arc::clone(&self.connections));
                (Some(tokio::task::spawn_local(serve).abort_handle()), None)
            }
            (Protocol::Udp, Some(socket)) => {
                let socket = UdpSocket::from_std(socket.into()).map_err(io_failed)?;
                (Some(tokio::task::spawn_local(proxy::serve_udp(socket, receiver)).abort_handle()), None)
            }
            (Protocol::Sctp, socket) => (None, socket),
            (Protocol::Tcp | Protocol::Udp, None) => (None, None),
        };
        self.held.insert(key, Held { target: sender, task, _socket: socket });
        Ok(())
    }
}

fn key(protocol: Protocol, address: IpAddr, port: u16) -> PortKey {
    PortKey { protocol, address: SocketAddr::new(address, port) }
}

/// Opens the socket that holds a port; absent when the kernel does not know the protocol.
fn open(key: &PortKey) -> Result<Option<OwnedFd>, Errno> {
    let family = if key.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (kind, protocol) = match key.protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let socket = match socket_with(family, kind, flags, protocol) {
        Err(Errno::PROTONOSUPPORT) if key.protocol == Protocol::Sctp => return Ok(None),
        other => other?,
    };
    if key.address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if key.protocol == Protocol::Tcp {
        // Connections of a former holder that are still winding down must not block the port. Because this socket
        // listens, nobody else can take it by the same option.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &key.address)?;
    if key.protocol == Protocol::Tcp {
        listen(&socket, BACKLOG)?;
    }
    Ok(Some(socket))
}
