//! The rule set: which packets are let through, and which are rewritten. PURE.
//!
//! Start reading at [`chains`]. The rules are the same on every node at every time; networks, links and published
//! ports are elements of sets ([`network_elements`], [`port_elements`], [`link_elements`]), so that starting a
//! container never adds a rule and a packet meets the same dozen of rules whether there are three containers or three
//! thousand. Writing it to the kernel is `nft.rs`.
//!
//! What the chains do, for table `ip shoal` (`ip6 shoal` is the same without loopback):
//! - `martians` (raw prerouting): nothing from a wire may be addressed to, or come from, 127.0.0.0/8. Bridges have
//!   `route_localnet` on, so that the node's 127.0.0.1 can be translated; this keeps the door shut for neighbours.
//! - `prerouting`, `output` -> `publish`: a packet to an address of this node and a published port goes to the
//!   container, from outside, from containers, and from the node itself.
//! - `forward`: inside one network everything passes (`intra`) unless icc is denied; into a network only translated
//!   connections (`into_nat`), or also published ports at the container's own address (`into_direct`, `into_routed`), or
//!   everything, as the gateway mode says. A direct packet to a container's address has no translation and is dropped,
//!   unless it comes from a trusted interface to a published port, or with the mark that the administrator accepts.
//! - `postrouting`: connections that leave a network take the node's address; those that come back into one of our
//!   networks through a published port, too, for the answer must pass here again.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Ruling;
use super::expr::{
    Chain, ChainDef, Comparison, Element, Expr, Family, Field, Hook, Part, Policy, Register, Rule, Set,
    SetDef, Stored, Value, Verdict, address, concat, interface,
};
use crate::host::PacketMark;
use crate::spec::{
    BridgeSpec, DriverSpec, Endpoint, GatewayMode, Icc, Masquerade, NetworkSpec, PublishedPort, Reach,
};

/// Name of our table in both families.
pub const TABLE: &str = "shoal";

const HOOK_PREROUTING: u32 = 0;
const HOOK_FORWARD: u32 = 2;
const HOOK_OUTPUT: u32 = 3;
const HOOK_POSTROUTING: u32 = 4;
const PRIORITY_RAW: i32 = -300;
const PRIORITY_DSTNAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SRCNAT: i32 = 100;

/// `established | related`
const STATE_KNOWN: u32 = 0b110;
/// `IPS_DST_NAT`
const STATUS_DNAT: u32 = 0x20;
/// `RTN_LOCAL`
const ROUTE_LOCAL: u32 = 2;

/// The sets of the table.
pub(crate) const SETS: [SetDef; 13] = [
    SetDef {
        set: Set::Published,
        key: &[Part::Protocol, Part::Address, Part::Port],
        stored: Stored::Parts(&[Part::Address, Part::Port]),
    },
    SetDef {
        set: Set::PublishedAny,
        key: &[Part::Protocol, Part::Port],
        stored: Stored::Parts(&[Part::Address, Part::Port]),
    },
    SetDef { set: Set::Open, key: &[Part::Address, Part::Protocol, Part::Port], stored: Stored::Nothing },
    SetDef {
        set: Set::Links,
        key: &[Part::Address, Part::Address, Part::Protocol, Part::Port],
        stored: Stored::Nothing,
    },
    SetDef { set: Set::Same, key: &[Part::Interface, Part::Interface], stored: Stored::Nothing },
    SetDef { set: Set::DenyIcc, key: &[Part::Interface], stored: Stored::Nothing },
    SetDef { set: Set::Internal, key: &[Part::Interface], stored: Stored::Nothing },
    SetDef { set: Set::Bridges, key: &[Part::Interface], stored: Stored::Nothing },
    SetDef { set: Set::Into, key: &[Part::Interface], stored: Stored::Verdict },
    SetDef { set: Set::Masquerade, key: &[Part::Interface], stored: Stored::Nothing },
    SetDef { set: Set::Snat, key: &[Part::Interface], stored: Stored::Parts(&[Part::Address]) },
    SetDef { set: Set::Subnets, key: &[Part::Address], stored: Stored::Ranges },
    SetDef { set: Set::Trusted, key: &[Part::Interface, Part::Interface], stored: Stored::Nothing },
];

/// Every chain with its rules.
pub(crate) fn chains(family: Family, ruling: Ruling) -> Vec<ChainDef> {
    let hook = |kind, number, priority, policy| Some(Hook { kind, number, priority, policy });
    let mut chains = vec![
        plain(Chain::Publish, publish_rules(family)),
        plain(Chain::DenyIcc, deny_icc_rules(family, ruling)),
        plain(Chain::Intra, intra_rules(family)),
        plain(Chain::IntoNat, into_rules(ruling, vec![from_trusted(open_ports(family))])),
        plain(Chain::IntoDirect, into_rules(ruling, vec![open_ports(family)])),
        plain(Chain::IntoRouted, into_rules(ruling, vec![open_ports(family), ping_rule(family)])),
        ChainDef {
            chain: Chain::Prerouting,
            hook: hook("nat", HOOK_PREROUTING, PRIORITY_DSTNAT, Policy::Accept),
            rules: vec![to_this_node(not_link_local_v6(family))],
        },
        ChainDef {
            chain: Chain::Output,
            hook: hook("nat", HOOK_OUTPUT, PRIORITY_DSTNAT, Policy::Accept),
            rules: vec![to_this_node([not_loopback_v6(family), not_link_local_v6(family)].concat())],
        },
        ChainDef {
            chain: Chain::Forward,
            hook: hook("filter", HOOK_FORWARD, PRIORITY_FILTER, ruling.forward),
            rules: forward_rules(family),
        },
        ChainDef {
            chain: Chain::Postrouting,
            hook: hook("nat", HOOK_POSTROUTING, PRIORITY_SRCNAT, Policy::Accept),
            rules: postrouting_rules(family),
        },
    ];
    if family == Family::V4 {
        chains.push(ChainDef {
            chain: Chain::Martians,
            hook: hook("filter", HOOK_PREROUTING, PRIORITY_RAW, Policy::Accept),
            rules: martian_rules(),
        });
    }
    chains
}

/// What a network contributes to the sets of one family.
pub fn network_elements(network: &NetworkSpec, family: Family) -> Vec<Element> {
    let DriverSpec::Bridge(bridge) = &network.driver else { return Vec::new() };
    let subnets: Vec<IpNet> = bridge
        .subnets
        .iter()
        .map(|s| s.subnet)
        .filter(|subnet| Family::of(subnet.addr()) == family)
        .collect();
    if subnets.is_empty() {
        return Vec::new();
    }
    let name = interface(bridge.bridge.as_str());
    let mut elements = vec![
        member(Set::Bridges, name.clone()),
        member(Set::Same, concat(&[&name, &name])),
        mapped(Set::Into, name.clone(), Value::Verdict(into_verdict(bridge, family))),
    ];
    if bridge.icc == Icc::Denied {
        elements.push(member(Set::DenyIcc, name.clone()));
    }
    if bridge.reach == Reach::Internal {
        elements.push(member(Set::Internal, name.clone()));
    } else {
        elements.extend(source_element(bridge, family, &name));
    }
    elements.extend(
        bridge
            .trusted_host_interfaces
            .iter()
            .map(|trusted| member(Set::Trusted, concat(&[&interface(trusted.as_str()), &name]))),
    );
    elements.extend(subnets.into_iter().flat_map(range_elements));
    elements
}

/// What published ports contribute to the sets of one family.
///
/// A port whose two sides differ in family, or that is bound to ::1, cannot be translated by the kernel: netd proxies it.
/// Which ports of a container are published is noted for those who may come to its own address; ports that share a
/// container's port share that note.
pub fn port_elements(ports: &[PublishedPort], family: Family) -> Vec<Element> {
    ports
        .iter()
        .filter(|port| Family::of(port.target.ip()) == family)
        .flat_map(|port| {
            let key = [
                &address(port.target.ip())[..],
                &[port.protocol.number()],
                &port.target.port().to_be_bytes(),
            ];
            let translated = port.host.and_then(|host| translation(port, host));
            translated.into_iter().chain([member(Set::Open, concat(&key))])
        })
        .collect()
}

fn translation(port: &PublishedPort, host: SocketAddr) -> Option<Element> {
    let protocol = [port.protocol.number()];
    let target = concat(&[&address(port.target.ip()), &port.target.port().to_be_bytes()]);
    let host_port = host.port().to_be_bytes();
    kernel_translates(host, port.target).then(|| {
        if host.ip().is_unspecified() {
            mapped(Set::PublishedAny, concat(&[&protocol, &host_port]), Value::Bytes(target))
        } else {
            let key = concat(&[&protocol, &address(host.ip()), &host_port]);
            mapped(Set::Published, key, Value::Bytes(target))
        }
    })
}

/// What the legacy links of an endpoint contribute to the sets of one family.
pub fn link_elements(endpoint: &Endpoint, family: Family) -> Vec<Element> {
    let clients =
        endpoint.addresses.iter().map(IpNet::addr).filter(move |client| Family::of(*client) == family);
    clients
        .flat_map(|client| {
            endpoint.links.iter().filter(move |link| Family::of(link.server) == family).map(move |link| {
                let (client, server) = (address(client), address(link.server));
                let key = concat(&[&client, &server, &[link.protocol.number()], &link.port.to_be_bytes()]);
                member(Set::Links, key)
            })
        })
        .collect()
}

/// Whether nftables can turn a connection to `host` into one to `target`.
pub(crate) fn kernel_translates(host: SocketAddr, target: SocketAddr) -> bool {
    let loopback_v6 = matches!(host.ip(), IpAddr::V6(v6) if v6.is_loopback());
    Family::of(host.ip()) == Family::of(target.ip()) && !loopback_v6
}

fn into_verdict(bridge: &BridgeSpec, family: Family) -> Verdict {
    if bridge.reach == Reach::Internal {
        return Verdict::Drop;
    }
    match gateway_mode(bridge, family) {
        GatewayMode::Nat => Verdict::Goto(Chain::IntoNat),
        GatewayMode::NatDirect => Verdict::Goto(Chain::IntoDirect),
        GatewayMode::NatUnprotected => Verdict::Accept,
        GatewayMode::Routed => Verdict::Goto(Chain::IntoRouted),
        GatewayMode::Isolated => Verdict::Drop,
    }
}

/// The gateway mode of one family.
pub(crate) fn gateway_mode(bridge: &BridgeSpec, family: Family) -> GatewayMode {
    match family {
        Family::V4 => bridge.gateway_mode_v4,
        Family::V6 => bridge.gateway_mode_v6,
    }
}

fn source_element(bridge: &BridgeSpec, family: Family, name: &[u8]) -> Option<Element> {
    let translated = matches!(
        gateway_mode(bridge, family),
        GatewayMode::Nat | GatewayMode::NatDirect | GatewayMode::NatUnprotected
    );
    if bridge.masquerade == Masquerade::Off || !translated {
        return None;
    }
    let source = match family {
        Family::V4 => bridge.host_ipv4,
        Family::V6 => bridge.host_ipv6,
    };
    Some(match source {
        Some(source) => mapped(Set::Snat, name.to_vec(), Value::Bytes(address(source))),
        None => member(Set::Masquerade, name.to_vec()),
    })
}

fn member(set: Set, key: Vec<u8>) -> Element {
    mapped(set, key, Value::Nothing)
}

fn mapped(set: Set, key: Vec<u8>, value: Value) -> Element {
    Element { set, key, range_end: false, value }
}

/// A subnet as the two elements that the kernel keeps for a range: first address, and the one behind the last.
fn range_elements(subnet: IpNet) -> Vec<Element> {
    let first = address(subnet.network());
    let mut behind = address(subnet.broadcast());
    let mut carried = true;
    for byte in behind.iter_mut().rev() {
        let (sum, overflow) = byte.overflowing_add(u8::from(carried));
        *byte = sum;
        carried = overflow;
    }
    let mut elements = vec![member(Set::Subnets, first)];
    // A range that ends with the last address of all has no end element.
    if !carried {
        elements.push(Element { set: Set::Subnets, key: behind, range_end: true, value: Value::Nothing });
    }
    elements
}

fn plain(chain: Chain, rules: Vec<Rule>) -> ChainDef {
    ChainDef { chain, hook: None, rules }
}

/// Loads fields into consecutive registers, as the key of a set wants them.
fn load(family: Family, fields: &[Field]) -> Vec<Expr> {
    let mut next: Register = 0;
    fields
        .iter()
        .map(|&field| {
            let register = next;
            next += field.registers(family);
            Expr::Load(field, register)
        })
        .collect()
}

fn rule(parts: impl IntoIterator<Item = Vec<Expr>>) -> Rule {
    parts.into_iter().flatten().collect()
}

fn in_set(family: Family, fields: &[Field], set: Set) -> Vec<Expr> {
    let mut exprs = load(family, fields);
    exprs.push(Expr::Lookup(set, 0));
    exprs
}

fn verdict(verdict: Verdict) -> Vec<Expr> {
    vec![Expr::Verdict(verdict)]
}

/// Holds for connections whose destination was rewritten.
fn translated() -> Vec<Expr> {
    flag(Field::ConntrackStatus, STATUS_DNAT)
}

fn flag(field: Field, mask: u32) -> Vec<Expr> {
    let zero = 0u32.to_ne_bytes().to_vec();
    let mask = mask.to_ne_bytes().to_vec();
    vec![Expr::Load(field, 0), Expr::Mask(0, mask), Expr::Compare(0, Comparison::NotEqual, zero)]
}

/// `condition fib daddr type local jump publish`
fn to_this_node(condition: Vec<Expr>) -> Rule {
    let local = vec![
        Expr::Load(Field::DestinationKind, 0),
        Expr::Compare(0, Comparison::Equal, ROUTE_LOCAL.to_ne_bytes().to_vec()),
    ];
    rule([condition, local, verdict(Verdict::Jump(Chain::Publish))])
}

/// The kernel does not route ::1 to another interface; netd answers there.
fn not_loopback_v6(family: Family) -> Vec<Expr> {
    match family {
        Family::V4 => Vec::new(),
        Family::V6 => {
            let loopback = address(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST));
            vec![Expr::Load(Field::DestinationAddress, 0), Expr::Compare(0, Comparison::NotEqual, loopback)]
        }
    }
}

/// An address of one link means nothing on another, so the answer to a translated connection would not come back; netd answers.
fn not_link_local_v6(family: Family) -> Vec<Expr> {
    match family {
        Family::V4 => Vec::new(),
        Family::V6 => {
            let [mut mask, mut prefix] = [vec![0; 16], vec![0; 16]];
            mask[..2].copy_from_slice(&[0xff, 0xc0]);
            prefix[..2].copy_from_slice(&[0xfe, 0x80]);
            vec![
                Expr::Load(Field::DestinationAddress, 0),
                Expr::Mask(0, mask),
                Expr::Compare(0, Comparison::NotEqual, prefix),
            ]
        }
    }
}

fn publish_rules(family: Family) -> Vec<Rule> {
    let port: Register = family.address_len() / 4;
    let bound = load(family, &[Field::Protocol, Field::DestinationAddress, Field::DestinationPort]);
    let any = load(family, &[Field::Protocol, Field::DestinationPort]);
    vec![
        rule([bound, vec![Expr::Map(Set::Published, 0, 0), Expr::Dnat(0, port)]]),
        rule([any, vec![Expr::Map(Set::PublishedAny, 0, 0), Expr::Dnat(0, port)]]),
    ]
}

fn forward_rules(family: Family) -> Vec<Rule> {
    vec![
        rule([flag(Field::ConntrackState, STATE_KNOWN), verdict(Verdict::Accept)]),
        rule([
            in_set(family, &[Field::InInterface, Field::OutInterface], Set::Same),
            verdict(Verdict::Goto(Chain::Intra)),
        ]),
        rule([in_set(family, &[Field::InInterface], Set::Internal), verdict(Verdict::Drop)]),
        rule([load(family, &[Field::OutInterface]), vec![Expr::VerdictMap(Set::Into, 0)]]),
        rule([in_set(family, &[Field::InInterface], Set::Bridges), verdict(Verdict::Accept)]),
    ]
}

fn intra_rules(family: Family) -> Vec<Rule> {
    vec![
        rule([in_set(family, &[Field::InInterface], Set::DenyIcc), verdict(Verdict::Goto(Chain::DenyIcc))]),
        verdict(Verdict::Accept),
    ]
}

fn deny_icc_rules(family: Family, ruling: Ruling) -> Vec<Rule> {
    let flow = [Field::SourceAddress, Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
    let mut rules = vec![
        rule([translated(), verdict(Verdict::Accept)]),
        rule([in_set(family, &flow, Set::Links), verdict(Verdict::Accept)]),
    ];
    rules.extend(marked_rule(ruling));
    rules.push(verdict(Verdict::Drop));
    rules
}

/// `meta mark and mask == value accept`
fn marked_rule(ruling: Ruling) -> Option<Rule> {
    let PacketMark { value, mask } = ruling.accepted?;
    let [value, mask] = [value, mask].map(|number| number.to_ne_bytes().to_vec());
    let marked =
        vec![Expr::Load(Field::Mark, 0), Expr::Mask(0, mask), Expr::Compare(0, Comparison::Equal, value)];
    Some(rule([marked, verdict(Verdict::Accept)]))
}

fn into_rules(ruling: Ruling, own: Vec<Rule>) -> Vec<Rule> {
    let mut rules = vec![rule([translated(), verdict(Verdict::Accept)])];
    rules.extend(own);
    rules.extend(marked_rule(ruling));
    rules.push(verdict(Verdict::Drop));
    rules
}

/// Published ports at the container's own address.
fn open_ports(family: Family) -> Rule {
    let flow = [Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
    rule([in_set(family, &flow, Set::Open), verdict(Verdict::Accept)])
}

/// Names of interfaces are the same in both families.
fn from_trusted(allowed: Rule) -> Rule {
    rule([in_set(Family::V4, &[Field::InInterface, Field::OutInterface], Set::Trusted), allowed])
}

fn ping_rule(family: Family) -> Rule {
    let (icmp, echo_request) = match family {
        Family::V4 => (1, 8),
        Family::V6 => (58, 128),
    };
    let ping = vec![
        Expr::Load(Field::Protocol, 0),
        Expr::Compare(0, Comparison::Equal, vec![icmp]),
        Expr::Load(Field::IcmpType, 0),
        Expr::Compare(0, Comparison::Equal, vec![echo_request]),
    ];
    rule([ping, verdict(Verdict::Accept)])
}

fn postrouting_rules(family: Family) -> Vec<Rule> {
    let into_ours = in_set(family, &[Field::OutInterface], Set::Bridges);
    let from_ours = in_set(family, &[Field::SourceAddress], Set::Subnets);
    let inside = in_set(family, &[Field::InInterface, Field::OutInterface], Set::Same);
    let mut rules = vec![rule([translated(), into_ours.clone(), from_ours, vec![Expr::Masquerade]])];
    if family == Family::V4 {
        rules.push(rule([translated(), into_ours, from_loopback(), vec![Expr::Masquerade]]));
    }
    rules.push(rule([inside, verdict(Verdict::Accept)]));
    rules.push(rule([load(family, &[Field::InInterface]), vec![Expr::Map(Set::Snat, 0, 0), Expr::Snat(0)]]));
    rules.push(rule([in_set(family, &[Field::InInterface], Set::Masquerade), vec![Expr::Masquerade]]));
    rules
}

fn from_loopback() -> Vec<Expr> {
    loopback(Field::SourceAddress)
}

/// `field in 127.0.0.0/8`
fn loopback(field: Field) -> Vec<Expr> {
    let mask = vec![255, 0, 0, 0];
    vec![Expr::Load(field, 0), Expr::Mask(0, mask), Expr::Compare(0, Comparison::Equal, vec![127, 0, 0, 0])]
}

fn martian_rules() -> Vec<Rule> {
    let from_a_wire =
        vec![Expr::Load(Field::InInterface, 0), Expr::Compare(0, Comparison::NotEqual, interface("lo"))];
    [Field::DestinationAddress, Field::SourceAddress]
        .into_iter()
        .map(|field| rule([from_a_wire.clone(), loopback(field), verdict(Verdict::Drop)]))
        .collect()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
