//! The store in memory of one process: for tests and simulation.
//!
//! Start reading at [`MemoryStore`]. It forgets everything when it is dropped.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Change, Snapshot, Store};
use crate::error::ClusterError;

/// The store in memory. One lock makes commits one after the other, as raft does.
#[derive(Debug)]
pub struct MemoryStore {
    newest: Mutex<Arc<Snapshot>>,
    index: watch::Sender<u64>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Snapshot::default())
    }
}

impl MemoryStore {
    /// A store that begins with what `snapshot` holds.
    pub fn new(snapshot: Snapshot) -> Self {
        let index = watch::Sender::new(snapshot.index());
        Self { newest: Mutex::new(Arc::new(snapshot)), index }
    }

    /// [`Store::commit`] without waiting, for tests that do not run asynchronously.
    pub fn commit_now(&self, changes: &[Change]) -> Result<u64, ClusterError> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Snapshot::clone(&newest);
        let index = next.index().saturating_add(1);
        next.apply(index, changes)?;
        *newest = Arc::new(next);
        drop(newest);
        self.index.send_replace(index);
        Ok(index)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<u64, ClusterError> {
        self.commit_now(&changes)
    }
}
