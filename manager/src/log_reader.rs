//! What tasks have written and what has happened to objects, for the front end of any manager.
//!
//! Start reading at [`LogReader`]. Logs are read through the leader, which has the nodes' sessions; a follower passes its stream on. Events come
//! from this manager's own store.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use shoal_types::protocol::{LogLine, LogOptions};
use shoal_types::{ErrorKind, NodeId, TaskId};
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

/// Ends a subscription when its stream is dropped.
struct Subscribed {
    desk: Arc<Desk>,
    id: String,
    news: mpsc::Receiver<LogNews>,
    early: VecDeque<LogNews>,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        if let Ok(dispatcher) = self.desk.dispatcher() {
            dispatcher.end_logs(&self.id);
        }
    }
}

async fn read_here(
    desk: &Arc<Desk>,
    of: LogsOf,
    options: LogOptions,
) -> Result<BoxStream<'static, LogNews>, ClusterError> {
    let dispatcher = desk.dispatcher()?;
    let snapshot = desk.group.snapshot();
    let tasks = match of {
        LogsOf::Service(name) => {
            let service = desk.forwarder.services_inspect(&name).await?;
            snapshot.tasks_of(service).cloned().collect()
        }
        LogsOf::Task(name) => {
            let task = desk.forwarder.tasks_inspect(&name).await?;
            snapshot.task(task).cloned().into_iter().collect::<Vec<_>>()
        }
    };
    let mut by_node: BTreeMap<NodeId, Vec<TaskId>> = BTreeMap::new();
    let mut early = VecDeque::new();
    for task in tasks {
        match task.node {
            Some(node) => by_node.entry(node).or_default().push(task.id),
            None => early.push_back(LogNews::Incomplete(format!("task {} has not been scheduled", task.id))),
        }
    }
    let is_nobody = by_node.is_empty();
    let (id, news) = dispatcher.subscribe_logs(by_node, options).await;
    if is_nobody {
        dispatcher.end_logs(&id);
    }
    let subscribed = Subscribed { desk: Arc::clone(desk), id, news, early };
    let stream = futures_util::stream::unfold(subscribed, |mut subscribed| async move {
        let news = match subscribed.early.pop_front() {
            Some(news) => news,
            None => subscribed.news.recv().await?,
        };
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
