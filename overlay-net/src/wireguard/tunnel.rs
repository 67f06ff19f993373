//! A WireGuard device of a process: a TUN link on one side, a UDP socket on the other, noise in between.
//!
//! Start reading at [`Engine::run`]. Three threads: packets out, packets in, timers; the protocol is boringtun's. Only
//! addresses that follow from a peer's key ([`PublicKey::address`]) go to it and are taken from it. A device whose link is
//! gone ends the process. Used by `process.rs` alone, where the kernel has no devices of its own.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519;

use super::key::{PrivateKey, PublicKey};
use super::plan::{PeerChange, Present};

/// Larger than any IP packet, with what the protocol adds.
const BUFFER_LEN: usize = 64 * 1024 + 256;
/// A thread's frames hold no buffers.
const STACK_LEN: usize = 128 * 1024;
/// How exact the protocol's timers are; the shortest of them is a second.
const TICK: Duration = Duration::from_millis(250);
/// Handshakes a second beyond which initiators have to prove their address.
const HANDSHAKES: u64 = 1000;
/// Ticks in a second.
const TICKS: u32 = 4;
/// A data message without data (WireGuard paper, section 5.4.6).
const KEEPALIVE_LEN: usize = 32;

/// A running device.
pub(super) struct Engine {
    tun: File,
    socket: UdpSocket,
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    limiter: RateLimiter,
    peers: RwLock<Peers>,
}

#[derive(Default)]
struct Peers {
    by_key: HashMap<PublicKey, Arc<Peer>>,
    by_address: HashMap<Ipv6Addr, Arc<Peer>>,
    by_index: HashMap<u32, Arc<Peer>>,
    last_index: u32,
}

struct Peer {
    index: u32,
    address: Ipv6Addr,
    is_called: AtomicBool,
    endpoint: Mutex<SocketAddr>,
    tunn: Mutex<Tunn>,
}

impl Engine {
    /// A device without peers.
    pub(super) fn new(tun: File, socket: UdpSocket, private: &PrivateKey) -> Self {
        let secret = private.secret();
        let public = x25519::PublicKey::from(&secret);
        let limiter = RateLimiter::new(&public, HANDSHAKES);
        Self { tun, socket, secret, public, limiter, peers: RwLock::default() }
    }

    /// Starts the threads. `ended` is called when the link is gone.
    pub(super) fn run(self: &Arc<Self>, ended: fn()) -> io::Result<()> {
        let start = |name: &str, work: fn(&Self)| {
            let engine = Arc::clone(self);
            thread::Builder::new().name(name.to_owned()).stack_size(STACK_LEN).spawn(move || {
                work(&engine);
                ended();
            })
        };
        start("outward", Self::send_packets)?;
        start("inward", Self::receive_packets)?;
        start("timers", Self::keep_time)?;
        Ok(())
    }

    /// The peers.
    pub(super) fn present(&self) -> Vec<Present> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let present = |(public, peer): (&PublicKey, &Arc<Peer>)| Present {
            public: *public,
            is_met: peer.tunn().stats().0.is_some(),
            is_called: peer.is_called.load(Ordering::Relaxed),
        };
        peers.by_key.iter().map(present).collect()
    }

    /// Changes a peer.
    pub(super) fn change(&self, change: &PeerChange) {
        match change {
            PeerChange::Add(public, endpoint) => {
                let peer = self.add(*public, *endpoint);
                self.call(&peer);
            }
            PeerChange::Move(public, endpoint) => {
                if let Some(peer) = self.peer(public) {
                    *peer.endpoint() = mapped(*endpoint);
                }
            }
            PeerChange::StopCalling(public) => {
                if let Some(peer) = self.peer(public) {
                    peer.is_called.store(false, Ordering::Relaxed);
                }
            }
            PeerChange::Remove(public) => {
                let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
                if let Some(peer) = peers.by_key.remove(public) {
                    peers.by_address.remove(&peer.address);
                    peers.by_index.remove(&peer.index);
                }
            }
        }
    }

    fn peer(&self, public: &PublicKey) -> Option<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).by_key.get(public).cloned()
    }

    fn add(&self, public: PublicKey, endpoint: SocketAddr) -> Arc<Peer> {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.by_key.get(&public) {
            return Arc::clone(peer);
        }
        // 24 bits of it name the peer on the wire.
        peers.last_index = (peers.last_index + 1) & 0x00ff_ffff;
        let index = peers.last_index;
        let tunn = Tunn::new(self.secret.clone(), x25519::PublicKey::from(public.0), None, None, index, None);
        let peer = Arc::new(Peer {
            index,
            address: public.address(),
            is_called: AtomicBool::new(true),
            endpoint: Mutex::new(mapped(endpoint)),
            tunn: Mutex::new(tunn),
        });
        peers.by_key.insert(public, Arc::clone(&peer));
        peers.by_address.insert(peer.address, Arc::clone(&peer));
        peers.by_index.insert(index, Arc::clone(&peer));
        peer
    }

    /// Opens a session unless there is one.
    fn call(&self, peer: &Peer) {
        let mut buffer = [0; 256];
        let mut tunn = peer.tunn();
        let result = tunn.format_handshake_initiation(&mut buffer, false);
        self.send(&result, *peer.endpoint());
    }

    /// Sends what is meant for the network. A network that takes nothing loses packets, as networks do.
    fn send(&self, result: &TunnResult<'_>, to: SocketAddr) {
        if let TunnResult::WriteToNetwork(datagram) = result {
            let _ = self.socket.send_to(datagram, to);
        }
    }

    fn send_packets(&self) {
        let (mut packet, mut datagram) = (vec![0; BUFFER_LEN], vec![0; BUFFER_LEN]);
        loop {
            let length = match (&self.tun).read(&mut packet) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let Some(IpAddr::V6(destination)) = Tunn::dst_address(&packet[..length]) else { continue };
            let peer = {
                let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
                peers.by_address.get(&destination).cloned()
            };
            // Whoever is no peer is not there; nothing leaves in the clear.
            let Some(peer) = peer else { continue };
            let result = peer.tunn().encapsulate(&packet[..length], &mut datagram);
            self.send(&result, *peer.endpoint());
        }
    }

    fn receive_packets(&self) {
        let (mut datagram, mut packet) = (vec![0; BUFFER_LEN], vec![0; BUFFER_LEN]);
        loop {
            // Errors are those of earlier sends (unreachable peers).
            let Ok((length, from)) = self.socket.recv_from(&mut datagram) else { continue };
            if let Some(peer) = self.sender(&datagram[..length], from, &mut packet) {
                self.receive(&peer, &datagram[..length], from, &mut packet);
            }
        }
    }

    /// Whose message this is, going by what it says.
    fn sender(&self, datagram: &[u8], from: SocketAddr, reply: &mut [u8]) -> Option<Arc<Peer>> {
        let index = match Tunn::parse_incoming_packet(datagram).ok()? {
            Packet::HandshakeInit(init) => {
                // Before anything is computed for a stranger.
                match self.limiter.verify_packet(Some(from.ip()), datagram, reply) {
                    Ok(_) => {}
                    Err(cookie) => {
                        self.send(&cookie, from);
                        return None;
                    }
                }
                let half = parse_handshake_anon(&self.secret, &self.public, &init).ok()?;
                return self.peer(&PublicKey(half.peer_static_public));
            }
            Packet::HandshakeResponse(message) => message.receiver_idx,
            Packet::PacketCookieReply(message) => message.receiver_idx,
            Packet::PacketData(message) => message.receiver_idx,
        };
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.by_index.get(&(index >> 8)).cloned()
    }

    fn receive(&self, peer: &Peer, datagram: &[u8], from: SocketAddr, buffer: &mut [u8]) {
        let mut tunn = peer.tunn();
        let result = tunn.decapsulate(Some(from.ip()), datagram, buffer);
        let waits = match result {
            TunnResult::WriteToTunnelV6(ref packet, source) if source == peer.address => {
                // A link that takes nothing loses packets, as links do.
                let _ = (&self.tun).write(packet);
                false
            }
            TunnResult::WriteToNetwork(_) => {
                self.send(&result, from);
                true
            }
            TunnResult::Done => datagram.len() == KEEPALIVE_LEN,
            // Another's address, or not authentic.
            TunnResult::WriteToTunnelV6(..) | TunnResult::WriteToTunnelV4(..) | TunnResult::Err(_) => return,
        };
        // The message was authentic: that is where the peer is now.
        *peer.endpoint() = from;
        if waits {
            self.send_waiting(&mut tunn, from, buffer);
        }
    }

    /// Sends the packets that have waited for a session.
    fn send_waiting(&self, tunn: &mut Tunn, to: SocketAddr, buffer: &mut [u8]) {
        loop {
            let next = tunn.decapsulate(None, &[], buffer);
            self.send(&next, to);
            if !matches!(next, TunnResult::WriteToNetwork(_)) {
                return;
            }
        }
    }

    fn keep_time(&self) {
        let mut buffer = vec![0; BUFFER_LEN];
        for tick in 0u32.. {
            // The timer itself.
            thread::sleep(TICK);
            if tick % TICKS == 0 {
                self.limiter.reset_count();
            }
            let peers: Vec<Arc<Peer>> = {
                let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
                peers.by_key.values().cloned().collect()
            };
            for peer in peers {
                let mut tunn = peer.tunn();
                let result = tunn.update_timers(&mut buffer);
                self.send(&result, *peer.endpoint());
                let is_alone = tunn.stats().0.is_none() && tunn.is_expired();
                if is_alone && peer.is_called.load(Ordering::Relaxed) {
                    let result = tunn.format_handshake_initiation(&mut buffer, true);
                    self.send(&result, *peer.endpoint());
                }
            }
        }
    }
}

impl Peer {
    fn tunn(&self) -> MutexGuard<'_, Tunn> {
        self.tunn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoint(&self) -> MutexGuard<'_, SocketAddr> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The form in which a socket of both families takes addresses.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port()),
        SocketAddr::V6(_) => address,
    }
}
