//! Routes.
//!
//! Start reading at [`set_default`]. Format: include/uapi/linux/rtnetlink.h.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::codec::{ACK, Batch, CREATE, DUMP, EXCL, REPLACE, attribute, u32_at};
use super::{INET, INET6, Socket, address, family, octets};
use crate::host::PacketMark;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const RTM_NEWRULE: u16 = 32;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FR_ACT_TO_TABLE: u8 = 1;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;

const RT_TABLE_MAIN: u8 = 254;
const RT_TABLE_LOCAL: u32 = 255;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;
/// The next hop need not be inside a subnet of the link.
const RTNH_F_ONLINK: u32 = 4;

/// Points the default route of one family at a next hop, whatever it was before.
pub(crate) fn set_default(batch: &mut Batch, index: u32, gateway: IpAddr) {
    let header = header(family(gateway), 0, RT_SCOPE_UNIVERSE, RTNH_F_ONLINK);
    batch.message(RTM_NEWROUTE, ACK | CREATE | REPLACE, &header, |route| {
        route.bytes(RTA_GATEWAY, &octets(gateway));
        route.number(RTA_OIF, index);
    });
}

/// Adds a route to a subnet, or points it at another next hop.
pub(crate) fn add(batch: &mut Batch, index: u32, destination: IpNet, gateway: IpAddr) {
    let header = header(family(gateway), destination.prefix_len(), RT_SCOPE_UNIVERSE, 0);
    batch.message(RTM_NEWROUTE, ACK | CREATE | REPLACE, &header, |route| {
        route.bytes(RTA_DST, &octets(destination.network()));
        route.bytes(RTA_GATEWAY, &octets(gateway));
        route.number(RTA_OIF, index);
    });
}

/// Points the route to one address at a link, whatever it was before.
pub(crate) fn add_on_link(batch: &mut Batch, index: u32, destination: IpAddr) {
    let prefix = if destination.is_ipv4() { 32 } else { 128 };
    let header = header(family(destination), prefix, RT_SCOPE_UNIVERSE, 0);
    batch.message(RTM_NEWROUTE, ACK | CREATE | REPLACE, &header, |route| {
        route.bytes(RTA_DST, &octets(destination));
        route.number(RTA_OIF, index);
    });
}

/// Removes the route to one address.
pub(crate) fn remove_to(batch: &mut Batch, destination: IpAddr) {
    let prefix = if destination.is_ipv4() { 32 } else { 128 };
    let header = header(family(destination), prefix, RT_SCOPE_UNIVERSE, 0);
    batch.message(RTM_DELROUTE, ACK, &header, |route| route.bytes(RTA_DST, &octets(destination)));
}

/// Lists the routes to single addresses of a family: the address and the link.
pub(crate) fn on_links(socket: &mut Socket, family: u8) -> io::Result<Vec<(IpAddr, u32)>> {
    let mut batch = Batch::default();
    batch.message(RTM_GETROUTE, DUMP, &header(family, 0, 0, 0), |_| {});
    let single = if family == INET { 32 } else { 128 };
    socket.dump(&batch, |_, payload| {
        let net = destination(payload).filter(|net| net.prefix_len() == single)?;
        let link = attribute(payload.get(12..)?, RTA_OIF).and_then(|bytes| u32_at(bytes, 0))?;
        // Addresses of links have routes of the kernel's own.
        (*payload.get(5)? == RTPROT_STATIC).then_some((net.addr(), link))
    })
}

/// Routes packets with a mark to a next hop, by a table of their own.
pub(crate) fn add_marked_default(
    batch: &mut Batch,
    table: u32,
    mark: PacketMark,
    index: u32,
    gateway: IpAddr,
) {
    let mut header = header(family(gateway), 0, RT_SCOPE_UNIVERSE, RTNH_F_ONLINK);
    // The table is in an attribute.
    header[4] = 0;
    batch.message(RTM_NEWROUTE, ACK | CREATE | REPLACE, &header, |route| {
        route.bytes(RTA_GATEWAY, &octets(gateway));
        route.number(RTA_OIF, index);
        route.number(RTA_TABLE, table);
    });
    // struct fib_rule_hdr: family, lengths, table, action.
    let rule = [family(gateway), 0, 0, 0, 0, 0, 0, FR_ACT_TO_TABLE, 0, 0, 0, 0];
    batch.message(RTM_NEWRULE, ACK | CREATE | EXCL, &rule, |rule| {
        rule.number(FRA_PRIORITY, table);
        rule.number(FRA_FWMARK, mark.value);
        rule.number(FRA_FWMASK, mark.mask);
        rule.number(FRA_TABLE, table);
    });
}

/// Removes the default route of one family.
pub(crate) fn remove_default(batch: &mut Batch, family: u8) {
    let mut header = header(family, 0, RT_SCOPE_UNIVERSE, 0);
    // Any protocol, any scope: whichever default route there is.
    header[5] = 0;
    header[6] = 255;
    batch.message(RTM_DELROUTE, ACK, &header, |_| {});
}

/// The destinations that the namespace has routes for, in every table but `local`; default routes are left out.
pub(crate) fn destinations(socket: &mut Socket) -> io::Result<Vec<IpNet>> {
    let mut all = Vec::new();
    for family in [INET, INET6] {
        let mut batch = Batch::default();
        batch.message(RTM_GETROUTE, DUMP, &header(family, 0, 0, 0), |_| {});
        all.extend(socket.dump(&batch, |_, payload| destination(payload))?);
    }
    Ok(all)
}

fn destination(payload: &[u8]) -> Option<IpNet> {
    let attributes = payload.get(12..)?;
    let prefix = *payload.get(1)?;
    let kind = *payload.get(7)?;
    let table = attribute(attributes, RTA_TABLE).and_then(|bytes| u32_at(bytes, 0)).unwrap_or(0);
    if prefix == 0 || kind != RTN_UNICAST || table == RT_TABLE_LOCAL {
        return None;
    }
    let any = if payload.first() == Some(&INET) {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let destination = attribute(attributes, RTA_DST).map_or(Some(any), address)?;
    IpNet::new(destination, prefix).ok()
}

/// `struct rtmsg`
fn header(family: u8, prefix: u8, scope: u8, flags: u32) -> [u8; 12] {
    let mut bytes = [family, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST, 0, 0, 0, 0];
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes
}
