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
use self::spec::{Encryption, OverlaySpec, OverlayTables, Repaired, TableChange};
use self::tables::{Program, Tables};
use crate::error::{NetError, Result};
use crate::wireguard::{Changeover, Wireguard, WireguardSpec};

/// The overlay networks of this node whose tables are known.
///
/// Owner of the tables: whoever changes a network holds the lock, so that changes and repairs of one network never
/// overtake each other.
#[derive(Debug)]
pub(crate) struct Overlays {
    dir: PathBuf,
    wireguard: Wireguard,
    known: Mutex<HashMap<NetworkId, Known>>,
}

#[derive(Debug)]
struct Known {
    spec: OverlaySpec,
    tables: Tables,
}

impl Overlays {
    /// Networks that are pinned in this directory, and what encrypts them.
    pub(crate) fn new(dir: PathBuf, wireguard: Wireguard) -> Self {
        Self { dir, wireguard, known: Mutex::default() }
    }

    /// What encrypts networks.
    pub(crate) fn wireguard(&self) -> &Wireguard {
        &self.wireguard
    }

    /// Makes the encrypted data path what is given, and leads frames to where its ends are now.
    pub(crate) fn apply_wireguard(&self, spec: &WireguardSpec) -> Result<Changeover> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.wireguard.ends();
        let changeover = self.wireguard.apply(spec)?;
        if self.wireguard.ends() != before {
            let encrypted = known.iter().filter(|(_, entry)| entry.spec.encryption == Encryption::On);
            for (network, entry) in encrypted {
                self.repair_known(network, Some(entry))?;
            }
        }
        Ok(changeover)
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
        let mut ops: Vec<_> = changes.iter().flat_map(|change| entry.tables.change(change)).collect();
        if entry.spec.encryption == Encryption::On {
            let ends = self.wireguard.ends();
            ops.iter_mut().for_each(|op| *op = op.through(&ends));
        }
        if ops.is_empty() {
            return Ok(());
        }
        let mut segment = Segment::ensure(&self.dir, network, &entry.spec, &self.wireguard)?;
        if segment.repaired.is_nothing() {
            return segment.execute(&ops);
        }
        // What was made anew has none of the entries before this change either.
        let program = self.program(known.get(network));
        segment.sync(&program).map(|_| ())
    }

    /// Opens a network for an endpoint that joins; one that had to be made or completed gets its tables, if known.
    pub(crate) fn open(&self, network: &NetworkId, spec: &OverlaySpec) -> Result<Segment> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut segment = Segment::ensure(&self.dir, network, spec, &self.wireguard)?;
        let known = known.get(network);
        if known.is_some() && !segment.repaired.is_nothing() {
            segment.sync(&self.program(known))?;
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
        let mut segment = Segment::ensure(&self.dir, network, &known.spec, &self.wireguard)?;
        let made = segment.repaired;
        let tables = segment.sync(&self.program(Some(known)))?;
        Ok(Repaired { added: made.added + tables.added, removed: made.removed + tables.removed })
    }

    /// What the kernel should have of a network.
    fn program(&self, known: Option<&Known>) -> Program {
        let Some(known) = known else { return Program::default() };
        match known.spec.encryption {
            Encryption::Off => known.tables.program(),
            Encryption::On => known.tables.program().through(&self.wireguard.ends()),
        }
    }
}
