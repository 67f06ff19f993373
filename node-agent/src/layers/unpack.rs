//! From the bytes of a layer to a directory, with every stage on a thread of its own.
//!
//! Start reading at [`unpack`]. The calling thread reads and inflates; one thread hashes what comes out, because that
//! takes as long as inflating on processors without SHA instructions; one makes the files. Bounded channels between
//! them keep memory small and let the slowest set the pace.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bytes::{Buf as _, Bytes};
use ring::digest::{Context, SHA256};
use shoal_types::{DiffId, Digest};

use super::LayerError;
use super::apply::{Applied, Limits, apply};
use super::archive::ArchiveError;
use super::compression::{Compression, decompress};
use crate::userns::IdMapping;

/// Size of the pieces that go from thread to thread. Large enough that passing them costs nothing, small enough that
/// those under way stay in the processor's cache.
const CHUNK_LEN: usize = 128 << 10;
/// How many pieces may wait for a thread: half a mebibyte.
const QUEUE_LEN: usize = 4;

/// A layer that was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the uncompressed archive.
    pub diff_id: DiffId,
    /// What was made of it.
    pub applied: Applied,
    /// How it was packed.
    pub compression: Compression,
    /// Bytes of the uncompressed archive.
    pub archive_len: u64,
}

/// Unpacks a layer, compressed or not, into the empty directory `stage`. Reads the source to its end unless something is
/// wrong. On an error the directory holds rubbish, which the caller removes. Blocks.
pub fn unpack(
    source: impl Read + Send,
    stage: &Path,
    limits: Limits,
    ids: &IdMapping,
) -> Result<Unpacked, LayerError> {
    let (compression, mut archive) = decompress(source).map_err(ArchiveError::from)?;
    let unpacked = unpack_plain(&mut archive, stage, limits, ids)?;
    Ok(Unpacked { compression, ..unpacked })
}

/// As [`unpack`], of an archive that is known not to be compressed, whatever it begins with.
pub fn unpack_plain(
    archive: &mut dyn Read,
    stage: &Path,
    limits: Limits,
    ids: &IdMapping,
) -> Result<Unpacked, LayerError> {
    let (to_hash, hashed) = sync_channel::<Bytes>(QUEUE_LEN);
    let (to_files, unpacked) = sync_channel::<Bytes>(QUEUE_LEN);
    let has_failed = AtomicBool::new(false);
    thread::scope(|scope| {
        let spawn_failed = LayerError::io("start a thread for", stage);
        let hasher =
            thread::Builder::new().name("layer-hash".to_owned()).spawn_scoped(scope, move || hash(&hashed));
        let has_failed = &has_failed;
        let files = thread::Builder::new().name("layer-files".to_owned()).spawn_scoped(scope, move || {
            let mut chunks = Chunks::new(unpacked);
            let applied = apply(&mut chunks, stage, limits, ids);
            // Known before the channel closes, so that whoever finds it closed knows why.
            has_failed.store(applied.is_err(), Ordering::Release);
            applied
        });
        let (hasher, files) = match (hasher, files) {
            (Ok(hasher), Ok(files)) => (hasher, files),
            // The channels are dropped with this closure, which ends the thread that did start.
            (Err(source), _) | (_, Err(source)) => return Err(spawn_failed(source)),
        };
        let fed = feed(archive, (to_hash, to_files), has_failed, limits);
        let applied = files.join().unwrap_or_else(|_| Err(panicked(stage)));
        let diff_id = hasher.join().map_err(|_| panicked(stage))?;
        // If the stream broke, the archive seems cut too; the stream's error is the cause.
        let archive_len = fed?;
        Ok(Unpacked {
            diff_id: DiffId(diff_id),
            applied: applied?,
            compression: Compression::None,
            archive_len,
        })
    })
}

fn panicked(stage: &Path) -> LayerError {
    LayerError::io("unpack into", stage)(io::Error::other("a thread panicked"))
}

/// Reads the archive in pieces and hands each to both threads. Stops early, without an error, when making files failed.
fn feed(
    archive: &mut dyn Read,
    (to_hash, to_files): (SyncSender<Bytes>, SyncSender<Bytes>),
    has_failed: &AtomicBool,
    limits: Limits,
) -> Result<u64, ArchiveError> {
    // Headers and padding come on top of what files hold.
    let longest = limits.bytes.saturating_add(limits.entries.saturating_mul(4096));
    let mut total = 0;
    let mut to_files = Some(to_files);
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_LEN);
        let n = archive.take(CHUNK_LEN as u64).read_to_end(&mut chunk).map_err(ArchiveError::Read)?;
        total += n as u64;
        if n == 0 {
            return Ok(total);
        }
        if total > longest {
            return Err(ArchiveError::TooLarge { what: "bytes", limit: longest });
        }
        let chunk = Bytes::from(chunk);
        if to_files.as_ref().is_some_and(|files| files.send(chunk.clone()).is_err()) {
            if has_failed.load(Ordering::Acquire) {
                return Ok(total);
            }
            // The archive has ended before the stream: what follows is still part of the diff id.
            to_files = None;
        }
        if to_hash.send(chunk).is_err() {
            return Ok(total);
        }
    }
}

fn hash(chunks: &Receiver<Bytes>) -> Digest {
    let mut context = Context::new(&SHA256);
    for chunk in chunks {
        context.update(&chunk);
    }
    let mut digest = [0u8; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Digest::from_sha256(digest)
}

/// Pieces from a channel, as one stream.
struct Chunks {
    source: Receiver<Bytes>,
    current: Bytes,
}

impl Chunks {
    fn new(source: Receiver<Bytes>) -> Self {
        Self { source, current: Bytes::new() }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.source.recv() {
                Ok(chunk) => self.current = chunk,
                Err(_) => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, n: usize) {
        self.current.advance(n);
    }
}
