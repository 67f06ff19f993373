//! The rule in a container's namespace that leads 127.0.0.11:53 to the embedded server's ports.
//!
//! Start reading at [`install`]. It is a table of its own, replaced in one transaction, so that a new netd takes over
//! from a dead one between two packets.

use std::io;
use std::os::fd::OwnedFd;

use crate::dns::files::EMBEDDED_SERVER;
use crate::firewall::Family;
use crate::firewall::expr::{Chain, ChainDef, Comparison, Expr, Field, Hook, Policy, Rule};
use crate::firewall::nft::{TableDef, add_table, replace_table, table_comment};
use crate::netlink::{Protocol, Socket};
use crate::spec;

const TABLE: &str = "shoal_dns";
const DNS_PORT: u16 = 53;

/// Writes the rule in the namespace of the calling thread.
///
/// The socket is for keeping: after a replacement, closing it soon would wait for an RCU grace period (10 ms and more).
pub(super) fn install(udp: u16, tcp: u16) -> io::Result<OwnedFd> {
    let chain = ChainDef {
        chain: Chain::Output,
        hook: Some(Hook { kind: "nat", number: 3, priority: -100, policy: Policy::Accept }),
        rules: vec![rule(spec::Protocol::Udp, udp), rule(spec::Protocol::Tcp, tcp)],
    };
    let definition =
        TableDef { table: TABLE, comment: "Shoal's embedded name server", sets: &[], chains: &[chain] };
    let mut socket = Socket::open(Protocol::Netfilter)?;
    if table_comment(&mut socket, Family::V4, TABLE)?.is_some() {
        replace_table(&mut socket, Family::V4, &definition, &[])?;
    } else {
        add_table(&mut socket, Family::V4, &definition, &[])?;
    }
    Ok(socket.into())
}

/// `ip daddr 127.0.0.11 PROTOCOL dport 53 dnat to 127.0.0.11:PORT`
fn rule(protocol: spec::Protocol, port: u16) -> Rule {
    let server = EMBEDDED_SERVER.octets().to_vec();
    vec![
        Expr::Load(Field::DestinationAddress, 0),
        Expr::Compare(0, Comparison::Equal, server.clone()),
        Expr::Load(Field::Protocol, 0),
        Expr::Compare(0, Comparison::Equal, vec![protocol.number()]),
        Expr::Load(Field::DestinationPort, 0),
        Expr::Compare(0, Comparison::Equal, DNS_PORT.to_be_bytes().to_vec()),
        Expr::Value(0, server),
        Expr::Value(1, port.to_be_bytes().to_vec()),
        Expr::Dnat(0, 1),
    ]
}
