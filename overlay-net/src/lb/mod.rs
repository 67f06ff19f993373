//! Load balancing by nftables: virtual services inside containers' namespaces, published ports in the routing mesh's.
//!
//! Start reading at [`Balancer::set`]; what the tables look like is `plan.rs`'s business. Every namespace that uses
//! services has its own table, so that a container's packets meet the services of its networks and no others, and a
//! connection keeps its backend by the namespace's own connection tracking for as long as it lasts: nothing is cut off
//! for being idle. What was given is kept here for repairs; what the kernel has is read from it.

mod plan;
mod return_path;
mod script;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use shoal_types::SandboxId;

use self::plan::{Entry, Table};
use self::script::{Pair, Script};
use crate::error::{NetError, Result};
use crate::firewall::Family;
use crate::firewall::conntrack::{self, Flow};
use crate::firewall::expr::{address, concat};
use crate::netlink::{Protocol, Socket};
use crate::netns::Netns;
use crate::overlay::spec::{IngressPort, Repaired, ServiceChange, VirtualService};

pub(crate) use self::return_path::install as install_return_path;

/// Services in one transaction; keeps it below what a socket takes at once.
const ENTRIES_A_TRANSACTION: usize = 100;

/// The services of every namespace that were given since the start of the daemon.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    sandboxes: Mutex<HashMap<SandboxId, Arc<Mutex<Balanced>>>>,
}

/// One namespace. Owner: whoever holds the lock changes it and nobody overtakes.
#[derive(Debug)]
struct Balanced {
    /// Of the namespace. Kept open: closing one waits for the removal of everything that was deleted (10 ms and more).
    socket: Socket,
    table: Table,
    entries: [BTreeMap<Vec<u8>, Entry>; 2],
    /// The kernel's rule set as this left it; another number means that somebody changed something.
    generation: u32,
}

impl Balancer {
    /// Makes the virtual services of a namespace exactly these.
    pub(crate) fn set(
        &self,
        sandbox: &SandboxId,
        path: &Path,
        services: &[VirtualService],
    ) -> Result<Repaired> {
        let mut entries = [BTreeMap::new(), BTreeMap::new()];
        for (family, entry) in services.iter().map(Entry::service) {
            entries[slot(family)].insert(entry.key.clone(), entry);
        }
        self.set_entries(sandbox, path, Table::Services, entries)
    }

    /// Makes the published ports of the routing mesh's namespace exactly these.
    pub(crate) fn set_ports(
        &self,
        sandbox: &SandboxId,
        path: &Path,
        ports: &[IngressPort],
    ) -> Result<Repaired> {
        let of = |family| {
            let entries = ports.iter().map(|port| Entry::port(port, family));
            entries.map(|entry| (entry.key.clone(), entry)).collect()
        };
        self.set_entries(sandbox, path, Table::Ports, Family::ALL.map(of))
    }

    /// Changes single services.
    pub(crate) fn change(&self, sandbox: &SandboxId, changes: &[ServiceChange]) -> Result<()> {
        let balanced = self.known(sandbox)?;
        let mut balanced = balanced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = [BTreeMap::new(), BTreeMap::new()];
        for change in changes {
            let (family, key, entry) = match change {
                ServiceChange::Set(service) => {
                    let (family, entry) = Entry::service(service);
                    (family, entry.key.clone(), Some(entry))
                }
                ServiceChange::Remove(vip) => (Family::of(*vip), address(*vip), None),
            };
            wanted[slot(family)].insert(key, entry);
        }
        balanced.change(wanted)
    }

    /// Changes single published ports.
    pub(crate) fn change_ports(&self, sandbox: &SandboxId, ports: &[IngressPort]) -> Result<()> {
        let balanced = self.known(sandbox)?;
        let mut balanced = balanced.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |family| {
            let entries = ports.iter().map(|port| Entry::port(port, family));
            entries.map(|entry| (entry.key.clone(), Some(entry))).collect()
        };
        balanced.change(Family::ALL.map(of))
    }

    /// Puts right what somebody changed; nothing for a namespace whose services are not known.
    pub(crate) fn repair(&self, sandbox: &SandboxId) -> Result<Repaired> {
        let Ok(balanced) = self.known(sandbox) else { return Ok(Repaired::default()) };
        let mut balanced = balanced.lock().unwrap_or_else(PoisonError::into_inner);
        balanced.repair()
    }

    /// Forgets a namespace; its tables go with it.
    pub(crate) fn forget(&self, sandbox: &SandboxId) {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner).remove(sandbox);
    }

    fn known(&self, sandbox: &SandboxId) -> Result<Arc<Mutex<Balanced>>> {
        let sandboxes = self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
        sandboxes.get(sandbox).cloned().ok_or_else(|| NetError::TablesUnknown(sandbox.to_string()))
    }

    fn set_entries(
        &self,
        sandbox: &SandboxId,
        path: &Path,
        table: Table,
        entries: [BTreeMap<Vec<u8>, Entry>; 2],
    ) -> Result<Repaired> {
        let known = self.known(sandbox).ok();
        if known.is_none() && entries.iter().all(BTreeMap::is_empty) && !has_tables(path, table)? {
            return Ok(Repaired::default());
        }
        let balanced = match known {
            Some(balanced) => balanced,
            None => {
                let fresh = Arc::new(Mutex::new(Balanced::open(path, table)?));
                let mut sandboxes = self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(sandboxes.entry(*sandbox).or_insert(fresh))
            }
        };
        let mut balanced = balanced.lock().unwrap_or_else(PoisonError::into_inner);
        balanced.entries = entries;
        balanced.sync()
    }
}

impl Balanced {
    fn open(path: &Path, table: Table) -> Result<Self> {
        let socket = open(path)?;
        Ok(Self { socket, table, entries: Default::default(), generation: 0 })
    }

    /// Brings the kernel to what is wanted by the difference, and forgets connections to backends that are gone.
    fn sync(&mut self) -> Result<Repaired> {
        let mut repaired = Repaired::default();
        for family in Family::ALL {
            let table = self.sync_family(family)?;
            repaired.added += table.added;
            repaired.removed += table.removed;
        }
        self.note_generation()?;
        Ok(repaired)
    }

    fn repair(&mut self) -> Result<Repaired> {
        let failed = NetError::kernel("read the number of the rule set");
        if script::generation(&mut self.socket).map_err(failed)? == self.generation {
            return Ok(Repaired::default());
        }
        self.sync()
    }

    fn sync_family(&mut self, family: Family) -> Result<Repaired> {
        let failed = || NetError::kernel("read the services of a namespace");
        let table = self.table;
        let present =
            script::read_map(&mut self.socket, family, table.name(), table.ways()).map_err(failed())?;
        let wanted = std::mem::take(&mut self.entries[slot(family)]);
        let outcome = match present {
            None if wanted.is_empty() => Ok(Repaired::default()),
            Some(present) if self.is_intact(family, &present).map_err(failed())? => {
                self.write_difference(family, present, &wanted)
            }
            _ => self.write_whole(family, &wanted),
        };
        let outcome = outcome.and_then(|repaired| {
            let keys = wanted.keys().cloned().collect::<Vec<_>>();
            if !repaired.is_nothing() {
                self.forget_connections(family, &wanted, &keys)?;
            }
            Ok(repaired)
        });
        self.entries[slot(family)] = wanted;
        outcome
    }

    /// Whether every chain does what its name says, judged by numbers of rules and by the maps of backends.
    fn is_intact(&mut self, family: Family, ways: &[Pair]) -> std::io::Result<bool> {
        let table = self.table;
        let mut wanted = table.frame_rules();
        for chain in ways.iter().map(|(_, chain)| String::from_utf8_lossy(chain).into_owned()) {
            wanted.entry(chain).or_insert(1);
        }
        let mut present: BTreeMap<String, usize> = BTreeMap::new();
        for chain in script::rule_chains(&mut self.socket, family, table.name())? {
            *present.entry(chain).or_default() += 1;
        }
        Ok(present == wanted)
    }

    fn write_difference(
        &mut self,
        family: Family,
        present: Vec<Pair>,
        wanted: &BTreeMap<Vec<u8>, Entry>,
    ) -> Result<Repaired> {
        let failed = || NetError::kernel("write the services of a namespace");
        let table = self.table;
        let mut repaired = Repaired::default();
        let mut script = Script::new(family, table.name());
        let mut right = Vec::new();
        for (key, chain) in present {
            let chain = String::from_utf8_lossy(&chain).into_owned();
            let entry = wanted.get(&key);
            if entry.and_then(|entry| table.wanted_chain(entry)).as_ref() == Some(&chain)
                && self.has_backends(family, &chain, entry)?
            {
                right.push(key);
            } else {
                table.remove_entry(&mut script, &key, &chain);
                repaired.removed += 1;
            }
        }
        let missing: Vec<&Entry> = wanted
            .values()
            .filter(|entry| !right.contains(&entry.key) && table.wanted_chain(entry).is_some())
            .collect();
        repaired.added = missing.len();
        if repaired.is_nothing() {
            return Ok(repaired);
        }
        for chunk in missing.chunks(ENTRIES_A_TRANSACTION) {
            chunk.iter().for_each(|entry| table.write_entry(&mut script, family, entry));
            let ready = std::mem::replace(&mut script, Script::new(family, table.name()));
            ready.commit(&mut self.socket).map_err(failed())?;
        }
        if missing.is_empty() {
            script.commit(&mut self.socket).map_err(failed())?;
        }
        Ok(repaired)
    }

    fn has_backends(&mut self, family: Family, chain: &str, entry: Option<&Entry>) -> Result<bool> {
        let failed = NetError::kernel("read the backends of a service");
        let Some(entry) = entry.filter(|entry| !entry.values().is_empty()) else { return Ok(true) };
        let map = plan::map_of(chain);
        let present = script::read_map(&mut self.socket, family, self.table.name(), &map).map_err(failed)?;
        let sorted = |mut values: Vec<_>| {
            values.sort_unstable();
            values
        };
        Ok(present.map(sorted) == Some(sorted(entry.values())))
    }

    fn write_whole(&mut self, family: Family, wanted: &BTreeMap<Vec<u8>, Entry>) -> Result<Repaired> {
        let failed = || NetError::kernel("write the services of a namespace");
        let table = self.table;
        let mut script = Script::new(family, table.name());
        table.write_frame(&mut script, family);
        let entries: Vec<&Entry> = wanted.values().collect();
        for chunk in entries.chunks(ENTRIES_A_TRANSACTION) {
            chunk.iter().for_each(|entry| table.write_entry(&mut script, family, entry));
            let ready = std::mem::replace(&mut script, Script::new(family, table.name()));
            ready.commit(&mut self.socket).map_err(failed())?;
        }
        if entries.is_empty() {
            script.commit(&mut self.socket).map_err(failed())?;
        }
        Ok(Repaired { added: 1 + entries.len(), removed: 0 })
    }

    /// Changes single entries in one transaction for each family.
    fn change(&mut self, wanted: [BTreeMap<Vec<u8>, Option<Entry>>; 2]) -> Result<()> {
        let intact = {
            let failed = NetError::kernel("read the number of the rule set");
            script::generation(&mut self.socket).map_err(failed)? == self.generation
        };
        for (family, wanted) in Family::ALL.into_iter().zip(wanted) {
            if !wanted.is_empty() {
                self.change_family(family, wanted, intact)?;
            }
        }
        self.note_generation()
    }

    fn change_family(
        &mut self,
        family: Family,
        wanted: BTreeMap<Vec<u8>, Option<Entry>>,
        intact: bool,
    ) -> Result<()> {
        let table = self.table;
        let mut script = Script::new(family, table.name());
        let mut written = 0;
        let fresh = self.entries[slot(family)].is_empty();
        let mut losing = Vec::new();
        for (key, entry) in wanted {
            let entries = &mut self.entries[slot(family)];
            let before = match &entry {
                Some(entry) => entries.insert(key.clone(), entry.clone()),
                None => entries.remove(&key),
            };
            let kept = |backend: &IpAddr| entry.as_ref().is_some_and(|entry| entry.keeping.contains(backend));
            if before.as_ref().is_some_and(|before| !before.keeping.iter().all(kept)) {
                losing.push(key.clone());
            }
            let old = before.as_ref().and_then(|before| table.wanted_chain(before));
            let new = entry.as_ref().and_then(|entry| table.wanted_chain(entry));
            if old == new {
                continue;
            }
            if let Some(chain) = old {
                table.remove_entry(&mut script, &key, &chain);
            }
            if let Some(entry) = &entry {
                table.write_entry(&mut script, family, entry);
            }
            written += 1;
        }
        let done = written == 0 || intact && !fresh && script.commit(&mut self.socket).is_ok();
        if !done {
            // Somebody changed the table, or it is not there yet: the whole is compared.
            self.sync_family(family)?;
        }
        if losing.is_empty() {
            return Ok(());
        }
        let entries = std::mem::take(&mut self.entries[slot(family)]);
        let forgotten = self.forget_connections(family, &entries, &losing);
        self.entries[slot(family)] = entries;
        forgotten
    }

    /// Forgets connections through these keys whose backend is not among those that keep them: what the client sends
    /// next meets another backend, which resets what it does not know, instead of silence.
    fn forget_connections(
        &mut self,
        family: Family,
        entries: &BTreeMap<Vec<u8>, Entry>,
        keys: &[Vec<u8>],
    ) -> Result<()> {
        let table = self.table;
        let is_lost = |flow: &Flow| {
            let key = match table {
                Table::Services => address(flow.destination),
                Table::Ports => concat(&[&[flow.protocol], &flow.port.to_be_bytes()]),
            };
            let translated = flow.answered_by != flow.destination;
            let kept = || entries.get(&key).is_some_and(|entry| entry.keeping.contains(&flow.answered_by));
            translated && keys.contains(&key) && !kept()
        };
        conntrack::forget_where(&mut self.socket, family, is_lost)
            .map_err(NetError::kernel("forget connections to backends that are gone"))
    }

    fn note_generation(&mut self) -> Result<()> {
        let failed = NetError::kernel("read the number of the rule set");
        self.generation = script::generation(&mut self.socket).map_err(failed)?;
        Ok(())
    }
}

/// Whether a namespace has a table from before the daemon started.
fn has_tables(path: &Path, table: Table) -> Result<bool> {
    let mut socket = open(path)?;
    let mut any = false;
    for family in Family::ALL {
        let ways = script::read_map(&mut socket, family, table.name(), table.ways())
            .map_err(NetError::kernel("read the services of a namespace"))?;
        any |= ways.is_some();
    }
    Ok(any)
}

fn open(path: &Path) -> Result<Socket> {
    Netns::open(path)?
        .run(|| Socket::open(Protocol::Netfilter))?
        .map_err(NetError::kernel("open netfilter socket in a container's namespace"))
}

const fn slot(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}
