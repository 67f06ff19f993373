//! What must not be removed although no image refers to it yet.
//!
//! Start reading at [`Holds::hold`]. A transfer holds every blob and layer that it needs *before* it looks whether they
//! are here, and lets go after the image that refers to them is recorded. A removal removes each thing with the holds
//! locked. So either the transfer finds the thing gone, or the removal finds it held.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shoal_types::{ChainId, Digest};

/// A blob or an unpacked layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Item {
    /// A blob.
    Blob(Digest),
    /// A layer with those below it.
    Layer(ChainId),
}

/// Who holds what.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds {
    counts: Arc<Mutex<HashMap<Item, usize>>>,
}

/// Holds items as long as it lives.
#[derive(Debug)]
pub(super) struct Hold {
    items: Vec<Item>,
    holds: Holds,
}

impl Holds {
    /// Holds these items from now on.
    pub(super) fn hold(&self, items: impl IntoIterator<Item = Item>) -> Hold {
        let items: Vec<Item> = items.into_iter().collect();
        let mut counts = self.lock();
        for item in &items {
            *counts.entry(*item).or_default() += 1;
        }
        drop(counts);
        Hold { items, holds: self.clone() }
    }

    /// Removes something unless it is held; `None` if it is. Nobody can take hold of it meanwhile.
    pub(super) fn unless_held<T>(&self, item: Item, remove: impl FnOnce() -> T) -> Option<T> {
        let counts = self.lock();
        if counts.contains_key(&item) { None } else { Some(remove()) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Item, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut counts = self.holds.lock();
        for item in &self.items {
            if let Some(count) = counts.get_mut(item) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(item);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_twice_is_removed_after_both_let_go() {
        let holds = Holds::default();
        let item = Item::Blob(Digest::from_sha256([1; 32]));
        let first = holds.hold([item]);
        let second = holds.hold([item, Item::Blob(Digest::from_sha256([2; 32]))]);
        drop(first);
        assert_eq!(holds.unless_held(item, || ()), None);
        drop(second);
        assert_eq!(holds.unless_held(item, || ()), Some(()));
        assert!(holds.lock().is_empty());
    }
}
