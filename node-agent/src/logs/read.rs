//! Reading a log for a client: batches of entries, to the end or on and on.
//!
//! Start reading at [`read`]. Files are read on blocking threads, one batch at a time and at most one ahead of the client,
//! so that memory is bounded and a slow client holds up nobody. The formats are node-shim's.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use node_shim::logread::{self, LogReader, Progress};
use node_shim::protocol::LogConfig;
use node_shim::stream::Stream as OutputStream;
use tokio::task::{JoinHandle, spawn_blocking};

use super::follow::{LogNews, Subscription};
use crate::api::streams::{LogBatch, LogEntry, LogQuery, LogSource};
use crate::error::NodeError;

/// How many bytes a batch holds at least, unless the log ends.
const BATCH_LEN: usize = 128 * 1024;
/// How many entries it holds at most: short lines cost more than their bytes.
const BATCH_ENTRIES: usize = 4096;

/// Whether a log may still grow.
#[async_trait::async_trait]
pub(crate) trait Growth: Send + Sync {
    /// Whether nothing can be added any more: the container does not run.
    fn has_ended(&self) -> bool;

    /// Waits until that may have changed.
    async fn changed(&mut self);
}

/// A log that is to be read.
pub(crate) struct Wanted {
    /// Where and how it is stored.
    pub(crate) config: LogConfig,
    /// Which part.
    pub(crate) query: LogQuery,
    /// Whether it may grow; only asked when it is followed.
    pub(crate) growth: Box<dyn Growth>,
    /// Who tells of news.
    pub(crate) news: LogNews,
}

/// Opens a log. One of a driver that keeps nothing cannot be read.
pub(crate) async fn read(
    wanted: Wanted,
) -> Result<BoxStream<'static, Result<LogBatch, NodeError>>, NodeError> {
    let Wanted { config, query, growth, news } = wanted;
    let path = match &config {
        LogConfig::None => return Err(unreadable()),
        LogConfig::JsonFile(file) | LogConfig::Local(file) => file.path.clone(),
    };
    // Before the first look at the file, so that nothing falls between.
    let subscription = if query.follow { subscribe(&news, &path)? } else { None };
    let position = logread::LogQuery {
        since: query.since,
        until: query.until,
        tail: query.tail.map(|tail| u64::try_from(tail).unwrap_or(u64::MAX)),
    };
    let opened = finish(spawn_blocking(move || LogReader::open(&config, position))).await?;
    let reader = opened.ok_or_else(unreadable)?;
    let state = Reading { reader, query, growth, subscription, attributes: Attributes::default() };
    Ok(stream::unfold(Some(Upcoming::Wanted(Box::new(state))), next).boxed())
}

fn unreadable() -> NodeError {
    NodeError::not_implemented("configured logging driver does not support reading")
}

/// A log whose directory is not there yet cannot be watched; it belongs to a container that was never started, whose log
/// does not grow.
fn subscribe(news: &LogNews, path: &Path) -> Result<Option<Subscription>, NodeError> {
    match news.subscribe(path) {
        Ok(subscription) => Ok(Some(subscription)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(NodeError::failed("watch the log", source)),
    }
}

struct Reading {
    reader: LogReader,
    query: LogQuery,
    growth: Box<dyn Growth>,
    subscription: Option<Subscription>,
    attributes: Attributes,
}

/// Where the next batch comes from.
enum Upcoming {
    /// It is to be read when it is asked for.
    Wanted(Box<Reading>),
    /// It is being read while the client takes the one before, because there is one.
    Begun(Batch),
}

/// A batch that is being read.
struct Batch {
    task: JoinHandle<io::Result<(Box<Reading>, LogBatch, Progress)>>,
    /// Whether nothing could be added any more before reading began: what was written before the end is then read before it.
    has_ended: bool,
}

type Step = Option<(Result<LogBatch, NodeError>, Option<Upcoming>)>;

async fn next(upcoming: Option<Upcoming>) -> Step {
    let mut begun = match upcoming? {
        Upcoming::Wanted(state) => begin(state),
        Upcoming::Begun(batch) => batch,
    };
    loop {
        let has_ended = begun.has_ended;
        let (mut state, batch, progress) = match finish(begun.task).await {
            Ok(read) => read,
            Err(error) => return Some((Err(error), None)),
        };
        let is_over = match progress {
            Progress::More => false,
            Progress::CaughtUp => has_ended || state.subscription.is_none(),
            Progress::Finished => true,
        };
        if !batch.entries.is_empty() {
            let rest = match progress {
                Progress::More => Some(Upcoming::Begun(begin(state))),
                _ if is_over => None,
                _ => Some(Upcoming::Wanted(state)),
            };
            return Some((Ok(batch), rest));
        }
        if is_over {
            return None;
        }
        if progress == Progress::CaughtUp {
            wait(&mut state).await;
        }
        begun = begin(state);
    }
}

/// Waits until there may be more, or until there can be no more.
async fn wait(state: &mut Reading) {
    let Some(subscription) = &state.subscription else { return };
    tokio::select! {
        // May be dropped: news are told the next time.
        () = subscription.news() => {}
        // May be dropped: the end is seen the next time.
        () = state.growth.changed() => {}
    }
}

fn begin(mut state: Box<Reading>) -> Batch {
    let has_ended = state.growth.has_ended();
    let task = spawn_blocking(move || {
        let mut data = BytesMut::with_capacity(BATCH_LEN + 16 * 1024);
        let mut entries = Vec::new();
        let Reading { reader, query, attributes, .. } = &mut *state;
        let progress = reader.read(|entry| {
            let source = match entry.stream {
                OutputStream::Stdout => LogSource::Stdout,
                OutputStream::Stderr => LogSource::Stderr,
            };
            let is_wanted = match source {
                LogSource::Stdout => query.stdout,
                LogSource::Stderr => query.stderr,
            };
            if is_wanted {
                let start = data.len();
                data.extend_from_slice(entry.text);
                let attributes = attributes.of(entry.attrs);
                entries.push(LogEntry { start, end: data.len(), source, time: entry.time, attributes });
            }
            if data.len() >= BATCH_LEN || entries.len() >= BATCH_ENTRIES {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok((state, LogBatch { data: data.freeze(), entries }, progress))
    });
    Batch { task, has_ended }
}

async fn finish<T>(task: JoinHandle<io::Result<T>>) -> Result<T, NodeError> {
    let read = task.await.map_err(io::Error::other);
    read.and_then(|read| read).map_err(|source| NodeError::failed("read the log", source))
}

/// Attributes of entries, parsed once as long as they stay the same.
#[derive(Debug)]
struct Attributes {
    raw: Vec<u8>,
    parsed: Arc<[(String, String)]>,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { raw: Vec::new(), parsed: Arc::from([]) }
    }
}

impl Attributes {
    fn of(&mut self, raw: &[u8]) -> Arc<[(String, String)]> {
        if self.raw != raw {
            // What a full disk has left behind is no reason to keep back a line.
            let map: std::collections::BTreeMap<String, String> =
                serde_json::from_slice(raw).unwrap_or_default();
            self.parsed = map.into_iter().collect();
            raw.clone_into(&mut self.raw);
        }
        Arc::clone(&self.parsed)
    }
}

/// Packs a batch for an attached client: as frames of Docker's multiplexed stream, or as it is.
pub(crate) fn pack(batch: &LogBatch, is_framed: bool) -> Bytes {
    if !is_framed {
        return batch.data.clone();
    }
    const HEAD_LEN: usize = 8;
    let mut packed = BytesMut::with_capacity(batch.data.len() + HEAD_LEN * batch.entries.len());
    for entry in &batch.entries {
        let number = match entry.source {
            LogSource::Stdout => 1,
            LogSource::Stderr => 2,
        };
        // An entry is at most 16 KiB, so its length fits.
        let length = u32::try_from(entry.end - entry.start).unwrap_or(u32::MAX).to_be_bytes();
        packed.extend_from_slice(&[number, 0, 0, 0]);
        packed.extend_from_slice(&length);
        packed.extend_from_slice(&batch.data[entry.start..entry.end]);
    }
    packed.freeze()
}
