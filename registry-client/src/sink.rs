//! Where blobs go to and come from: the two ports that the engine implements.
//!
//! Start reading at [`BlobSink`]. The crate owns the network, the retries and the verification; a sink owns the bytes
//! and whatever is made of them (a file, an unpacked layer). Nothing here touches a file: that is the engine's content
//! store. These two traits are dynamic because one download is written by many kinds of stores, tests included.

use std::fmt;
use std::io;
use std::io::Read;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncRead;

/// What becomes of the bytes that a failed download has left in its sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// They are a prefix of the blob as far as anybody knows: keep them and resume another day.
    Keep,
    /// They are known to be wrong (the whole blob had another digest): throw them away.
    Discard,
}

/// Receives one blob, in order, exactly once, across any number of connections.
///
/// The life of a sink within [`Repository::fetch_blob`](crate::Repository::fetch_blob):
///
/// 1. [`offset`](BlobSink::offset) once. If it is not zero, [`open_prefix`](BlobSink::open_prefix) once, because the
///    kept bytes are hashed again: a prefix that was corrupted on disk is found out at the end, not trusted.
/// 2. [`write`](BlobSink::write) any number of times. Bytes continue where the last ones ended, whatever happened to
///    the connection in between; an inflater behind the sink never notices a resume.
/// 3. [`restart`](BlobSink::restart) if the bytes so far turned out to be wrong; the next write is at offset zero.
/// 4. Exactly one of [`commit`](BlobSink::commit) (length and digest are right) and [`abort`](BlobSink::abort).
///
/// Bytes are unverified until `commit`: unpack them early if you like, but show them to nobody.
///
/// When the future of the download is dropped (the client went away, the daemon stops) neither `commit` nor `abort`
/// is called; what was written stays a valid prefix and the next `offset` may report it.
///
/// The next network read waits for the future of `write`: that is the back-pressure. Blocking work in `write` must be
/// moved to a blocking thread by the sink.
#[async_trait]
pub trait BlobSink: Send {
    /// How many leading bytes of the blob are already here from an earlier attempt; zero for a fresh download.
    async fn offset(&mut self) -> io::Result<u64>;

    /// Opens the first `offset` bytes for hashing. Read on a blocking thread while the rest is downloaded.
    fn open_prefix(&mut self) -> io::Result<Box<dyn Read + Send>>;

    /// Appends a chunk. An error ends the download without a retry.
    async fn write(&mut self, chunk: Bytes) -> io::Result<()>;

    /// Forgets everything written so far, prefix included.
    async fn restart(&mut self) -> io::Result<()>;

    /// Takes note that the blob is whole and verified. An error here fails the download.
    async fn commit(&mut self) -> io::Result<()>;

    /// Takes note that this download has failed for good.
    async fn abort(&mut self, leftover: Leftover);
}

/// A readable blob, from some offset on.
pub type BlobReader = Box<dyn AsyncRead + Send + Unpin>;

/// Supplies one blob for upload; opened again at another offset when an upload is resumed or repeated.
#[async_trait]
pub trait BlobSource: Send + Sync {
    /// Opens the blob at `offset`. If the reader ends before the size in the blob's descriptor the upload fails; what
    /// comes after that size is not read.
    async fn open(&self, offset: u64) -> io::Result<BlobReader>;
}

#[async_trait]
impl BlobSource for Bytes {
    async fn open(&self, offset: u64) -> io::Result<BlobReader> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        Ok(Box::new(io::Cursor::new(self.slice(start..))))
    }
}

/// Collects a small blob in memory; the sink behind configs and for tests.
#[derive(Default)]
pub struct MemorySink {
    bytes: Vec<u8>,
    is_committed: bool,
}

impl MemorySink {
    /// The blob, if it was verified; `None` if the download failed or is under way.
    pub fn into_verified(self) -> Option<Bytes> {
        self.is_committed.then(|| Bytes::from(self.bytes))
    }
}

impl fmt::Debug for MemorySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySink")
            .field("len", &self.bytes.len())
            .field("is_committed", &self.is_committed)
            .finish()
    }
}

#[async_trait]
impl BlobSink for MemorySink {
    async fn offset(&mut self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn open_prefix(&mut self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.bytes.clone())))
    }

    async fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        self.bytes.extend_from_slice(&chunk);
        Ok(())
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.bytes.clear();
        Ok(())
    }

    async fn commit(&mut self) -> io::Result<()> {
        self.is_committed = true;
        Ok(())
    }

    async fn abort(&mut self, leftover: Leftover) {
        if leftover == Leftover::Discard {
            self.bytes.clear();
        }
    }
}
