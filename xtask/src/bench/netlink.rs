//! The few route netlink messages that the floor under a container's network needs.
//!
//! Start reading at [`Netlink::veth`]. One request, one acknowledgement; layouts are those of rtnetlink(7).

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
/// NLM_F_REQUEST | NLM_F_ACK.
const REQUEST: u16 = 0x5;
/// NLM_F_CREATE | NLM_F_EXCL.
const CREATE: u16 = 0x600;
/// IFF_UP.
const UP: u32 = 1;

/// Attributes of links.
const LINK_ADDRESS_NAME: u16 = 3;
const LINK_MASTER: u16 = 10;
const LINK_INFO: u16 = 18;
const LINK_INFO_KIND: u16 = 1;
const LINK_INFO_DATA: u16 = 2;
const LINK_NAMESPACE: u16 = 28;
const VETH_PEER: u16 = 1;

/// A socket in the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    pub(super) fn open() -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// Makes a bridge that is up.
    pub(super) fn bridge(&self, name: &str) -> Result<()> {
        let info = attribute(LINK_INFO, &attribute(LINK_INFO_KIND, &text("bridge")));
        let body = [link(0, UP), attribute(LINK_ADDRESS_NAME, &text(name)), info].concat();
        self.ask(NEW_LINK, CREATE, &body).with_context(|| format!("make bridge {name}"))
    }

    /// Makes a pair: our end up and in a bridge, the other one born in another namespace.
    pub(super) fn veth(&self, name: &str, bridge: u32, peer: &str, namespace: RawFd) -> Result<()> {
        let namespace = attribute(LINK_NAMESPACE, &namespace.to_ne_bytes());
        let peer = [link(0, 0), attribute(LINK_ADDRESS_NAME, &text(peer)), namespace].concat();
        let data = attribute(LINK_INFO_DATA, &attribute(VETH_PEER, &peer));
        let info = attribute(LINK_INFO, &[attribute(LINK_INFO_KIND, &text("veth")), data].concat());
        let ours = [attribute(LINK_ADDRESS_NAME, &text(name)), attribute(LINK_MASTER, &bridge.to_ne_bytes())];
        let body = [link(0, UP), ours.concat(), info].concat();
        self.ask(NEW_LINK, CREATE, &body).with_context(|| format!("make veth {name}"))
    }

    pub(super) fn up(&self, index: u32) -> Result<()> {
        self.ask(NEW_LINK, 0, &link(index, UP)).context("set a link up")
    }

    pub(super) fn delete(&self, index: u32) -> Result<()> {
        self.ask(DELETE_LINK, 0, &link(index, 0)).context("delete a link")
    }

    /// Gives an interface an address in a network of 16 bits.
    pub(super) fn address(&self, index: u32, address: [u8; 4]) -> Result<()> {
        // family, prefix, flags, scope
        let head = [[2, 16, 0, 0], index.to_ne_bytes()].concat();
        let body = [head, attribute(2, &address), attribute(1, &address)].concat();
        self.ask(NEW_ADDRESS, CREATE, &body).context("add an address")
    }

    pub(super) fn default_route(&self, gateway: [u8; 4]) -> Result<()> {
        // family, destination and source bits, tos, main table, static, universe, unicast, flags
        let head = vec![2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
        self.ask(NEW_ROUTE, CREATE, &[head, attribute(5, &gateway)].concat()).context("add a route")
    }

    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> Result<()> {
        let length = u32::try_from(16 + body.len())?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend([kind.to_ne_bytes(), (REQUEST | flags).to_ne_bytes()].concat());
        message.extend([0; 8]);
        message.extend(body);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        let count = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        // The error number stands after the head of the acknowledgement.
        let code = answer.get(16..20).filter(|_| count >= 20).context("a short answer")?;
        match i32::from_ne_bytes(code.try_into()?) {
            0 => Ok(()),
            code => bail!(std::io::Error::from_raw_os_error(-code)),
        }
    }
}

/// struct ifinfomsg.
fn link(index: u32, flags: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), flags.to_ne_bytes()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

/// Length, kind, content, padded to four bytes.
fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_but_say_their_own_length() {
        let bytes = attribute(3, &text("br0"));
        assert_eq!(bytes, [8, 0, 3, 0, b'b', b'r', b'0', 0]);
        let bytes = attribute(3, b"ab");
        assert_eq!((bytes[0], bytes.len()), (6, 8));
    }
}
