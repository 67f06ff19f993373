//! The kernel's WireGuard devices.
//!
//! Start reading at [`Configuration::open`]. Format: include/uapi/linux/wireguard.h, by generic netlink. The links
//! themselves are made by `netlink/link.rs`.

use std::io;
use std::net::SocketAddr;

use super::key::{PrivateKey, PublicKey};
use super::plan::{PeerChange, Present};
use crate::netlink::codec::{ACK, Attributes, Batch, DUMP, attribute, attributes};
use crate::netlink::{INET, INET6, Protocol, Socket, missing_is_fine, octets};
use crate::spec::IfName;

/// `GENL_ID_CTRL`
const CONTROL: u16 = 16;
/// `CTRL_CMD_GETFAMILY`
const GET_FAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NAME: &str = "wireguard";

const WG_CMD_GET_DEVICE: u8 = 0;
const WG_CMD_SET_DEVICE: u8 = 1;

const WGDEVICE_A_IFNAME: u16 = 2;
const WGDEVICE_A_PRIVATE_KEY: u16 = 3;
const WGDEVICE_A_PUBLIC_KEY: u16 = 4;
const WGDEVICE_A_LISTEN_PORT: u16 = 6;
const WGDEVICE_A_PEERS: u16 = 8;

const WGPEER_A_PUBLIC_KEY: u16 = 1;
const WGPEER_A_FLAGS: u16 = 3;
const WGPEER_A_ENDPOINT: u16 = 4;
const WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL: u16 = 5;
const WGPEER_A_LAST_HANDSHAKE_TIME: u16 = 6;
const WGPEER_A_ALLOWEDIPS: u16 = 9;

const WGPEER_F_REMOVE_ME: u32 = 1;
const WGPEER_F_REPLACE_ALLOWEDIPS: u32 = 2;
const WGPEER_F_UPDATE_ONLY: u32 = 4;

const WGALLOWEDIP_A_FAMILY: u16 = 1;
const WGALLOWEDIP_A_IPADDR: u16 = 2;
const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;

/// Seconds between calls to a peer that has not answered yet.
const CALL_EVERY: u16 = 5;
/// Peers in one message; their attributes have to fit into 64 KiB together.
const PEERS_A_MESSAGE: usize = 64;

/// Whether the kernel's refusal to make a device means that it has none.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENODEV | libc::EPROTONOSUPPORT))
}

/// What is said to WireGuard devices of one namespace.
#[derive(Debug)]
pub(super) struct Configuration {
    socket: Socket,
    family: u16,
}

/// A device as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) public: Option<PublicKey>,
    pub(super) port: u16,
    pub(super) peers: Vec<Present>,
}

impl Configuration {
    /// Opens a way to the devices in the namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::open(Protocol::Generic)?;
        let mut batch = Batch::default();
        batch.message(CONTROL, ACK, &[GET_FAMILY, 1, 0, 0], |request| {
            request.text(CTRL_ATTR_FAMILY_NAME, NAME);
        });
        let mut family = None;
        socket.request(&batch, |_, payload| {
            let id = payload.get(4..).and_then(|rest| attribute(rest, CTRL_ATTR_FAMILY_ID));
            family = id.and_then(|bytes| Some(u16::from_ne_bytes(bytes.try_into().ok()?)));
        })?;
        let family = family.ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))?;
        Ok(Self { socket, family })
    }

    /// Gives a device its key and port.
    pub(super) fn set_key(&mut self, name: &IfName, private: &PrivateKey, port: u16) -> io::Result<()> {
        let mut batch = Batch::default();
        batch.message(self.family, ACK, &[WG_CMD_SET_DEVICE, 1, 0, 0], |device| {
            device.text(WGDEVICE_A_IFNAME, name.as_str());
            device.bytes(WGDEVICE_A_PRIVATE_KEY, private.bytes());
            device.bytes(WGDEVICE_A_LISTEN_PORT, &port.to_ne_bytes());
        });
        self.socket.run_all(&batch)
    }

    /// Reads a device.
    pub(super) fn read(&mut self, name: &IfName) -> io::Result<Device> {
        let mut batch = Batch::default();
        batch.message(self.family, DUMP, &[WG_CMD_GET_DEVICE, 1, 0, 0], |request| {
            request.text(WGDEVICE_A_IFNAME, name.as_str());
        });
        let parts = self.socket.dump(&batch, |_, payload| payload.get(4..).map(parse))?;
        let mut device = Device { public: None, port: 0, peers: Vec::new() };
        for part in parts {
            // The first message has what is the device's own, every one has peers.
            device.public = device.public.or(part.public);
            device.port = device.port.max(part.port);
            device.peers.extend(part.peers);
        }
        Ok(device)
    }

    /// Changes the peers of a device; those that are gone already are fine.
    pub(super) fn change(&mut self, name: &IfName, changes: &[PeerChange]) -> io::Result<()> {
        for chunk in changes.chunks(PEERS_A_MESSAGE) {
            let mut batch = Batch::default();
            batch.message(self.family, ACK, &[WG_CMD_SET_DEVICE, 1, 0, 0], |device| {
                device.text(WGDEVICE_A_IFNAME, name.as_str());
                device.nest(WGDEVICE_A_PEERS, &[], |peers| {
                    for change in chunk {
                        peers.nest(0, &[], |peer| write(peer, change));
                    }
                });
            });
            missing_is_fine(self.socket.run_all(&batch))?;
        }
        Ok(())
    }
}

fn write(peer: &mut Attributes<'_>, change: &PeerChange) {
    let keep_calling = |peer: &mut Attributes<'_>, seconds: u16| {
        peer.bytes(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, &seconds.to_ne_bytes());
    };
    match change {
        PeerChange::Add(public, endpoint) => {
            peer.bytes(WGPEER_A_PUBLIC_KEY, &public.0);
            peer.number(WGPEER_A_FLAGS, WGPEER_F_REPLACE_ALLOWEDIPS);
            peer.bytes(WGPEER_A_ENDPOINT, &socket_address(endpoint));
            keep_calling(peer, CALL_EVERY);
            peer.nest(WGPEER_A_ALLOWEDIPS, &[], |allowed| {
                allowed.nest(0, &[], |address| {
                    address.bytes(WGALLOWEDIP_A_FAMILY, &u16::from(INET6).to_ne_bytes());
                    address.bytes(WGALLOWEDIP_A_IPADDR, &public.address().octets());
                    address.byte(WGALLOWEDIP_A_CIDR_MASK, 128);
                });
            });
        }
        PeerChange::Move(public, endpoint) => {
            peer.bytes(WGPEER_A_PUBLIC_KEY, &public.0);
            peer.number(WGPEER_A_FLAGS, WGPEER_F_UPDATE_ONLY);
            peer.bytes(WGPEER_A_ENDPOINT, &socket_address(endpoint));
        }
        PeerChange::StopCalling(public) => {
            peer.bytes(WGPEER_A_PUBLIC_KEY, &public.0);
            peer.number(WGPEER_A_FLAGS, WGPEER_F_UPDATE_ONLY);
            keep_calling(peer, 0);
        }
        PeerChange::Remove(public) => {
            peer.bytes(WGPEER_A_PUBLIC_KEY, &public.0);
            peer.number(WGPEER_A_FLAGS, WGPEER_F_REMOVE_ME | WGPEER_F_UPDATE_ONLY);
        }
    }
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn socket_address(address: &SocketAddr) -> Vec<u8> {
    let family = u16::from(if address.is_ipv4() { INET } else { INET6 });
    let mut bytes = family.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(_) => {
            bytes.extend_from_slice(&octets(address.ip()));
            bytes.extend_from_slice(&[0; 8]);
        }
        SocketAddr::V6(v6) => {
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&octets(address.ip()));
            bytes.extend_from_slice(&v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

fn parse(device: &[u8]) -> Device {
    let port = attribute(device, WGDEVICE_A_LISTEN_PORT).and_then(|bytes| bytes.try_into().ok());
    let peers = attribute(device, WGDEVICE_A_PEERS).unwrap_or_default();
    Device {
        public: attribute(device, WGDEVICE_A_PUBLIC_KEY).and_then(public),
        port: port.map_or(0, u16::from_ne_bytes),
        peers: attributes(peers).filter_map(|(_, peer)| parse_peer(peer)).collect(),
    }
}

fn parse_peer(peer: &[u8]) -> Option<Present> {
    let is_set = |kind| attribute(peer, kind).is_some_and(|bytes| bytes.iter().any(|&byte| byte != 0));
    Some(Present {
        public: public(attribute(peer, WGPEER_A_PUBLIC_KEY)?)?,
        is_met: is_set(WGPEER_A_LAST_HANDSHAKE_TIME),
        is_called: is_set(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL),
    })
}

fn public(bytes: &[u8]) -> Option<PublicKey> {
    Some(PublicKey(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::codec::messages;

    #[test]
    fn addresses_have_the_form_of_the_kernel() {
        let v4 = socket_address(&"192.0.2.1:4793".parse().unwrap());
        assert_eq!((v4.len(), &v4[2..8]), (16, &[0x12, 0xb9, 192, 0, 2, 1][..]));
        let v6 = socket_address(&"[2001:db8::1]:4793".parse().unwrap());
        assert_eq!((v6.len(), v6[8], v6[23]), (28, 0x20, 1));
    }

    #[test]
    fn a_peer_that_was_never_met_is_told_from_one_that_was() {
        let device = |handshake: u8, keepalive: u16| {
            let mut batch = Batch::default();
            batch.message(1, 0, &[0; 4], |device| {
                device.bytes(WGDEVICE_A_LISTEN_PORT, &4793u16.to_ne_bytes());
                device.nest(WGDEVICE_A_PEERS, &[], |peers| {
                    peers.nest(0, &[], |peer| {
                        peer.bytes(WGPEER_A_PUBLIC_KEY, &[7; 32]);
                        peer.bytes(WGPEER_A_LAST_HANDSHAKE_TIME, &[handshake; 16]);
                        peer.bytes(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, &keepalive.to_ne_bytes());
                    });
                });
            });
            parse(&messages(batch.as_bytes()).next().unwrap().payload[4..])
        };
        let public = PublicKey([7; 32]);
        let new = Present { public, is_met: false, is_called: true };
        assert_eq!(device(0, 5), Device { public: None, port: 4793, peers: vec![new] });
        assert_eq!(device(1, 0).peers, [Present { is_met: true, is_called: false, ..new }]);
    }
}
