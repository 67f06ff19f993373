//! Which chain stands behind each virtual address or published port, and what it does. PURE but for the script that it
//! writes.
//!
//! Start reading at [`Entry`] and [`Table`]. One map leads from the key (an address, or protocol and port) to the
//! chain of the service, so that the look-up costs the same for one service and for five hundred. A chain draws a
//! number, looks the backend up and translates. Its name is a digest of all that it does: two chains of the same name
//! do the same, so that a difference between kernel and wish shows in the one map, and a change is one transaction that
//! concerns nothing but its service.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use super::script::{Pair, Script, Type};
use crate::firewall::expr::{Family, Hook, Policy, address, concat};
use crate::overlay::spec::{Affinity, Backend, BackendState, ClientAddress, IngressPort, VirtualService};

/// Table of the virtual services in a container's namespace.
pub(super) const SERVICES: &str = "shoal_services";
/// Table of the published ports in the routing mesh's namespace.
pub(super) const PORTS: &str = "shoal_ingress";
/// Where services without a task lead.
const NOBODY: &str = "nobody";
/// So that every node sends a client to the same task: "SHL" in ASCII.
const AFFINITY_SEED: u32 = 0x53_48_4c;
/// Connection mark of those whose source is rewritten, in the routing mesh's namespace.
const MASQUERADED: u32 = 1;

const META_PROTOCOL: u32 = 16;
const CONNECTION_STATE: u32 = 0;
const CONNECTION_MARK: u32 = 3;
const TCP: u8 = 6;

/// Which of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// Virtual services, for what the namespace's own processes send.
    Services,
    /// Published ports, for what comes in.
    Ports,
}

/// One service or published port, as one family's table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Key of the map.
    pub(super) key: Vec<u8>,
    /// Where new connections go, sorted.
    serving: Vec<IpAddr>,
    /// Whose connections go on, sorted; those that serve among them.
    pub(super) keeping: Vec<IpAddr>,
    /// The port to translate to; that of the packet when absent.
    port: Option<u16>,
    affinity: Affinity,
    client: ClientAddress,
}

impl Entry {
    /// A virtual service.
    pub(super) fn service(service: &VirtualService) -> (Family, Self) {
        let family = Family::of(service.vip);
        let key = address(service.vip);
        (family, Self::new(key, family, &service.backends, None, service.affinity, ClientAddress::Kept))
    }

    /// A published port.
    pub(super) fn port(port: &IngressPort, family: Family) -> Self {
        let key = port_key(port);
        Self::new(key, family, &port.backends, Some(port.target), port.affinity, port.client)
    }

    fn new(
        key: Vec<u8>,
        family: Family,
        backends: &[Backend],
        port: Option<u16>,
        affinity: Affinity,
        client: ClientAddress,
    ) -> Self {
        let addresses = |states: &[BackendState]| {
            let mut addresses: Vec<IpAddr> = backends
                .iter()
                .filter(|backend| Family::of(backend.address) == family && states.contains(&backend.state))
                .map(|backend| backend.address)
                .collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses
        };
        let serving = addresses(&[BackendState::Serving]);
        let keeping = addresses(&[BackendState::Serving, BackendState::Draining]);
        Self { key, serving, keeping, port, affinity, client }
    }

    /// Name of the chain, which says all that it does.
    pub(super) fn chain(&self) -> String {
        if self.serving.is_empty() {
            return NOBODY.to_owned();
        }
        let mut digest = DefaultHasher::new();
        let affine = self.affinity == Affinity::ClientAddress;
        let masqueraded = self.client == ClientAddress::Node;
        (&self.key, &self.serving, self.port, affine, masqueraded).hash(&mut digest);
        format!("to-{:016x}", digest.finish())
    }

    /// What the chain's map holds.
    pub(super) fn values(&self) -> Vec<Pair> {
        let numbered = (0u32..).zip(&self.serving);
        numbered.map(|(number, backend)| (number.to_ne_bytes().to_vec(), address(*backend))).collect()
    }
}

/// Key of a published port.
pub(super) fn port_key(port: &IngressPort) -> Vec<u8> {
    concat(&[&[port.protocol.number()], &port.published.to_be_bytes()])
}

/// Name of the map that belongs to a chain.
pub(super) fn map_of(chain: &str) -> String {
    chain.replacen("to-", "be-", 1)
}

impl Table {
    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Services => SERVICES,
            Self::Ports => PORTS,
        }
    }

    /// Name of the map that leads from keys to chains.
    pub(super) const fn ways(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Ports => "ports",
        }
    }

    /// What is there whatever the services are: replaces the whole table by an empty one.
    pub(super) fn write_frame(self, script: &mut Script, family: Family) {
        script.add_table();
        script.delete_table();
        script.add_table();
        let hook = |kind, number, priority| Hook { kind, number, priority, policy: Policy::Accept };
        let key = match self {
            Self::Services => Type::address(family),
            Self::Ports => Type::PROTOCOL_AND_PORT,
        };
        script.add_map(self.ways(), key, None);
        match self {
            Self::Services => {
                script.add_chain(NOBODY);
                script.add_rule(NOBODY, |rule| {
                    rule.meta(META_PROTOCOL, 0).equals(0, &[TCP]).reset();
                });
                script.add_rule(NOBODY, |rule| {
                    // The kernel asks nat chains only where connections are tracked; mentioning one is enough.
                    rule.connection(CONNECTION_STATE, 0).unreachable(family);
                });
                script.add_base_chain("output", hook("nat", 3, -100), None);
                let (offset, len) = destination(family);
                script.add_rule("output", |rule| {
                    rule.payload(1, offset, len, 0).follow(self.ways(), 0);
                });
            }
            Self::Ports => {
                script.add_base_chain("prerouting", hook("nat", 0, -100), None);
                script.add_rule("prerouting", |rule| {
                    rule.meta(META_PROTOCOL, 0).payload(2, 2, 2, 1).follow(self.ways(), 0);
                });
                script.add_base_chain("postrouting", hook("nat", 4, 100), None);
                script.add_rule("postrouting", |rule| {
                    rule.connection(CONNECTION_MARK, 0).equals(0, &MASQUERADED.to_ne_bytes()).masquerade();
                });
                script.add_base_chain("forward", hook("filter", 2, -150), None);
                script.add_rule("forward", clamp_segments);
            }
        }
    }

    /// How many rules each chain of the frame has.
    pub(super) fn frame_rules(self) -> BTreeMap<String, usize> {
        let counts: &[(&str, usize)] = match self {
            Self::Services => &[(NOBODY, 2), ("output", 1)],
            Self::Ports => &[("prerouting", 1), ("postrouting", 1), ("forward", 1)],
        };
        counts.iter().map(|&(chain, count)| (chain.to_owned(), count)).collect()
    }

    /// Adds a service: its map, its chain, and the way there.
    pub(super) fn write_entry(self, script: &mut Script, family: Family, entry: &Entry) {
        let chain = entry.chain();
        if chain == NOBODY {
            // A published port without a task is the namespace's own closed port, which the kernel refuses itself.
            if self == Self::Services {
                script.add_way(self.ways(), &entry.key, NOBODY);
            }
            return;
        }
        let map = map_of(&chain);
        script.add_map(&map, Type::INTEGER, Some(Type::address(family)));
        script.add_values(&map, &entry.values());
        script.add_chain(&chain);
        let modulus = u32::try_from(entry.serving.len()).unwrap_or(u32::MAX);
        let (destination_offset, len) = destination(family);
        script.add_rule(&chain, |rule| {
            if entry.client == ClientAddress::Node {
                rule.value(0, &MASQUERADED.to_ne_bytes()).set_connection(CONNECTION_MARK, 0);
            }
            match entry.affinity {
                Affinity::None => rule.random(modulus, 0),
                Affinity::ClientAddress => {
                    rule.payload(1, destination_offset - len, len, 4).hash(4, len, modulus, AFFINITY_SEED, 0)
                }
            };
            rule.look_up(&map, 0, 4);
            match entry.port {
                Some(port) => rule.value(0, &port.to_be_bytes()).translate(family, 4, Some(0)),
                None => rule.translate(family, 4, None),
            };
        });
        script.add_way(self.ways(), &entry.key, &chain);
    }

    /// Takes a service out that leads to this chain.
    pub(super) fn remove_entry(self, script: &mut Script, key: &[u8], chain: &str) {
        script.delete_key(self.ways(), key);
        if chain != NOBODY {
            script.delete_chain(chain);
            script.delete_map(&map_of(chain));
        }
    }

    /// The chain that the way from an entry's key should lead to; absent when there should be no way.
    pub(super) fn wanted_chain(self, entry: &Entry) -> Option<String> {
        Some(entry.chain()).filter(|chain| self == Self::Services || chain != NOBODY)
    }
}

/// Offset and length of the destination in the network header; the source stands right before it.
const fn destination(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (16, 4),
        Family::V6 => (24, 16),
    }
}

/// `tcp flags syn / syn,rst tcp option maxseg size set rt mtu`: tasks think of another way back, whose packets may be
/// larger than a tunnel carries.
fn clamp_segments(rule: &mut super::script::Expressions<'_, '_>) {
    const SYN: u8 = 0x02;
    const SYN_OR_RST: u8 = 0x06;
    rule.meta(META_PROTOCOL, 0)
        .equals(0, &[TCP])
        .payload(2, 13, 1, 0)
        .mask(0, 0, &[SYN_OR_RST])
        .equals(0, &[SYN])
        .segment_size(0)
        .network_order(0)
        .clamp_segments(0);
}
