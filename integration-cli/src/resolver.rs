//! Asks a container's resolver as a program in it would, without the cost of one.
//!
//! Start reading at [`Resolver::ask`]. It knows just enough of RFC 1035 to ask for IPv4 addresses and to read answers; the thread
//! that asks must be in the container's network namespace ([`crate::net::Place::enter`]).

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// Where containers find their resolver.
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 11), 53);
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;

/// A socket to the resolver of the calling thread's network namespace.
#[derive(Debug)]
pub struct Resolver {
    socket: UdpSocket,
    next_id: u16,
}

/// What the resolver said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 0 is success, 3 is that there is no such name.
    pub code: u8,
    /// IPv4 addresses in the order in which they came.
    pub addresses: Vec<Ipv4Addr>,
}

impl Resolver {
    /// Makes the socket.
    pub fn open() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(SERVER)?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(Self { socket, next_id: 1 })
    }

    /// Asks once for the IPv4 addresses of a name; no search domains, no second attempt.
    pub fn ask(&mut self, name: &str) -> io::Result<Answer> {
        self.next_id = self.next_id.wrapping_add(1);
        self.socket.send(&question(self.next_id, name))?;
        let mut packet = [0; 4096];
        loop {
            let length = self.socket.recv(&mut packet)?;
            let packet = &packet[..length];
            // A late answer to a question that was given up.
            if packet.get(..2) != Some(&self.next_id.to_be_bytes()[..]) {
                continue;
            }
            return parse(packet).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an answer"));
        }
    }
}

fn question(id: u16, name: &str) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    // Recursion is desired; one question, nothing else.
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).expect("a label of a name"));
        packet.extend(label.as_bytes());
    }
    packet.push(0);
    packet.extend(TYPE_A.to_be_bytes());
    packet.extend(CLASS_IN.to_be_bytes());
    packet
}

fn parse(packet: &[u8]) -> Option<Answer> {
    let number = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let code = packet.get(3)? & 15;
    let mut at = 12;
    for _ in 0..number(4)? {
        at = after_name(packet, at)? + 4;
    }
    let mut addresses = Vec::new();
    for _ in 0..number(6)? {
        let fields = after_name(packet, at)?;
        let (kind, length) = (number(fields)?, usize::from(number(fields + 8)?));
        at = fields + 10 + length;
        let content = packet.get(fields + 10..at)?;
        if kind == TYPE_A {
            addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(content).ok()?));
        }
    }
    Some(Answer { code, addresses })
}

/// Where a name ends: at its empty label, or after a pointer to the rest of it.
fn after_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_pointer_is_read() {
        let mut packet = question(7, "tasks.web");
        packet[2..4].copy_from_slice(&[0x81, 0x80]);
        packet[7] = 2;
        for last in [3, 4] {
            packet.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 10, 80, 0, last]);
        }
        let expected = [Ipv4Addr::new(10, 80, 0, 3), Ipv4Addr::new(10, 80, 0, 4)];
        assert_eq!(parse(&packet), Some(Answer { code: 0, addresses: expected.to_vec() }));
    }

    #[test]
    fn what_ends_early_is_no_answer() {
        let mut packet = question(7, "web");
        packet[7] = 1;
        assert_eq!(parse(&packet), None);
        assert_eq!(parse(&[]), None);
    }
}
