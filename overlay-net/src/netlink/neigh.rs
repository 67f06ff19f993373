//! Neighbours: which hardware address stands behind an address on a link.
//!
//! Start reading at [`set`]. Format: include/uapi/linux/neighbour.h.

use std::net::IpAddr;

use super::codec::{ACK, Batch, CREATE, REPLACE};
use super::{family, octets};
use crate::spec::MacAddr;

const RTM_NEWNEIGH: u16 = 28;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// Usable at once, verified when it is used.
const NUD_STALE: u16 = 0x04;

/// Tells the node what it would otherwise have to ask: where a fresh container's address is.
///
/// Without it the node may hold, for up to a minute, the hardware address of the container that had the address
/// before.
pub(crate) fn set(batch: &mut Batch, index: u32, address: IpAddr, mac: MacAddr) {
    let mut header = [0u8; 12];
    header[0] = family(address);
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&NUD_STALE.to_ne_bytes());
    batch.message(RTM_NEWNEIGH, ACK | CREATE | REPLACE, &header, |neighbour| {
        neighbour.bytes(NDA_DST, &octets(address));
        neighbour.bytes(NDA_LLADDR, &mac.0);
    });
}
