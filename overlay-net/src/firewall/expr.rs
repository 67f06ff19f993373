//! The vocabulary of nf_tables that the rule set is written in: sets, chains, expressions, elements. PURE.
//!
//! Start reading at [`Rule`]. `rules.rs` builds these values, `nft.rs` encodes them for the kernel. Only what the rule
//! set needs is here. Names and numbers: include/uapi/linux/netfilter/nf_tables.h.

use std::net::IpAddr;

use crate::netlink::octets;

/// Address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Table `ip`.
    V4,
    /// Table `ip6`.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The number in the netlink header.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::V4 => crate::netlink::INET,
            Self::V6 => crate::netlink::INET6,
        }
    }

    /// Length of an address.
    pub(crate) const fn address_len(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }
}

/// One part of a set's key or of a map's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Name of an interface, 16 bytes.
    Interface,
    /// An address of the table's family.
    Address,
    /// A transport protocol's number.
    Protocol,
    /// A port.
    Port,
}

impl Part {
    /// Bytes of the value itself.
    pub(crate) const fn len(self, family: Family) -> u32 {
        match self {
            Self::Interface => 16,
            Self::Address => family.address_len(),
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }

    /// 32-bit registers that the value occupies in a concatenation.
    pub(crate) const fn registers(self, family: Family) -> u32 {
        self.len(family).div_ceil(4)
    }

    /// nft's number of the byte order in which it shows the value: names are text in the node's order.
    pub(crate) const fn nft_byte_order(self) -> u32 {
        match self {
            Self::Interface => 1,
            Self::Address | Self::Protocol | Self::Port => 2,
        }
    }

    /// nft's number of the data type, which makes listings readable (nftables, include/datatype.h).
    pub(crate) const fn nft_type(self, family: Family) -> u32 {
        match (self, family) {
            (Self::Interface, _) => 41,
            (Self::Address, Family::V4) => 7,
            (Self::Address, Family::V6) => 8,
            (Self::Protocol, _) => 12,
            (Self::Port, _) => 13,
        }
    }
}

/// What a set stores beside its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Nothing: membership.
    Nothing,
    /// Nothing; keys are ranges.
    Ranges,
    /// A value.
    Parts(&'static [Part]),
    /// What happens to the packet.
    Verdict,
}

/// A named set or map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SetDef {
    pub(crate) set: Set,
    pub(crate) key: &'static [Part],
    pub(crate) stored: Stored,
}

/// The sets of the table; what changes while the node runs changes only in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Set {
    /// Published on one address of the node: protocol, address, port -> container address, port.
    Published,
    /// Published on every address of the node: protocol, port -> container address, port.
    PublishedAny,
    /// Open at the container's own address (routed mode): address, protocol, port.
    Open,
    /// Flows allowed by legacy links: client, server, protocol, port.
    Links,
    /// Bridges paired with themselves: traffic inside one network.
    Same,
    /// Bridges whose containers may not talk to each other.
    DenyIcc,
    /// Bridges of internal networks.
    Internal,
    /// Every bridge of ours.
    Bridges,
    /// Bridge -> what may get in from elsewhere.
    Into,
    /// Bridges whose outgoing connections take the node's address.
    Masquerade,
    /// Bridge -> the source address of its outgoing connections.
    Snat,
    /// Subnets of all our networks.
    Subnets,
    /// Interface of the node and bridge that its neighbours may enter directly.
    Trusted,
}

impl Set {
    /// The set's name in listings; never a keyword of nft's language, or a listing could not be loaded again.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::PublishedAny => "published_any",
            Self::Open => "open",
            Self::Links => "links",
            Self::Same => "same",
            Self::DenyIcc => "deny_icc",
            Self::Internal => "internal",
            Self::Bridges => "bridges",
            Self::Into => "into",
            Self::Masquerade => "masqueraded",
            Self::Snat => "snat_to",
            Self::Subnets => "subnets",
            Self::Trusted => "trusted",
        }
    }
}

/// One element of a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The set it is in.
    pub set: Set,
    /// Its key, each part padded to four bytes when there are several.
    pub(crate) key: Vec<u8>,
    /// Whether it closes a range that the element before opened.
    pub(crate) range_end: bool,
    /// What the map stores for it.
    pub(crate) value: Value,
}

/// What an element stores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Value {
    Nothing,
    Bytes(Vec<u8>),
    Verdict(Verdict),
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Verdict {
    Drop,
    Accept,
    Jump(Chain),
    Goto(Chain),
}

/// The chains of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Chain {
    Martians,
    Prerouting,
    Output,
    Publish,
    Forward,
    Intra,
    DenyIcc,
    IntoNat,
    IntoDirect,
    IntoRouted,
    Postrouting,
}

impl Chain {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Martians => "martians",
            Self::Prerouting => "prerouting",
            Self::Output => "output",
            Self::Publish => "publish",
            Self::Forward => "forward",
            Self::Intra => "intra",
            Self::DenyIcc => "deny_icc",
            Self::IntoNat => "into_nat",
            Self::IntoDirect => "into_direct",
            Self::IntoRouted => "into_routed",
            Self::Postrouting => "postrouting",
        }
    }

    /// The chain of that name, as read back from the kernel.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [
            Self::Martians,
            Self::Prerouting,
            Self::Output,
            Self::Publish,
            Self::Forward,
            Self::Intra,
            Self::DenyIcc,
            Self::IntoNat,
            Self::IntoDirect,
            Self::IntoRouted,
            Self::Postrouting,
        ]
        .into_iter()
        .find(|chain| chain.name() == name)
    }
}

/// Where the kernel calls a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) number: u32,
    pub(crate) priority: i32,
    pub(crate) policy: Policy,
}

/// What happens to packets that reach the end of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Accept,
    Drop,
}

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainDef {
    pub(crate) chain: Chain,
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<Rule>,
}

/// One rule: expressions evaluated until one does not hold.
pub(crate) type Rule = Vec<Expr>;

/// Number of a 32-bit register, from zero.
pub(crate) type Register = u32;

/// One expression of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    /// Loads a property of the packet.
    Load(Field, Register),
    /// Puts these bytes into the registers from this one on.
    Value(Register, Vec<u8>),
    /// Holds when the register equals the bytes, or differs from them.
    Compare(Register, Comparison, Vec<u8>),
    /// Masks what begins at the register in place, as many bytes as the mask has.
    Mask(Register, Vec<u8>),
    /// Holds when the key that starts at the register is in the set.
    Lookup(Set, Register),
    /// Like `Lookup`, and loads the map's value.
    Map(Set, Register, Register),
    /// Like `Lookup` in a verdict map, and follows it.
    VerdictMap(Set, Register),
    /// Ends, or goes elsewhere.
    Verdict(Verdict),
    /// Rewrites the destination to the address and port in these registers.
    Dnat(Register, Register),
    /// Rewrites the source to the address in the register and keeps the port.
    Snat(Register),
    /// Rewrites the source to the address of the outgoing interface.
    Masquerade,
}

/// A property of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    InInterface,
    OutInterface,
    SourceAddress,
    DestinationAddress,
    Protocol,
    DestinationPort,
    /// What somebody has written on the packet, as in `meta mark`.
    Mark,
    ConntrackState,
    ConntrackStatus,
    /// Kind of route to the destination, as in `fib daddr type`.
    DestinationKind,
    IcmpType,
}

/// Equal or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
}

impl Field {
    /// 32-bit registers that the value occupies.
    pub(crate) const fn registers(self, family: Family) -> u32 {
        match self {
            Self::InInterface | Self::OutInterface => 4,
            Self::SourceAddress | Self::DestinationAddress => family.address_len() / 4,
            _ => 1,
        }
    }
}

/// The bytes of a key or value made of several parts: each part is padded to a register.
pub(crate) fn concat(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// An interface name as the kernel compares it: 16 bytes, padded with zeros.
pub(crate) fn interface(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// An address as a key.
pub(crate) fn address(address: IpAddr) -> Vec<u8> {
    octets(address)
}
