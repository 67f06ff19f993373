//! Forgets tracked connections to published ports.
//!
//! Start reading at [`forget`]. Entries are matched by the port of the node, as clients see it, not by the container's
//! (moby#53384). Format: include/uapi/linux/netfilter/nfnetlink_conntrack.h.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::expr::Family;
use crate::netlink::codec::{ACK, Batch, DUMP, attribute};
use crate::netlink::{Socket, address, missing_is_fine};
use crate::spec::{Protocol as Transport, PublishedPort};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_FILTER: u16 = 25;
/// Keeps request and answers below the socket's buffers.
const DELETIONS_A_BATCH: usize = 64;
/// Compare the protocol and the destination port of the original direction.
const FILTER_PROTOCOL_AND_PORT: u32 = 1 << 3 | 1 << 5;

/// A translated connection, as its entry tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Where the client sends to.
    pub(crate) destination: IpAddr,
    /// Number of the protocol.
    pub(crate) protocol: u8,
    /// The port that the client sends to.
    pub(crate) port: u16,
    /// Who answers.
    pub(crate) answered_by: IpAddr,
}

/// Deletes the entries of one family for which that holds, in the namespace of the socket.
pub(crate) fn forget_where(
    socket: &mut Socket,
    family: Family,
    is_lost: impl Fn(&Flow) -> bool,
) -> io::Result<()> {
    let family = family.number();
    let mut request = Batch::default();
    request.message(GET, DUMP, &[family, 0, 0, 0], |_| {});
    let lost = socket.dump(&request, |_, payload| {
        let entry = payload.get(4..)?;
        let original = attribute(entry, CTA_TUPLE_ORIG)?;
        is_lost(&flow(original, attribute(entry, CTA_TUPLE_REPLY)?)?).then(|| original.to_vec())
    })?;
    for chunk in lost.chunks(DELETIONS_A_BATCH) {
        let mut batch = Batch::default();
        for tuple in chunk {
            batch.message(DELETE, ACK, &[family, 0, 0, 0], |message| {
                message.nest(CTA_TUPLE_ORIG, &[], |nested| nested.raw(tuple));
            });
        }
        socket.run(&batch)?.into_iter().try_for_each(missing_is_fine)?;
    }
    Ok(())
}

fn flow(original: &[u8], reply: &[u8]) -> Option<Flow> {
    let proto = attribute(original, 2)?;
    let source = |ip: &[u8]| attribute(ip, 1).or_else(|| attribute(ip, 3)).and_then(address);
    Some(Flow {
        destination: destination(attribute(original, 1)?)?,
        protocol: *attribute(proto, 1)?.first()?,
        // ICMP has none.
        port: attribute(proto, 3).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_be_bytes),
        answered_by: source(attribute(reply, 1)?)?,
    })
}

/// Whether any of the ports belongs to a protocol without connections, whose entries outlive their mapping.
pub(super) fn concerns(ports: &[PublishedPort]) -> bool {
    ports.iter().any(|port| port.protocol != Transport::Tcp && port.host.is_some())
}

/// Deletes the entries of connections to these ports of the node.
pub(super) fn forget(socket: &mut Socket, ports: &[PublishedPort]) -> io::Result<()> {
    let datagram = ports.iter().filter(|port| port.protocol != Transport::Tcp);
    let targets = datagram.filter_map(|port| port.host.map(|host| (port.protocol.number(), host)));
    for (protocol, host) in targets {
        let family = Family::of(host.ip()).number();
        let stale = matching(socket, family, protocol, host)?;
        let mut batch = Batch::default();
        for tuple in &stale {
            batch.message(DELETE, ACK, &[family, 0, 0, 0], |message| {
                message.nest(CTA_TUPLE_ORIG, &[], |nested| {
                    nested.raw(tuple);
                });
            });
        }
        socket.run(&batch)?.into_iter().try_for_each(missing_is_fine)?;
    }
    Ok(())
}

/// The original tuples of the entries, as raw attributes.
fn matching(socket: &mut Socket, family: u8, protocol: u8, host: SocketAddr) -> io::Result<Vec<Vec<u8>>> {
    let mut request = Batch::default();
    // Kernels since 5.8 look for themselves; older ones ignore the filter and send everything.
    request.message(GET, DUMP, &[family, 0, 0, 0], |message| {
        message.nest(CTA_TUPLE_ORIG, &[], |tuple| {
            tuple.nest(2, &[], |proto| {
                proto.byte(1, protocol);
                proto.bytes(3, &host.port().to_be_bytes());
            });
        });
        message.nest(CTA_FILTER, &[], |filter| {
            filter.number(1, FILTER_PROTOCOL_AND_PORT);
            filter.number(2, 0);
        });
    });
    socket.dump(&request, |_, payload| {
        let tuple = attribute(payload.get(4..)?, CTA_TUPLE_ORIG)?;
        let proto = attribute(tuple, 2)?;
        let same_protocol = attribute(proto, 1)?.first() == Some(&protocol);
        let same_port = attribute(proto, 3)? == host.port().to_be_bytes();
        let destination = destination(attribute(tuple, 1)?)?;
        let same_address = host.ip().is_unspecified() || destination == host.ip();
        (same_protocol && same_port && same_address).then(|| tuple.to_vec())
    })
}

fn destination(ip: &[u8]) -> Option<IpAddr> {
    attribute(ip, 2).or_else(|| attribute(ip, 4)).and_then(address)
}
