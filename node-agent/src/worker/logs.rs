//! Logs of tasks for those who asked managers for them.
//!
//! Start reading at [`LogPublisher::subscribe`]. Each subscription is a task of its own that reads the logs of containers by the port
//! that the API uses, and sends lines in batches. It ends with what it reads, when nobody reads it any more, or with the session.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream, SelectAll};
use shoal_types::ErrorKind;
use shoal_types::cluster::task::Task;
use shoal_types::protocol::{LogEnd, LogLine, LogOptions, LogReport, LogStream, LogSubscription};
use tokio::task::JoinHandle;

use super::controller::Host;
use super::dispatcher::Reports;
use crate::api::streams::{LogBatch, LogQuery, LogSource, Logs};
use crate::error::NodeError;

/// Most lines of one report. With lines of usual length some 100 KiB.
const MAX_LINES: usize = 512;
/// Most bytes of lines in one report.
const MAX_BYTES: usize = 256 << 10;
/// How long lines may wait for company.
const LINGER: Duration = Duration::from_millis(20);
/// How often a follower looks whether a task has its container by now.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The subscriptions of one session.
#[derive(Debug, Default)]
pub(super) struct LogPublisher {
    running: HashMap<String, JoinHandle<()>>,
}

impl LogPublisher {
    /// Begins to send what was asked for.
    pub(super) fn subscribe(
        &mut self,
        host: &Arc<Host>,
        reports: Arc<dyn Reports>,
        wish: LogSubscription,
        tasks: Vec<Arc<Task>>,
    ) {
        self.running.retain(|_, running| !running.is_finished());
        let id = wish.id.clone();
        let publishing = tokio::spawn(publish(Arc::clone(host), reports, wish, tasks));
        if let Some(before) = self.running.insert(id, publishing) {
            before.abort();
        }
    }

    /// Ends a subscription.
    pub(super) fn end(&mut self, id: &str) {
        if let Some(running) = self.running.remove(id) {
            running.abort();
        }
    }

    /// Ends all: the session is gone.
    pub(super) fn clear(&mut self) {
        for (_, running) in self.running.drain() {
            running.abort();
        }
    }
}

impl Drop for LogPublisher {
    fn drop(&mut self) {
        self.clear();
    }
}

type Lines = BoxStream<'static, Result<Vec<LogLine>, String>>;

async fn publish(host: Arc<Host>, reports: Arc<dyn Reports>, wish: LogSubscription, tasks: Vec<Arc<Task>>) {
    let missing = wish.tasks.len().saturating_sub(tasks.len());
    let mut problems = Vec::new();
    if missing > 0 {
        problems.push(format!("{missing} tasks are not on this node"));
    }
    let sources = tasks.into_iter().map(|task| lines(Arc::clone(&host), task, wish.options.clone()));
    let mut all: SelectAll<Lines> = stream::select_all(sources);
    let mut pending: Vec<LogLine> = Vec::new();
    let mut n_bytes = 0;
    loop {
        let next = if pending.is_empty() {
            all.next().await
        } else {
            match tokio::time::timeout(LINGER, all.next()).await {
                Ok(next) => next,
                Err(_) => Some(Ok(Vec::new())),
            }
        };
        let is_idle = matches!(&next, Some(Ok(lines)) if lines.is_empty());
        let is_over = next.is_none();
        match next {
            Some(Ok(lines)) => {
                n_bytes += lines.iter().map(|line| line.data.len()).sum::<usize>();
                pending.extend(lines);
            }
            Some(Err(problem)) => problems.push(problem),
            None => {}
        }
        let is_full = pending.len() >= MAX_LINES || n_bytes >= MAX_BYTES;
        if is_over || ((is_idle || is_full) && !pending.is_empty()) {
            n_bytes = 0;
            let end = is_over.then(|| match problems.is_empty() {
                true => LogEnd::Complete,
                false => LogEnd::Incomplete(problems.join(", ")),
            });
            let lines = std::mem::take(&mut pending);
            let report = LogReport { subscription: wish.id.clone(), lines, end };
            if let Err(error) = reports.publish_logs(report).await {
                tracing::debug!(subscription = wish.id, %error, "logs are not sent on");
                return;
            }
        }
        if is_over {
            return;
        }
    }
}

/// The log of one task as lines for managers.
fn lines(host: Arc<Host>, task: Arc<Task>, options: LogOptions) -> Lines {
    let opening = async move {
        match open(&host, &task, &options).await {
            Ok(logs) => {
                let node = host.facts.id;
                let lines = logs.batches.map(move |batch| match batch {
                    Ok(batch) => Ok(split(&batch, &task, node)),
                    Err(error) => Err(format!("task {}: {}", task.id, error.message())),
                });
                lines.boxed()
            }
            Err(problem) => stream::iter([Err(problem)]).boxed(),
        }
    };
    stream::once(opening).flatten().boxed()
}

async fn open(host: &Host, task: &Task, options: &LogOptions) -> Result<Logs, String> {
    let wants = |stream: LogStream| options.streams.is_empty() || options.streams.contains(&stream);
    let query = LogQuery {
        stdout: wants(LogStream::Stdout),
        stderr: wants(LogStream::Stderr),
        follow: options.follow,
        since: options.since,
        until: None,
        tail: options.tail.map(|tail| usize::try_from(tail).unwrap_or(usize::MAX)),
    };
    loop {
        let error: NodeError = match host.ports.streams.logs(&task.name(), query.clone()).await {
            Ok(logs) => return Ok(logs),
            Err(error) => error,
        };
        if error.kind() != ErrorKind::NotFound {
            return Err(format!("task {}: {}", task.id, error.message()));
        }
        if !options.follow {
            return Err(format!("task {} has not been scheduled", task.id));
        }
        // A task without a container yet: nothing tells when it has one.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn split(batch: &LogBatch, task: &Task, node: shoal_types::NodeId) -> Vec<LogLine> {
    let line = |entry: &crate::api::streams::LogEntry| LogLine {
        task: task.id,
        service: task.service,
        node,
        stream: match entry.source {
            LogSource::Stdout => LogStream::Stdout,
            LogSource::Stderr => LogStream::Stderr,
        },
        at: entry.time,
        attributes: entry.attributes.to_vec(),
        data: batch.data.get(entry.start..entry.end).unwrap_or_default().to_vec(),
    };
    batch.entries.iter().map(line).collect()
}
