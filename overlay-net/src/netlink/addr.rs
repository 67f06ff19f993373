//! Addresses of links.
//!
//! Start reading at [`add`]. Format: include/uapi/linux/if_addr.h.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::codec::{ACK, Batch, CREATE, DUMP, REPLACE, attribute, u32_at};
use super::{Socket, address, family, octets};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// Duplicate address detection would keep the address unusable for a second; addresses are ours to give out.
const IFA_F_NODAD: u32 = 0x02;

/// Adds an address to a link; an address that is there already stays.
pub(crate) fn add(batch: &mut Batch, index: u32, net: IpNet) {
    batch.message(RTM_NEWADDR, ACK | CREATE | REPLACE, &header(net, index), |attributes| {
        attributes.bytes(IFA_LOCAL, &octets(net.addr()));
        attributes.bytes(IFA_ADDRESS, &octets(net.addr()));
        match net {
            IpNet::V4(v4) if v4.prefix_len() < 31 => {
                attributes.bytes(IFA_BROADCAST, &v4.broadcast().octets());
            }
            IpNet::V4(_) => {}
            IpNet::V6(_) => attributes.number(IFA_FLAGS, IFA_F_NODAD),
        }
    });
}

/// Removes an address from a link.
pub(crate) fn remove(batch: &mut Batch, index: u32, net: IpNet) {
    batch.message(RTM_DELADDR, ACK, &header(net, index), |attributes| {
        attributes.bytes(IFA_LOCAL, &octets(net.addr()));
        attributes.bytes(IFA_ADDRESS, &octets(net.addr()));
    });
}

/// Lists the addresses of every link as link index and address.
pub(crate) fn list(socket: &mut Socket) -> io::Result<Vec<(u32, IpNet)>> {
    let mut batch = Batch::default();
    batch.message(RTM_GETADDR, DUMP, &[0; 8], |_| {});
    socket.dump(&batch, |_, payload| {
        let attributes = payload.get(8..)?;
        let bytes = attribute(attributes, IFA_LOCAL).or_else(|| attribute(attributes, IFA_ADDRESS))?;
        let net = IpNet::new(address(bytes)?, *payload.get(1)?).ok()?;
        Some((u32_at(payload, 4)?, net))
    })
}

/// Whether an address is one that the kernel made by itself (`fe80::/10`).
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// `struct ifaddrmsg`
fn header(net: IpNet, index: u32) -> [u8; 8] {
    let mut bytes = [family(net.addr()), net.prefix_len(), 0, 0, 0, 0, 0, 0];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes
}
