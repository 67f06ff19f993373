//! The embedded server of one sandbox: sockets inside the container's namespace, tasks in netd.
//!
//! Start reading at [`Server::start`]. The sockets listen on 127.0.0.11 at random ports, so that a container may itself
//! bind port 53, and a rule in the container's namespace leads 127.0.0.11:53 to them. Inputs: queries, the zones that
//! netd keeps. Owner: netd's state; dropping the server ends its tasks and closes its sockets. What is answered is
//! `answer.rs`'s business.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::answer::{Decision, Forwarded, Transport, decide};
use super::files::EMBEDDED_SERVER;
use super::records::Zones;
use super::redirect;
use super::upstream::Upstreams;
use crate::error::NetError;
use crate::netd::protocol::Resolver;
use crate::netns::Netns;

/// Queries of one sandbox that wait for upstream servers at the same time; more are refused.
const IN_FLIGHT: usize = 256;
/// TCP connections of one sandbox at the same time.
const CONNECTIONS: usize = 32;
/// A TCP client that says nothing for this long is cut off (RFC 7766, 6.2.3).
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Queries of one sandbox that are answered before others get their turn.
const DATAGRAMS_A_TURN: usize = 32;
/// Longer than any query over UDP.
const DATAGRAM_LEN: usize = 4096;

/// A running embedded server.
#[derive(Debug)]
pub(crate) struct Server {
    core: Rc<Core>,
    tasks: [AbortHandle; 2],
    /// See [`redirect::install`].
    _netfilter: OwnedFd,
}

/// What the tasks of one server share.
#[derive(Debug)]
struct Core {
    resolver: RefCell<Rc<Resolver>>,
    zones: Rc<RefCell<Zones>>,
    upstreams: Upstreams,
    waiting: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    turn: Cell<usize>,
}

impl Server {
    /// Opens the sockets in the sandbox's namespace, leads port 53 to them, and starts answering.
    ///
    /// Must be called inside a `LocalSet`.
    pub(crate) fn start(resolver: Resolver, zones: Rc<RefCell<Zones>>) -> Result<Self, NetError> {
        let netns = Netns::open(&resolver.netns)?;
        let (udp, tcp, netfilter) =
            netns.run(open_sockets)?.map_err(NetError::kernel("open the embedded name server"))?;
        let from_std = || NetError::kernel("start the embedded name server");
        let udp = UdpSocket::from_std(udp).map_err(from_std())?;
        let tcp = TcpListener::from_std(tcp).map_err(from_std())?;
        let core = Rc::new(Core {
            upstreams: Upstreams::new(resolver.netns.clone()),
            resolver: RefCell::new(Rc::new(resolver)),
            zones,
            waiting: Arc::new(Semaphore::new(IN_FLIGHT)),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            turn: Cell::new(0),
        });
        let udp = tokio::task::spawn_local(serve_udp(Rc::clone(&core), udp)).abort_handle();
        let tcp = tokio::task::spawn_local(serve_tcp(Rc::clone(&core), tcp)).abort_handle();
        Ok(Self { core, tasks: [udp, tcp], _netfilter: netfilter })
    }

    /// What the server goes by.
    pub(crate) fn resolver(&self) -> Rc<Resolver> {
        Rc::clone(&self.core.resolver.borrow())
    }

    /// Changes what the server goes by; queries on their way are not disturbed.
    pub(crate) fn set_resolver(&self, resolver: Resolver) {
        *self.core.resolver.borrow_mut() = Rc::new(resolver);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Core {
    fn decide(&self, query: &[u8], transport: Transport) -> Decision {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        decide(query, transport, &self.resolver.borrow(), &self.zones.borrow(), turn)
    }
}

/// Inside the container's namespace.
fn open_sockets() -> io::Result<(StdUdpSocket, StdTcpListener, OwnedFd)> {
    let any_port = SocketAddr::from((EMBEDDED_SERVER, 0));
    let udp = StdUdpSocket::bind(any_port)?;
    let tcp = StdTcpListener::bind(any_port)?;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    let netfilter = redirect::install(udp.local_addr()?.port(), tcp.local_addr()?.port())?;
    Ok((udp, tcp, netfilter))
}

async fn serve_udp(core: Rc<Core>, socket: UdpSocket) {
    let socket = Rc::new(socket);
    loop {
        if socket.readable().await.is_ok() {
            answer_waiting(&core, &socket);
        }
        // Other sandboxes get their turn even while one asks without pause.
        tokio::task::yield_now().await;
    }
}

/// Answers the datagrams that are there, up to a limit.
///
/// Not async, so that the buffer is on the stack and not in the task of every sandbox.
fn answer_waiting(core: &Rc<Core>, socket: &Rc<UdpSocket>) {
    let mut buffer = [0; DATAGRAM_LEN];
    for _ in 0..DATAGRAMS_A_TURN {
        let (length, client) = match socket.try_recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // Errors here are those of earlier answers that a client did not take; the next query may be fine.
            Err(_) => continue,
        };
        match core.decide(&buffer[..length], Transport::Udp) {
            Decision::Ignore => {}
            Decision::Reply(reply) => {
                let _ = socket.try_send_to(&reply, client);
            }
            Decision::Forward(query) => forward(core, socket, query, client),
        }
    }
}

fn forward(core: &Rc<Core>, socket: &Rc<UdpSocket>, query: Forwarded, client: SocketAddr) {
    let Ok(permit) = Arc::clone(&core.waiting).try_acquire_owned() else {
        let _ = socket.try_send_to(&query.into_failure(), client);
        return;
    };
    let (core, socket) = (Rc::clone(core), Rc::clone(socket));
    tokio::task::spawn_local(async move {
        let resolver = Rc::clone(&core.resolver.borrow());
        let reply = core.upstreams.ask(query, Transport::Udp, &resolver.upstreams).await;
        let _ = socket.send_to(&reply, client).await;
        drop(permit);
    });
}

async fn serve_tcp(core: Rc<Core>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: nothing tells when there are some again.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&core.connections).try_acquire_owned() else { continue };
        let core = Rc::clone(&core);
        tokio::task::spawn_local(async move {
            // A client that goes away in the middle is its own business.
            let _ = serve_connection(&core, stream).await;
            drop(permit);
        });
    }
}

async fn serve_connection(core: &Core, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = timeout(IDLE_LIMIT, stream.read_u16()).await??;
        let mut query = vec![0; usize::from(length)];
        timeout(IDLE_LIMIT, stream.read_exact(&mut query)).await??;
        let reply = match core.decide(&query, Transport::Tcp) {
            Decision::Ignore => return Ok(()),
            Decision::Reply(reply) => reply,
            Decision::Forward(query) => {
                let resolver = Rc::clone(&core.resolver.borrow());
                core.upstreams.ask(query, Transport::Tcp, &resolver.upstreams).await
            }
        };
        let length = u16::try_from(reply.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(&reply);
        timeout(IDLE_LIMIT, stream.write_all(&frame)).await??;
    }
}
