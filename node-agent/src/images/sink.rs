//! Where a layer's bytes go while they download: into the content store, and at the same time through the unpacker.
//!
//! Start reading at [`LayerSink`]. One blocking thread writes the file and feeds the unpacker; the network waits for it
//! through a bounded channel. What was written when the download stops, however it stops, is a valid prefix. The
//! unpacker of a resumed layer reads the prefix from the file first.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use registry_client::{BlobSink, Leftover};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::content::Partial;
use crate::layers::LayerError;
use crate::layers::apply::Limits;
use crate::layers::unpack::{Unpacked, unpack};
use crate::userns::IdMapping;

/// How many chunks may wait for the thread. The network gives some ten kilobytes at a time.
const QUEUE_LEN: usize = 64;

/// Receives one blob.
pub(super) struct LayerSink {
    partial: Arc<Partial>,
    /// The empty directory to unpack into; `None` if the blob is only stored.
    stage: Option<PathBuf>,
    /// Whose ids the unpacked files have.
    ids: IdMapping,
    worker: Option<Worker>,
    unpacked: Option<Result<Unpacked, LayerError>>,
}

struct Worker {
    chunks: mpsc::Sender<Message>,
    task: JoinHandle<io::Result<Option<Result<Unpacked, LayerError>>>>,
}

enum Message {
    Chunk(Bytes),
    /// All bytes have come and are verified. Without it the download was given up.
    End,
}

impl LayerSink {
    pub(super) fn new(partial: Partial, stage: Option<PathBuf>, ids: IdMapping) -> Self {
        Self { partial: Arc::new(partial), stage, ids, worker: None, unpacked: None }
    }

    /// What the unpacker made of the blob; `None` if it was only stored. To be asked after the blob was committed.
    pub(super) fn into_unpacked(self) -> Option<Result<Unpacked, LayerError>> {
        self.unpacked
    }

    fn worker(&mut self) -> &mut Worker {
        let (partial, stage, ids) = (&self.partial, &self.stage, &self.ids);
        self.worker.get_or_insert_with(|| {
            let (chunks, received) = mpsc::channel(QUEUE_LEN);
            let (partial, stage, ids) = (Arc::clone(partial), stage.clone(), ids.clone());
            let task = tokio::task::spawn_blocking(move || work(&partial, received, stage.as_deref(), &ids));
            Worker { chunks, task }
        })
    }

    /// Ends the thread and waits for it.
    async fn stop(&mut self) -> io::Result<Option<Result<Unpacked, LayerError>>> {
        match self.worker.take() {
            None => Ok(None),
            Some(Worker { chunks, task }) => {
                drop(chunks);
                task.await.map_err(io::Error::other)?
            }
        }
    }

    async fn send(&mut self, message: Message) -> io::Result<()> {
        if self.worker().chunks.send(message).await.is_ok() {
            return Ok(());
        }
        // The thread has ended early: it says why.
        self.stop().await?;
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[async_trait]
impl BlobSink for LayerSink {
    async fn offset(&mut self) -> io::Result<u64> {
        Ok(self.partial.length())
    }

    fn open_prefix(&mut self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.partial.open_prefix()?.take(self.partial.length())))
    }

    async fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        self.send(Message::Chunk(chunk)).await
    }

    async fn restart(&mut self) -> io::Result<()> {
        // It was given up: whatever it says is about bytes that are thrown away.
        let _ = self.stop().await;
        let (partial, stage) = (Arc::clone(&self.partial), self.stage.clone());
        let cleared = tokio::task::spawn_blocking(move || {
            partial.clear()?;
            stage.map_or(Ok(()), |stage| empty(&stage))
        });
        cleared.await.map_err(io::Error::other)?
    }

    async fn commit(&mut self) -> io::Result<()> {
        self.send(Message::End).await?;
        self.unpacked = self.stop().await?;
        let partial = Arc::clone(&self.partial);
        let committed =
            tokio::task::spawn_blocking(move || partial.commit_verified().map_err(io::Error::other));
        committed.await.map_err(io::Error::other)?
    }

    async fn abort(&mut self, leftover: Leftover) {
        let _ = self.stop().await;
        if leftover == Leftover::Discard
            && let Err(error) = self.partial.clear()
        {
            tracing::warn!(blob = %self.partial.digest(), %error, "a wrong download still takes up space");
        }
    }
}

/// Empties a directory.
fn empty(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The thread: stores what comes and unpacks it, if it shall be. An archive that cannot be unpacked does not end the
/// download, because only the digest at its end tells whether the registry or the network is to blame.
fn work(
    partial: &Partial,
    chunks: mpsc::Receiver<Message>,
    stage: Option<&Path>,
    ids: &IdMapping,
) -> io::Result<Option<Result<Unpacked, LayerError>>> {
    let kept = partial.length();
    let prefix = if kept > 0 && stage.is_some() { Some(partial.open_prefix()?.take(kept)) } else { None };
    let mut intake =
        Intake { prefix, file: partial.append()?, chunks, current: Bytes::new(), state: Intaking::Open };
    let unpacked = stage.map(|stage| unpack(&mut intake, stage, Limits::default(), ids));
    io::copy(&mut intake, &mut io::sink())?;
    Ok(unpacked)
}

/// The blob as a stream: the prefix from the file, then what arrives, which is stored on its way.
struct Intake {
    prefix: Option<io::Take<File>>,
    file: File,
    chunks: mpsc::Receiver<Message>,
    current: Bytes,
    state: Intaking,
}

enum Intaking {
    Open,
    Ended,
}

impl Read for Intake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(prefix) = &mut self.prefix {
            let n = prefix.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            self.prefix = None;
        }
        while self.current.is_empty() {
            if matches!(self.state, Intaking::Ended) {
                return Ok(0);
            }
            match self.chunks.blocking_recv() {
                Some(Message::Chunk(chunk)) => {
                    self.file.write_all(&chunk)?;
                    self.current = chunk;
                }
                Some(Message::End) => self.state = Intaking::Ended,
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the download was given up",
                    ));
                }
            }
        }
        let n = self.current.as_ref().read(buffer)?;
        self.current.advance(n);
        Ok(n)
    }
}
