//! Overlay networks: containers of several nodes on one segment, by VXLAN tunnels with static tables.
//!
//! Start reading at [`spec`] (what is asked for) and at `host/overlay.rs` (what can be done); `tables.rs` is the PURE
//! part, `segment.rs` the kernel's. Each overlay network has a namespace of its own on each node, pinned below the
//! directory that [`Config::netns_dir`](crate::Config) is in under the network's id, so that a daemon that comes back
//! finds it. Nothing is learned and nothing is flooded: an address that the managers' tables do not name does not
//! exist, and an entry that differs from them is put right.

pub mod spec;

pub(crate) mod segment;
mod tables;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use shoal_types::NetworkId;

use self::segment::Segment;
use self::spec::{OverlaySpec, OverlayTables, Repaired, TableChange};
use self::tables::Tables;
use crate::error::{NetError, Result};

/// The overlay networks of this node whose tables are known.
///
/// Owner of the tables: whoever changes a network holds the lock, so that changes and repairs of one network never
/// overtake each other.
#[derive(Debug)]
pub(crate) struct Overlays {
    dir: PathBuf,
    known: Mutex<HashMap<NetworkId, Known>>,
}

#[derive(Debug)]
struct Known {
    spec: OverlaySpec,
    tables: Tables,
}

impl Overlays {
    /// Networks that are pinned in this directory.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, known: Mutex::default() }
    }

    /// Where networks are pinned.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a network exactly what is given.
    pub(crate) fn apply(
        &self,
        network: &NetworkId,
        spec: &OverlaySpec,
        tables: &OverlayTables,
    ) -> Result<Repaired> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = Tables::new(spec, &tables.peers);
        known.insert(network.clone(), Known { spec: spec.clone(), tables });
        self.repair_known(network, known.get(network))
    }

    /// Changes the tables of a network.
    pub(crate) fn change(&self, network: &NetworkId, changes: &[TableChange]) -> Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = known.get_mut(network) else {
            return Err(NetError::TablesUnknown(network.to_string()));
        };
        let ops: Vec<_> = changes.iter().flat_map(|change| entry.tables.change(change)).collect();
        if ops.is_empty() {
            return Ok(());
        }
        let mut segment = Segment::ensure(&self.dir, network, &entry.spec)?;
        if segment.repaired.is_nothing() {
            return segment.execute(&ops);
        }
        // What was made anew has none of the entries before this change either.
        segment.sync(&entry.tables.program()).map(|_| ())
    }

    /// Opens a network for an endpoint that joins; one that had to be made or completed gets its tables, if known.
    pub(crate) fn open(&self, network: &NetworkId, spec: &OverlaySpec) -> Result<Segment> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut segment = Segment::ensure(&self.dir, network, spec)?;
        if let Some(known) = known.get(network).filter(|_| !segment.repaired.is_nothing()) {
            segment.sync(&known.tables.program())?;
        }
        Ok(segment)
    }

    /// Puts right what differs from what was given.
    pub(crate) fn repair(&self, network: &NetworkId) -> Result<Repaired> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.repair_known(network, known.get(network))
    }

    /// Forgets a network and removes it from the kernel.
    pub(crate) fn remove(&self, network: &NetworkId) -> Vec<NetError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(network);
        segment::remove(&self.dir, network)
    }

    fn repair_known(&self, network: &NetworkId, known: Option<&Known>) -> Result<Repaired> {
        let Some(known) = known else { return Ok(Repaired::default()) };
        let mut segment = Segment::ensure(&self.dir, network, &known.spec)?;
        let made = segment.repaired;
        let tables = segment.sync(&known.tables.program())?;
        Ok(Repaired { added: made.added + tables.added, removed: made.removed + tables.removed })
    }
}
