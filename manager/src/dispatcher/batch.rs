//! What many nodes report, in few commits.
//!
//! Start reading at [`Batch::commit`]. Whoever commits waits until the commit that took his changes along is done. Only changes
//! that cannot conflict may come here, because one conflict would refuse everybody's.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};

use crate::error::ClusterError;
use crate::store::{Change, Store};

/// How long the first waits for others.
const GATHER: Duration = Duration::from_millis(20);
/// Most changes in one commit.
const MAX_CHANGES: usize = 10_000;
/// Reports that wait; more than that and reporters are slowed down.
const MAX_WAITING: usize = 4096;

type Waiting = (Vec<Change>, oneshot::Sender<Result<(), Refusal>>);

/// Why a commit has failed, for each of those who waited for it.
#[derive(Debug, Clone)]
enum Refusal {
    NotLeader,
    Deadline,
    Other(String),
}

/// A queue of changes.
#[derive(Debug)]
pub(super) struct Batch {
    store: Keeper,
    waiting: mpsc::Sender<Waiting>,
    queue: Mutex<mpsc::Receiver<Waiting>>,
}

#[derive(Clone)]
struct Keeper(Arc<dyn Store>);

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

impl Batch {
    /// An empty queue; [`Self::run`] must be driven.
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        let (waiting, queue) = mpsc::channel(MAX_WAITING);
        Self { store: Keeper(store), waiting, queue: Mutex::new(queue) }
    }

    /// Commits these changes together with those of others.
    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<(), ClusterError> {
        if changes.is_empty() {
            return Ok(());
        }
        let (to, done) = oneshot::channel();
        self.waiting.send((changes, to)).await.map_err(|_| ClusterError::NotLeader(None))?;
        match done.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Refusal::Deadline)) => Err(ClusterError::Deadline),
            Ok(Err(Refusal::Other(reason))) => Err(ClusterError::local("committing reports", reason)),
            Ok(Err(Refusal::NotLeader)) | Err(_) => Err(ClusterError::NotLeader(None)),
        }
    }

    /// Commits what waits, for ever.
    pub(super) async fn run(&self) {
        let mut queue = self.queue.lock().await;
        while let Some((mut changes, first)) = queue.recv().await {
            let mut waiting = vec![first];
            // What the first waits for is others, who may not come.
            tokio::time::sleep(GATHER).await;
            while changes.len() < MAX_CHANGES
                && let Ok((more, another)) = queue.try_recv()
            {
                changes.extend(more);
                waiting.push(another);
            }
            let committed = self.store.0.commit(changes).await.map(|_| ()).map_err(|error| match error {
                ClusterError::NotLeader(_) | ClusterError::NoLeader => Refusal::NotLeader,
                ClusterError::Deadline => Refusal::Deadline,
                other => Refusal::Other(other.to_string()),
            });
            for waiting in waiting {
                // Whoever does not wait any more needs no answer.
                let _ = waiting.send(committed.clone());
            }
        }
    }
}
