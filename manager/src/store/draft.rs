//! A decision in the making: the changes so far, and the store as it would be with them.
//!
//! Start reading at [`Draft`]. Reading from a draft sees what was written to it; several changes of one object become one. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use shoal_types::TaskId;
use shoal_types::cluster::task_state::TaskState;

use super::apply::Versions;
use super::change::{Change, Conflict};
use super::object::{Key, Object};
use super::snapshot::Snapshot;

/// Changes that are being collected.
#[derive(Debug)]
pub struct Draft {
    view: Snapshot,
    now: Timestamp,
    changes: Vec<Option<Change>>,
    places: HashMap<Key, usize>,
    ids: IdSource,
}

/// Where ids of new tasks come from.
#[derive(Debug, Clone, Copy)]
enum IdSource {
    /// Chance.
    Random,
    /// A sequence, for simulations that shall happen again exactly as before.
    Sequence(u64),
}

impl Draft {
    /// Begins with the store as it is; `now` is the leader's time and stamped on what changes.
    pub fn new(snapshot: &Arc<Snapshot>, now: Timestamp) -> Self {
        Self {
            view: Snapshot::clone(snapshot),
            now,
            changes: Vec::new(),
            places: HashMap::new(),
            ids: IdSource::Random,
        }
    }

    /// Draws ids from a sequence instead of by chance; for simulations.
    pub fn with_id_sequence(mut self, seed: u64) -> Self {
        self.ids = IdSource::Sequence(seed);
        self
    }

    /// An id for a new task.
    pub fn new_task_id(&mut self) -> TaskId {
        match &mut self.ids {
            IdSource::Random => TaskId::random(),
            IdSource::Sequence(state) => {
                let (high, low) = (split_mix(state), split_mix(state));
                TaskId::from_u128(u128::from(high) << 64 | u128::from(low))
            }
        }
    }

    /// The store as it would be with the changes so far.
    pub fn view(&self) -> &Snapshot {
        &self.view
    }

    /// The leader's time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// How many objects are changed so far.
    pub fn n_changes(&self) -> usize {
        self.places.len()
    }

    /// Adds an object.
    pub fn create(&mut self, object: impl Into<Object>) -> Result<(), Conflict> {
        let mut object = object.into();
        let meta = object.meta_mut();
        (meta.version, meta.created, meta.updated) = (0, self.now, self.now);
        self.record(Change::Create(object))
    }

    /// Replaces an object by a newer form of it that was made from what [`Self::view`] shows.
    pub fn update(&mut self, object: impl Into<Object>) -> Result<(), Conflict> {
        let mut object = object.into();
        object.meta_mut().updated = self.now;
        self.record(Change::Update(object))
    }

    /// Removes an object.
    pub fn remove(&mut self, key: Key) -> Result<(), Conflict> {
        self.record(Change::Remove(key))
    }

    /// Raises a task's desired state.
    pub fn desire(&mut self, task: TaskId, state: TaskState) -> Result<(), Conflict> {
        match self.view.task(task) {
            Some(stored) if stored.desired < state => {
                self.record(Change::Desire { task, state, at: self.now })
            }
            _ => Ok(()),
        }
    }

    /// The changes, in an order in which they can be applied.
    pub fn into_changes(self) -> Vec<Change> {
        self.changes.into_iter().flatten().collect()
    }

    fn record(&mut self, change: Change) -> Result<(), Conflict> {
        self.view.apply_one(Versions::Kept, &change)?;
        let key = change.key();
        let Some(&place) = self.places.get(&key) else {
            self.places.insert(key, self.changes.len());
            self.changes.push(Some(change));
            return Ok(());
        };
        let newest = self.view.get(&key);
        let slot = &mut self.changes[place];
        *slot = match (slot.take(), newest) {
            // Made and removed again: nothing has happened.
            (Some(Change::Create(_)), None) => {
                self.places.remove(&key);
                None
            }
            (Some(Change::Create(_)), Some(object)) => Some(Change::Create(object)),
            (Some(Change::Desire { .. }), _) if matches!(change, Change::Desire { .. }) => Some(change),
            (Some(Change::Remove(_)), Some(object)) | (_, Some(object)) => Some(Change::Update(object)),
            (_, None) => Some(Change::Remove(key)),
        };
        Ok(())
    }
}

/// The next number of a sequence that looks like chance (SplitMix64).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
