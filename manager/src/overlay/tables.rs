//! The table of each network that spans nodes, kept up to date from what has changed in the store.
//!
//! Start reading at [`Tables::advance`]: its cost depends on what has changed, not on how large networks are. Each table remembers
//! in which order its entries have changed, so that a session is told the few that are new to it ([`Tables::since`]) and needs
//! no table of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use shoal_types::NetworkId;
use shoal_types::cluster::overlay::{EntryKey, OVERLAY_DRIVER, OverlayEntry};

use super::entries;
use crate::store::{Key, Snapshot};

/// How many changes of a table are remembered. Who has missed more is told the whole.
const REMEMBERED: usize = 4096;

/// The tables of all networks that span nodes.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    seen: Option<Arc<Snapshot>>,
    tables: BTreeMap<NetworkId, Table>,
    /// Networks whose tables have changed since it was last asked.
    changed: BTreeSet<NetworkId>,
}

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<EntryKey, Arc<OverlayEntry>>,
    /// Rises with each change of an entry.
    revision: u64,
    /// Which entry was changed to reach a revision, oldest first.
    recent: VecDeque<(u64, EntryKey)>,
}

/// What a session is told of a table.
#[derive(Debug, PartialEq)]
pub(crate) enum News {
    /// These have changed: what they are now, or nothing if they are gone.
    Changes(Vec<(EntryKey, Option<Arc<OverlayEntry>>)>),
    /// So much has changed that it is told anew as a whole.
    Whole(Vec<Arc<OverlayEntry>>),
}

impl Tables {
    /// Takes in what has changed up to `snapshot`. A view older than one that was seen changes nothing.
    pub(crate) fn advance(&mut self, snapshot: &Arc<Snapshot>) {
        let seen = self.seen.take();
        if let Some(seen) = seen.as_ref().filter(|seen| seen.index() >= snapshot.index()) {
            self.seen = Some(Arc::clone(seen));
            return;
        }
        self.seen = Some(Arc::clone(snapshot));
        let changed = seen.as_ref().and_then(|seen| Some((seen, snapshot.changed_since(seen.index())?)));
        match changed {
            Some((before, keys)) => self.follow(before, snapshot, keys),
            None => self.look_at_everything(snapshot),
        }
    }

    /// The networks whose tables are other than when this was last asked.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<NetworkId> {
        std::mem::take(&mut self.changed)
    }

    /// How far the table of a network has come.
    pub(crate) fn revision(&self, network: &NetworkId) -> u64 {
        self.tables.get(network).map_or(0, |table| table.revision)
    }

    /// What is new in a table since a revision; `None` is everything.
    pub(crate) fn since(&self, network: &NetworkId, told: Option<u64>) -> News {
        let Some(table) = self.tables.get(network) else { return News::Whole(Vec::new()) };
        match told {
            Some(told) if told == table.revision => News::Changes(Vec::new()),
            Some(told)
                if table.recent.front().is_some_and(|(oldest, _)| *oldest <= told.saturating_add(1)) =>
            {
                let newer = table.recent.iter().rev().take_while(|(revision, _)| *revision > told);
                let keys: BTreeSet<EntryKey> = newer.map(|(_, key)| *key).collect();
                News::Changes(keys.into_iter().map(|key| (key, table.entries.get(&key).cloned())).collect())
            }
            _ => News::Whole(table.entries.values().cloned().collect()),
        }
    }

    fn follow<'a>(&mut self, before: &Snapshot, after: &Snapshot, keys: impl Iterator<Item = &'a Key>) {
        let mut touched = BTreeSet::new();
        for key in keys.collect::<BTreeSet<_>>() {
            if let Key::Network(id) = key
                && after.network(id).is_none()
            {
                self.tables.remove(id);
            }
            touched.extend(entries::touched(before, after, key));
        }
        for (network, key) in touched {
            self.look_at(after, &network, key);
        }
    }

    fn look_at_everything(&mut self, snapshot: &Snapshot) {
        self.tables.retain(|id, _| snapshot.network(id).is_some());
        let networks = snapshot.networks().filter(|network| network.spec.driver == OVERLAY_DRIVER);
        for network in networks {
            let mut keys = entries::keys_in(snapshot, &network.id);
            keys.extend(self.tables.get(&network.id).into_iter().flat_map(|table| table.entries.keys()));
            for key in keys {
                self.look_at(snapshot, &network.id, key);
            }
        }
    }

    /// Brings one entry up to date.
    fn look_at(&mut self, view: &Snapshot, network: &NetworkId, key: EntryKey) {
        let is_overlay = view.network(network).is_some_and(|network| network.spec.driver == OVERLAY_DRIVER);
        if !is_overlay {
            return;
        }
        let now = entries::entry(view, network, key);
        let table = self.tables.entry(network.clone()).or_default();
        if table.entries.get(&key).map(Arc::as_ref) == now.as_ref() {
            return;
        }
        match now {
            Some(now) => drop(table.entries.insert(key, Arc::new(now))),
            None => drop(table.entries.remove(&key)),
        }
        table.revision = table.revision.saturating_add(1);
        table.recent.push_back((table.revision, key));
        if table.recent.len() > REMEMBERED {
            table.recent.pop_front();
        }
        self.changed.insert(network.clone());
    }
}

#[cfg(test)]
mod tests;
