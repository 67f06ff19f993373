//! Speaking netlink: the codec, the sockets, and one file for each kind of kernel object.
//!
//! Start reading at [`link`]. Requests of one operation are collected in a [`codec::Batch`] and sent in one system
//! call. Every request is idempotent: "exists already" and "is gone already" count as done where the object is ours.
//! The codec is hand-written because three families share it and because it is smaller than the bindings it replaces
//! (docs/decisions/2026-11-21-netlink-codec.md).

pub(crate) mod addr;
pub(crate) mod codec;
pub(crate) mod link;
pub(crate) mod neigh;
pub(crate) mod route;
pub(crate) mod socket;
pub(crate) mod vxlan;

pub(crate) use socket::{Protocol, Socket};

use std::io;
use std::net::IpAddr;

/// `AF_INET` as it stands in netlink headers.
pub(crate) const INET: u8 = 2;
/// `AF_INET6` as it stands in netlink headers.
pub(crate) const INET6: u8 = 10;

/// The family byte for an address.
pub(crate) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { INET } else { INET6 }
}

/// The octets of an address.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An address from its octets.
pub(crate) fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?)),
        _ => None,
    }
}

/// Counts a repeated creation as done.
pub(crate) fn existing_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    tolerate(outcome, &[libc::EEXIST])
}

/// Counts a repeated removal as done.
pub(crate) fn missing_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    tolerate(outcome, &[libc::ENOENT, libc::ENODEV, libc::ESRCH, libc::EADDRNOTAVAIL])
}

fn tolerate(outcome: io::Result<()>, codes: &[i32]) -> io::Result<()> {
    match outcome {
        Err(error) if error.raw_os_error().is_some_and(|code| codes.contains(&code)) => Ok(()),
        other => other,
    }
}
