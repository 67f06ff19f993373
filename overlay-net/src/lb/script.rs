//! nf_tables transactions with names that are made up while running: chains, maps and rules of the balancer.
//!
//! Start reading at [`Script`]. The node's own table is written by `firewall/nft.rs`, whose sets and chains are known
//! beforehand; here each service has a chain and a map of its own. Numbers: include/uapi/linux/netfilter/nf_tables.h.

use std::io;

use crate::firewall::expr::{Family, Hook, Policy};
use crate::netlink::Socket;
use crate::netlink::codec::{
    ACK, APPEND, Attributes, Batch, CREATE, DUMP, attribute, attributes, network_u32, text,
};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = SUBSYSTEM;
const DEL_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const DEL_CHAIN: u16 = SUBSYSTEM | 5;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const DEL_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const DEL_SET: u16 = SUBSYSTEM | 11;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;
const DEL_ELEMENT: u16 = SUBSYSTEM | 14;
const GET_GENERATION: u16 = SUBSYSTEM | 16;

/// `struct nfgenmsg` of the batch markers: the subsystem in network order.
const MARKER: [u8; 4] = [0, 0, 0, 10];
/// `NFPROTO_NETDEV`
const NETDEV: u8 = 5;
const SET_MAP: u32 = 0x8;
const DATA_VERDICT: u32 = 0xffff_ff00;
const VERDICT_GOTO: i32 = -4;
/// First of the 32-bit registers (`NFT_REG32_00`).
const REGISTER_BASE: u32 = 8;
const REGISTER_VERDICT: u32 = 0;

/// What nft calls the type of a key or a value, with its length and the byte order in which nft shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Type {
    number: u32,
    len: u32,
    order: u32,
}

impl Type {
    /// A number in the node's byte order; nft calls it a mark, for it has no name for sets of plain numbers.
    pub(super) const INTEGER: Self = Self { number: 19, len: 4, order: 1 };
    /// Protocol and port, each in a register.
    pub(super) const PROTOCOL_AND_PORT: Self = Self { number: 12 << 6 | 13, len: 8, order: 0 };

    /// An address.
    pub(super) const fn address(family: Family) -> Self {
        match family {
            Family::V4 => Self { number: 7, len: 4, order: 2 },
            Family::V6 => Self { number: 8, len: 16, order: 2 },
        }
    }
}

/// An element of a map: its key, and its value or the name of the chain that it leads to.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// A transaction under construction on one table.
#[derive(Debug)]
pub(super) struct Script {
    batch: Batch,
    family: u8,
    table: &'static str,
}

impl Script {
    /// Begins a transaction on a table of an address family.
    pub(super) fn new(family: Family, table: &'static str) -> Self {
        Self::with_family(family.number(), table)
    }

    /// Begins a transaction on a table of rules for single links.
    pub(super) fn for_links(table: &'static str) -> Self {
        Self::with_family(NETDEV, table)
    }

    fn with_family(family: u8, table: &'static str) -> Self {
        let mut batch = Batch::default();
        batch.message(BATCH_BEGIN, 0, &MARKER, |_| {});
        Self { batch, family, table }
    }

    /// Adds the table; one that is there stays.
    pub(super) fn add_table(&mut self) {
        self.message(NEW_TABLE, CREATE, |_| {});
    }

    /// Deletes the table with everything in it; it must exist.
    pub(super) fn delete_table(&mut self) {
        self.message(DEL_TABLE, 0, |_| {});
    }

    /// Adds a chain.
    pub(super) fn add_chain(&mut self, name: &str) {
        self.message(NEW_CHAIN, CREATE, |message| message.text(3, name));
    }

    /// Adds a chain that the kernel calls, for one link if the table is for links.
    pub(super) fn add_base_chain(&mut self, name: &str, hook: Hook, link: Option<&str>) {
        self.message(NEW_CHAIN, CREATE, |message| {
            message.text(3, name);
            message.nest(4, &[], |nested| {
                nested.network_number(1, hook.number);
                nested.network_number(2, hook.priority.cast_unsigned());
                if let Some(link) = link {
                    nested.text(3, link);
                }
            });
            message.network_number(5, u32::from(hook.policy == Policy::Accept));
            message.text(7, hook.kind);
        });
    }

    /// Deletes a chain with its rules; nothing may lead to it any more.
    pub(super) fn delete_chain(&mut self, name: &str) {
        self.message(DEL_RULE, 0, |message| message.text(2, name));
        self.message(DEL_CHAIN, 0, |message| message.text(3, name));
    }

    /// Adds an empty map; one without a type of value leads to chains.
    pub(super) fn add_map(&mut self, name: &str, key: Type, value: Option<Type>) {
        let id = u32::try_from(self.batch.len()).unwrap_or(u32::MAX);
        self.message(NEW_SET, CREATE, |message| {
            message.text(2, name);
            message.network_number(3, SET_MAP);
            message.network_number(4, key.number);
            message.network_number(5, key.len);
            message.network_number(6, value.map_or(DATA_VERDICT, |value| value.number));
            message.network_number(7, value.map_or(0, |value| value.len));
            message.network_number(10, id);
            message.bytes(13, &byte_orders(key, value));
        });
    }

    /// Deletes a map; no rule may use it any more.
    pub(super) fn delete_map(&mut self, name: &str) {
        self.message(DEL_SET, 0, |message| message.text(2, name));
    }

    /// Puts values into a map.
    pub(super) fn add_values(&mut self, map: &str, entries: &[Pair]) {
        // Far below the 64 KiB that an attribute can hold.
        for chunk in entries.chunks(400) {
            self.message(NEW_ELEMENT, CREATE, |message| {
                message.text(2, map);
                message.nest(3, &[], |list| {
                    for (key, value) in chunk {
                        list.nest(1, &[], |element| {
                            element.nest(1, &[], |nested| nested.bytes(1, key));
                            element.nest(2, &[], |nested| nested.bytes(1, value));
                        });
                    }
                });
            });
        }
    }

    /// Makes a key of a map lead to a chain.
    pub(super) fn add_way(&mut self, map: &str, key: &[u8], chain: &str) {
        self.message(NEW_ELEMENT, CREATE, |message| {
            message.text(2, map);
            message.nest(3, &[], |list| {
                list.nest(1, &[], |element| {
                    element.nest(1, &[], |nested| nested.bytes(1, key));
                    element.nest(2, &[], |data| write_goto(data, chain));
                });
            });
        });
    }

    /// Takes a key out of a map; it must be there.
    pub(super) fn delete_key(&mut self, map: &str, key: &[u8]) {
        self.message(DEL_ELEMENT, 0, |message| {
            message.text(2, map);
            message.nest(3, &[], |list| {
                list.nest(1, &[], |element| element.nest(1, &[], |nested| nested.bytes(1, key)));
            });
        });
    }

    /// Appends a rule to a chain.
    pub(super) fn add_rule(&mut self, chain: &str, expressions: impl FnOnce(&mut Expressions<'_, '_>)) {
        self.message(NEW_RULE, CREATE | APPEND, |message| {
            message.text(2, chain);
            message.nest(4, &[], |list| expressions(&mut Expressions { list }));
        });
    }

    /// Hands the transaction to the kernel: all of it, or none.
    pub(super) fn commit(mut self, socket: &mut Socket) -> io::Result<()> {
        self.batch.message(BATCH_END, ACK, &MARKER, |_| {});
        socket.run_all(&self.batch)
    }

    fn message(&mut self, kind: u16, flags: u16, attributes: impl FnOnce(&mut Attributes<'_>)) {
        let table = self.table;
        // Refusals come without being asked for; hundreds of acknowledgements would not fit the socket's buffer.
        self.batch.message(kind, flags, &[self.family, 0, 0, 0], |message| {
            message.text(1, table);
            attributes(message);
        });
    }
}

/// Writes the expressions of a rule; registers are numbered from zero.
#[derive(Debug)]
pub(super) struct Expressions<'a, 'b> {
    list: &'a mut Attributes<'b>,
}

impl Expressions<'_, '_> {
    /// Loads bytes of the packet: `base` is 0 for the link's header, 1 for the network's, 2 for the transport's.
    pub(super) fn payload(&mut self, base: u32, offset: u32, len: u32, to: u32) -> &mut Self {
        self.numbers("payload", &[(1, register(to)), (2, base), (3, offset), (4, len)])
    }

    /// Writes bytes of the packet, without touching checksums.
    pub(super) fn write_payload(&mut self, base: u32, offset: u32, len: u32, from: u32) -> &mut Self {
        self.numbers("payload", &[(5, register(from)), (2, base), (3, offset), (4, len), (6, 0), (7, 0)])
    }

    /// Loads a property that the kernel keeps beside the packet (`meta`).
    pub(super) fn meta(&mut self, key: u32, to: u32) -> &mut Self {
        self.numbers("meta", &[(1, register(to)), (2, key)])
    }

    /// Sets such a property.
    pub(super) fn set_meta(&mut self, key: u32, from: u32) -> &mut Self {
        self.numbers("meta", &[(2, key), (3, register(from))])
    }

    /// Loads a property of the packet's connection.
    pub(super) fn connection(&mut self, key: u32, to: u32) -> &mut Self {
        self.numbers("ct", &[(1, register(to)), (2, key)])
    }

    /// Sets such a property.
    pub(super) fn set_connection(&mut self, key: u32, from: u32) -> &mut Self {
        self.numbers("ct", &[(2, key), (4, register(from))])
    }

    /// Holds when a register equals the bytes.
    pub(super) fn equals(&mut self, at: u32, bytes: &[u8]) -> &mut Self {
        self.compare(at, 0, bytes)
    }

    /// Holds when a register differs from the bytes.
    pub(super) fn differs(&mut self, at: u32, bytes: &[u8]) -> &mut Self {
        self.compare(at, 1, bytes)
    }

    fn compare(&mut self, at: u32, operator: u32, bytes: &[u8]) -> &mut Self {
        self.expression("cmp", |data| {
            data.network_number(1, register(at));
            data.network_number(2, operator);
            data.nest(3, &[], |value| value.bytes(1, bytes));
        })
    }

    /// Masks bytes of one register into another.
    pub(super) fn mask(&mut self, from: u32, to: u32, mask: &[u8]) -> &mut Self {
        self.expression("bitwise", |data| {
            data.network_number(1, register(from));
            data.network_number(2, register(to));
            data.network_number(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
            data.nest(4, &[], |value| value.bytes(1, mask));
            data.nest(5, &[], |value| value.bytes(1, &vec![0; mask.len()]));
        })
    }

    /// Puts bytes into a register.
    pub(super) fn value(&mut self, to: u32, bytes: &[u8]) -> &mut Self {
        self.expression("immediate", |data| {
            data.network_number(1, register(to));
            data.nest(2, &[], |value| value.bytes(1, bytes));
        })
    }

    /// Goes where a map leads from the key in a register; nowhere when it has no such key.
    pub(super) fn follow(&mut self, map: &str, key: u32) -> &mut Self {
        self.expression("lookup", |data| {
            data.text(1, map);
            data.network_number(2, register(key));
            data.network_number(3, REGISTER_VERDICT);
        })
    }

    /// Loads the value that a map has for the key in a register.
    pub(super) fn look_up(&mut self, map: &str, key: u32, to: u32) -> &mut Self {
        self.expression("lookup", |data| {
            data.text(1, map);
            data.network_number(2, register(key));
            data.network_number(3, register(to));
        })
    }

    /// A random number below `modulus`, in the node's byte order.
    pub(super) fn random(&mut self, modulus: u32, to: u32) -> &mut Self {
        self.numbers("numgen", &[(1, register(to)), (2, modulus), (3, 1), (4, 0)])
    }

    /// A number below `modulus` that follows from bytes in registers (Jenkins), in the node's byte order.
    pub(super) fn hash(&mut self, from: u32, len: u32, modulus: u32, seed: u32, to: u32) -> &mut Self {
        let numbers =
            [(1, register(from)), (2, register(to)), (3, len), (4, modulus), (5, seed), (6, 0), (7, 0)];
        self.numbers("hash", &numbers)
    }

    /// Rewrites the destination to the address, and if given the port, in registers.
    pub(super) fn translate(&mut self, family: Family, address: u32, port: Option<u32>) -> &mut Self {
        let mut numbers = vec![(1, 1), (2, u32::from(family.number())), (3, register(address))];
        numbers.extend(port.map(|port| (5, register(port))));
        self.numbers("nat", &numbers)
    }

    /// Rewrites the source to the address of the outgoing link.
    pub(super) fn masquerade(&mut self) -> &mut Self {
        self.numbers("masq", &[])
    }

    /// Refuses with a TCP reset.
    pub(super) fn reset(&mut self) -> &mut Self {
        self.numbers("reject", &[(1, 1)])
    }

    /// Refuses with the ICMP message that a closed port answers.
    pub(super) fn unreachable(&mut self, family: Family) -> &mut Self {
        let code = match family {
            Family::V4 => 3,
            Family::V6 => 4,
        };
        self.expression("reject", |data| {
            data.network_number(1, 0);
            data.byte(2, code);
        })
    }

    /// Loads the segment size that the route both ways carries, in the node's byte order.
    pub(super) fn segment_size(&mut self, to: u32) -> &mut Self {
        self.numbers("rt", &[(1, register(to)), (2, 3)])
    }

    /// Turns a 16-bit number into network byte order.
    pub(super) fn network_order(&mut self, at: u32) -> &mut Self {
        self.numbers("byteorder", &[(1, register(at)), (2, register(at)), (3, 1), (4, 2), (5, 2)])
    }

    /// Lowers the TCP option "maximum segment size" to the 16-bit number in a register.
    pub(super) fn clamp_segments(&mut self, from: u32) -> &mut Self {
        self.expression("exthdr", |data| {
            data.byte(2, 2);
            data.network_number(3, 2);
            data.network_number(4, 2);
            data.network_number(6, 1);
            data.network_number(7, register(from));
        })
    }

    fn numbers(&mut self, name: &str, numbers: &[(u16, u32)]) -> &mut Self {
        self.expression(name, |data| {
            numbers.iter().for_each(|&(kind, value)| data.network_number(kind, value));
        })
    }

    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.list.nest(1, &[], |nested| {
            nested.text(1, name);
            nested.nest(2, &[], data);
        });
        self
    }
}

const fn register(number: u32) -> u32 {
    REGISTER_BASE + number
}

fn write_goto(data: &mut Attributes<'_>, chain: &str) {
    data.nest(2, &[], |nested| {
        nested.network_number(1, VERDICT_GOTO.cast_unsigned());
        nested.text(2, chain);
    });
}

/// How nft stores the byte orders of key and value with a set; without it listings cannot be loaded again.
fn byte_orders(key: Type, value: Option<Type>) -> Vec<u8> {
    let entry = |kind: u8, order: u32| [&[kind, 4], order.to_ne_bytes().as_slice()].concat();
    let mut user_data = entry(0, key.order);
    user_data.extend(value.map(|value| entry(1, value.order)).unwrap_or_default());
    user_data
}

/// The number of the namespace's rule set, which every transaction of anybody changes.
pub(super) fn generation(socket: &mut Socket) -> io::Result<u32> {
    let mut request = Batch::default();
    request.message(GET_GENERATION, 0, &[0, 0, 0, 0], |_| {});
    let mut generation = None;
    socket.request(&request, |_, payload| {
        generation = payload.get(4..).and_then(|rest| attribute(rest, 1)).and_then(network_u32);
    })?;
    generation.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The chain of every rule of a table, once for each rule.
pub(super) fn rule_chains(socket: &mut Socket, family: Family, table: &str) -> io::Result<Vec<String>> {
    let mut request = Batch::default();
    request.message(GET_RULE, DUMP, &[family.number(), 0, 0, 0], |message| message.text(1, table));
    socket.dump(&request, |_, payload| {
        let rest = payload.get(4..)?;
        (attribute(rest, 1).map(text).as_deref() == Some(table)).then(|| attribute(rest, 2).map(text))?
    })
}

/// What a map holds for each key; of one that leads to chains their names. Nothing when there is no such map.
pub(super) fn read_map(
    socket: &mut Socket,
    family: Family,
    table: &str,
    map: &str,
) -> io::Result<Option<Vec<Pair>>> {
    let mut request = Batch::default();
    request.message(GET_ELEMENT, DUMP, &[family.number(), 0, 0, 0], |message| {
        message.text(1, table);
        message.text(2, map);
    });
    let lists = socket.dump(&request, |_, payload| {
        let list = payload.get(4..).and_then(|rest| attribute(rest, 3))?;
        Some(attributes(list).filter_map(|(_, element)| read_element(element)).collect::<Vec<_>>())
    });
    match lists {
        Ok(lists) => Ok(Some(lists.into_iter().flatten().collect())),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_element(element: &[u8]) -> Option<Pair> {
    let key = attribute(element, 1).and_then(|data| attribute(data, 1))?.to_vec();
    let data = attribute(element, 2)?;
    let chain = || attribute(data, 2).and_then(|verdict| attribute(verdict, 2)).map(text);
    let value = attribute(data, 1).map(<[u8]>::to_vec).or_else(|| chain().map(String::into_bytes))?;
    Some((key, value))
}
