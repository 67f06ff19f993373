//! Servers and clients inside namespaces: real packets, short answers.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use overlay_net::netns::Netns;

use super::world::{Container, World};

/// Long enough for a loaded machine, for what must arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough to be sure, for what must not arrive.
const SILENCE: Duration = Duration::from_millis(400);

/// Where somebody is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    Node,
    Inside(&'a Netns),
}

impl Place<'_> {
    /// Does something there.
    pub(crate) fn run<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        match self {
            Self::Node => work(),
            Self::Inside(netns) => netns.run(work).unwrap(),
        }
    }
}

/// Serves TCP and UDP on a port of every address there; says `tag` and the client's address.
pub(crate) fn serve(place: Place<'_>, port: u16, tag: &str) {
    // A namespace without IPv6 addresses still accepts the wildcard, which takes both families.
    let listener = place.run(|| TcpListener::bind((IpAddr::from([0u8; 16]), port)).unwrap());
    let socket = place.run(|| UdpSocket::bind((IpAddr::from([0u8; 16]), port)).unwrap());
    let (tcp_tag, udp_tag) = (tag.to_owned(), tag.to_owned());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tag = tcp_tag.clone();
            thread::spawn(move || greet(stream, &tag));
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{udp_tag} {}", client.ip().to_canonical()).as_bytes(), client);
        }
    });
}

/// Says who is here, then repeats what it hears until the client ends.
fn greet(mut stream: TcpStream, tag: &str) {
    let Ok(client) = stream.peer_addr() else { return };
    if stream.write_all(format!("{tag} {}\n", client.ip().to_canonical()).as_bytes()).is_err() {
        return;
    }
    let Ok(mut back) = stream.try_clone() else { return };
    let _ = io::copy(&mut stream, &mut back);
    let _ = back.shutdown(std::net::Shutdown::Write);
}

/// What a TCP server answers: its tag, and the address that it saw.
pub(crate) fn tcp(from: Place<'_>, to: &str) -> io::Result<String> {
    tcp_within(from, to, PATIENCE)
}

/// Asserts that no TCP server answers.
pub(crate) fn assert_no_tcp(from: Place<'_>, to: &str) {
    let answer = tcp_within(from, to, SILENCE);
    assert!(answer.is_err(), "{to} answered {answer:?}");
}

fn tcp_within(from: Place<'_>, to: &str, patience: Duration) -> io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = from.run(|| TcpStream::connect_timeout(&to, patience))?;
    stream.set_read_timeout(Some(patience))?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(answer.trim_end().to_owned())
    }
}

/// An open connection whose server has greeted.
pub(crate) fn connect(from: Place<'_>, to: &str) -> TcpStream {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = from.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).unwrap();
    }
    stream
}

/// Asserts that a connection still carries bytes both ways.
pub(crate) fn assert_alive(stream: &mut TcpStream) {
    stream.write_all(b"ping").unwrap();
    // A late acknowledgement would be on its way when a test takes the rules away, and be answered by a reset.
    rustix::net::sockopt::set_tcp_quickack(&*stream, true).unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"ping");
}

/// Sends a few megabytes to a server and has them back, whole.
pub(crate) fn bulk(from: Place<'_>, to: &str) {
    const LENGTH: usize = 4 << 20;
    let mut stream = connect(from, to);
    let mut sender = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        let chunk: Vec<u8> = (0..=255).cycle().take(64 << 10).collect();
        for _ in 0..LENGTH / chunk.len() {
            sender.write_all(&chunk).unwrap();
        }
        sender.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    sending.join().unwrap();
    assert_eq!(back.len(), LENGTH);
    assert!(back.iter().zip((0..=255u8).cycle()).all(|(byte, wanted)| *byte == wanted));
}

/// What a UDP server answers to a datagram that no link carries in one packet.
pub(crate) fn udp_large(from: Place<'_>, to: &str) -> io::Result<String> {
    let socket = udp_socket(from, to);
    socket.set_read_timeout(Some(PATIENCE / 4))?;
    let mut buffer = [0; 128];
    let mut outcome = Err(io::ErrorKind::TimedOut.into());
    for _ in 0..4 {
        outcome = socket.send_to(&[b'?'; 40_000], to).and_then(|_| socket.recv(&mut buffer));
        if let Ok(length) = outcome {
            return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }
    outcome.map(|_| String::new())
}

/// What a UDP server answers.
pub(crate) fn udp(from: Place<'_>, to: &str) -> io::Result<String> {
    udp_on(&udp_socket(from, to), to, PATIENCE)
}

/// Asserts that no UDP server answers.
pub(crate) fn assert_no_udp(from: Place<'_>, to: &str) {
    let answer = udp_on(&udp_socket(from, to), to, SILENCE);
    assert!(answer.is_err(), "{to} answered {answer:?}");
}

/// A UDP socket there, of the family of `to`.
pub(crate) fn udp_socket(from: Place<'_>, to: &str) -> UdpSocket {
    let to: SocketAddr = to.parse().unwrap();
    let any: IpAddr = if to.is_ipv4() { [0u8; 4].into() } else { [0u8; 16].into() };
    from.run(|| UdpSocket::bind((any, 0)).unwrap())
}

/// Asks from a given socket, several times, since the first datagram may be lost to address resolution.
pub(crate) fn udp_on(socket: &UdpSocket, to: &str, patience: Duration) -> io::Result<String> {
    socket.set_read_timeout(Some(patience / 4))?;
    let mut buffer = [0; 128];
    let mut outcome = Err(io::ErrorKind::TimedOut.into());
    for _ in 0..4 {
        let sent = socket.send_to(b"?", to);
        outcome = sent.and_then(|_| socket.recv(&mut buffer));
        if let Ok(length) = outcome {
            return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }
    outcome.map(|_| String::new())
}

/// Asks once from a given socket.
pub(crate) fn udp_once(socket: &UdpSocket, to: &str) -> io::Result<String> {
    socket.set_read_timeout(Some(SILENCE))?;
    socket.send_to(b"?", to)?;
    let mut buffer = [0; 128];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Starts the usual server in a container.
pub(crate) fn serve_in(container: &Container, port: u16, tag: &str) {
    serve(Place::Inside(&container.netns()), port, tag);
}

/// Starts the usual server on the neighbour.
pub(crate) fn serve_on_neighbour(world: &World, port: u16) {
    serve(Place::Inside(&world.neighbour), port, "neighbour");
}
