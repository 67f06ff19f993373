//! Readers of tasks' logs and the nodes that send the lines.
//!
//! Start reading at [`LogBroker::subscribe`]. A subscription is told to each node that runs one of its tasks; each node sends its lines and
//! says when it has no more. The stream ends when all have said so. A reader that goes away ends the subscription.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use shoal_types::protocol::{LogEnd, LogLine, LogOptions, LogReport, LogSubscription, SessionEvent};
use shoal_types::{ErrorKind, NodeId, TaskId};
use tokio::sync::mpsc;

use crate::error::ClusterError;

/// Reports that wait for a reader; a node waits for its answer meanwhile.
const REPORTS_WAITING: usize = 16;

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogNews {
    /// Lines of one node.
    Lines(Vec<LogLine>),
    /// Something is missing; what.
    Incomplete(String),
}

/// All subscriptions of this leader. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogBroker {
    open: Arc<Mutex<HashMap<String, Subscription>>>,
}

#[derive(Debug)]
struct Subscription {
    options: LogOptions,
    tasks: BTreeMap<NodeId, Vec<TaskId>>,
    /// Nodes that have more to say.
    pending: BTreeSet<NodeId>,
    reader: mpsc::Sender<LogNews>,
}

impl LogBroker {
    /// Begins a subscription. The caller tells the nodes ([`Self::subscriptions_of`]).
    pub(crate) fn subscribe(
        &self,
        tasks: BTreeMap<NodeId, Vec<TaskId>>,
        options: LogOptions,
    ) -> (String, mpsc::Receiver<LogNews>) {
        let id = format!("{:032x}", rand::random::<u128>());
        let (reader, news) = mpsc::channel(REPORTS_WAITING);
        let pending = tasks.keys().copied().collect();
        self.lock().insert(id.clone(), Subscription { options, tasks, pending, reader });
        (id, news)
    }

    /// What a node has to be told of subscriptions that it still owes something.
    pub(crate) fn subscriptions_of(&self, node: NodeId) -> Vec<SessionEvent> {
        let open = self.lock();
        let owed = open.iter().filter(|(_, subscription)| subscription.pending.contains(&node));
        owed.map(|(id, subscription)| {
            SessionEvent::Logs(LogSubscription {
                id: id.clone(),
                tasks: subscription.tasks.get(&node).cloned().unwrap_or_default(),
                options: subscription.options.clone(),
            })
        })
        .collect()
    }

    /// Ends a subscription; the nodes that still owe something.
    pub(crate) fn end(&self, id: &str) -> Vec<NodeId> {
        self.lock()
            .remove(id)
            .map(|subscription| subscription.pending.into_iter().collect())
            .unwrap_or_default()
    }

    /// Notes that a node cannot send anything, and why.
    pub(crate) async fn give_up(&self, id: &str, node: NodeId, reason: String) {
        let report = LogReport {
            subscription: id.to_owned(),
            lines: Vec::new(),
            end: Some(LogEnd::Incomplete(reason)),
        };
        // A subscription that has ended meanwhile needs no news.
        let _ = self.publish(node, report).await;
    }

    /// Hands a node's lines to the reader; waits while he is slow.
    pub(crate) async fn publish(&self, node: NodeId, report: LogReport) -> Result<(), ClusterError> {
        let reader = self.lock().get(&report.subscription).map(|subscription| subscription.reader.clone());
        let gone = || ClusterError::refused(ErrorKind::NotFound, "the subscription has ended");
        let reader = reader.ok_or_else(gone)?;
        if !report.lines.is_empty() {
            reader.send(LogNews::Lines(report.lines)).await.map_err(|_| gone())?;
        }
        if let Some(end) = report.end {
            if let LogEnd::Incomplete(reason) = end {
                reader.send(LogNews::Incomplete(reason)).await.map_err(|_| gone())?;
            }
            let mut open = self.lock();
            let is_done = open.get_mut(&report.subscription).is_some_and(|subscription| {
                subscription.pending.remove(&node);
                subscription.pending.is_empty()
            });
            if is_done {
                open.remove(&report.subscription);
            }
        }
        Ok(())
    }

    /// Ends everything; readers see the end of their streams.
    pub(crate) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Subscription>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
