//! Links: bridges, veth pairs, macvlans, dummies, VLANs; and looking them up.
//!
//! Start reading at [`add_veth`]. Links that Shoal makes carry the device group [`GROUP`]; that mark, not the name,
//! is what clean-up after a crash goes by. Format: include/uapi/linux/if_link.h, rtnetlink(7).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::codec::{ACK, Attributes, Batch, CREATE, DUMP, EXCL, attribute, text, u32_at};
use super::{Socket, missing_is_fine};
use crate::spec::{IfName, MacAddr, MacvlanMode};

/// Device group of every link that Shoal makes: "SHL" in ASCII.
pub(crate) const GROUP: u32 = 0x53_48_4c;
/// Device group of the ends of pairs whose container is gone: "SHX" in ASCII.
const DEPARTED: u32 = 0x53_48_58;

pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
pub(super) const RTM_GETLINK: u16 = 18;

const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
pub(super) const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
pub(super) const IFLA_GROUP: u16 = 27;
pub(super) const IFLA_NET_NS_FD: u16 = 28;

pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
pub(super) const IFLA_INFO_SLAVE_KIND: u16 = 4;
pub(super) const IFLA_INFO_SLAVE_DATA: u16 = 5;

const VETH_INFO_PEER: u16 = 1;
const IFLA_BR_NF_CALL_IPTABLES: u16 = 36;
const IFLA_BR_NF_CALL_IP6TABLES: u16 = 37;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// `IN6_ADDR_GEN_MODE_NONE`
const ADDR_GEN_NONE: u8 = 1;

pub(super) const IFF_UP: u32 = 1;
pub(super) const AF_UNSPEC: u8 = 0;
const AF_BRIDGE: u8 = 7;

/// A link as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) group: u32,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
}

/// The two ends of a veth pair.
#[derive(Debug)]
pub(crate) struct Veth<'a> {
    /// Name of the end on the node's side, joined to `master` and up.
    pub(crate) host: &'a IfName,
    /// Name of the end in `netns`; left down.
    pub(crate) peer: &'a IfName,
    pub(crate) peer_mac: MacAddr,
    pub(crate) netns: BorrowedFd<'a>,
    pub(crate) master: u32,
    pub(crate) mtu: Option<u32>,
    pub(crate) ipv6: Ipv6,
}

/// Creates a pair with the peer directly in the container's namespace.
///
/// Three messages, because the kernel takes the IPv6 mode only for a link that exists and heeds it only before the link
/// comes up. The bridge speaks IPv6 for its ports; an address on each port would only be noise.
pub(crate) fn add_veth(batch: &mut Batch, veth: &Veth<'_>, mode: Option<PortMode>) {
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCL, &header(AF_UNSPEC, 0, 0, 0), |link| {
        link.text(IFLA_IFNAME, veth.host.as_str());
        link.number(IFLA_GROUP, GROUP);
        link.number(IFLA_MASTER, veth.master);
        set_mtu(link, veth.mtu);
        link_info(link, "veth", |info| {
            info.nest(VETH_INFO_PEER, &header(AF_UNSPEC, 0, 0, 0), |peer| {
                peer.text(IFLA_IFNAME, veth.peer.as_str());
                peer.bytes(IFLA_ADDRESS, &veth.peer_mac.0);
                peer.number(IFLA_NET_NS_FD, veth.netns.as_raw_fd().cast_unsigned());
                set_mtu(peer, veth.mtu);
            });
        });
    });
    if veth.ipv6 == Ipv6::Present {
        batch.message(RTM_NEWLINK, ACK, &header(AF_UNSPEC, 0, 0, 0), |link| {
            link.text(IFLA_IFNAME, veth.host.as_str());
            link.nest(IFLA_AF_SPEC, &[], |families| {
                families.nest(u16::from(super::INET6), &[], |v6| {
                    v6.byte(IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_NONE);
                });
            });
        });
    }
    batch.message(RTM_NEWLINK, ACK, &header(AF_UNSPEC, 0, IFF_UP, IFF_UP), |link| {
        link.text(IFLA_IFNAME, veth.host.as_str());
        if let Some(mode) = mode {
            set_port(link, mode);
        }
    });
}

/// Keeps the kernel from giving a link an address of its own in `fe80::/10`; heeded only before it comes up.
pub(super) fn without_link_local(batch: &mut Batch, index: u32) {
    batch.message(RTM_NEWLINK, ACK, &header(AF_UNSPEC, index, 0, 0), |link| {
        link.nest(IFLA_AF_SPEC, &[], |families| {
            families.nest(u16::from(super::INET6), &[], |v6| {
                v6.byte(IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_NONE);
            });
        });
    });
}

/// Whether the node has IPv6 at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ipv6 {
    /// It has.
    Present,
    /// It was booted without.
    Absent,
}

/// How frames travel between the ports of one bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortMode {
    /// Freely.
    Open,
    /// Not at all at layer two: only the bridge itself can be reached.
    Isolated,
}

/// Sets what a bridge port does.
fn set_port(link: &mut Attributes<'_>, mode: PortMode) {
    link.nest(IFLA_LINKINFO, &[], |info| {
        info.text(IFLA_INFO_SLAVE_KIND, "bridge");
        info.nest(IFLA_INFO_SLAVE_DATA, &[], |port| {
            // With br_netfilter a translated packet may have to leave by the port it came in.
            port.byte(IFLA_BRPORT_MODE, 1);
            port.byte(IFLA_BRPORT_ISOLATED, u8::from(mode == PortMode::Isolated));
        });
    });
}

/// Whether bridged packets pass the IP firewall (needs br_netfilter).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BridgeFilter {
    /// As the machine is set.
    Default,
    /// They do, on this bridge.
    IpTables,
}

/// Creates a bridge that is up; its hardware address is fixed, so that it does not change with its ports.
pub(crate) fn add_bridge(batch: &mut Batch, name: &IfName, mtu: Option<u32>, filter: BridgeFilter) {
    let up = header(AF_UNSPEC, 0, IFF_UP, IFF_UP);
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCL, &up, |link| {
        link.text(IFLA_IFNAME, name.as_str());
        link.bytes(IFLA_ADDRESS, &MacAddr::random().0);
        link.number(IFLA_GROUP, GROUP);
        set_mtu(link, mtu);
        link_info(link, "bridge", |info| bridge_filter(info, filter));
    });
}

/// Creates the bridge of an overlay network: up, and without snooping, for no one on the other nodes answers queries.
pub(crate) fn add_segment_bridge(batch: &mut Batch, name: &IfName, mtu: u32) {
    let up = header(AF_UNSPEC, 0, IFF_UP, IFF_UP);
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCL, &up, |link| {
        link.text(IFLA_IFNAME, name.as_str());
        link.bytes(IFLA_ADDRESS, &MacAddr::random().0);
        link.number(IFLA_GROUP, GROUP);
        set_mtu(link, Some(mtu));
        link_info(link, "bridge", |info| info.byte(IFLA_BR_MCAST_SNOOPING, 0));
    });
}

/// Brings an existing bridge to the wanted settings.
pub(crate) fn set_bridge(batch: &mut Batch, index: u32, mtu: Option<u32>, filter: BridgeFilter) {
    batch.message(RTM_NEWLINK, ACK, &header(AF_UNSPEC, index, IFF_UP, IFF_UP), |link| {
        set_mtu(link, mtu);
        if filter == BridgeFilter::IpTables {
            link_info(link, "bridge", |info| bridge_filter(info, filter));
        }
    });
}

fn bridge_filter(info: &mut Attributes<'_>, filter: BridgeFilter) {
    if filter == BridgeFilter::IpTables {
        info.byte(IFLA_BR_NF_CALL_IPTABLES, 1);
        info.byte(IFLA_BR_NF_CALL_IP6TABLES, 1);
    }
}

/// A macvlan sub-interface made directly in the container's namespace.
#[derive(Debug)]
pub(crate) struct Macvlan<'a> {
    pub(crate) name: &'a IfName,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) parent: u32,
    pub(crate) mode: MacvlanMode,
    pub(crate) netns: BorrowedFd<'a>,
    pub(crate) mtu: Option<u32>,
}

/// Creates a macvlan sub-interface; it is left down.
pub(crate) fn add_macvlan(batch: &mut Batch, macvlan: &Macvlan<'_>) {
    let mode = match macvlan.mode {
        MacvlanMode::Private => 1,
        MacvlanMode::Vepa => 2,
        MacvlanMode::Bridge => 4,
        MacvlanMode::Passthru => 8,
    };
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCL, &header(AF_UNSPEC, 0, 0, 0), |link| {
        link.text(IFLA_IFNAME, macvlan.name.as_str());
        if let Some(mac) = macvlan.mac {
            link.bytes(IFLA_ADDRESS, &mac.0);
        }
        link.number(IFLA_LINK, macvlan.parent);
        link.number(IFLA_NET_NS_FD, macvlan.netns.as_raw_fd().cast_unsigned());
        set_mtu(link, macvlan.mtu);
        link_info(link, "macvlan", |info| info.number(IFLA_MACVLAN_MODE, mode));
    });
}

/// Creates a dummy link that is up, the parent of macvlan networks without one.
pub(crate) fn add_dummy(batch: &mut Batch, name: &IfName) {
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCL, &header(AF_UNSPEC, 0, IFF_UP, IFF_UP), |link| {
        link.text(IFLA_IFNAME, name.as_str());
        link.number(IFLA_GROUP, GROUP);
        link_info(link, "dummy", |_| {});
    });
}

/// Creates a VLAN link on a parent, up.
pub(crate) fn add_vlan(batch: &mut Batch, name: &IfName, parent: u32, id: u16) {
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCL, &header(AF_UNSPEC, 0, IFF_UP, IFF_UP), |link| {
        link.text(IFLA_IFNAME, name.as_str());
        link.number(IFLA_GROUP, GROUP);
        link.number(IFLA_LINK, parent);
        link_info(link, "vlan", |info| info.bytes(IFLA_VLAN_ID, &id.to_ne_bytes()));
    });
}

/// Creates a WireGuard link in `netns`. Its datagrams are in the namespace of the socket that sends this: the kernel
/// remembers where a device was born, wherever it lives.
pub(crate) fn add_wireguard(batch: &mut Batch, name: &IfName, mtu: u32, netns: BorrowedFd<'_>) {
    batch.message(RTM_NEWLINK, ACK | CREATE | EXCL, &header(AF_UNSPEC, 0, 0, 0), |link| {
        link.text(IFLA_IFNAME, name.as_str());
        link.number(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
        set_mtu(link, Some(mtu));
        link_info(link, "wireguard", |_| {});
    });
}

/// Sets the size of a link's packets and sets it up.
pub(crate) fn set_up_with(batch: &mut Batch, index: u32, mtu: u32) {
    batch.message(RTM_NEWLINK, ACK, &header(AF_UNSPEC, index, IFF_UP, IFF_UP), |link| {
        set_mtu(link, Some(mtu));
    });
}

/// Sets a link up.
pub(crate) fn set_up(batch: &mut Batch, index: u32) {
    batch.message(RTM_NEWLINK, ACK, &header(AF_UNSPEC, index, IFF_UP, IFF_UP), |_| {});
}

/// Sets a link down by its name and marks it for [`delete_departed`].
pub(crate) fn retire(batch: &mut Batch, name: &IfName) {
    batch.message(RTM_NEWLINK, ACK, &header(AF_UNSPEC, 0, 0, IFF_UP), |link| {
        link.text(IFLA_IFNAME, name.as_str());
        link.number(IFLA_GROUP, DEPARTED);
    });
}

/// Deletes all links that [`retire`] marked and that are still there; none is fine. One wait for the kernel serves all.
pub(crate) fn delete_departed(socket: &mut Socket) -> io::Result<()> {
    let mut batch = Batch::default();
    batch.message(RTM_DELLINK, ACK, &header(AF_UNSPEC, 0, 0, 0), |link| link.number(IFLA_GROUP, DEPARTED));
    missing_is_fine(socket.run_all(&batch))
}

/// Deletes a link; one that is gone is fine.
///
/// The kernel waits for an RCU barrier (10 to 30 ms) before it answers.
pub(crate) fn delete(socket: &mut Socket, name: &IfName) -> io::Result<()> {
    let mut batch = Batch::default();
    batch
        .message(RTM_DELLINK, ACK, &header(AF_UNSPEC, 0, 0, 0), |link| link.text(IFLA_IFNAME, name.as_str()));
    missing_is_fine(socket.run_all(&batch))
}

/// Looks a link up by its name.
pub(crate) fn find(socket: &mut Socket, name: &IfName) -> io::Result<Option<Link>> {
    let mut batch = Batch::default();
    batch.message(RTM_GETLINK, 0, &header(AF_UNSPEC, 0, 0, 0), |link| link.text(IFLA_IFNAME, name.as_str()));
    let mut found = None;
    match socket.request(&batch, |_, payload| found = parse(payload)) {
        Ok(()) => Ok(found),
        Err(error) => missing_is_fine(Err(error)).map(|()| None),
    }
}

/// Lists every link of the namespace.
pub(crate) fn list(socket: &mut Socket) -> io::Result<Vec<Link>> {
    let mut batch = Batch::default();
    batch.message(RTM_GETLINK, DUMP, &header(AF_UNSPEC, 0, 0, 0), |_| {});
    socket.dump(&batch, |_, payload| parse(payload))
}

fn parse(payload: &[u8]) -> Option<Link> {
    // struct ifinfomsg: family, pad, type, index, flags, change.
    let attributes = payload.get(16..)?;
    if payload.first() == Some(&AF_BRIDGE) {
        return None;
    }
    let kind = attribute(attributes, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND));
    let mac = attribute(attributes, IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok());
    Some(Link {
        index: u32_at(payload, 4)?,
        name: text(attribute(attributes, IFLA_IFNAME)?),
        kind: kind.map(text).unwrap_or_default(),
        group: attribute(attributes, IFLA_GROUP).and_then(|bytes| u32_at(bytes, 0)).unwrap_or(0),
        mac: mac.map(MacAddr),
        up: u32_at(payload, 8)? & IFF_UP != 0,
        mtu: attribute(attributes, IFLA_MTU).and_then(|bytes| u32_at(bytes, 0)).unwrap_or(0),
    })
}

pub(super) fn set_mtu(link: &mut Attributes<'_>, mtu: Option<u32>) {
    if let Some(mtu) = mtu {
        link.number(IFLA_MTU, mtu);
    }
}

pub(super) fn link_info(link: &mut Attributes<'_>, kind: &str, data: impl FnOnce(&mut Attributes<'_>)) {
    link.nest(IFLA_LINKINFO, &[], |info| {
        info.text(IFLA_INFO_KIND, kind);
        info.nest(IFLA_INFO_DATA, &[], data);
    });
}

/// `struct ifinfomsg`
pub(super) fn header(family: u8, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0u8; 16];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}
