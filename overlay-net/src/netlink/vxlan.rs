//! VXLAN links: making one in another namespace than its tunnel, and reading back how one was made.
//!
//! Start reading at [`add`]. Format: include/uapi/linux/if_link.h (`IFLA_VXLAN_*`, `IFLA_BRPORT_*`). What goes through a
//! tunnel is in `neigh.rs`: these links learn nothing and flood nothing.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::codec::{ACK, Batch, CREATE, DUMP, EXCL, attribute, text, u32_at};
use super::link::{
    AF_UNSPEC, GROUP, IFF_UP, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND, IFLA_LINKINFO, IFLA_MASTER, IFLA_NET_NS_FD, RTM_GETLINK, RTM_NEWLINK, header,
    link_info, set_mtu, without_link_local,
};
use super::{Socket, address, octets};
use crate::spec::IfName;

const IFLA_MTU: u16 = 4;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PROXY: u16 = 11;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;

/// How a tunnel was made; what differs in any of it is made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tunnel {
    /// VXLAN network identifier.
    pub(crate) vni: u32,
    /// Address of this node that frames come from and arrive at; the unspecified one of IPv6 leaves the choice of where
    /// they come from to the route.
    pub(crate) local: IpAddr,
    /// UDP port at both ends.
    pub(crate) port: u16,
}

/// A VXLAN link as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    pub(crate) master: Option<u32>,
    /// Absent when it learns, or floods questions for addresses, as ours never do.
    pub(crate) tunnel: Option<Tunnel>,
}

/// Creates a link in `netns` whose tunnel is in the namespace of the socket that sends this: the kernel takes the
/// latter for the underlay, wherever the link itself is.
///
/// It is down, learns no addresses, and answers questions for addresses (ARP, neighbour solicitation) from its own
/// neighbour table or not at all (`proxy`).
pub(crate) fn add(batch: &mut Batch, name: &IfName, tunnel: Tunnel, mtu: u32, netns: BorrowedFd<'_>) {
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCL, &header(AF_UNSPEC, 0, 0, 0), |link| {
        link.text(IFLA_IFNAME, name.as_str());
        link.number(IFLA_GROUP, GROUP);
        link.number(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
        set_mtu(link, Some(mtu));
        link_info(link, "vxlan", |info| {
            info.number(IFLA_VXLAN_ID, tunnel.vni);
            let local = if tunnel.local.is_ipv4() { IFLA_VXLAN_LOCAL } else { IFLA_VXLAN_LOCAL6 };
            info.bytes(local, &octets(tunnel.local));
            info.byte(IFLA_VXLAN_LEARNING, 0);
            info.byte(IFLA_VXLAN_PROXY, 1);
            info.bytes(IFLA_VXLAN_PORT, &tunnel.port.to_be_bytes());
        });
    });
}

/// Joins a VXLAN link to its bridge as a port that sends only what the tables name, and sets it up.
pub(crate) fn join_bridge(batch: &mut Batch, index: u32, bridge: u32, mtu: u32) {
    without_link_local(batch, index);
    batch.message(RTM_NEWLINK, ACK, &header(AF_UNSPEC, index, 0, 0), |link| {
        link.number(IFLA_MASTER, bridge);
        set_mtu(link, Some(mtu));
    });
    batch.message(RTM_NEWLINK, ACK, &header(AF_UNSPEC, index, IFF_UP, IFF_UP), |link| {
        link.nest(IFLA_LINKINFO, &[], |info| {
            info.text(IFLA_INFO_SLAVE_KIND, "bridge");
            info.nest(IFLA_INFO_SLAVE_DATA, &[], |port| {
                port.byte(IFLA_BRPORT_LEARNING, 0);
                port.byte(IFLA_BRPORT_UNICAST_FLOOD, 0);
            });
        });
    });
}

/// Lists the VXLAN links of the namespace.
pub(crate) fn list(socket: &mut Socket) -> io::Result<Vec<Found>> {
    let mut batch = Batch::default();
    batch.message(RTM_GETLINK, DUMP, &header(AF_UNSPEC, 0, 0, 0), |_| {});
    socket.dump(&batch, |_, payload| parse(payload))
}

fn parse(payload: &[u8]) -> Option<Found> {
    let attributes = payload.get(16..)?;
    let info = attribute(attributes, IFLA_LINKINFO)?;
    if attribute(info, IFLA_INFO_KIND).map(text).as_deref() != Some("vxlan") {
        return None;
    }
    let number = |kind| attribute(attributes, kind).and_then(|bytes| u32_at(bytes, 0));
    Some(Found {
        index: u32_at(payload, 4)?,
        name: text(attribute(attributes, IFLA_IFNAME)?),
        up: u32_at(payload, 8)? & IFF_UP != 0,
        mtu: number(IFLA_MTU)?,
        master: number(IFLA_MASTER),
        tunnel: attribute(info, IFLA_INFO_DATA).and_then(tunnel),
    })
}

fn tunnel(data: &[u8]) -> Option<Tunnel> {
    let flag = |kind| attribute(data, kind).and_then(|bytes| bytes.first()).is_some_and(|&byte| byte != 0);
    if flag(IFLA_VXLAN_LEARNING) || !flag(IFLA_VXLAN_PROXY) {
        return None;
    }
    let local = attribute(data, IFLA_VXLAN_LOCAL).or_else(|| attribute(data, IFLA_VXLAN_LOCAL6));
    Some(Tunnel {
        vni: u32_at(attribute(data, IFLA_VXLAN_ID)?, 0)?,
        // The kernel does not show an unspecified one.
        local: local.map_or(Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), address)?,
        port: u16::from_be_bytes(attribute(data, IFLA_VXLAN_PORT)?.try_into().ok()?),
    })
}
