//! Sending logs on: one task for each container whose log driver is elsewhere.
//!
//! Start reading at [`Forwarders::begin`], then [`run`]. The shim writes such a log to the container's own file, as it does for
//! any other; the task reads it from there and sends it. So a container neither waits for the receiver nor needs the
//! daemon, and what is written while either is away is sent later, as long as the file's bounds keep it. How far the
//! log was sent is noted after each batch (`cursor.rs`); a daemon that is killed in between sends at most that batch
//! twice. docs/decisions/2026-11-22-remote-logs.md says why it is done so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use node_shim::protocol::LogConfig;
use shoal_types::ContainerId;
use tokio::sync::watch;

use super::cursor::Cursor;
use super::follow::LogNews;
use super::read::{self, Growth, Wanted};
use super::remote::connection::Connection;
use super::remote::{Encoder, Ending, Identity, Line, Messages, Parts, Target};
use crate::api::streams::{LogBatch, LogEntry, LogQuery};
use crate::error::{ErrorChain, NodeError};

/// The pause after the first failure; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A log that is to be sent.
pub(crate) struct Job {
    /// The container.
    pub(crate) container: ContainerId,
    /// Its directory, where the cursor lies.
    pub(crate) directory: PathBuf,
    /// Where and how the log is stored.
    pub(crate) config: LogConfig,
    /// Where it goes.
    pub(crate) target: Target,
    /// What entries are told to be about.
    pub(crate) identity: Identity,
    /// An open connection, if there is one.
    pub(crate) connection: Option<Connection>,
    /// Who tells of news.
    pub(crate) news: LogNews,
}

/// The tasks that send logs.
#[derive(Debug, Default)]
pub(crate) struct Forwarders {
    tasks: Arc<Mutex<BTreeMap<ContainerId, Forwarder>>>,
}

#[derive(Debug)]
struct Forwarder {
    run: watch::Sender<LogRun>,
    /// Closed when the task has ended.
    ended: watch::Receiver<()>,
}

/// The run of a container whose log is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LogRun {
    /// Counts them; a task that has sent one looks whether there is another.
    number: u64,
    phase: RunPhase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunPhase {
    /// The log may grow.
    Going,
    /// It will not.
    Over,
}

impl Forwarders {
    /// Sends a log from where it was left until the container's run has ended and everything is sent. `spawn` starts
    /// the task. A task that is still busy with the run before goes on with this one.
    pub(crate) fn begin(&self, job: Job, spawn: impl FnOnce(futures_util::future::BoxFuture<'static, ()>)) {
        let mut tasks = self.lock();
        if let Some(forwarder) = tasks.get(&job.container) {
            forwarder.run.send_modify(|run| {
                *run = LogRun { number: run.number + 1, phase: RunPhase::Going };
            });
            return;
        }
        let (alive, ended) = watch::channel(());
        let run = watch::Sender::new(LogRun { number: 1, phase: RunPhase::Going });
        tasks.insert(job.container, Forwarder { run, ended });
        drop(tasks);
        let tasks = Arc::clone(&self.tasks);
        spawn(Box::pin(async move {
            run_all(job, &tasks).await;
            drop(alive);
        }));
    }

    /// Tells that the run of a container is over: nothing is added to its log until the next one begins.
    pub(crate) fn end_run(&self, container: ContainerId) {
        if let Some(forwarder) = self.lock().get(&container) {
            forwarder.run.send_modify(|run| run.phase = RunPhase::Over);
        }
    }

    /// Waits until the log of a container that has ended is sent, or until `patience` is over.
    pub(crate) async fn finish(&self, container: ContainerId, patience: Duration) {
        let ended = self.lock().get(&container).map(|forwarder| forwarder.ended.clone());
        let Some(mut ended) = ended else { return };
        let over = async { while ended.changed().await.is_ok() {} };
        if tokio::time::timeout(patience, over).await.is_err() {
            tracing::warn!(container.id = %container, "the end of a removed container's log was not sent");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Forwarder>> {
        lock(&self.tasks)
    }
}

fn lock(tasks: &Mutex<BTreeMap<ContainerId, Forwarder>>) -> MutexGuard<'_, BTreeMap<ContainerId, Forwarder>> {
    tasks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends one run after the other, until there is no more.
async fn run_all(mut job: Job, tasks: &Mutex<BTreeMap<ContainerId, Forwarder>>) {
    let container = job.container;
    let mut sender = Sender {
        container,
        encoder: job.target.encoder(job.identity.clone()),
        endpoint: job.target.endpoint.clone(),
        connection: job.connection.take(),
        messages: Messages::default(),
        parts: Parts::default(),
        is_troubled: false,
    };
    loop {
        let Some(growth) = lock(tasks).get(&container).map(|forwarder| Growing(forwarder.run.subscribe()))
        else {
            return;
        };
        let before = growth.0.borrow().number;
        if let Err(error) = run(&job, growth, &mut sender).await {
            tracing::error!(container.id = %container, error = %ErrorChain(&error), "log cannot be sent on");
        }
        let mut tasks = lock(tasks);
        if tasks.get(&container).is_none_or(|forwarder| forwarder.run.borrow().number == before) {
            tasks.remove(&container);
            return;
        }
    }
}

/// A log grows as long as its run goes on.
struct Growing(watch::Receiver<LogRun>);

#[async_trait::async_trait]
impl Growth for Growing {
    fn has_ended(&self) -> bool {
        self.0.borrow().phase == RunPhase::Over
    }

    async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Sends what was not sent yet, until the run has ended.
async fn run(job: &Job, growth: Growing, sender: &mut Sender) -> Result<(), NodeError> {
    let directory = job.directory.clone();
    let read = tokio::task::spawn_blocking(move || Cursor::read(&directory)).await;
    let mut cursor = read
        .map_err(std::io::Error::other)
        .and_then(|read| read)
        .map_err(|source| NodeError::failed("read how far the log was sent", source))?;
    let query =
        LogQuery { stdout: true, stderr: true, follow: true, since: cursor.time, ..LogQuery::default() };
    let mut skip = Skip(cursor);
    let wanted =
        Wanted { config: job.config.clone(), query, growth: Box::new(growth), news: job.news.clone() };
    let mut batches = read::read(wanted).await?;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let entries: Vec<&LogEntry> = batch.entries.iter().filter(|entry| !skip.covers(entry)).collect();
        if entries.is_empty() {
            continue;
        }
        sender.send(&batch, &entries).await;
        for entry in entries {
            cursor.advance(entry.time);
        }
        let directory = job.directory.clone();
        let written = tokio::task::spawn_blocking(move || cursor.write(&directory)).await;
        if let Err(error) = written.map_err(std::io::Error::other).and_then(|written| written) {
            // Nothing is lost by that, but entries may be sent again.
            tracing::warn!(container.id = %job.container, %error, "how far the log was sent cannot be noted");
        }
    }
    Ok(())
}

/// What was sent before, at the beginning of what is read again.
struct Skip(Cursor);

impl Skip {
    fn covers(&mut self, entry: &LogEntry) -> bool {
        let is_covered = self.0.time == Some(entry.time) && self.0.n_sent > 0;
        if is_covered {
            self.0.n_sent -= 1;
        }
        is_covered
    }
}

/// Sends entries, as often as it takes.
struct Sender {
    container: ContainerId,
    encoder: Encoder,
    endpoint: super::remote::Endpoint,
    connection: Option<Connection>,
    messages: Messages,
    parts: Parts,
    /// Whether a failure was logged that has not been followed by a success.
    is_troubled: bool,
}

impl Sender {
    async fn send(&mut self, batch: &LogBatch, entries: &[&LogEntry]) {
        self.messages.clear();
        for entry in entries {
            self.encode(batch, entry);
        }
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_send().await {
                Ok(n_left_out) => return self.note_success(n_left_out),
                Err(error) => {
                    self.connection = None;
                    self.note_failure(&error);
                    // A server that is away does not say when it is back.
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn encode(&mut self, batch: &LogBatch, entry: &LogEntry) {
        let text = &batch.data[entry.start..entry.end];
        let (text, ending) = match text.split_last() {
            Some((b'\n', text)) => (text, Ending::Newline),
            _ => (text, Ending::Open),
        };
        let part = self.parts.place(entry.source, ending, rand::random);
        self.encoder.encode(Line { text, source: entry.source, time: entry.time, part }, &mut self.messages);
    }

    async fn try_send(&mut self) -> std::io::Result<usize> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(Connection::open(&self.endpoint).await?),
        };
        connection.send(&self.messages).await
    }

    fn note_failure(&mut self, error: &std::io::Error) {
        if !std::mem::replace(&mut self.is_troubled, true) {
            tracing::warn!(
                container.id = %self.container, %error,
                "a log receiver does not answer; entries wait in the container's own log"
            );
        }
    }

    fn note_success(&mut self, n_left_out: usize) {
        if std::mem::replace(&mut self.is_troubled, false) {
            tracing::info!(container.id = %self.container, "a log receiver answers again");
        }
        if n_left_out > 0 {
            tracing::warn!(
                container.id = %self.container, n_entries = n_left_out,
                "entries were too large for the log receiver's socket"
            );
        }
    }
}
