//! Network peers for containers: connections made from a machine's namespaces, small servers on the neighbour.
//!
//! A namespace belongs to a thread, not to a process, so everything here happens on threads of its own that enter the
//! namespace first and never leave it; the sockets they make stay there.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::machine::Machine;

/// Where a socket is made.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    holder: u32,
}

impl Place {
    /// The network namespace of a process.
    #[must_use]
    pub fn of_process(holder: u32) -> Self {
        Self { holder }
    }

    /// The machine the daemon runs on.
    #[must_use]
    pub fn inside(machine: &Machine) -> Self {
        Self { holder: machine.inside_pid() }
    }

    /// The neighbour.
    #[must_use]
    pub fn outside(machine: &Machine) -> Self {
        Self { holder: machine.outside_pid() }
    }

    /// Runs `work` in this network namespace and returns what it made.
    pub fn enter<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let path = format!("/proc/{}/ns/net", self.holder);
        let thread = std::thread::spawn(move || {
            let namespace = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))
                .expect("entering a network namespace");
            work()
        });
        thread.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    }

    /// Connects to `address` from here.
    pub fn connect(self, address: &str) -> std::io::Result<TcpStream> {
        let address: SocketAddr = address.parse().expect("an address and port");
        self.enter(move || {
            let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            Ok(stream)
        })
    }

    /// Connects to `address`, says `question`, reads until the other side closes and returns the text.
    pub fn ask(self, address: &str, question: &str) -> std::io::Result<String> {
        let mut stream = self.connect(address)?;
        stream.write_all(question.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Connects to `address`, reads until the other side closes and returns the text.
    pub fn read_from(self, address: &str) -> std::io::Result<String> {
        self.ask(address, "")
    }
}

/// A server on a machine that tells each caller which address it called from. It goes on until the process ends.
#[derive(Debug)]
pub struct EchoAddress {
    /// Port it listens on, on every address of its namespace.
    pub port: u16,
    /// Callers so far.
    pub callers: Receiver<IpAddr>,
}

impl EchoAddress {
    /// Starts the server.
    #[must_use]
    pub fn start(place: Place) -> Self {
        let listener = place.enter(|| TcpListener::bind("0.0.0.0:0")).expect("a listener");
        let port = listener.local_addr().expect("a bound address").port();
        let (sender, callers) = channel();
        std::thread::spawn(move || {
            while let Ok((mut stream, caller)) = listener.accept() {
                stream.write_all(format!("{}\n", caller.ip()).as_bytes()).ok();
                if sender.send(caller.ip()).is_err() {
                    break;
                }
            }
        });
        Self { port, callers }
    }
}

/// A name server that knows one zone: `NAME.known.test` is 203.0.113.7, everything else does not exist.
///
/// Every machine has one on its neighbour, because a daemon forwards what it does not know, and a machine whose
/// name server does not answer is not what anybody runs containers on. Dropping it ends it.
#[derive(Debug)]
pub struct NameServer {
    ended: Arc<AtomicBool>,
}

/// What [`NameServer`] answers for names it knows.
pub const KNOWN_ADDRESS: [u8; 4] = [203, 0, 113, 7];

impl NameServer {
    /// Starts the server on port 53 of every address of `place`.
    #[must_use]
    pub fn start(place: Place) -> Self {
        let socket = place.enter(|| UdpSocket::bind("0.0.0.0:53")).expect("port 53");
        // A datagram socket cannot be woken by closing it elsewhere; it looks up now and then instead.
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a time limit on a socket");
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        std::thread::spawn(move || {
            let mut query = [0u8; 1500];
            while !flag.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut query) else { continue };
                if let Some(answer) = answer(&query[..length]) {
                    socket.send_to(&answer, from).ok();
                }
            }
        });
        Self { ended }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Answers one query (RFC 1035, section 4): an address for A of a known name, no data for other types, else NXDOMAIN.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let question = query.get(12..at + 5)?;
    let name = labels.join(".");
    let known = name.ends_with("known.test");
    let address = known && kind == 1;
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(address), 0, 0, 0, 0]);
    reply.extend(question);
    if address {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(KNOWN_ADDRESS);
    }
    Some(reply)
}
