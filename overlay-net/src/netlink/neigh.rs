//! Neighbours: which hardware address stands behind an address on a link, and which tunnel end behind that.
//!
//! Start reading at [`set`] (a hint for the node's own bridges) and at [`set_permanent`] and [`set_forward`] (the
//! tables of overlay networks). Format: include/uapi/linux/neighbour.h.

use std::io;
use std::net::IpAddr;

use super::codec::{ACK, Batch, CREATE, DUMP, REPLACE, attribute, u32_at};
use super::{INET, INET6, Socket, address, family, octets};
use crate::spec::MacAddr;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const AF_BRIDGE: u8 = 7;
/// Usable at once, verified when it is used.
const NUD_STALE: u16 = 0x04;
/// Never verified, never forgotten, not counted against the table's limits.
const NUD_PERMANENT: u16 = 0x80;
/// A bridge's word for "static"; its "permanent" would mean "the bridge itself".
const NUD_STATIC: u16 = 0x40 | 0x02;
/// The entry is the link's own.
const NTF_SELF: u8 = 0x02;
/// The entry is the bridge's, for the port that the link is.
const NTF_MASTER: u8 = 0x04;

/// Tells the node what it would otherwise have to ask: where a fresh container's address is.
///
/// Without it the node may hold, for up to a minute, the hardware address of the container that had the address
/// before.
pub(crate) fn set(batch: &mut Batch, index: u32, address: IpAddr, mac: MacAddr) {
    add(batch, index, address, mac, NUD_STALE);
}

/// Fixes the hardware address behind an address.
pub(crate) fn set_permanent(batch: &mut Batch, index: u32, address: IpAddr, mac: MacAddr) {
    add(batch, index, address, mac, NUD_PERMANENT);
}

/// Forgets an address.
pub(crate) fn remove(batch: &mut Batch, index: u32, address: IpAddr) {
    let header = header(family(address), index, 0, 0);
    batch.message(RTM_DELNEIGH, ACK, &header, |neighbour| neighbour.bytes(NDA_DST, &octets(address)));
}

/// Sends frames for a hardware address through a VXLAN link to a tunnel end, and nowhere else.
///
/// Two entries: the tunnel's, and the bridge's for the port that the tunnel is.
pub(crate) fn set_forward(batch: &mut Batch, index: u32, mac: MacAddr, vtep: IpAddr) {
    let own = header(AF_BRIDGE, index, NUD_STATIC, NTF_SELF);
    batch.message(RTM_NEWNEIGH, ACK | CREATE | REPLACE, &own, |entry| {
        entry.bytes(NDA_LLADDR, &mac.0);
        entry.bytes(NDA_DST, &octets(vtep));
    });
    let bridges = header(AF_BRIDGE, index, NUD_STATIC, NTF_MASTER);
    batch.message(RTM_NEWNEIGH, ACK | CREATE | REPLACE, &bridges, |entry| entry.bytes(NDA_LLADDR, &mac.0));
}

/// Takes [`set_forward`] back.
pub(crate) fn remove_forward(batch: &mut Batch, index: u32, mac: MacAddr) {
    for flag in [NTF_SELF, NTF_MASTER] {
        let header = header(AF_BRIDGE, index, 0, flag);
        batch.message(RTM_DELNEIGH, ACK, &header, |entry| entry.bytes(NDA_LLADDR, &mac.0));
    }
}

/// The permanent neighbours of every link, as link index, address, hardware address.
pub(crate) fn permanent(socket: &mut Socket) -> io::Result<Vec<(u32, IpAddr, MacAddr)>> {
    let mut all = Vec::new();
    for family in [INET, INET6] {
        all.extend(dump(socket, family, |payload, attributes| {
            if u16::from_ne_bytes(payload.get(8..10)?.try_into().ok()?) & NUD_PERMANENT == 0 {
                return None;
            }
            Some((
                u32_at(payload, 4)?,
                address(attribute(attributes, NDA_DST)?)?,
                mac(attribute(attributes, NDA_LLADDR)?)?,
            ))
        })?);
    }
    Ok(all)
}

/// One forwarding entry of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forward {
    /// A tunnel's: link, hardware address, tunnel end.
    Tunnel(u32, MacAddr, IpAddr),
    /// A bridge's that nobody learned: port, hardware address.
    Port(u32, MacAddr),
}

/// The forwarding entries of every link, without learned ones and without the links' own addresses.
pub(crate) fn forwards(socket: &mut Socket) -> io::Result<Vec<Forward>> {
    dump(socket, AF_BRIDGE, |payload, attributes| {
        let index = u32_at(payload, 4)?;
        let state = u16::from_ne_bytes(payload.get(8..10)?.try_into().ok()?);
        let flags = *payload.get(10)?;
        let mac = mac(attribute(attributes, NDA_LLADDR)?)?;
        match attribute(attributes, NDA_DST).and_then(address) {
            Some(vtep) if flags & NTF_SELF != 0 => Some(Forward::Tunnel(index, mac, vtep)),
            None if flags & NTF_SELF == 0 && state & 0x40 != 0 => Some(Forward::Port(index, mac)),
            Some(_) | None => None,
        }
    })
}

fn add(batch: &mut Batch, index: u32, address: IpAddr, mac: MacAddr, state: u16) {
    let header = header(family(address), index, state, 0);
    batch.message(RTM_NEWNEIGH, ACK | CREATE | REPLACE, &header, |neighbour| {
        neighbour.bytes(NDA_DST, &octets(address));
        neighbour.bytes(NDA_LLADDR, &mac.0);
    });
}

fn dump<T>(
    socket: &mut Socket,
    family: u8,
    mut each: impl FnMut(&[u8], &[u8]) -> Option<T>,
) -> io::Result<Vec<T>> {
    let mut batch = Batch::default();
    batch.message(RTM_GETNEIGH, DUMP, &header(family, 0, 0, 0), |_| {});
    socket.dump(&batch, |_, payload| each(payload, payload.get(12..)?))
}

fn mac(bytes: &[u8]) -> Option<MacAddr> {
    bytes.try_into().ok().map(MacAddr)
}

/// `struct ndmsg`
fn header(family: u8, index: u32, state: u16, flags: u8) -> [u8; 12] {
    let mut bytes = [0u8; 12];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..10].copy_from_slice(&state.to_ne_bytes());
    bytes[10] = flags;
    bytes
}
