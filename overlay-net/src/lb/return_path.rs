//! The way back of connections that came through the routing mesh, in a task's namespace: to the node that they came
//! from, with the client's address untouched.
//!
//! Start reading at [`install`]. A task sees the client's own address, so that its answer would leave by the default
//! route and never pass the node that translated the connection. The hardware address of that node's end follows from
//! its IPv4 address in the ingress network (`MacAddr::for_addresses`), hence these four steps, the same in every
//! task and for every number of nodes:
//! 1. The first packet of a connection on the ingress interface writes the last four bytes of its sender's hardware
//!    address, which are that IPv4 address, into the connection's mark.
//! 2. Packets of connections with such a mark take it over when they leave.
//! 3. Packets with such a mark are routed out of the ingress interface by a table of their own.
//! 4. On that interface their destination's hardware address is written from the mark. Needs the egress hook for
//!    links (Linux 5.16).

use std::io;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::script::Script;
use crate::error::{NetError, Result};
use crate::firewall::Family;
use crate::firewall::expr::{Hook, Policy, interface};
use crate::host::PacketMark;
use crate::netlink::codec::Batch;
use crate::netlink::{Protocol, Socket, existing_is_fine, route};
use crate::overlay::spec::OverlaySpec;
use crate::spec::{Endpoint, MacAddr};
use crate::sysctl;

const TABLE: &str = "shoal_return";
/// Routing table and priority of the rule that leads to it: before the main table's.
const ROUTES: u32 = 0x53_48;
const META_IN_INTERFACE: u32 = 6;
const META_MARK: u32 = 3;
const CONNECTION_STATE: u32 = 0;
const CONNECTION_MARK: u32 = 3;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`
const STATE_NEW: u32 = 0x8;
const LINK_HEADER: u32 = 0;

/// Sets up the four steps for an endpoint in an ingress network; on a thread of the task's namespace.
pub(crate) fn install(
    socket: &mut Socket,
    index: u32,
    endpoint: &Endpoint,
    overlay: &OverlaySpec,
) -> Result<()> {
    let Some(own) = endpoint.addresses.iter().find_map(|net| match net {
        IpNet::V4(v4) => Some(v4.trunc()),
        IpNet::V6(_) => None,
    }) else {
        return Err(NetError::NotSupported("an ingress endpoint without an IPv4 address"));
    };
    let families: Vec<(Family, IpAddr)> = endpoint
        .addresses
        .iter()
        .filter_map(|net| {
            let subnet = overlay.subnets.iter().find(|subnet| subnet.subnet.contains(&net.addr()))?;
            Some((Family::of(net.addr()), subnet.gateway?))
        })
        .collect();
    let name = endpoint.ifname.as_str();
    // Clients are not behind this interface as far as the main table knows.
    sysctl::write(&sysctl::interface_key("net.ipv4.conf", name, "rp_filter"), "2")?;
    let mut batch = Batch::default();
    for &(_, next_hop) in &families {
        let mark = PacketMark { value: mark_of(own), mask: mask_of(own) };
        route::add_marked_default(&mut batch, ROUTES, mark, index, next_hop);
    }
    let outcomes = socket.run(&batch).map_err(NetError::kernel("route answers to the routing mesh"))?;
    outcomes
        .into_iter()
        .try_for_each(existing_is_fine)
        .map_err(NetError::kernel("route answers to the routing mesh"))?;
    let mut rules = Socket::open(Protocol::Netfilter)
        .map_err(NetError::kernel("open netfilter socket in the container's namespace"))?;
    let failed = || NetError::kernel("write the rules for answers to the routing mesh");
    for &(family, _) in &families {
        mark_connections(family, name, own).commit(&mut rules).map_err(failed())?;
    }
    match write_hardware_addresses(name, own).commit(&mut rules) {
        Err(error) if is_unknown_hook(&error) => {
            Err(NetError::NotSupported("the routing mesh with clients' own addresses (needs Linux 5.16)"))
        }
        outcome => outcome.map_err(failed()),
    }
}

/// Steps 1 and 2.
fn mark_connections(family: Family, link: &str, subnet: Ipv4Net) -> Script {
    let mut script = Script::new(family, TABLE);
    script.add_table();
    let hook = |kind, number| Hook { kind, number, priority: -150, policy: Policy::Accept };
    script.add_base_chain("prerouting", hook("filter", 0), None);
    script.add_rule("prerouting", |rule| {
        rule.meta(META_IN_INTERFACE, 0)
            .equals(0, &interface(link))
            .connection(CONNECTION_STATE, 0)
            .mask(0, 0, &STATE_NEW.to_ne_bytes())
            .differs(0, &[0; 4])
            .payload(LINK_HEADER, 8, 4, 0)
            .mask(0, 1, &subnet.netmask().octets())
            .equals(1, &subnet.network().octets())
            .set_connection(CONNECTION_MARK, 0);
    });
    script.add_base_chain("output", hook("route", 3), None);
    script.add_rule("output", |rule| {
        rule.connection(CONNECTION_MARK, 0)
            .mask(0, 1, &subnet.netmask().octets())
            .equals(1, &subnet.network().octets())
            .set_meta(META_MARK, 0);
    });
    script
}

/// Step 4.
fn write_hardware_addresses(link: &str, subnet: Ipv4Net) -> Script {
    let mut script = Script::for_links(TABLE);
    script.add_table();
    let hook = Hook { kind: "filter", number: 1, priority: 0, policy: Policy::Accept };
    script.add_base_chain("egress", hook, Some(link));
    script.add_rule("egress", |rule| {
        rule.meta(META_MARK, 0)
            .mask(0, 1, &subnet.netmask().octets())
            .equals(1, &subnet.network().octets())
            .write_payload(LINK_HEADER, 2, 4, 0)
            .value(0, &MacAddr::DERIVED_PREFIX)
            .write_payload(LINK_HEADER, 0, 2, 0);
    });
    script
}

/// Marks hold the address as it stands in packets.
fn mark_of(subnet: Ipv4Net) -> u32 {
    u32::from_ne_bytes(subnet.network().octets())
}

fn mask_of(subnet: Ipv4Net) -> u32 {
    u32::from_ne_bytes(subnet.netmask().octets())
}

fn is_unknown_hook(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOENT))
}
