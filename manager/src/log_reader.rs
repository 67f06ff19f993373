//! What tasks have written and what has happened to objects, for the front end of any manager.
//!
//! Start reading at [`LogReader`]. Logs are read through the leader, which has the nodes' sessions; a follower passes its stream on. Events come
//! from this manager's own store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, SelectAll};
use serde::{Deserialize, Serialize};
use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::protocol::{LogLine, LogOptions};
use shoal_types::{ErrorKind, NodeId, ServiceId, TaskId};
use tokio::sync::mpsc;

use crate::api::events::{ClusterEvent, Events};
use crate::api::logs::{LineStream, Logs, LogsOf};
use crate::control;
use crate::desk::Desk;
use crate::dispatcher::LogNews;
use crate::error::ClusterError;
use crate::raft::Leadership;
use crate::rpc::client::RpcClient;
use crate::rpc::lines::{JsonLines, encode_line};
use crate::rpc::paths;
use crate::rpc::server::Reply;
use crate::store::Store as _;

/// How long the leader may take to begin.
const BEGIN_LIMIT: Duration = Duration::from_secs(10);
/// Pieces of a stream to a follower that wait.
const PIECES_WAITING: usize = 16;

/// A follower's question.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadLogs {
    pub(crate) of: LogsOf,
    pub(crate) options: LogOptions,
}

/// Reads logs and events on behalf of the front end.
#[derive(Debug)]
pub(crate) struct LogReader {
    desk: Arc<Desk>,
    client: Arc<RpcClient>,
}

impl LogReader {
    pub(crate) fn new(desk: Arc<Desk>, client: Arc<RpcClient>) -> Self {
        Self { desk, client }
    }
}

#[async_trait]
impl Logs for LogReader {
    async fn read(&self, of: LogsOf, options: LogOptions) -> Result<LineStream, ClusterError> {
        let leadership = *self.desk.group.leadership().borrow();
        match leadership {
            Leadership::Here(_) => Ok(lines(read_here(&self.desk, of, options).await?)),
            Leadership::At(leader) => {
                let question = ReadLogs { of, options };
                let body = self.client.open(leader, paths::CONTROL_LOGS, &question, BEGIN_LIMIT).await?;
                let news = futures_util::stream::unfold(JsonLines::new(body), |mut news| async move {
                    let next = news.next::<LogNews>().await?;
                    Some((next.ok()?, news))
                });
                Ok(lines(news.boxed()))
            }
            Leadership::Nowhere => Err(ClusterError::NoLeader),
        }
    }
}

#[async_trait]
impl Events for LogReader {
    async fn subscribe(&self) -> Result<BoxStream<'static, ClusterEvent>, ClusterError> {
        Ok(control::events::events(Arc::clone(&self.desk.group) as Arc<_>))
    }
}

/// Answers a follower.
pub(crate) async fn serve(desk: &Arc<Desk>, question: ReadLogs) -> Result<Reply, ClusterError> {
    let mut news = read_here(desk, question.of, question.options).await?;
    let (to, pieces) = mpsc::channel(PIECES_WAITING);
    // Ends with the subscription, or when the follower goes away.
    tokio::spawn(async move {
        while let Some(news) = news.next().await {
            let Ok(line) = encode_line(&news) else { return };
            if to.send(line).await.is_err() {
                return;
            }
        }
    });
    Ok(Reply::Stream(pieces))
}

/// The logs of some tasks as they come in: a subscription for those that were there at first and, while later tasks of a service
/// are heard too, one for each batch of these.
struct Subscribed {
    desk: Arc<Desk>,
    options: LogOptions,
    /// The service whose later tasks are heard too.
    followed: Option<ServiceId>,
    /// Index of the store at which its tasks were looked at last.
    looked_at: u64,
    /// Tasks that are heard, or were, of those that the store has.
    heard: BTreeSet<TaskId>,
    parts: SelectAll<BoxStream<'static, LogNews>>,
    early: VecDeque<LogNews>,
}

/// A place in the dispatcher's list; it is given up when this is dropped, with what comes from it.
struct Subscription {
    desk: Arc<Desk>,
    id: String,
    news: mpsc::Receiver<LogNews>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Ok(dispatcher) = self.desk.dispatcher() {
            dispatcher.end_logs(&self.id);
        }
    }
}

impl Subscribed {
    /// Begins to hear those of these tasks that are on nodes and not heard yet.
    async fn hear(&mut self, tasks: &[Arc<Task>]) -> Result<(), ClusterError> {
        let mut by_node: BTreeMap<NodeId, Vec<TaskId>> = BTreeMap::new();
        for task in tasks {
            if let Some(node) = task.node.filter(|_| self.heard.insert(task.id)) {
                by_node.entry(node).or_default().push(task.id);
            }
        }
        if by_node.is_empty() {
            return Ok(());
        }
        let snapshot = self.desk.group.snapshot();
        self.heard.retain(|task| snapshot.task(*task).is_some());
        let (id, news) = self.desk.dispatcher()?.subscribe_logs(by_node, self.options.clone()).await;
        let subscription = Subscription { desk: Arc::clone(&self.desk), id, news };
        let part = futures_util::stream::unfold(subscription, |mut subscription| async move {
            Some((subscription.news.recv().await?, subscription))
        });
        self.parts.push(part.boxed());
        Ok(())
    }

    /// Waits for the next news; `None` when there will be none any more.
    async fn next(&mut self) -> Option<LogNews> {
        if let Some(news) = self.early.pop_front() {
            return Some(news);
        }
        let Some(service) = self.followed else { return self.parts.next().await };
        let mut changed = self.desk.group.changed();
        let mut leadership = self.desk.group.leadership();
        loop {
            changed.borrow_and_update();
            let snapshot = self.desk.group.snapshot();
            if self.looked_at < snapshot.index() {
                self.looked_at = snapshot.index();
                let tasks: Vec<Arc<Task>> =
                    snapshot.tasks_of(service).filter(|task| has_run(task)).cloned().collect();
                // Who does not lead any more hears nothing; the reader asks again.
                self.hear(&tasks).await.ok()?;
            }
            if self.parts.is_empty() && snapshot.service(service).is_none() {
                return None;
            }
            tokio::select! {
                news = self.parts.next(), if !self.parts.is_empty() => match news {
                    Some(news) => return Some(news),
                    None => continue,
                },
                changed = changed.changed() => changed.ok()?,
                changed = leadership.changed() => changed.ok()?,
            }
        }
    }
}

/// Whether a task has something to be followed: before it runs the log of its container would be at its end.
fn has_run(task: &Task) -> bool {
    match task.status.state {
        TaskState::Running => true,
        state => state > TaskState::Running && task.status.container.is_some(),
    }
}

async fn read_here(
    desk: &Arc<Desk>,
    of: LogsOf,
    options: LogOptions,
) -> Result<BoxStream<'static, LogNews>, ClusterError> {
    // Only who leads can say which tasks there are.
    desk.dispatcher()?;
    let snapshot = desk.group.snapshot();
    let (tasks, service): (Vec<Arc<Task>>, _) = match of {
        LogsOf::Service(name) => {
            let service = desk.forwarder.services_inspect(&name).await?;
            (snapshot.tasks_of(service).cloned().collect(), Some(service))
        }
        LogsOf::Task(name) => {
            let task = desk.forwarder.tasks_inspect(&name).await?;
            (snapshot.task(task).cloned().into_iter().collect(), None)
        }
    };
    let followed = service.filter(|_| options.follow);
    let unscheduled = tasks.iter().filter(|task| task.node.is_none() && followed.is_none());
    let early = unscheduled
        .map(|task| LogNews::Incomplete(format!("task {} has not been scheduled", task.id)))
        .collect();
    let mut subscribed = Subscribed {
        desk: Arc::clone(desk),
        options: options.clone(),
        followed,
        looked_at: 0,
        heard: BTreeSet::new(),
        parts: SelectAll::new(),
        early,
    };
    let ready = |task: &Arc<Task>| followed.is_none() || has_run(task);
    subscribed.hear(&tasks.into_iter().filter(ready).collect::<Vec<_>>()).await?;
    // What comes later is wanted from its beginning.
    subscribed.options.tail = None;
    let stream = futures_util::stream::unfold(subscribed, |mut subscribed| async move {
        let news = subscribed.next().await?;
        Some((news, subscribed))
    });
    Ok(stream.boxed())
}

/// Line by line; what is missing is said at the end, in the words of swarm.
fn lines(news: BoxStream<'static, LogNews>) -> LineStream {
    struct Reading {
        news: BoxStream<'static, LogNews>,
        lines: VecDeque<LogLine>,
        missing: Vec<String>,
    }
    // What is missing comes after its end, so it is asked once more.
    let news = news.fuse().boxed();
    let reading = Reading { news, lines: VecDeque::new(), missing: Vec::new() };
    futures_util::stream::unfold(reading, |mut reading| async move {
        loop {
            if let Some(line) = reading.lines.pop_front() {
                return Some((Ok(line), reading));
            }
            match reading.news.next().await {
                Some(LogNews::Lines(lines)) => reading.lines.extend(lines),
                Some(LogNews::Incomplete(reason)) => reading.missing.push(reason),
                None if reading.missing.is_empty() => return None,
                None => {
                    let missing = std::mem::take(&mut reading.missing).join(", ");
                    let message = format!(
                        "warning: incomplete log stream. some logs could not be retrieved for the following reasons: \
                         {missing}"
                    );
                    return Some((Err(ClusterError::refused(ErrorKind::Internal, message)), reading));
                }
            }
        }
    })
    .boxed()
}
