//! The firewall of this node: one table named `shoal` for each family, and nothing else.
//!
//! Start reading at [`Firewall`]; the rules themselves are explained in [`rules`]. Tables of others (ufw, firewalld,
//! libvirt, the administrator) are never changed; since nf_tables asks every table, what they drop stays dropped, and
//! what we drop they cannot let in. [`Firewall::foreign_drops`] names tables that drop forwarded packets by default,
//! because containers behind those have no connection and the reason is hard to find.

pub mod expr;
pub mod rules;

pub(crate) mod conntrack;
pub(crate) mod nft;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, PoisonError};

use self::expr::{ChainDef, Policy, Set};
pub use self::expr::{Element, Family};
use self::nft::{TableDef, Transaction};
use self::rules::{SETS, TABLE};
use crate::error::{NetError, Result};
use crate::host::{Config, Management, PacketMark};
use crate::netlink::{Protocol, Socket};
use crate::spec::PublishedPort;

/// Raised whenever the rules change, so that a newer daemon replaces an older one's table.
const RULES_VERSION: u32 = 3;

/// Writes our tables and remembers what should be in them.
#[derive(Debug)]
pub(crate) struct Firewall {
    families: Vec<Family>,
    state: Mutex<State>,
}

/// What should be in the tables; lets a table that somebody flushed be written again.
#[derive(Debug)]
struct State {
    /// Kept open: closing a netfilter socket waits for the removal of everything that was deleted, which takes an RCU
    /// grace period (10 ms and more).
    socket: Option<Socket>,
    elements: [BTreeSet<Element>; 2],
    ruling: Ruling,
}

/// What differs between the rules of one node and those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ruling {
    /// What becomes of forwarded packets that concern no network of ours.
    pub(crate) forward: Policy,
    /// What enters every network that is not internal.
    pub(crate) accepted: Option<PacketMark>,
}

/// What a synchronisation did to one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synced {
    /// Everything was as wanted.
    Unchanged,
    /// The rules were right; this many elements were added or removed.
    Elements(usize),
    /// The whole table was written.
    Replaced,
}

impl Firewall {
    /// A firewall for the managed families; writes nothing yet. Foreign packets pass.
    pub(crate) fn new(config: &Config) -> Self {
        let managed = |(family, management)| (management == Management::Managed).then_some(family);
        let families = [(Family::V4, config.firewall_v4), (Family::V6, config.firewall_v6)]
            .into_iter()
            .filter_map(managed)
            .collect();
        let ruling = Ruling { forward: Policy::Accept, accepted: config.accepted_mark };
        let state = State { socket: None, elements: [BTreeSet::new(), BTreeSet::new()], ruling };
        Self { families, state: Mutex::new(state) }
    }

    /// Whether rules of that family are written.
    pub(crate) fn manages(&self, family: Family) -> bool {
        self.families.contains(&family)
    }

    /// Makes foreign forwarded packets be dropped from now on.
    pub(crate) fn drop_foreign(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ruling.forward == Policy::Drop {
            return Ok(());
        }
        state.ruling.forward = Policy::Drop;
        let State { socket, elements, ruling } = &mut *state;
        let socket = open(socket)?;
        self.families.iter().try_for_each(|&family| replace(socket, family, &elements[slot(family)], *ruling))
    }

    /// Makes foreign forwarded packets be dropped from the next synchronisation on.
    pub(crate) fn expect_drop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).ruling.forward = Policy::Drop;
    }

    /// Makes the tables hold exactly these elements, whatever they held before.
    ///
    /// An intact table only gets the difference.
    pub(crate) fn sync(&self, wanted: [BTreeSet<Element>; 2]) -> Result<Vec<(Family, Synced)>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.elements = wanted;
        let State { socket, elements, ruling } = &mut *state;
        let socket = open(socket)?;
        let sync =
            |&family: &Family| Ok((family, sync_family(socket, family, &elements[slot(family)], *ruling)?));
        self.families.iter().map(sync).collect()
    }

    /// Adds elements of one family.
    pub(crate) fn add(&self, family: Family, elements: Vec<Element>) -> Result<()> {
        if elements.is_empty() || !self.manages(family) {
            return Ok(());
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut transaction = Transaction::new(family, TABLE);
        transaction.add_elements(&elements);
        state.elements[slot(family)].extend(elements);
        state.commit_or_replace(family, transaction)
    }

    /// Removes elements of one family; those that are not there are fine.
    pub(crate) fn remove(&self, family: Family, elements: &[Element]) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let present: Vec<Element> =
            elements.iter().filter(|element| state.elements[slot(family)].remove(element)).cloned().collect();
        if present.is_empty() || !self.manages(family) {
            return Ok(());
        }
        let mut transaction = Transaction::new(family, TABLE);
        transaction.remove_elements(&present);
        state.commit_or_replace(family, transaction)
    }

    /// Forgets connections to published UDP and SCTP ports, so that the next datagram meets the present mapping.
    ///
    /// Datagram "connections" live as long as packets come, and would go to where the port led before.
    pub(crate) fn forget_connections(&self, ports: &[PublishedPort]) -> Result<()> {
        if !conntrack::concerns(ports) {
            return Ok(());
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        conntrack::forget(open(&mut state.socket)?, ports)
            .map_err(NetError::kernel("flush connection tracking entries"))
    }

    /// Base chains of other tables that drop forwarded packets unless told otherwise, as `table chain`.
    pub(crate) fn foreign_drops(&self) -> Result<Vec<String>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = open(&mut state.socket)?;
        let chains =
            nft::forward_chains(socket, Family::V4).map_err(NetError::kernel("list forward chains"))?;
        let foreign = chains.into_iter().filter(|chain| chain.table != TABLE && chain.policy == Policy::Drop);
        Ok(foreign.map(|chain| format!("{} {}", chain.table, chain.chain)).collect())
    }

    /// Removes our tables.
    pub(crate) fn remove_tables(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = open(&mut state.socket)?;
        for &family in &self.families {
            nft::remove_table(socket, family, TABLE)
                .map_err(NetError::kernel("remove nftables table shoal"))?;
        }
        Ok(())
    }
}

/// The socket, opened at its first use. It belongs to the namespace of the thread that comes first.
fn open(socket: &mut Option<Socket>) -> Result<&mut Socket> {
    match socket {
        Some(socket) => Ok(socket),
        None => {
            let opened =
                Socket::open(Protocol::Netfilter).map_err(NetError::kernel("open netfilter socket"))?;
            Ok(socket.insert(opened))
        }
    }
}

const fn slot(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

fn comment(ruling: Ruling) -> String {
    let forward = if ruling.forward == Policy::Drop { "drop" } else { "accept" };
    let mark =
        ruling.accepted.map(|mark| format!(", mark {:#x}/{:#x}", mark.value, mark.mask)).unwrap_or_default();
    format!(
        "Shoal container networking, rules {RULES_VERSION}, forward {forward}{mark}; changes are overwritten"
    )
}

impl State {
    /// Somebody may have flushed the table; writing all of it again is the answer to every refusal.
    fn commit_or_replace(&mut self, family: Family, transaction: Transaction) -> Result<()> {
        let socket = open(&mut self.socket)?;
        match transaction.commit(socket) {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::warn!(?family, %error, "nftables table shoal was changed from outside, writing it again");
                replace(socket, family, &self.elements[slot(family)], self.ruling)
            }
        }
    }
}

fn replace(socket: &mut Socket, family: Family, elements: &BTreeSet<Element>, ruling: Ruling) -> Result<()> {
    let elements: Vec<Element> = elements.iter().cloned().collect();
    let chains = rules::chains(family, ruling);
    let comment = comment(ruling);
    let definition = TableDef { table: TABLE, comment: &comment, sets: &SETS, chains: &chains };
    nft::replace_table(socket, family, &definition, &elements)
        .map_err(NetError::kernel("write nftables table shoal"))
}

fn sync_family(
    socket: &mut Socket,
    family: Family,
    wanted: &BTreeSet<Element>,
    ruling: Ruling,
) -> Result<Synced> {
    let failed = || NetError::kernel("read nftables table shoal");
    if !is_intact(socket, family, ruling).map_err(failed())? {
        return replace(socket, family, wanted, ruling).map(|()| Synced::Replaced);
    }
    let present = read_all(socket, family).map_err(failed())?;
    let surplus: Vec<Element> = present.difference(wanted).cloned().collect();
    let missing: Vec<Element> = wanted.difference(&present).cloned().collect();
    if surplus.is_empty() && missing.is_empty() {
        return Ok(Synced::Unchanged);
    }
    let mut transaction = Transaction::new(family, TABLE);
    transaction.remove_elements(&surplus);
    transaction.add_elements(&missing);
    if transaction.commit(socket).is_err() {
        return replace(socket, family, wanted, ruling).map(|()| Synced::Replaced);
    }
    Ok(Synced::Elements(surplus.len() + missing.len()))
}

/// Whether the rules are the ones that this version writes. Elements are compared one by one; rules by their number in
/// each chain, because the kernel does not give expressions back as they were written.
fn is_intact(socket: &mut Socket, family: Family, ruling: Ruling) -> io::Result<bool> {
    if nft::table_comment(socket, family, TABLE)?.as_deref() != Some(&comment(ruling)) {
        return Ok(false);
    }
    let count = |chain: &ChainDef| (chain.chain.name().to_owned(), chain.rules.len());
    let wanted: BTreeSet<(String, usize)> = rules::chains(family, ruling).iter().map(count).collect();
    Ok(wanted == nft::rule_counts(socket, family, TABLE)?.into_iter().collect())
}

fn read_all(socket: &mut Socket, family: Family) -> io::Result<BTreeSet<Element>> {
    let sets: [Set; SETS.len()] = SETS.map(|def| def.set);
    let mut all = BTreeSet::new();
    for set in sets {
        all.extend(nft::read_elements(socket, family, TABLE, set)?);
    }
    Ok(all)
}
