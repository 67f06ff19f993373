//! What users ask of the cluster: checked, and written to the store as intent. Nothing is decided here; the leader's loops
//! find the intent and act on it.
//!
//! Start reading at [`Control`], which implements the ports of [`crate::api`] on the leader; each file is one noun. Texts are
//! swarm's, with the prefix that its clients see ([`refusal`]).

mod counts;
pub(crate) mod events;
mod files;
mod lookup;
mod names;
mod networks;
mod nodes;
mod refusal;
mod services;
mod tasks;
#[cfg(test)]
mod tests;
mod validate;

use std::fmt;
use std::sync::Arc;

use shoal_types::NodeId;

use crate::clock::Clock;
use crate::error::ClusterError;
use crate::store::{Draft, Snapshot, Store};

pub use networks::first_networks;
pub(crate) use services::rollback_started;

/// The ports of the cluster, answered from the store. Held by the leader for as long as it leads, and dropped with that.
#[derive(Clone)]
pub struct Control {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    this_node: NodeId,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("this_node", &self.this_node).finish_non_exhaustive()
    }
}

impl Control {
    /// Answers from `store`. `this_node` is what `self` means in requests of this machine; whoever forwards a request of
    /// another one puts that one's id in its place before.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, this_node: NodeId) -> Self {
        Self { store, clock, this_node }
    }

    fn view(&self) -> Arc<Snapshot> {
        self.store.snapshot()
    }

    /// A draft over the newest view.
    fn draft(&self) -> Draft {
        Draft::new(&self.store.snapshot(), self.clock.now())
    }

    async fn commit(&self, draft: Draft) -> Result<(), ClusterError> {
        self.store.commit(draft.into_changes()).await?;
        Ok(())
    }
}
