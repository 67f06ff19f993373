//! Writes rule sets to the kernel, atomically, and reads them back.
//!
//! Start reading at [`replace_table`]. A batch is one transaction: all of it holds from one packet to the next, or none of
//! it. No `nft` program is involved. Only tables that are named in a call are touched. Which rules: `rules.rs`.

use std::io;

use super::expr::{
    Chain, ChainDef, Comparison, Element, Expr, Family, Field, Hook, Part, Policy, Register, Rule, Set,
    SetDef, Stored, Value, Verdict,
};
use crate::netlink::Socket;
use crate::netlink::codec::{
    ACK, APPEND, Attributes, Batch, CREATE, DUMP, attribute, attributes, network_u32, text,
};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = SUBSYSTEM;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const DEL_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const GET_RULE: u16 = SUBSYSTEM | 7;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;
const DEL_ELEMENT: u16 = SUBSYSTEM | 14;

/// First of the 32-bit registers (`NFT_REG32_00`).
const REGISTER_BASE: u32 = 8;
const REGISTER_VERDICT: u32 = 0;
const SET_RANGES: u32 = 0x4;
const SET_MAP: u32 = 0x8;
const ELEMENT_RANGE_END: u32 = 1;
/// `NFT_DATA_VERDICT`
const DATA_VERDICT: u32 = 0xffff_ff00;
/// Elements in one message; keeps it well below the 64 KiB that an attribute can hold.
const ELEMENTS_A_MESSAGE: usize = 400;

/// A transaction under construction.
#[derive(Debug)]
pub(crate) struct Transaction {
    batch: Batch,
    family: u8,
    table: &'static str,
}

impl Transaction {
    /// Begins a transaction on one table.
    pub(crate) fn new(family: Family, table: &'static str) -> Self {
        let mut batch = Batch::default();
        batch.message(BATCH_BEGIN, 0, &batch_header(), |_| {});
        Self { batch, family: family.number(), table }
    }

    /// Adds the table, with a comment that shows in listings; one that is there stays.
    pub(crate) fn add_table(&mut self, comment: &str) {
        let table = self.table;
        // nft's own way of storing comments: type 0, length, text with its zero.
        let mut user_data = vec![0, u8::try_from(comment.len() + 1).unwrap_or(u8::MAX)];
        user_data.extend_from_slice(comment.as_bytes());
        user_data.push(0);
        self.message(NEW_TABLE, CREATE, |message| {
            message.text(1, table);
            message.bytes(6, &user_data);
        });
    }

    /// Deletes the table with everything in it; it must exist.
    pub(crate) fn delete_table(&mut self) {
        let table = self.table;
        self.message(DEL_TABLE, 0, |message| message.text(1, table));
    }

    /// Adds an empty set.
    pub(crate) fn add_set(&mut self, family: Family, def: &SetDef) {
        let table = self.table;
        let key_len = parts_len(family, def.key);
        let id = u32::try_from(self.batch.len()).unwrap_or(u32::MAX);
        let flags = match def.stored {
            Stored::Nothing => 0,
            Stored::Ranges => SET_RANGES,
            Stored::Parts(_) | Stored::Verdict => SET_MAP,
        };
        self.message(NEW_SET, CREATE, |message| {
            message.text(1, table);
            message.text(2, def.set.name());
            message.network_number(3, flags);
            message.network_number(4, parts_type(family, def.key));
            message.network_number(5, key_len);
            match def.stored {
                Stored::Nothing | Stored::Ranges => {}
                Stored::Parts(parts) => {
                    message.network_number(6, parts_type(family, parts));
                    message.network_number(7, parts_len(family, parts));
                }
                Stored::Verdict => {
                    message.network_number(6, DATA_VERDICT);
                    message.network_number(7, 0);
                }
            }
            message.network_number(10, id);
            message.bytes(13, &byte_orders(def));
        });
    }

    /// Adds an empty chain.
    pub(crate) fn add_chain(&mut self, chain: &str, hook: Option<Hook>) {
        let table = self.table;
        self.message(NEW_CHAIN, CREATE, |message| {
            message.text(1, table);
            message.text(3, chain);
            if let Some(hook) = hook {
                message.nest(4, &[], |nested| {
                    nested.network_number(1, hook.number);
                    nested.network_number(2, hook.priority.cast_unsigned());
                });
                message.network_number(5, u32::from(hook.policy == Policy::Accept));
                message.text(7, hook.kind);
            }
        });
    }

    /// Appends a rule to a chain.
    pub(crate) fn add_rule(&mut self, family: Family, chain: &str, rule: &Rule) {
        let table = self.table;
        self.message(NEW_RULE, CREATE | APPEND, |message| {
            message.text(1, table);
            message.text(2, chain);
            message.nest(4, &[], |list| {
                for expr in rule {
                    write_expr(list, family, expr);
                }
            });
        });
    }

    /// Adds a table with everything in it.
    fn add_definition(&mut self, family: Family, definition: &TableDef<'_>, elements: &[Element]) {
        self.add_table(definition.comment);
        for set in definition.sets {
            self.add_set(family, set);
        }
        for chain in definition.chains {
            self.add_chain(chain.chain.name(), chain.hook);
        }
        for chain in definition.chains {
            for rule in &chain.rules {
                self.add_rule(family, chain.chain.name(), rule);
            }
        }
        self.add_elements(elements);
    }

    /// Adds elements; one that is there with the same value stays.
    pub(crate) fn add_elements(&mut self, elements: &[Element]) {
        self.elements(NEW_ELEMENT, CREATE, elements);
    }

    /// Removes elements; each must exist.
    pub(crate) fn remove_elements(&mut self, elements: &[Element]) {
        self.elements(DEL_ELEMENT, 0, elements);
    }

    /// Hands the transaction to the kernel.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> io::Result<()> {
        self.batch.message(BATCH_END, ACK, &batch_header(), |_| {});
        socket.run_all(&self.batch)
    }

    fn elements(&mut self, kind: u16, flags: u16, elements: &[Element]) {
        let table = self.table;
        let mut sorted: Vec<&Element> = elements.iter().collect();
        // Where one range ends and the next begins at the same address, the kernel wants to hear of the end first.
        sorted.sort_by_key(|element| (element.set, &element.key, !element.range_end));
        for group in sorted.chunk_by(|a, b| a.set == b.set) {
            for chunk in group.chunks(ELEMENTS_A_MESSAGE) {
                self.message(kind, flags, |message| {
                    message.text(1, table);
                    message.text(2, chunk[0].set.name());
                    message.nest(3, &[], |list| {
                        for element in chunk {
                            list.nest(1, &[], |nested| write_element(nested, element));
                        }
                    });
                });
            }
        }
    }

    fn message(&mut self, kind: u16, flags: u16, attributes: impl FnOnce(&mut Attributes<'_>)) {
        self.batch.message(kind, flags | ACK, &[self.family, 0, 0, 0], attributes);
    }
}

/// Replaces a whole table in one transaction; established connections do not notice.
pub(crate) fn replace_table(
    socket: &mut Socket,
    family: Family,
    definition: &TableDef<'_>,
    elements: &[Element],
) -> io::Result<()> {
    let mut transaction = Transaction::new(family, definition.table);
    // Adding first makes the deletion valid whether or not the table was there.
    transaction.add_table(definition.comment);
    transaction.delete_table();
    transaction.add_definition(family, definition, elements);
    transaction.commit(socket)
}

/// Adds a table that is not there yet.
///
/// Cheaper than [`replace_table`]: nothing is deleted, so nothing has to wait for packets on their way.
pub(crate) fn add_table(
    socket: &mut Socket,
    family: Family,
    definition: &TableDef<'_>,
    elements: &[Element],
) -> io::Result<()> {
    let mut transaction = Transaction::new(family, definition.table);
    transaction.add_definition(family, definition, elements);
    transaction.commit(socket)
}

/// The part of a table that does not change while the node runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableDef<'a> {
    pub(crate) table: &'static str,
    pub(crate) comment: &'a str,
    pub(crate) sets: &'a [SetDef],
    pub(crate) chains: &'a [ChainDef],
}

/// Removes a table; one that is gone is fine.
pub(crate) fn remove_table(socket: &mut Socket, family: Family, table: &'static str) -> io::Result<()> {
    let mut transaction = Transaction::new(family, table);
    transaction.add_table("");
    transaction.delete_table();
    transaction.commit(socket)
}

/// The comment of a table; absent when there is no such table.
pub(crate) fn table_comment(socket: &mut Socket, family: Family, table: &str) -> io::Result<Option<String>> {
    let mut request = Batch::default();
    request.message(GET_TABLE, 0, &[family.number(), 0, 0, 0], |message| message.text(1, table));
    let mut comment = None;
    let outcome = socket.request(&request, |_, payload| {
        let user_data = payload.get(4..).and_then(|rest| attribute(rest, 6)).unwrap_or_default();
        comment = Some(text(user_data.get(2..).unwrap_or_default()));
    });
    match outcome {
        Ok(()) => Ok(comment),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A base chain at the forward hook, of whichever table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForwardChain {
    pub(crate) table: String,
    pub(crate) chain: String,
    pub(crate) policy: Policy,
}

/// Every base chain of one family (and of `inet`) that sees forwarded packets.
pub(crate) fn forward_chains(socket: &mut Socket, family: Family) -> io::Result<Vec<ForwardChain>> {
    const INET: u8 = 1;
    let mut request = Batch::default();
    request.message(GET_CHAIN, DUMP, &[0, 0, 0, 0], |_| {});
    socket.dump(&request, |_, payload| {
        if ![family.number(), INET].contains(payload.first()?) {
            return None;
        }
        let rest = payload.get(4..)?;
        let hook = attribute(rest, 4).and_then(|hook| attribute(hook, 1)).and_then(network_u32)?;
        let policy = attribute(rest, 5).and_then(network_u32)?;
        (hook == 2).then(|| ForwardChain {
            table: attribute(rest, 1).map(text).unwrap_or_default(),
            chain: attribute(rest, 3).map(text).unwrap_or_default(),
            policy: if policy == 0 { Policy::Drop } else { Policy::Accept },
        })
    })
}

/// How many rules each chain of a table has, by chain name.
pub(crate) fn rule_counts(
    socket: &mut Socket,
    family: Family,
    table: &str,
) -> io::Result<Vec<(String, usize)>> {
    let mut request = Batch::default();
    request.message(GET_RULE, DUMP, &[family.number(), 0, 0, 0], |message| message.text(1, table));
    let mut counts: Vec<(String, usize)> = Vec::new();
    let chains = socket.dump(&request, |_, payload| {
        let rest = payload.get(4..)?;
        (attribute(rest, 1).map(text).as_deref() == Some(table))
            .then(|| attribute(rest, 2).map(text))
            .flatten()
    })?;
    for chain in chains {
        match counts.iter_mut().find(|(name, _)| *name == chain) {
            Some((_, count)) => *count += 1,
            None => counts.push((chain, 1)),
        }
    }
    Ok(counts)
}

/// The elements of one set as the kernel has them.
pub(crate) fn read_elements(
    socket: &mut Socket,
    family: Family,
    table: &str,
    set: Set,
) -> io::Result<Vec<Element>> {
    let mut request = Batch::default();
    request.message(GET_ELEMENT, DUMP, &[family.number(), 0, 0, 0], |message| {
        message.text(1, table);
        message.text(2, set.name());
    });
    let lists = socket.dump(&request, |_, payload| {
        let list = payload.get(4..).and_then(|rest| attribute(rest, 3))?;
        Some(attributes(list).filter_map(|(_, element)| read_element(set, element)).collect::<Vec<_>>())
    })?;
    Ok(lists.into_iter().flatten().collect())
}

fn read_element(set: Set, element: &[u8]) -> Option<Element> {
    let value = |kind| attribute(element, kind).and_then(|data| attribute(data, 1));
    let verdict = attribute(element, 2).and_then(|data| attribute(data, 2)).and_then(read_verdict);
    let flags = attribute(element, 3).and_then(network_u32).unwrap_or(0);
    let value_of = match (verdict, value(2)) {
        (Some(verdict), _) => Value::Verdict(verdict),
        (None, Some(bytes)) => Value::Bytes(bytes.to_vec()),
        (None, None) => Value::Nothing,
    };
    Some(Element { set, key: value(1)?.to_vec(), range_end: flags & ELEMENT_RANGE_END != 0, value: value_of })
}

fn read_verdict(bytes: &[u8]) -> Option<Verdict> {
    let chain = || attribute(bytes, 2).map(text).and_then(|name| Chain::from_name(&name));
    match attribute(bytes, 1).and_then(network_u32)?.cast_signed() {
        0 => Some(Verdict::Drop),
        1 => Some(Verdict::Accept),
        -3 => chain().map(Verdict::Jump),
        -4 => chain().map(Verdict::Goto),
        _ => None,
    }
}

fn write_element(attributes: &mut Attributes<'_>, element: &Element) {
    attributes.nest(1, &[], |key| key.bytes(1, &element.key));
    match &element.value {
        Value::Nothing => {}
        Value::Bytes(bytes) => attributes.nest(2, &[], |data| data.bytes(1, bytes)),
        Value::Verdict(verdict) => attributes.nest(2, &[], |data| write_verdict(data, verdict)),
    }
    if element.range_end {
        attributes.network_number(3, ELEMENT_RANGE_END);
    }
}

fn write_verdict(data: &mut Attributes<'_>, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3i32, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
    };
    data.nest(2, &[], |nested| {
        nested.network_number(1, code.cast_unsigned());
        if let Some(chain) = chain {
            nested.text(2, chain.name());
        }
    });
}

fn write_expr(list: &mut Attributes<'_>, family: Family, expr: &Expr) {
    let mut expression = |name: &str, data: &dyn Fn(&mut Attributes<'_>)| {
        list.nest(1, &[], |nested| {
            nested.text(1, name);
            nested.nest(2, &[], data);
        });
    };
    let register = |number: Register| REGISTER_BASE + number;
    match expr {
        Expr::Load(field, at) => {
            let (name, numbers) = field_numbers(*field, family, register(*at));
            expression(name, &|data| {
                numbers.iter().for_each(|&(kind, value)| data.network_number(kind, value));
            });
        }
        Expr::Value(at, bytes) => expression("immediate", &|data| {
            data.network_number(1, register(*at));
            data.nest(2, &[], |value| value.bytes(1, bytes));
        }),
        Expr::Compare(at, comparison, bytes) => expression("cmp", &|data| {
            data.network_number(1, register(*at));
            data.network_number(2, u32::from(*comparison == Comparison::NotEqual));
            data.nest(3, &[], |value| value.bytes(1, bytes));
        }),
        Expr::Mask(at, mask) => expression("bitwise", &|data| {
            data.network_number(1, register(*at));
            data.network_number(2, register(*at));
            data.network_number(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
            data.nest(4, &[], |value| value.bytes(1, mask));
            data.nest(5, &[], |value| value.bytes(1, &vec![0; mask.len()]));
        }),
        Expr::Lookup(set, key) => expression("lookup", &|data| {
            data.text(1, set.name());
            data.network_number(2, register(*key));
        }),
        Expr::Map(set, key, value) => expression("lookup", &|data| {
            data.text(1, set.name());
            data.network_number(2, register(*key));
            data.network_number(3, register(*value));
        }),
        Expr::VerdictMap(set, key) => expression("lookup", &|data| {
            data.text(1, set.name());
            data.network_number(2, register(*key));
            data.network_number(3, REGISTER_VERDICT);
        }),
        Expr::Verdict(verdict) => expression("immediate", &|data| {
            data.network_number(1, REGISTER_VERDICT);
            data.nest(2, &[], |value| write_verdict(value, verdict));
        }),
        Expr::Dnat(address, port) => expression("nat", &|data| {
            data.network_number(1, 1);
            data.network_number(2, u32::from(family.number()));
            data.network_number(3, register(*address));
            data.network_number(5, register(*port));
        }),
        Expr::Snat(address) => expression("nat", &|data| {
            data.network_number(1, 0);
            data.network_number(2, u32::from(family.number()));
            data.network_number(3, register(*address));
        }),
        Expr::Masquerade => expression("masq", &|_| {}),
    }
}

/// The expression that loads a field, and its numeric attributes.
fn field_numbers(field: Field, family: Family, register: u32) -> (&'static str, Vec<(u16, u32)>) {
    let payload = |base, offset, len| ("payload", vec![(1, register), (2, base), (3, offset), (4, len)]);
    let keyed = |name, key| (name, vec![(1, register), (2, key)]);
    let (source_offset, destination_offset) = match family {
        Family::V4 => (12, 16),
        Family::V6 => (8, 24),
    };
    match field {
        Field::InInterface => keyed("meta", 6),
        Field::OutInterface => keyed("meta", 7),
        Field::Protocol => keyed("meta", 16),
        Field::Mark => keyed("meta", 3),
        Field::ConntrackState => keyed("ct", 0),
        Field::ConntrackStatus => keyed("ct", 2),
        Field::SourceAddress => payload(1, source_offset, family.address_len()),
        Field::DestinationAddress => payload(1, destination_offset, family.address_len()),
        Field::IcmpType => payload(2, 0, 1),
        Field::DestinationPort => payload(2, 2, 2),
        Field::DestinationKind => ("fib", vec![(1, register), (2, 3), (3, 2)]),
    }
}

/// Length of a key or value: a single part as it is, several padded to registers.
fn parts_len(family: Family, parts: &[Part]) -> u32 {
    match parts {
        [single] => single.len(family),
        several => several.iter().map(|part| part.registers(family) * 4).sum(),
    }
}

/// How nft stores the byte orders of key and value with a set; without it names are listed as empty texts.
fn byte_orders(def: &SetDef) -> Vec<u8> {
    let order = |parts: &[Part]| match parts {
        [single] => single.nft_byte_order(),
        _ => 0,
    };
    let entry = |kind: u8, order: u32| [&[kind, 4], order.to_ne_bytes().as_slice()].concat();
    let mut user_data = entry(0, order(def.key));
    if let Stored::Parts(parts) = def.stored {
        user_data.extend(entry(1, order(parts)));
    }
    user_data
}

/// nft's number for a concatenation: six bits for each part.
fn parts_type(family: Family, parts: &[Part]) -> u32 {
    parts.iter().fold(0, |number, part| number << 6 | part.nft_type(family))
}

/// `struct nfgenmsg` of the batch markers: the subsystem in network order.
fn batch_header() -> [u8; 4] {
    [0, 0, 0, 10]
}
